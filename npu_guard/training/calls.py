"""What each module of the network is given and gives, and which values of the exported model these tensors are.

A tensor is found in the exported model by what it holds on the example input, and by nothing else: so names, folded norms and
constants may be as they like. The scope that the exporter writes only decides between values that are equal. What is found
goes on through the network as the exported model has it, so that roundings of both do not add up from module to module.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from npu_guard.training.graph import Graph, below

Array = NDArray[Any]
PROBES = 64
"""Elements that are compared first, before whole tensors are."""
TENSOR = object()
"""What stands for a tensor among what a call holds."""


class Finder:
    """Finds tensors among the values of a graph on the example."""

    def __init__(self, values: Mapping[str, Array]) -> None:
        self._values = values
        names: dict[tuple[tuple[int, ...], str], list[str]] = defaultdict(list)
        for name, value in values.items():
            names[value.shape, str(value.dtype)].append(name)
        self._kinds = {kind: (all_of, np.stack([_probes(values[n]) for n in all_of])) for kind, all_of in names.items()}

    def find(self, wanted: Array) -> Iterator[str]:
        """Names of the values that are equal but for roundings."""
        names, probes = self._kinds.get((wanted.shape, str(wanted.dtype)), ([], np.empty((0, 1))))
        if not names:
            return
        near = _close(_probes(wanted), probes, _peak(wanted)).reshape(len(names), -1)
        for name, is_near in zip(names, near, strict=True):
            if is_near.all() and _equal(wanted, self._values[name]):
                yield name

    def hold(self, tensor: Tensor, fixed: Collection[int]) -> None:
        """Write into a tensor what the graph has for it, where it has; not into one that lies in the storage of a weight."""
        alone = all(step or extent < 2 for step, extent in zip(tensor.stride(), tensor.shape, strict=True))
        if (
            tensor.dtype not in (torch.float16, torch.float32, torch.float64)
            or not alone
            or tensor.untyped_storage().data_ptr() in fixed
        ):
            return
        wanted = tensor.detach().numpy()
        found = [self._values[name] for name in self.find(wanted)]
        if found:
            tensor.copy_(torch.from_numpy(min(found, key=lambda value: _peak(value - wanted)).copy()))


@dataclass(slots=True, eq=False)
class Call:
    """One call of a module: tensors, the names of these values in the exported model (None where there is none), structure."""

    path: str
    module: nn.Module
    arguments: list[Tensor]
    taken: list[int] = field(default_factory=list)
    """Identity of each argument, which tells what another call has given."""
    structure: Any = None
    """How positional and named arguments hold these tensors."""
    results: list[Tensor] = field(default_factory=list)
    given: list[int] = field(default_factory=list)
    result_structure: Any = None
    inputs: list[str | None] = field(default_factory=list)
    outputs: list[str | None] = field(default_factory=list)
    held: list[Any] = field(default_factory=list)
    """All that the structure holds, in its order: what is no tensor, such as a number or None, and TENSOR for each tensor."""
    result_held: list[Any] = field(default_factory=list)
    """The same of the result."""

    @property
    def other(self) -> bool:
        """Whether something that is no tensor was given as well."""
        return len(self.held) != len(self.arguments)

    def given_again(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and named arguments, as the module was given them."""
        tensors = iter(self.arguments)
        leaves = [next(tensors) if one is TENSOR else one for one in self.held]
        args, kwargs = pytree.tree_unflatten(leaves, self.structure)
        return tuple(args), dict(kwargs)

    @property
    def plain(self) -> bool:
        """Whether it takes tensors by position alone and gives one tensor or several."""
        return not self.other and self.structure == pytree.tree_structure(((*(0 for _ in self.arguments),), {}))

    @property
    def found(self) -> tuple[list[str], list[str]] | None:
        """The names of all that goes in and comes out; None where one of them is no value of the exported model."""
        ins, outs = [n for n in self.inputs if n is not None], [n for n in self.outputs if n is not None]
        return (ins, outs) if len(ins) == len(self.inputs) and len(outs) == len(self.outputs) and outs else None


