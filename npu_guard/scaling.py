"""By how much a Resize scales each axis."""

from __future__ import annotations

from math import isclose
from typing import TYPE_CHECKING

from npu_guard.errors import Undecidable

if TYPE_CHECKING:
    from npu_guard.context import Context
    from npu_guard.graph import Node


def scales(node: Node, ctx: Context) -> tuple[float, ...]:
    """Scale along each axis: what the node says, or the quotient of extents, which is whole where the node's is rounded."""
    x, y = ctx.dims(ctx.input(node, 0)), ctx.dims(node.output)
    stated = _stated(node, ctx, len(x))
    found = []
    for axis, (before, after) in enumerate(zip(x, y, strict=False)):
        scale = stated.get(axis)
        if isinstance(before, int) and isinstance(after, int) and before:
            quotient = after / before
            scale = quotient if scale is None or isclose(scale, quotient, rel_tol=1e-3) else scale
        elif scale is None and before is not None and before == after:
            scale = 1.0
        if scale is None:
            raise Undecidable(ctx.why(node.output))
        found.append(scale)
    return tuple(found)


def _stated(node: Node, ctx: Context, rank: int) -> dict[int, float]:
    """Scales that the node states as constants, by axis."""
    operand = node.input(1 if node.op_type == "Upsample" or len(node.inputs) == 2 else 2)
    array = None if operand is None else ctx.analysis.constants.get(operand)
    given = node.attributes.get("scales") if array is None else array.reshape(-1).tolist()
    axes = node.attributes.get("axes") or range(rank)
    return {axis % rank: float(s) for axis, s in zip(axes, given or (), strict=False)} if rank else {}
