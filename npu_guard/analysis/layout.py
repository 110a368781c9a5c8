"""What reshaping operators do to a feature map: which axes keep their part as batch, channels and space.

Exporters spell one rearrangement in many ways (a Transpose of two axes as Reshape, Transpose, Reshape). So operators that
follow each other directly are judged as a run, in its shortest spelling.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence, Set

from msgspec import Struct, field

from npu_guard.analysis import einsum
from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.rearrangement import collapses_to_vector, rearrangement
from npu_guard.analysis.roles import Roles
from npu_guard.analysis.static import regroups
from npu_guard.analysis.views import role
from npu_guard.graph.graph import Node, Value, is_known
from npu_guard.graph.handlers import OfKind
from npu_guard.graph.plain_names import PLAIN
from npu_guard.results.findings import Dim

RUNNING = OfKind("view", also="Transpose")
MOVING = OfKind("view", "data mover")
"""Operators that move data and compute nothing."""
LAYING = OfKind("broadcasting", also="Expand")
"""Operators that lay an operand of fewer axes along those of the output."""
_BLOCKS = {"SpaceToDepth": "blocks of space become channels", "DepthToSpace": "channels become blocks of space"}
_QUANTIZING = frozenset({"QuantizeLinear", "DequantizeLinear"})
_PAIRS = 16
"""Quantizing operators in a row through which a run goes on."""


class Runs(Struct, frozen=True):
    """What the reshaping operators of a model do, run by run."""

    rearranged: Mapping[Node, str]
    """Nodes at which a feature map is rearranged, with a description; of a run, one node for each step that it needs."""
    passing: Set[Node]
    """Nodes in the middle of a run that ends in a map: nothing is computed with what they give."""
    kept: Set[Node]
    """Nodes that surely rearrange nothing, whatever extents are not known."""


def rearrangements(analysis: Analysis) -> Mapping[Node, str]:
    """`Runs.rearranged` of a model."""
    return runs(analysis, Roles(analysis)).rearranged


def runs(analysis: Analysis, roles: Roles) -> Runs:
    """Judge all runs. Nodes with extents that are not known are left out: whoever asks about them has to say so."""
    rearranged: dict[Node, str] = {}
    passing: set[Node] = set()
    kept: set[Node] = set()
    for node in analysis.nodes():
        op = node.op_type
        if node.domain:
            op = PLAIN.get(node.op, "")
        if not _may_rearrange(op):
            continue
        if op in _BLOCKS:
            rearranged[node] = _BLOCKS[op]
        elif LAYING.get(op) or (op == "Einsum" and lays(node)):
            if (what := _laid(roles, node)) is not None:
                rearranged[node] = what
        elif not node.domain and _runs(analysis, node) and not _goes_on(analysis, node):
            run = _run(analysis, node)
            rearranged.update(_judge(run, roles))
            if _turns_back(run, roles):
                kept.update(run)
            if len(run) > 1 and (end := run[-1].output.shape) is not None and len(end) > 2:
                passing.update(run[:-1])
    return Runs(rearranged, passing, kept)


@functools.lru_cache(maxsize=1024)
def _may_rearrange(op_type: str) -> bool:
    """Whether an operator is one that `runs` looks at."""
    return op_type in RUNNING or op_type in LAYING or op_type in _BLOCKS or op_type in ("Gather", "Einsum")


def lays(node: Node) -> bool:
    """Whether the node lays operands along the axes of its output: it broadcasts, by itself or as an Einsum of elements."""
    op = PLAIN.get(node.op, "") if node.domain else node.op_type
    return bool(LAYING.get(op)) or (op == "Einsum" and einsum.elementwise(node) is not None)


def _laid(roles: Roles, node: Node) -> str | None:
    """How broadcasting lays an operand along axes of another part, as an Unsqueeze before it would."""
    moves = [f"{role(roles.view(v).axes[axis])} ({v.shape[axis]}) to {role(to)}" for v, axis, to in roles.moved(node) if v.shape]
    if moves:
        return "broadcasting moves " + ", ".join(moves)
    if node.op_type != "Einsum":
        return None  # that alone can name axes in another order
    from npu_guard.analysis.wanted_views import places

    for value, along in places(node):
        big = [to for to, extent in zip(along, value.shape or (), strict=True) if extent != 1]
        if big != sorted(big) and not roles.analysis.is_constant(value):
            return "swaps axes of space"
    return None


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
    steps: list[_Step | None] = []
    for node, before, after in known:
        if node.op_type == "Gather":  # the second half of the Reshape before it
            shapes[-1] = (*shapes[-1][:2], after or ())
            steps[-1] = _step(shapes[-1][0], node.output)
        else:
            shapes.append((node, before or (), after or ()))
            steps.append(_step(node, node.output))
    first, last = _ends(run)
    steps = [_lying(run[0], first, roles, True), *steps, _lying(run[-1], last, roles, False)]
    left = _shortest([step for step in steps if step is not None])
    if left:
        own = {node: _described(node, before, after, roles) for node, before, after in shapes}
        return {step.node: own.get(step.node) or "regroups its axes" for step in left}
    # Nothing is left but axes of extent 1 that come and go; they count where another axis changes its part by it.
    before, after = shapes[0][1], shapes[-1][2]
    if collapses_to_vector(before, after) or all(v is None or v.shape is None or len(v.shape) < 2 for v in _ends(run)):
        return {}
    what = rearrangement("Reshape", before, after)
    if what is None:
        return {}
    moving = (n for n, b, a in shapes if _described(n, b, a, roles) and not collapses_to_vector(b, a))
    return {next(moving, run[0]): what}


def _turns_back(run: Sequence[Node], roles: Roles) -> bool:
    """Whether Transposes leave each axis of the map in its part, whatever its extent."""
    first, last = _ends(run)
    if first is None or first.shape is None or last.shape is None:
        return False
    view, made = roles.view(first), roles.view(last)
    axes = view.axes
    for node in run:
        order = _order(node)
        if order is None or len(order) != len(axes):
            return False
        axes = tuple(axes[axis] for axis in order)
    return view.rank == made.rank and axes == made.axes


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


def _order(node: Node) -> tuple[int, ...] | None:
    """The order that a Transpose, or an Einsum that is one, gives to the axes; None of other operators."""
    value = node.inputs[0]
    if value is None or value.shape is None:
        return None
    if node.op_type == "Transpose":
        return node.attributes.get("perm") or tuple(reversed(range(len(value.shape))))
    return einsum.order(node)


def _perm(node: Node, roles: Roles) -> tuple[int, ...] | None:
    """`_order` of the axes of the map."""
    order, value = _order(node), node.inputs[0]
    if order is None or value is None:
        return None
    view, made = roles.view(value), roles.view(node.output)
    if (view.rises and made.rises) or view.rank != made.rank:
        made = view
    whole = list(range(view.rank))
    for position, axis in zip(made.axes, order, strict=True):
        whole[position] = view.axes[axis]
    return tuple(whole)


def _step(node: Node, output: Value) -> _Step | None:
    """What the node does to axes of extent > 1 as they lie in memory; None where that is nothing."""
    before = (node.inputs[0].shape if node.inputs[0] is not None else None) or ()
    big: list[int] = [d for d in before if d != 1]  # type: ignore[misc]  # known, as the run is judged
    perm = _order(node)
    if perm is not None:
        return _permuted(node, before, perm)
    rest: list[int] = [d for d in output.shape or () if d != 1]  # type: ignore[misc]
    return None if big == rest else _Step(node, big, rest)


def _permuted(node: Node, before: Sequence[Dim], perm: Sequence[int]) -> _Step | None:
    big: list[int] = [d for d in before if d != 1]  # type: ignore[misc]
    numbers = {axis: i for i, axis in enumerate(a for a, d in enumerate(before) if d != 1)}
    order = [numbers[axis] for axis in perm if axis in numbers]
    return None if order == sorted(order) else _Step(node, big, [big[i] for i in order], order)


def _lying(node: Node, value: Value | None, roles: Roles, leaving: bool) -> _Step | None:
    """The step from the order of a map to the one in which it lies with channels last, or (`leaving` is False) back to it."""
    if value is None or value.shape is None or (view := roles.view(value)).rises:
        return None
    if leaving:
        return _permuted(node, view.full(value.shape), view.axes)
    axes = sorted(range(len(view.axes)), key=view.axes.__getitem__)
    return _permuted(node, value.shape, axes)


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
