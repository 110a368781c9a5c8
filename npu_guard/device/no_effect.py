"""Attributes and operands that change nothing at a node, so that no limit on them applies.

A limit on `attr.ceil_mode` speaks of outputs that end in a part of a window: where all windows fit, both values of the
attribute are the same operator. Each function here says whether every value of a word means the same at this node, by the
formulas of ONNX's operator documents. It is asked only of nodes that a limit is about to refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from npu_guard.analysis.resize import scales
from npu_guard.analysis.window import padding
from npu_guard.device.measure import pads
from npu_guard.graph.ops import names
from npu_guard.graph.plain import plain

if TYPE_CHECKING:
    from npu_guard.analysis.facts import Facts
    from npu_guard.device.metric import Metric
    from npu_guard.graph.graph import Node

Judge = Callable[["Node", "Facts"], bool]


def idle(metric: Metric, node: Node, ctx: Facts) -> bool:
    """Whether what a metric measures has no effect at this node. Raises Undecidable."""
    judges = [_IDLE.get((term.key, term.argument), {}).get(plain(node)) for term in metric.terms]
    return all(judge is not None and judge(node, ctx) for judge in judges)


def is_set(metric: Metric, node: Node) -> bool:
    """Whether a node gives an attribute another value than ONNX's default."""
    names = [term.argument for term in metric.terms if term.key == "attr"]
    return any(name in node.attributes and node.attributes[name] != node.graph.model.default(node, name) for name in names)


def _names_axes(node: Node, ctx: Facts) -> bool:
    """`noop_with_empty_axes` is about reductions that name no axes."""
    axes = node.input(1)
    return bool(node.attributes.get("axes")) or (axes is not None and ctx.extent(axes, 0) > 0)


def _names_no_zero(node: Node, ctx: Facts) -> bool:
    """`allowzero` is about zeros in the shape."""
    return 0 not in ctx.array(ctx.input(node, 1)).reshape(-1).tolist()


def _fits_windows(node: Node, ctx: Facts) -> bool:
    """`ceil_mode` is about windows that reach beyond the padded map; one that would start behind the map is left out."""
    if node.attr("auto_pad", "NOTSET") != "NOTSET":
        return True  # for SAME and VALID, both roundings are the same formula
    x, reaches = ctx.input(node, 0), ctx.reach(node)
    before, after = (side if len(side) == len(reaches) else (0,) * len(reaches) for side in padding(node, ctx, overhang=False))
    for axis, (reach, step) in enumerate(zip(reaches, ctx.per_axis(node, "strides"), strict=False)):
        extent = ctx.along(node, x, axis + 2)
        steps, rest = divmod(extent + before[axis] + after[axis] - reach, step)
        if rest and (steps + 1) * step < extent + before[axis]:
            return False
    return True


def _pads_nothing(node: Node, ctx: Facts) -> bool:
    """`auto_pad` is about padding."""
    return not any(pads(node, ctx).values)


def _counts_no_padding(node: Node, ctx: Facts) -> bool:
    """`count_include_pad` is about windows that reach over padding, or over what `ceil_mode` adds."""
    return _pads_nothing(node, ctx) and (not node.attr("ceil_mode", 0) or _fits_windows(node, ctx))


def _returns_no_indices(node: Node, ctx: Facts) -> bool:
    """`storage_order` is about the second output."""
    return not any(map(ctx.analysis.is_read, node.outputs[1:]))


def _adds_no_bias(node: Node, ctx: Facts) -> bool:
    """`beta` of Gemm scales C."""
    return node.role("bias") is None


def _takes_one(node: Node, ctx: Facts) -> bool:
    """`sorted` of TopK is about several."""
    count = node.input(1)
    return node.attr("k") == 1 or (count is not None and ctx.array(count).reshape(-1).tolist() == [1])


def _has_one_scale(node: Node, ctx: Facts) -> bool:
    """`axis` of QuantizeLinear is about one scale for each channel."""
    scale = ctx.input(node, 1)
    return ctx.rank(scale) == 0 or ctx.shape(scale) == (1,)


