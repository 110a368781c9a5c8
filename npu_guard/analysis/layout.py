"""What reshaping operators do to a feature map: which axes keep their part as batch, channels and space.

Exporters spell one rearrangement in many ways (a Transpose of two axes as Reshape, Transpose, Reshape). So operators that
follow each other directly are judged as a run, in its shortest spelling.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence, Set

from msgspec import Struct, field

from npu_guard.analysis import einsum
from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.roles import Roles, role
from npu_guard.analysis.static import regroups
from npu_guard.graph.graph import Node, Value, is_known
from npu_guard.graph.handlers import OfKind

RUNNING = OfKind("view", also="Transpose")
MOVING = OfKind("view", "data mover")
"""Operators that move data and compute nothing."""
LAYING = OfKind("broadcasting", also="Expand")
"""Operators that lay an operand of fewer axes along those of the output."""
_BLOCKS = {"SpaceToDepth": "blocks of space become channels", "DepthToSpace": "channels become blocks of space"}
_QUANTIZING = frozenset({"QuantizeLinear", "DequantizeLinear"})
_PAIRS = 16
"""Quantizing operators in a row through which a run goes on."""


def collapses_to_vector(before: Sequence[int], after: Sequence[int]) -> bool:
    """`[B, C, 1, 1] -> [B, C]`, or `[C]` for a batch of 1: the step from maps to vectors behind a global pool."""
    if len(before) < 3 or math.prod(before[2:]) != 1:
        return False
    return tuple(after) == tuple(before[:2]) or (before[0] == 1 and tuple(after) == (before[1],))


class Runs(Struct, frozen=True):
    """What the reshaping operators of a model do, run by run."""

    rearranged: Mapping[Node, str]
    """Nodes at which a feature map is rearranged, with a description; of a run, one node for each step that it needs."""
    passing: Set[Node]
    """Nodes in the middle of a run that ends in a map: nothing is computed with what they give."""


def rearrangements(analysis: Analysis) -> Mapping[Node, str]:
    """`Runs.rearranged` of a model."""
    return runs(analysis, Roles(analysis)).rearranged


def runs(analysis: Analysis, roles: Roles) -> Runs:
    """Judge all runs. Nodes with extents that are not known are left out: whoever asks about them has to say so."""
    rearranged: dict[Node, str] = {}
    passing: set[Node] = set()
    for node in analysis.nodes():
        if not _may_rearrange(node.op_type) or node.domain:
            continue
        if node.op_type in _BLOCKS:
            rearranged[node] = _BLOCKS[node.op_type]
        elif LAYING.get(node.op_type):
            if (what := _laid(roles, node)) is not None:
                rearranged[node] = what
        elif _runs(analysis, node) and not _goes_on(analysis, node):
            run = _run(analysis, node)
            rearranged.update(_judge(run, roles))
            if len(run) > 1 and (end := run[-1].output.shape) is not None and len(end) > 2:
                passing.update(run[:-1])
    return Runs(rearranged, passing)


@functools.lru_cache(maxsize=1024)
def _may_rearrange(op_type: str) -> bool:
    """Whether an operator is one that `runs` looks at."""
    return op_type in RUNNING or op_type in LAYING or op_type in _BLOCKS or op_type in ("Gather", "Einsum")


def _laid(roles: Roles, node: Node) -> str | None:
    """How broadcasting lays an operand along axes of another part, as an Unsqueeze before it would."""
    moves = [f"{role(roles.view(v).axes[axis])} ({v.shape[axis]}) to {role(to)}" for v, axis, to in roles.moved(node) if v.shape]
    return "broadcasting moves " + ", ".join(moves) if moves else None


def _goes_on(analysis: Analysis, node: Node) -> bool:
    """Whether the node continues a run that begins before it."""
    given = node.inputs[0]
    for _ in range(_PAIRS + 1):
        before = None if given is None else analysis.origin(given).producer
        if before is None or not _scales_all_alike(before):
            return before is not None and _can_run(analysis, before) and _next(analysis, before) is node
        given = before.inputs[0]
    return False


def _can_run(analysis: Analysis, node: Node) -> bool:
    return _runs(analysis, node) and not node.domain and node not in analysis.elided


def _runs(analysis: Analysis, node: Node) -> bool:
    op = node.op_type
    if op == "Gather":
        return regroups(node, analysis.constants)
    return bool(RUNNING.get(op)) or (op == "Einsum" and einsum.order(node) is not None)


def _next(analysis: Analysis, node: Node) -> Node | None:
    """The only reader of a node's output, where that belongs to the same run; seen through quantization of the whole tensor."""
    value = node.output
    for _ in range(_PAIRS + 1):
        reader = analysis.only_reader(value)
        first = None if reader is None else reader.inputs[0]
        if reader is None or first is None or analysis.origin(first) is not value:
            return None
        if not _scales_all_alike(reader):
            return reader if _can_run(analysis, reader) else None
        value = reader.output
    return None


