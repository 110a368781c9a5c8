"""What can be measured at a window or a layer with channels. Each function answers or raises Undecidable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from npu_guard.analysis.window import padding
from npu_guard.base.errors import Undecidable
from npu_guard.graph.ops import names
from npu_guard.graph.plain import plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from npu_guard.analysis.facts import Facts
    from npu_guard.graph.graph import Node, Value

GLOBAL_POOLS = names("global pooling")


class Measured(Struct, frozen=True):
    """Numbers or words, one for each axis, side or tensor; None where the graph does not tell, and then why.

    No values at all mean that the node has no such thing, and that no limit on it is exceeded; a condition on it is not met.
    `rank` is set for axes, so that a limit may count them from the end, and of axes there may be none. `places` says where the
    axes of the tensor itself lie among those: the last axis of the vector `[N,C]` of a map is its channels, which are axis 1.
    """

    values: tuple[Any, ...]
    why: str = ""
    rank: int = 0
    places: tuple[int, ...] = ()

    @property
    def exists(self) -> bool:
        """Whether the node has what was measured."""
        return bool(self.values) or self.rank > 0


NOTHING = Measured(())


def kernel(node: Node, ctx: Facts) -> Measured:
    """Extents of the window; of a global pool, those of the map."""
    return spatial(node, ctx) if plain(node) in GLOBAL_POOLS else Measured(ctx.kernel(node))


def dilated_kernel(node: Node, ctx: Facts) -> Measured:
    """Extents of the window with its dilation, (k-1)d+1."""
    return spatial(node, ctx) if plain(node) in GLOBAL_POOLS else Measured(ctx.reach(node))


def stride(node: Node, ctx: Facts) -> Measured:
    """Strides; 1 where they are left out."""
    return Measured(tuple(node.attributes.get("strides") or _ones(node, ctx)))


def dilation(node: Node, ctx: Facts) -> Measured:
    """Dilations; 1 where they are left out."""
    return Measured(tuple(node.attributes.get("dilations") or _ones(node, ctx)))


def _ones(node: Node, ctx: Facts) -> tuple[int, ...]:
    """A 1 for each axis of space, so that a limit on pairs such as (1, 1) is met; one where the rank is not known."""
    try:
        return (1,) * max(1, ctx.rank(ctx.input(node, 0)) - 2)
    except Undecidable:
        return (1,)


def pads(node: Node, ctx: Facts) -> Measured:
    """Padding before each axis, then after each: of space at a window, of all axes at a Pad."""
    if node.op_type != "Pad":
        before, after = padding(node, ctx)
        return Measured((*before, *after))
    given = node.attributes.get("pads") or node.attributes.get("paddings")
    if given is None:
        given = tuple(int(p) for p in ctx.array(ctx.input(node, 1)).reshape(-1))
    return Measured(tuple(given))


def channel_pads(node: Node, ctx: Facts) -> Measured:
    """Padding of a Pad before and after axis 1."""
    given = pads(node, ctx).values
    half = len(given) // 2
    return Measured((given[1], given[half + 1])) if half > 1 else NOTHING


def group(node: Node, ctx: Facts) -> Measured:
    """Number of groups."""
    return Measured((node.attr("group", 1),))


def group_channels(node: Node, ctx: Facts) -> Measured:
    """Channels of each group, going in and coming out."""
    groups = node.attr("group", 1)
    return Measured((ctx.channel_count(node, out=False) // groups, ctx.channel_count(node, out=True) // groups))


def filter_channels(node: Node, ctx: Facts) -> Measured:
    """Input channels of one filter, those of its group."""
    return Measured((ctx.channel_count(node, out=False) // node.attr("group", 1),))


def depthwise(node: Node, ctx: Facts) -> Measured:
    """Whether each group has one input channel."""
    groups = node.attr("group", 1)
    return Measured((groups > 1 and ctx.channel_count(node, out=False) == groups,))


def grouped(node: Node, ctx: Facts) -> Measured:
    """Whether there are groups of several input channels."""
    groups = node.attr("group", 1)
    return Measured((groups > 1 and ctx.channel_count(node, out=False) != groups,))


def pointwise(node: Node, ctx: Facts) -> Measured:
    """Whether the kernel is 1 along every axis."""
    return Measured((set(ctx.kernel(node)) == {1},))


def dilated(node: Node, ctx: Facts) -> Measured:
    """Whether a dilation is over 1."""
    return Measured((max(dilation(node, ctx).values) > 1,))


def padded(node: Node, ctx: Facts) -> Measured:
    """Whether there is any padding."""
    return Measured((max(pads(node, ctx).values, default=0) > 0,))


def channels_in(node: Node, ctx: Facts) -> Measured:
    """Channels going in: of the weight at a convolution or Gemm, else axis 1 of the first input."""
    return Measured((ctx.channel_count(node, out=False),))


def channels_out(node: Node, ctx: Facts) -> Measured:
    """Channels coming out: of the weight at a convolution or Gemm, else axis 1 of the output."""
    return Measured((ctx.channel_count(node, out=True),))


def channels(node: Node, ctx: Facts) -> Measured:
    """Channels going in and coming out."""
    return Measured((ctx.channel_count(node, out=False), ctx.channel_count(node, out=True)))


def spatial(node: Node, ctx: Facts) -> Measured:
    """Extents of the first input's axes of space."""
    x = ctx.data(node)
    return extents(ctx.map_of(node, x)[2:], x, ctx)


def output_spatial(node: Node, ctx: Facts) -> Measured:
    """Extents of the output's axes of space."""
    return extents(ctx.map_of(node, node.output)[2:], node.output, ctx)


def extents(dims: Iterable[Any], where: Value, ctx: Facts) -> Measured:
    """A part of a tensor's shape, with the reason where it is not wholly known."""
    values = tuple(d if isinstance(d, int) else None for d in dims)
    return Measured(values, ctx.why(where) if None in values else "")


def in_map_order(x: Value, axes: tuple[int, ...], ctx: Facts) -> tuple[int, ...]:
    """Axes of a tensor, those of a map that lies with channels last in the order [B, C, ...]."""
    return tuple(sorted(ctx.map_axes(x, axes))) if ctx.lies_last(x) else axes
