"""What each module of the network is given and gives, and which values of the exported model these tensors are.

A tensor is found in the exported model by what it holds on the example input, and by nothing else: so names, folded norms and
constants may be as they like. The scope that the exporter writes only decides between values that are equal.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
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
    other: bool = False
    """Whether something that is no tensor was given as well, such as a number."""

    @property
    def plain(self) -> bool:
        """Whether it takes tensors by position alone and gives one tensor or several."""
        return not self.other and self.structure == pytree.tree_structure(((*(0 for _ in self.arguments),), {}))

    @property
    def found(self) -> tuple[list[str], list[str]] | None:
        """The names of all that goes in and comes out; None where one of them is no value of the exported model."""
        ins, outs = [n for n in self.inputs if n is not None], [n for n in self.outputs if n is not None]
        return (ins, outs) if len(ins) == len(self.inputs) and len(outs) == len(self.outputs) and outs else None


def record(model: nn.Module, inputs: Mapping[str, Tensor]) -> list[Call]:
    """Every call of every module, in the order in which they end; the network itself comes last."""
    calls: list[Call] = []
    open_calls: list[Call] = []
    alive: list[Tensor] = []

    def before(path: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            leaves, structure = pytree.tree_flatten((args, kwargs))
            tensors = [t for t in leaves if isinstance(t, Tensor)]
            alive.extend(tensors)
            other = len(tensors) != len(leaves)
            copies = [t.detach().clone() for t in tensors]  # now, as the module may write into its arguments
            open_calls.append(Call(path, module, copies, [id(t) for t in tensors], structure, other=other))

        return hook

    def after(module: nn.Module, _args: Any, _kwargs: Any, result: Any) -> None:
        call = open_calls.pop()
        leaves, call.result_structure = pytree.tree_flatten(result)
        tensors = [t for t in leaves if isinstance(t, Tensor)]
        alive.extend(tensors)
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


def locate(calls: Sequence[Call], graph: Graph) -> None:
    """Fill in the names of the values that the calls' tensors are in the graph."""
    by_kind: dict[tuple[tuple[int, ...], str], list[str]] = defaultdict(list)
    for name, value in graph.values.items():
        by_kind[value.shape, str(value.dtype)].append(name)

    def find(tensor: Tensor, path: str, inner: bool) -> str | None:
        wanted, best = tensor.numpy(), None
        for name in by_kind.get((wanted.shape, str(wanted.dtype)), ()):
            if not _equal(wanted, graph.values[name]):
                continue
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


def _tell_fresh_norms(calls: Sequence[Call]) -> None:
    """A fresh BatchNorm changes next to nothing: what goes into one that was folded looks like what comes out of it."""
    taken_by = {c.taken[0]: c for c in calls if len(c.taken) == 1 and isinstance(c.module, _BatchNorm)}
    for call in calls:
        after = taken_by.get(call.given[0]) if len(call.given) == 1 else None
        if after is not None and call.outputs == after.outputs:
            call.outputs, after.inputs = [None], [None]


def _equal(a: Array, b: Array) -> bool:
    if a.dtype.kind not in "fc":
        return bool(np.array_equal(a, b))
    step = max(1, a.size // PROBES)
    parts = ((a.ravel()[::step], b.ravel()[::step]), (a, b))
    return all(np.allclose(x, y, rtol=1e-3, atol=1e-5 * (1 + float(np.abs(x).max(initial=0))), equal_nan=True) for x, y in parts)


def argument_names(module: nn.Module) -> list[str]:
    """What the forward of a module calls its arguments; `input` of torch's own modules is `x`."""
    if type(module).__module__.startswith("torch.nn."):
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
