"""A module whose operators have changed, written as calls of the children that stay and source for the rest."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.utils import _pytree as pytree

from npu_guard.training import norms
from npu_guard.training.calls import TENSOR, Call
from npu_guard.training.graph import Graph, Op, below
from npu_guard.training.operators import WRITERS
from npu_guard.training.writer import ONLY, CannotWrite, Child, Writer, Written


@dataclass(slots=True)
class Composed:
    """What one module is written from."""

    graph: Graph
    call: Call
    path: str
    inputs: list[str]
    outputs: list[str]
    ops: Sequence[Op]
    children: Mapping[Op, Child]
    norms: norms.Folded
    inside: Sequence[Call]
    """Calls of modules inside."""
    trained: Callable[[str], bool]


def children_of(
    graph: Graph, path: str, ops: Sequence[Op], calls: Sequence[Call], survivors: Collection[str], new: Collection[Op],
    replaced: Mapping[str, Collection[Op]], fused: Sequence[tuple[Call, Call]],
) -> dict[Op, Child]:  # fmt: skip
    """Operators that a child provides: outermost modules first, those whose changes all landed inside them included.

    Two that the exporter has fused go before what is inside of them, such as the activation of a norm that has one.
    """
    inside, taken = set(ops), dict[Op, Child]()

    def relative(full: str) -> str:
        return full[len(path) + 1 :] if path else full

    def take(paths: tuple[str, ...], inputs: Sequence[str | None], outputs: Sequence[str | None]) -> None:
        ins, outs = [n for n in inputs if n is not None], [n for n in outputs if n is not None]
        known = len(ins) == len(inputs) and len(outs) == len(outputs) and bool(outs)
        if not known or not all(n in survivors or n in graph.outputs for n in (*ins, *outs)):
            return
        found = graph.between(set(ins), outs)
        if not found or any(op not in inside or op in taken for op in found):
            return
        mine = {op for at, own in replaced.items() if any(below(at, p) for p in paths) for op in own}
        if any(op in new and op not in mine for op in found):
            return
        members = set(found)
        if any(
            reader not in members for op in found for o in op.outputs if o not in outs for reader in graph.consumers.get(o, ())
        ):
            return
        if any(o in graph.outputs and o not in outs for op in found for o in op.outputs):
            return
        child = Child(tuple(relative(p) for p in paths), ins, outs, replaced=bool(mine & members))
        taken.update(dict.fromkeys(found, child))

    chains = [(call,) for call in calls] + [pair for pair in fused if all(below(c.path, path) for c in pair)]
    for chain in sorted(chains, key=lambda chain: (max(c.path.count(".") for c in chain), -len(chain))):
        if all(call.plain for call in chain):
            take(tuple(c.path for c in chain), chain[0].inputs, chain[-1].outputs)
    return taken


def compose(job: Composed, name: str, arguments: Sequence[str]) -> Written:
    """The class. Raises CannotWrite."""
    call, path = job.call, job.path
    own = {f"{path}.{n}" if path else n: n for n, _ in call.module.named_parameters(recurse=False)}
    taken = [child.modules[i].split(".")[0] for child in job.children.values() for i in range(len(child.modules))]
    writer = Writer(job.graph, name, job.trained, own, taken, norms.norm_of(job.graph, job.norms, job.inside))
    signature, unpack, names = signature_of(call, job.inputs, arguments)
    writer.write(job.ops, names, job.children, WRITERS)
    written = writer.written
    if gone := [p for p, at in job.norms.whole.items() if at in written.emitted and p not in written.norms]:
        raise CannotWrite(f"the norm {gone[0]} would be gone")
    written.arguments, written.unpack = signature, unpack
    values = iter([writer.value(o, False) for o in job.outputs])
    held = [next(values, "") if one is TENSOR else Given(one) for one in call.result_held]
    written.result, written.result_type = rendered(pytree.tree_unflatten(held, call.result_structure))
    written.parts = parts_of(call.module, written.kept, written.called)
    written.helpers.update([ONLY] if written.parts else [])
    return written


def parts_of(module: nn.Module, kept: Sequence[str], called: Sequence[str]) -> dict[str, list[str]]:
    """Children that are called in parts, with these parts, where others of their parts have weights or statistics.

    An optimizer would hold these for nothing, and training on several devices stops at parameters without gradient.
    """
    found = {}
    for name in kept:
        paths = sorted({path for path in called if below(path, name)})
        paths = [p for p in paths if not any(p != other and below(p, other) for other in paths)]
        child = module.get_submodule(name)
        tensors = [f"{name}.{key}" for key, _ in (*child.named_parameters(), *child.named_buffers())]
        if any(not any(below(t, p) for p in paths) for t in tensors):
            found[name] = [p.removeprefix(f"{name}.") for p in paths]
    return found


def signature_of(call: Call, inputs: Sequence[str], names: Sequence[str]) -> tuple[list[str], list[str], dict[str, str]]:
    """Arguments with their types, lines that take lists apart, and the local name of each value. Raises CannotWrite.

    What is no tensor is expected to be what it is.
    """
    numbers = iter(range(len(inputs)))
    held_by = [next(numbers, 0) if one is TENSOR else Given(one) for one in call.held]
    arguments, options = pytree.tree_unflatten(held_by, call.structure)
    signature, unpack, local = [], [], dict[str, str]()

    def take(argument: str, held: Any) -> None:
        if isinstance(held, int):
            signature.append(f"{argument}: Tensor")
            local[inputs[held]] = argument
            return
        if isinstance(held, Given):
            kind, is_it = held.type_and_test()
            signature.append(f"{argument}: {kind}")
            unpack.append(f"assert {argument} {is_it}")
            return
        parts = pytree.tree_leaves(held)
        if isinstance(held, (list, tuple)) and all(isinstance(p, int) for p in held):
            own = [f"{argument}{i}" for i in range(len(parts))]
            kind = "list[Tensor]" if isinstance(held, list) else f"tuple[{', '.join(['Tensor'] * len(parts))}]"
            signature.append(f"{argument}: {kind}")
            unpack.append(f"{', '.join(own)}{',' if len(own) == 1 else ''} = {argument}")
        elif isinstance(held, dict) and all(isinstance(p, int) for p in held.values()):
            own = [f"{argument}_{i}" for i in range(len(parts))]
            signature.append(f"{argument}: dict[{type(next(iter(held))).__name__}, Tensor]")
            unpack.append(f"{', '.join(own)}{',' if len(own) == 1 else ''} = {', '.join(f'{argument}[{k!r}]' for k in held)}")
        else:
            raise CannotWrite(f"argument {argument} holds tensors in a way that is not written here")
        local.update(zip((inputs[p] for p in parts), own, strict=True))

    for position, held in enumerate(arguments):
        take(names[position] if position < len(names) else f"x{position}", held)
    for key, held in options.items():
        take(key, held)
    return signature, unpack, local


@dataclass(frozen=True, slots=True)
class Given:
    """Something that is no tensor, as a module was given it, or gives it."""

    value: Any

    def text(self) -> str:
        """As Python writes it."""
        return json.dumps(self.value) if isinstance(self.value, str) else repr(self.value)

    def type_and_test(self) -> tuple[str, str]:
        """Its type, and how to tell that something is it. Raises CannotWrite."""
        if self.value is None or type(self.value) is bool:
            return "bool" if self.value is not None else "None", f"is {self.value}"
        if type(self.value) in (int, float, str):
            return type(self.value).__name__, f"== {self.text()}"
        raise CannotWrite(f"it is also given, or gives, a {type(self.value).__name__}")


def rendered(result: Any) -> tuple[str, str]:
    """The result as the module gives it, names in tuples, lists and dicts as its tensors were, and its type.

    Raises CannotWrite.
    """

    def go(held: Any) -> tuple[str, str]:
        if isinstance(held, str):
            return held, "Tensor"
        if isinstance(held, Given):
            return held.text(), held.type_and_test()[0]
        if isinstance(held, dict):
            inner = {key: go(v) for key, v in held.items()}
            kind = type(next(iter(held), "")).__name__
            kinds = {t for _, t in inner.values()}
            return "{" + ", ".join(
                f"{k!r}: {v}" for k, (v, _) in inner.items()
            ) + "}", f"dict[{kind}, {' | '.join(sorted(kinds))}]"
        if type(held) in (list, tuple):
            parts = [go(v) for v in held]
            text = ", ".join(v for v, _ in parts)
            if isinstance(held, list):
                return f"[{text}]", f"list[{' | '.join(sorted({t for _, t in parts}))}]"
            return f"({text}{',' if len(parts) == 1 else ''})", f"tuple[{', '.join(t for _, t in parts)}]"
        raise CannotWrite(f"a result of type {type(held).__name__} is not written here")

    return go(result)
