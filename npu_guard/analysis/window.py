"""What a sliding window does at the border: the padding at each side, whichever way the node spells it."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from npu_guard.analysis.facts import Facts
    from npu_guard.graph.graph import Node


def padding(node: Node, ctx: Facts, *, overhang: bool = True) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Pixels before and after each axis of space of a convolution or pooling node. Raises Undecidable.

    With `overhang`, what the last window of a pooling with `ceil_mode` reaches over the map counts as well. An `auto_pad` of
    SAME and the `output_shape` of ConvTranspose fix the sum of both sides; of an odd sum the larger half goes after the map
    (before it for SAME_LOWER).
    """
    auto, wanted = node.attr("auto_pad", "NOTSET"), node.attributes.get("output_shape")
    if wanted is None and not auto.startswith("SAME"):
        given = () if auto == "VALID" else node.attributes.get("pads") or ()
        half = len(given) // 2
        if overhang and node.attributes.get("ceil_mode", 0) and auto != "VALID":
            return _rounded_up(node, ctx, tuple(given[:half]), tuple(given[half:]))
        return (tuple(given[:half]), tuple(given[half:])) if given else ((0,), (0,))
    begins, ends = [], []
    x = ctx.data(node)
    steps, targets = ctx.per_axis(node, "strides"), wanted or repeat(None)
    extras = node.attributes.get("output_padding") or repeat(0)
    for axis, (reach, step, target, extra) in enumerate(zip(ctx.reach(node), steps, targets, extras, strict=False), 2):
        if node.op_type != "ConvTranspose":
            extent = ctx.along(node, x, axis)
            total = (-(-extent // step) - 1) * step + reach - extent
        elif target is None:  # SAME means an output of extent * stride, so the extent cancels out
            total = reach + extra - step
        else:
            total = reach + extra + step * (ctx.along(node, x, axis) - 1) - target
        halves = (max(total, 0) // 2, (max(total, 0) + 1) // 2)
        begin, end = reversed(halves) if auto == "SAME_LOWER" else halves
        begins.append(begin)
        ends.append(end)
    return tuple(begins), tuple(ends)


def _rounded_up(
    node: Node, ctx: Facts, begins: tuple[int, ...], ends: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:  # fmt: skip
    """The padding of a pooling that counts outputs upwards: where its last window hangs over the map, that is padding as well."""
    x, reach, steps = ctx.data(node), ctx.reach(node), ctx.per_axis(node, "strides")
    begins, ends = begins or (0,) * len(reach), ends or (0,) * len(reach)
    over = []
    for axis, (window, step, begin, end) in enumerate(zip(reach, steps, begins, ends, strict=False), 2):
        last = (ctx.along(node, node.output, axis) - 1) * step + window
        over.append(max(end, last - begin - ctx.along(node, x, axis)))
    return begins, tuple(over)