def _scales_all_alike(node: Node) -> bool:
    """Whether the node quantizes a tensor, or takes that back, with one scale, so that it does not matter where axes lie."""
    if node.op_type not in _QUANTIZING or node.domain not in ("", "com.microsoft"):
        return False
    scale = node.input(1)
    return scale is not None and scale.shape is not None and all(d == 1 for d in scale.shape)


def _run(analysis: Analysis, head: Node) -> list[Node]:
    run = [head]
    while (following := _next(analysis, run[-1])) is not None:
        run.append(following)
    return run


class _Step(Struct):
    """One step on the axes of extent > 1: a permutation, or (where `perm` is None) a regrouping of extents."""

    node: Node
    before: list[int]
    after: list[int]
    perm: list[int] | None = field(default=None)


def _judge(run: Sequence[Node], roles: Roles) -> dict[Node, str]:
    known = [(node, _extents(node.inputs[0], roles), _extents(node.output, roles)) for node in run]
    if any(before is None or after is None for _, before, after in known):
        return {}
    shapes: list[tuple[Node, tuple[int, ...], tuple[int, ...]]] = []
    for node, before, after in known:
        if node.op_type == "Gather":  # the second half of the Reshape before it
            shapes[-1] = (*shapes[-1][:2], after or ())
        else:
            shapes.append((node, before or (), after or ()))
    steps = _shortest([step for node, before, after in shapes if (step := _step(node, before, after, roles))])
    if steps:
        own = {node: _described(node, before, after, roles) for node, before, after in shapes}
        return {step.node: own[step.node] or "regroups its axes" for step in steps}
    # Nothing is left but axes of extent 1 that come and go; they count where another axis changes its part by it.
    before, after = shapes[0][1], shapes[-1][2]
    if collapses_to_vector(before, after) or all(v is None or v.shape is None or len(v.shape) < 2 for v in _ends(run)):
        return {}
    what = rearrangement("Reshape", before, after)
    if what is None:
        return {}
    moving = (n for n, b, a in shapes if _described(n, b, a, roles) and not collapses_to_vector(b, a))
    return {next(moving, run[0]): what}


def _ends(run: Sequence[Node]) -> tuple[Value | None, Value]:
    return run[0].inputs[0], run[-1].output


def _described(node: Node, before: Sequence[int], after: Sequence[int], roles: Roles) -> str | None:
    perm = _perm(node, roles)
    return rearrangement("Transpose" if perm is not None else node.op_type, before, after, perm)


def _extents(value: Value | None, roles: Roles) -> tuple[int, ...] | None:
    """Extents of the map that a value with fewer axes stands for; None where one is not known."""
    if value is None or not is_known(value.shape):
        return None
    return roles.view(value).full(value.shape)  # type: ignore[return-value]  # extents of 1 beside those that are known


