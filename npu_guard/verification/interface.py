"""What two models take and give, side by side: names, order, types, shapes, and which axes are open.

Who deploys a model relies on all of it. Inputs and outputs go together by name; where the names are others, as in two exports
of one network, by the pairs that the user gives, else by position where number, types and shapes agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.types import DTYPE_NAMES
from npu_guard.base.errors import UsageError
from npu_guard.base.text import short, text
from npu_guard.file.document import Document
from npu_guard.graph.ops import find_operator
from npu_guard.results.findings import Dim


@dataclass(frozen=True, slots=True)
class Port:
    """An input or an output as the file declares it. `shape` is None where it does not say."""

    name: str
    dtype: str
    shape: tuple[Dim | None, ...] | None

    def __str__(self) -> str:
        dims = "" if self.shape is None else f"[{','.join('?' if d is None else str(d) for d in self.shape)}]"
        return f"{short(self.name)} {self.dtype}{dims}"


@dataclass(slots=True)
class Interface:
    """How two models go together."""

    inputs: dict[str, str] = field(default_factory=dict)
    """Names of the first one's inputs and those of the second that they go with."""
    outputs: dict[str, str] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    """What one of them takes or gives otherwise, a sentence each."""
    notes: list[str] = field(default_factory=list)
    unmatched: str = ""
    """Why inputs or outputs of the one have none of the other to be compared with."""


def match_interfaces(
    before: Document, after: Document, pairs: Mapping[str, str], given: Mapping[str, Sequence[int]]
) -> Interface:
    """Compare two interfaces.

    `pairs` are names of the first model and of the second that go together, `given` the shapes that the user has fixed for
    inputs. Raises UsageError where a pair names what is not there.
    """
    result = Interface()
    sides = [(_inputs(d), [_port(o) for o in d.proto.graph.output]) for d in (before, after)]
    known = [{p.name for ports in side for p in ports} for side in sides]
    for old, new in pairs.items():
        for name, names, which in ((old, known[0], "first"), (new, known[1], "second")):
            if name not in names:
                there = ", ".join(sorted(map(short, names)))
                raise UsageError(f"--map {short(old)}={short(new)}: the {which} model has no {short(name)!r}; it has {there}")
    for what, first, second, found in (
        ("input", sides[0][0], sides[1][0], result.inputs), ("output", sides[0][1], sides[1][1], result.outputs),
    ):  # fmt: skip
        if alone := _on_one_side(what, first, second, pairs):
            result.differences.append(alone)
            return result
        if not _match_ports(what, first, second, pairs, result, found):
            lists = f"before: {_listed(first)}; after: {_listed(second)}"
            result.unmatched = (
                f"their {what}s have other names or another number, so it cannot be told which goes with which ({lists}); "
                "name pairs with --map before=after"
            )
            return result
    takes = {p.name: p for p in sides[1][0]}
    for port in sides[0][0]:
        result.differences += _apart(port, takes[result.inputs[port.name]], given.get(port.name))
    gives = {p.name: p for p in sides[1][1]}
    for port in sides[0][1]:
        other = gives[result.outputs[port.name]]
        if other.dtype != port.dtype:
            result.differences.append(f"output {short(port.name)!r} is {port.dtype} before and {other.dtype} after")
    return result


def _on_one_side(what: str, first: Sequence[Port], second: Sequence[Port], pairs: Mapping[str, str]) -> str:
    """What only one model takes or gives, where the names of all else tell what goes together; else empty."""
    wanted, names = {pairs.get(p.name, p.name) for p in first}, {p.name for p in second}
    less, more = sorted((wanted, names), key=len)
    if not less or not less < more:
        return ""
    side = "before" if more is wanted else "after"
    alone = [
        p for p in (first if more is wanted else second) if (pairs.get(p.name, p.name) if more is wanted else p.name) not in less
    ]
    return (
        f"{what} {_listed(alone)} is there {side} only" if len(alone) == 1 else f"{what}s {_listed(alone)} are there {side} only"
    )


