"""What follows from how a map lies in memory, where compilers hold it channels last: other axes move when it is split."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_guard.device.measure import Measured
from npu_guard.device.measure_order import perm
from npu_guard.graph.graph import is_known
from npu_guard.graph.handlers import OfKind

if TYPE_CHECKING:
    from npu_guard.analysis.facts import Facts
    from npu_guard.graph.graph import Node, Value

MAP_RANK = 4
_MAKING = OfKind(
    "convolution",
    "pooling",
    "global pooling",
    "resampling",
    also="BatchNormalization InstanceNormalization GridSample LRN DepthToSpace SpaceToDepth",
)
"""Operators whose kernels work on maps that are held channels last."""
_KEEPING = OfKind("unary", "broadcasting", "softmax", "reduction", "quantization", also="Pad Slice Split Concat")
"""Operators that work in any layout and leave it as it is."""


def perm_in_memory(node: Node, ctx: Facts) -> Measured:
    """The permutation of a Transpose behind a Reshape of a feature map, of the axes as they lie in memory.

    Axes of the result of the Reshape that come from the channels are the last ones there, where a convolution or the like
    has made the map. Elsewhere it is the permutation as it stands.
    """
    order = perm(node, ctx).values
    split = ctx.analysis.origin(ctx.data(node)).producer
    while split is not None and split.kind == "quantization" and split.inputs[0] is not None:
        split = ctx.analysis.origin(split.inputs[0]).producer
    if split is None or split.op_type != "Reshape" or split.inputs[0] is None:
        return Measured(order)
    source = split.inputs[0]
    before, after = ctx.dims(source), ctx.dims(ctx.data(node))
    if len(before) != MAP_RANK or not is_channels_last(source, ctx):
        return Measured(order)
    if not (is_known(before) and is_known(after)):
        return Measured((None,), ctx.why(source))
    groups = _groups(before, after)
    if groups is None:
        return Measured(order)
    batch, channels, height, width = groups
    place = {axis: index for index, axis in enumerate([*batch, *height, *width, *channels])}
    return Measured(tuple(place[axis] for axis in order))


def tiles(node: Node, ctx: Facts) -> Measured:
    """Whether a Gather takes every place of its axis once, in rows or columns of its indices: a Reshape, and a Transpose.

    Raises Undecidable where the indices are not constant, or too many to be read.
    """
    indices = ctx.array(ctx.input(node, 1))
    x = ctx.data(node)
    extent = ctx.extent(x, node.attr("axis", 0))
    whole = list(range(extent))
    return Measured((indices.ndim == 2 and any(indices.flatten(order).tolist() == whole for order in ("C", "F")),))


def is_channels_last(value: Value, ctx: Facts) -> bool:
    """Whether a map comes from an operator whose kernel gives it channels last, itself or through others that leave the layout.

    Of several operands one is enough, as the others are brought to its layout; but what Concat joins has to have it throughout.
    """
    node = ctx.analysis.origin(value).producer
    if node is None:
        return False
    known: dict[Node, bool] = ctx.analysis.known.setdefault("channels last", {})
    if node not in known:
        _note(node, ctx, known)
    return known[node]


def _note(node: Node, ctx: Facts, known: dict[Node, bool]) -> None:
    """Fill in whether what a node gives is channels last, and before that of all nodes on the way to it."""
    waiting = [node]
    while waiting:
        current = waiting[-1]
        sources = _sources(current, ctx)
        open_ones = [s for s in sources if s is not None and s not in known]
        if open_ones and current not in known and _leaves_layout(current):
            waiting += open_ones
            continue
        waiting.pop()
        if current.domain or not _leaves_layout(current):
            known[current] = not current.domain and current.op_type in _MAKING
        else:
            found = [s is not None and known[s] for s in sources]
            known[current] = bool(found) and (all if current.op_type == "Concat" else any)(found)


def _leaves_layout(node: Node) -> bool:
    return not node.domain and node.op_type in _KEEPING


def _sources(node: Node, ctx: Facts) -> list[Node | None]:
    """The nodes that give the maps that a node reads; None for a map that is an input of the model."""
    read = (v for v in node.inputs if v is not None and v.shape is not None and len(v.shape) == MAP_RANK)
    return [ctx.analysis.origin(v).producer for v in read if not ctx.is_constant(v)]


def _groups(before: tuple[int, ...], after: tuple[int, ...]) -> list[list[int]] | None:
    """Axes of the second shape by the axis of the first that each is a part of; None where one is a part of two.

    An axis of extent 1 belongs to the first that it may be a part of, and those that are left over to the last.
    """
    groups: list[list[int]] = []
    axis = 0
    for extent in before:
        start, product = axis, 1
        while axis < len(after) and (product * after[axis] <= extent and (product < extent or after[axis] == 1)):
            product *= after[axis]
            axis += 1
        if product != extent:
            return None
        groups.append(list(range(start, axis)))
    return groups if axis == len(after) else None