def _perm(node: Node, roles: Roles) -> tuple[int, ...] | None:
    """The order that a Transpose, or an Einsum that is one, gives to the axes of the map; None of other operators."""
    value = node.inputs[0]
    if value is None or value.shape is None:
        return None
    if node.op_type == "Transpose":
        perm = node.attributes.get("perm") or tuple(reversed(range(len(value.shape))))
    else:
        given = einsum.order(node)
        if given is None:
            return None
        perm = given
    view = roles.view(value)
    whole = list(range(view.rank))
    for position, axis in zip(view.axes, perm, strict=True):
        whole[position] = view.axes[axis]
    return tuple(whole)


def _step(node: Node, before: Sequence[int], after: Sequence[int], roles: Roles) -> _Step | None:
    """What the node does to axes of extent > 1; None where that is nothing."""
    big = [d for d in before if d != 1]
    perm = _perm(node, roles)
    if perm is not None:
        numbers = {axis: i for i, axis in enumerate(a for a, d in enumerate(before) if d != 1)}
        order = [numbers[axis] for axis in perm if axis in numbers]
        return None if order == sorted(order) else _Step(node, big, [big[i] for i in order], order)
    rest = [d for d in after if d != 1]
    return None if big == rest else _Step(node, big, rest)


def _shortest(steps: Sequence[_Step]) -> list[_Step]:
    """The run with neighbours of one kind put together; what undoes itself is gone."""
    kept: list[_Step] = []
    for step in steps:
        last = kept[-1] if kept else None
        if last is None or (last.perm is None) != (step.perm is None):
            kept.append(step)
            continue
        kept.pop()
        if last.perm is not None and step.perm is not None:
            perm = [last.perm[i] for i in step.perm]
            if perm != sorted(perm):
                kept.append(_Step(last.node, last.before, step.after, perm))
        elif last.before != step.after:
            kept.append(_Step(last.node, last.before, step.after))
    return kept


def rearrangement(op_type: str, before: Sequence[int], after: Sequence[int], perm: Sequence[int] | None = None) -> str | None:
    """In words, how one operator rearranges a tensor; None where every axis of extent > 1 keeps its part and order."""
    if op_type == "Transpose":
        return _transposed(before, perm if perm is not None else tuple(reversed(range(len(before)))))
    old = [(role(a), d) for a, d in enumerate(before) if d != 1]
    new = [(role(a), d) for a, d in enumerate(after) if d != 1]
    if old == new:
        return None
    if [d for _, d in old] == [d for _, d in new]:
        moves = [f"{a} ({d}) to {b}" for (a, d), (b, _) in zip(old, new, strict=True) if a != b]
        return "moves " + ", ".join(moves)
    if len(new) < len(old):
        return f"merges {_product(old, new)}"
    if len(new) > len(old):
        return f"splits into {_product(new, old)}"
    return "regroups its axes"


def _product(longer: Sequence[tuple[str, int]], shorter: Sequence[tuple[str, int]]) -> str:
    """The extents that are many on one side and one on the other: `4 x 4 (space)`."""
    head = 0
    while head < len(shorter) and longer[head][1] == shorter[head][1]:
        head += 1
    tail = 0
    while tail < len(shorter) - head and longer[-1 - tail][1] == shorter[-1 - tail][1]:
        tail += 1
    part = longer[head : len(longer) - tail] or longer
    names = " and ".join(dict.fromkeys(name for name, _ in part))
    return f"{' x '.join(str(d) for _, d in part)} ({names})"


def _transposed(before: Sequence[int], perm: Sequence[int]) -> str | None:
    old = [(role(a), a) for a, d in enumerate(before) if d != 1]
    new = [(role(position), a) for position, a in enumerate(perm) if before[a] != 1]
    if old == new:
        return None
    parts = {axis: part for part, axis in new}
    moves = [f"{part} ({before[axis]}) to {parts[axis]}" for part, axis in old if parts[axis] != part]
    return "moves " + ", ".join(moves) if moves else "swaps axes of space"
