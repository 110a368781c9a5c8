"""By how much a Resize scales each axis."""

from __future__ import annotations

from math import isclose
from typing import TYPE_CHECKING

from npu_guard.analysis.static import stated_scales
from npu_guard.base.errors import Undecidable
from npu_guard.base.text import short

if TYPE_CHECKING:
    from npu_guard.analysis.facts import Facts
    from npu_guard.graph.graph import Node

_ROUNDED = 1e-6
"""Relative error of a scale that is stored in 32 bits; by more than that, samples are taken elsewhere."""


def scales(node: Node, ctx: Facts) -> tuple[float, ...]:
    """Scale along each axis: what the node says, or the quotient of extents, which is whole where the node's is rounded.

    Raises Undecidable.
    """
    x, y = ctx.dims(ctx.input(node, 0)), ctx.dims(node.output)
    stated = _stated(node, ctx, len(x))
    found = []
    for axis, (before, after) in enumerate(zip(x, y, strict=False)):
        scale = stated.get(axis)
        if isinstance(before, int) and isinstance(after, int) and before:
            quotient = after / before
            scale = quotient if scale is None or isclose(scale, quotient, rel_tol=_ROUNDED) else scale
        elif scale is None and before is not None and before == after:
            scale = 1.0
        if scale is None:
            raise Undecidable(ctx.why(node.output))
        found.append(scale)
    return tuple(found)


def map_scales(node: Node, ctx: Facts) -> tuple[float, ...]:
    """`scales` along the axes of the map that the input came from: an axis that was dropped is not scaled."""
    x = ctx.input(node, 0)
    own = scales(node, ctx)
    along = dict(zip(ctx.map_axes(x, range(len(own))), own, strict=True))
    return tuple(along.get(axis, 1.0) for axis in range(len(ctx.map_dims(x))))


def repeats(transform: str, rounding: str, scale: int) -> bool:
    """Whether nearest at a whole scale takes each pixel that many times in a row, for any extent.

    Row q * scale + r comes from q + f, and f must round to 0 for every r < scale. With half-pixel centres f is
    (2 r + 1 - scale) / (2 scale); counted from the corner r / scale, and (2 r + 1) / (2 scale) for `tf_half_pixel_for_nn`; with
    corners aligned it lies within 1/2 at scale 2 alone (formulas: ONNX, operator Resize).
    """
    nearest = rounding in ("round_prefer_floor", "round_prefer_ceil")
    if transform in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"):
        return nearest or scale == 1
    if transform == "asymmetric":
        return scale == 1 or rounding == "floor" or (rounding == "round_prefer_floor" and scale == 2)
    if transform == "tf_half_pixel_for_nn":
        return rounding == "floor"
    return transform == "align_corners" and (scale == 1 or (nearest and scale == 2))


def _stated(node: Node, ctx: Facts, rank: int) -> dict[int, float]:
    """Scales that the node states as constants, by axis."""
    given = stated_scales(node, ctx.analysis.constants)
    if given is None:
        for operand in node.inputs[1:]:  # one that a caller may override has a reason of its own
            if operand is not None:
                ctx.is_fixed(operand)
        raise Undecidable(f"the scales of {short(node.label)!r} are computed")
    axes = node.attributes.get("axes") or range(rank)
    return {axis % rank: s for axis, s in zip(axes, given, strict=False)} if rank else {}