def _match_ports(
    what: str, first: Sequence[Port], second: Sequence[Port], pairs: Mapping[str, str], result: Interface, matched: dict[str, str]
) -> bool:
    """Note which go together; False where that cannot be told."""
    wanted = [pairs.get(p.name, p.name) for p in first]
    names = [p.name for p in second]
    if sorted(wanted) == sorted(names):
        matched.update(zip((p.name for p in first), wanted, strict=True))
        elsewhere = [p.name for p, old, new in zip(first, wanted, names, strict=True) if old != new]
        if any(name not in pairs for name in elsewhere):
            result.differences.append(f"the {what}s are in another order (before: {_listed(first)}; after: {_listed(second)})")
        elif elsewhere:
            result.notes.append(f"the {what}s are in another order, as --map says")
        return True
    unlike = len(wanted) != len(names) or any(not _alike(a, b) for a, b in zip(first, second, strict=True))
    moved = any(name in names and names.index(name) != i for i, name in enumerate(wanted))
    if unlike or moved:
        return False
    matched.update(zip((p.name for p in first), names, strict=True))
    renamed = ", ".join(f"{short(a)} = {short(b)}" for a, b in matched.items() if a != b)
    result.notes.append(f"{what}s matched by position, as their names differ: {renamed}")
    return True


def _alike(a: Port, b: Port) -> bool:
    if a.dtype != b.dtype:
        return False
    if a.shape is None or b.shape is None:
        return True
    return len(a.shape) == len(b.shape) and all(
        x == y or not (isinstance(x, int) and isinstance(y, int)) for x, y in zip(a.shape, b.shape, strict=True)
    )


def _apart(a: Port, b: Port, given: Sequence[int] | None) -> list[str]:
    """What an input takes on the one side only."""
    name = f"input {short(a.name)!r}"
    if a.dtype != b.dtype:
        return [f"{name} is {a.dtype} before and {b.dtype} after"]
    if a.shape is None or b.shape is None:
        return []
    if len(a.shape) != len(b.shape):
        return [f"{name} has {len(a.shape)} axes before and {len(b.shape)} after"]
    found = []
    for axis, (x, y) in enumerate(zip(a.shape, b.shape, strict=True)):
        if given is not None and axis < len(given):
            continue  # whatever the files say, both have this extent
        fixed = [d for d in (x, y) if isinstance(d, int)]
        if len(fixed) == 2 and x != y:
            found.append(f"axis {axis} of {name} is {x} before and {y} after")
        elif len(fixed) == 1:
            words = [str(d) if isinstance(d, int) else f"open ({d})" if d else "open" for d in (x, y)]
            found.append(f"axis {axis} of {name} is {words[0]} before and {words[1]} after")
    return found


def _inputs(document: Document) -> list[Port]:
    defaults = {t.name for t in document.proto.graph.initializer}
    return [_port(i) for i in document.proto.graph.input if i.name not in defaults]


def _port(value: onnx.ValueInfoProto) -> Port:
    kind = value.type.tensor_type
    dims: list[Dim | None] | None = None
    if kind.HasField("shape"):
        dims = [d.dim_value if d.HasField("dim_value") else text(d.dim_param) or None for d in kind.shape.dim]
    return Port(text(value.name), DTYPE_NAMES.get(kind.elem_type, "?"), None if dims is None else tuple(dims))


def _listed(ports: Iterable[Port]) -> str:
    return ", ".join(map(str, ports)) or "none"


def random_nodes(analysis: Analysis) -> list[str]:
    """Nodes that draw random numbers, by operator and name."""
    found = []
    for node in analysis.model.graph.walk():
        drawn = find_operator(node.op_type, node.domain).kind == "random"
        if node.op_type == "Dropout" and not node.domain:
            training = node.input(2)
            value = None if training is None else analysis.constants.get(training)
            drawn = value is not None and bool(value.any())
        if drawn:
            found.append(f"{node.op_type} {short(node.label)!r}")
    return found
