"""What reshaping operators do to a feature map: which axes keep their part as batch, channels and space.

Exporters spell one rearrangement in many ways (a Transpose of two axes as Reshape, Transpose, Reshape). So operators that
follow each other directly are judged as a run, in its shortest spelling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from msgspec import Struct, field

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.cost import elements
from npu_guard.analysis.static import regroups
from npu_guard.graph.graph import Node, Value
from npu_guard.graph.handlers import OfKind

BATCH, CHANNELS, SPACE = "batch", "channels", "space"
RUNNING = OfKind("view", also="Transpose")
MOVING = OfKind("view", "data mover")
"""Operators that move data and compute nothing."""
_BLOCKS = {"SpaceToDepth": "blocks of space become channels", "DepthToSpace": "channels become blocks of space"}


def role(axis: int) -> str:
    """Part of an axis in [B, C, ...]."""
    return (BATCH, CHANNELS, SPACE)[min(axis, 2)]


def collapses_to_vector(before: Sequence[int], after: Sequence[int]) -> bool:
    """`[B, C, 1, 1] -> [B, C]`, or `[C]` for a batch of 1: the step from maps to vectors behind a global pool."""
    if len(before) < 3 or math.prod(before[2:]) != 1:
        return False
    return tuple(after) == tuple(before[:2]) or (before[0] == 1 and tuple(after) == (before[1],))


def rearrangements(analysis: Analysis) -> Mapping[Node, str]:
    """Nodes at which a feature map is rearranged, with a description; of a run, one node for each step that it needs.

    Nodes with extents that are not known are left out: whoever asks about them has to say so.
    """
    found: dict[Node, str] = {}
    for node in analysis.nodes():
        if node.domain:
            continue
        if node.op_type in _BLOCKS:
            found[node] = _BLOCKS[node.op_type]
        elif _runs(analysis, node) and not _goes_on(analysis, node):
            found.update(_judge(_run(analysis, node)))
    return found


def _goes_on(analysis: Analysis, node: Node) -> bool:
    """Whether the node continues a run that begins before it."""
    assert node.inputs[0] is not None
    source = analysis.origin(node.inputs[0])
    before = source.producer
    return before is not None and _can_run(analysis, before) and _next(analysis, before) is node


def _can_run(analysis: Analysis, node: Node) -> bool:
    return _runs(analysis, node) and not node.domain and node not in analysis.elided


def _runs(analysis: Analysis, node: Node) -> bool:
    return node.op_type in RUNNING or regroups(node, analysis.constants)


def _next(analysis: Analysis, node: Node) -> Node | None:
    """The only reader of a node's output, where that belongs to the same run."""
    if node.output.is_output:
        return None
    reader = analysis.only_reader(node.output)
    if reader is None or not _can_run(analysis, reader):
        return None
    first = reader.inputs[0]
    return reader if first is not None and analysis.origin(first) is node.output else None


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


def _judge(run: Sequence[Node]) -> dict[Node, str]:
    known = [(node, _extents(node.inputs[0]), _extents(node.output)) for node in run]
    if any(before is None or after is None for _, before, after in known):
        return {}
    shapes: list[tuple[Node, tuple[int, ...], tuple[int, ...]]] = []
    for node, before, after in known:
        if node.op_type == "Gather":  # the second half of the Reshape before it
            shapes[-1] = (*shapes[-1][:2], after or ())
        else:
            shapes.append((node, before or (), after or ()))
    steps = _shortest([step for node, before, after in shapes if (step := _step(node, before, after))])
    if steps:
        own = {node: rearrangement(node.op_type, before, after, _perm(node, before)) for node, before, after in shapes}
        return {step.node: own[step.node] or "regroups its axes" for step in steps}
    # Nothing is left but axes of extent 1 that come and go; they count where another axis changes its part by it.
    before, after = shapes[0][1], shapes[-1][2]
    if collapses_to_vector(before, after) or len(before) < 2 > len(after):
        return {}
    what = rearrangement("Reshape", before, after)
    if what is None:
        return {}
    moving = (n for n, b, a in shapes if rearrangement(n.op_type, b, a, _perm(n, b)) and not collapses_to_vector(b, a))
    return {next(moving, run[0]): what}


def _extents(value: Value | None) -> tuple[int, ...] | None:
    if value is None or elements(value.shape) is None:
        return None
    dims = tuple(d for d in value.shape or () if isinstance(d, int))
    return (1, *dims) if is_flat_tokens(value) else dims


def is_flat_tokens(value: Value) -> bool:
    """Whether `[N,C]` is the tokens `[1,N,C]` without their batch of 1, as simplifiers leave them for a Gemm.

    Vectors of N maps, such as a detector's regions, are a batch of N.
    """
    shape = value.shape
    if shape is None or len(shape) != 2 or not all(isinstance(d, int) for d in shape) or shape[0] == 1:
        return False
    model = value.graph.model
    if shape[0] in model.map_batches:
        return False
    inputs = [v.shape for v in model.graph.inputs if v.initializer is None]
    return {s[0] for s in inputs if s is not None and len(s) > 1} == {1}


def _perm(node: Node, before: Sequence[int]) -> tuple[int, ...]:
    """The order of axes that a Transpose gives; `before` may have a batch of 1 in front that the tensor has not."""
    value = node.inputs[0]
    rank = len(before) if value is None or value.shape is None else len(value.shape)
    front = len(before) - rank
    perm = node.attributes.get("perm") or tuple(reversed(range(rank)))
    return (*range(front), *(axis + front for axis in perm))


def _step(node: Node, before: Sequence[int], after: Sequence[int]) -> _Step | None:
    """What the node does to axes of extent > 1; None where that is nothing."""
    big = [d for d in before if d != 1]
    if node.op_type == "Transpose":
        perm = _perm(node, before)
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