def _moves_one_channel(node: Node, ctx: Facts) -> bool:
    """`mode` of DepthToSpace is the order of block and channel."""
    block = node.attr("blocksize", 1)
    return bool(block == 1 or ctx.along(node, ctx.input(node, 0), 1) == block * block)


def _is_not_nearest(node: Node, ctx: Facts) -> bool:
    return bool(node.attr("mode", "nearest") != "nearest")


def _is_not_cubic(node: Node, ctx: Facts) -> bool:
    """Beyond the border, linear weights meet the border's own pixel, so `exclude_outside` is about cubic ones."""
    return bool(node.attr("mode", "nearest") != "cubic")


def _crops_nothing(node: Node, ctx: Facts) -> bool:
    return bool(node.attr("coordinate_transformation_mode", "half_pixel") != "tf_crop_and_resize")


def _shrinks_nothing(node: Node, ctx: Facts) -> bool:
    """`antialias` is about taking fewer pixels than there are, and has no meaning for nearest."""
    return node.attr("mode", "nearest") == "nearest" or min(scales(node, ctx), default=1) >= 1


def _has_one_tap(node: Node, ctx: Facts) -> bool:
    """Dilation is about the distance between taps."""
    return all(extent == 1 for extent in ctx.kernel(node))


def _stays_in_place(node: Node, ctx: Facts) -> bool:
    """A stride is about the distance between windows; of a ConvTranspose, between what they are laid at."""
    ends = ctx.input(node, 0) if node.op_type == "ConvTranspose" else node.output
    ctx.shape(ends)
    return all(extent == 1 for extent in ctx.map_of(node, ends)[2:])


def _runs_over_one(node: Node, ctx: Facts) -> bool:
    """`reverse` of CumSum is about the order of several."""
    return ctx.extent(ctx.input(node, 0), int(ctx.array(ctx.input(node, 1)).reshape(-1)[0])) == 1


def _pads_no_number(node: Node, ctx: Facts) -> bool:
    """`constant_value` of Pad is about the mode of that name."""
    return bool(node.attr("mode", "constant") != "constant")


_WINDOWS = ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool")
_RESIZING = ("Resize", "Upsample")
_POOLS = ("MaxPool", "AveragePool", "LpPool")

_IDLE: Mapping[tuple[str, str], Mapping[str, Judge]] = {
    ("attr", "noop_with_empty_axes"): dict.fromkeys(names("reduction"), _names_axes),
    ("attr", "allowzero"): {"Reshape": _names_no_zero},
    ("attr", "ceil_mode"): dict.fromkeys(_POOLS, _fits_windows),
    ("attr", "count_include_pad"): dict.fromkeys(("AveragePool", "LpPool"), _counts_no_padding),
    ("attr", "storage_order"): {"MaxPool": _returns_no_indices},
    ("attr", "auto_pad"): dict.fromkeys(_WINDOWS, _pads_nothing),
    ("attr", "beta"): {"Gemm": _adds_no_bias},
    ("attr", "sorted"): {"TopK": _takes_one},
    ("attr", "reverse"): {"CumSum": _runs_over_one},
    ("attr", "axis"): dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), _has_one_scale),
    ("attr", "mode"): {"DepthToSpace": _moves_one_channel},
    ("attr", "nearest_mode"): dict.fromkeys(_RESIZING, _is_not_nearest),
    ("attr", "cubic_coeff_a"): dict.fromkeys(_RESIZING, _is_not_cubic),
    ("attr", "exclude_outside"): dict.fromkeys(_RESIZING, _is_not_cubic),
    ("attr", "extrapolation_value"): dict.fromkeys(_RESIZING, _crops_nothing),
    ("attr", "antialias"): dict.fromkeys(_RESIZING, _shrinks_nothing),
    # Not of a ConvTranspose, as qualcomm's builder refuses it there all the same.
    ("dilation", ""): dict.fromkeys(("Conv", *_POOLS), _has_one_tap),
    ("stride", ""): dict.fromkeys(_WINDOWS, _stays_in_place),
    ("value", "constant_value"): {"Pad": _pads_no_number},
    ("value", "value"): {"Pad": _pads_no_number},
}
"""By metric and name: the operators, and the function that tells for each."""