def record(model: nn.Module, inputs: Mapping[str, Tensor], finder: Finder | None = None) -> list[Call]:
    """Every call of every module, in the order in which they end; the network itself comes last.

    With a finder, what a module gives goes on as the values that it finds.
    """
    calls: list[Call] = []
    weights = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    open_calls: list[Call] = []
    alive: list[Tensor] = []

    def before(path: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            leaves, structure = pytree.tree_flatten((args, kwargs))
            tensors = [t for t in leaves if isinstance(t, Tensor)]
            alive.extend(tensors)
            copies = [t.detach().clone() for t in tensors]  # now, as the module may write into its arguments
            open_calls.append(Call(path, module, copies, [id(t) for t in tensors], structure, held=_held(leaves)))

        return hook

    def after(module: nn.Module, _args: Any, _kwargs: Any, result: Any) -> None:
        call = open_calls.pop()
        leaves, call.result_structure = pytree.tree_flatten(result)
        call.result_held = _held(leaves)
        tensors = [t for t in leaves if isinstance(t, Tensor)]
        alive.extend(tensors)
        if finder is not None:
            for tensor in tensors:
                finder.hold(tensor, weights)
        call.results, call.given = [t.detach().clone() for t in tensors], [id(t) for t in tensors]
        calls.append(call)

    hooks = []
    try:
        for path, module in model.named_modules():
            hooks.append(module.register_forward_pre_hook(before(path), with_kwargs=True))
            hooks.append(module.register_forward_hook(after, with_kwargs=True))
        with torch.no_grad():
            model(*(t.clone() for t in inputs.values()))
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def locate(calls: Sequence[Call], graph: Graph, finder: Finder) -> None:
    """Fill in the names of the values that the calls' tensors are in the graph."""

    def find(tensor: Tensor, path: str, inner: bool) -> str | None:
        best = None
        for name in finder.find(tensor.numpy()):
            inside = name in graph.producer and below(graph.producer[name].scope, path)
            if inner == inside:
                return name
            best = best or name
        return best

    for call in calls:
        call.inputs = [find(t, call.path, False) for t in call.arguments]
        call.outputs = [find(t, call.path, True) for t in call.results]
        if call.path == "":
            call.inputs = [*graph.inputs] if len(graph.inputs) == len(call.arguments) else call.inputs
            call.outputs = [*graph.outputs] if len(graph.outputs) == len(call.results) else call.outputs
    _tell_fresh_norms(calls)


def _held(leaves: Sequence[Any]) -> list[Any]:
    return [TENSOR if isinstance(leaf, Tensor) else leaf for leaf in leaves]


def _tell_fresh_norms(calls: Sequence[Call]) -> None:
    """A fresh BatchNorm changes next to nothing: what goes into one that was folded looks like what comes out of it."""
    taken_by = {c.taken[0]: c for c in calls if len(c.taken) == 1 and isinstance(c.module, _BatchNorm)}
    for call in calls:
        after = taken_by.get(call.given[0]) if len(call.given) == 1 else None
        if after is not None and call.outputs == after.outputs:
            call.outputs, after.inputs = [None], [None]


def _probes(value: Array) -> Array:
    return value.ravel()[:: max(1, value.size // PROBES)]


def _peak(value: Array) -> float:
    return float(np.abs(value).max(initial=0, where=np.isfinite(value))) if value.dtype.kind in "fc" else 0.0


def _close(wanted: Array, given: Array, peak: float) -> NDArray[np.bool_]:
    if wanted.dtype.kind not in "fc":
        return np.asarray(wanted == given)
    return np.isclose(wanted, given, rtol=1e-3, atol=1e-5 * (1 + peak), equal_nan=True)


def _equal(wanted: Array, given: Array) -> bool:
    return bool(_close(wanted, given, _peak(wanted)).all())


def argument_names(module: nn.Module, path: str) -> list[str]:
    """What the forward of a module calls its arguments; `input` of torch's own modules is `x`, but of the network: an export
    and its callers know it by that name.
    """
    if path and type(module).__module__.startswith("torch.nn."):
        return ["x"]
    return [p.name for p in inspect.signature(module.forward).parameters.values()]


def fused(calls: Sequence[Call]) -> Iterator[tuple[Call, Call]]:
    """A leaf, and a module that takes what it gives, where the exported model does not have that tensor.

    That is a convolution and the norm folded into it, and the convolution and each module around the norm that is called with
    the same tensor. A leaf that hands on what it is given, as Identity does, is no first of a pair.
    """
    taken_by: dict[int, list[Call]] = defaultdict(list)
    for call in calls:
        if len(call.taken) == 1 and call.inputs == [None] and call.given != call.taken:
            taken_by[call.taken[0]].append(call)
    for call in calls:
        leaf = len(call.given) == 1 and call.outputs == [None] and not any(True for _ in call.module.children())
        if leaf and call.given != call.taken:
            yield from ((call, after) for after in taken_by[call.given[0]])
