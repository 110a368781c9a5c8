"""The words of device files: everything that a limit may bound, and the rule that reports it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from npu_guard.device import (
    measure,
    measure_attribute,
    measure_border,
    measure_layout,
    measure_order,
    measure_resize,
    measure_tensor,
)
from npu_guard.device.measure import GLOBAL_POOLS, Measured
from npu_guard.graph.ops import names

Kind = Literal["boolean", "integer", "number", "text", "value"]
"""What a metric is; a `value` is a number, or yes or no, as the input is."""


class Base(Struct, frozen=True):
    """A row of METRICS."""

    code: str
    """The rule that reports a limit on it."""
    noun: str
    meaning: str
    measure: Callable[..., Measured]
    codes: tuple[tuple[tuple[str, ...], str], ...] = ()
    """Operators, or predicates such as `multiple_of`, at which another rule reports it."""
    named: str = ""
    """`input` or `attribute` where a name follows the dot, `input?` where one may."""
    sides: bool = False
    """Whether there is a value before and one after each axis."""
    join: str = ", "
    kind: Kind = "integer"
    least: int | None = 0
    """The smallest that it can be; None where that is open."""


_POOLS = (("MaxPool", "AveragePool", "LpPool", *GLOBAL_POOLS), "NPU204")
_PRODUCTS = (("MatMul", "Gemm"), "NPU405")
_ALIGNED = (("multiple_of",), "NPU401")
_REDUCTIONS = names("reduction")
_RESIZING = (("Resize", "Upsample"), "NPU501")

METRICS: dict[str, Base] = {
    "kernel": Base(
        "NPU201",
        "kernel",
        "extents of the window in taps; of a global pool, of the map",
        measure.kernel,
        (_POOLS,),
        join="x",
        least=1,
    ),
    "dilated_kernel": Base(
        "NPU202",
        "dilated kernel",
        "extents of the window with its dilation, (k-1)d+1",
        measure.dilated_kernel,
        (_POOLS,),
        join="x",
        least=1,
    ),
    "stride": Base("NPU203", "stride", "strides of the window", measure.stride, join="x", least=1),
    "dilation": Base("NPU202", "dilation", "dilations of the window", measure.dilation, (_POOLS,), join="x", least=1),
    "pads": Base("NPU205", "padding", "padding at each side; of Pad, at all axes", measure.pads, sides=True, least=None),
    "channel_pads": Base(
        "NPU205", "padding of channels", "padding of Pad along axis 1", measure.channel_pads, sides=True, least=None
    ),
    "group": Base("NPU206", "group count", "number of groups", measure.group),
    "group_channels": Base("NPU206", "channels per group", "channels of each group, in and out", measure.group_channels),
    "filter_channels": Base("NPU206", "channels of a filter", "input channels of one filter", measure.filter_channels),
    "depthwise": Base("NPU206", "depthwise", "whether each group has one input channel", measure.depthwise, kind="boolean"),
    "grouped": Base("NPU206", "grouped", "whether there are groups of several input channels", measure.grouped, kind="boolean"),
    "pointwise": Base("NPU201", "pointwise", "whether the window is 1 along every axis", measure.pointwise, kind="boolean"),
    "dilated": Base("NPU202", "dilated", "whether a dilation is over 1", measure.dilated, kind="boolean"),
    "padded": Base("NPU205", "padded", "whether there is any padding", measure.padded, kind="boolean"),
    "channels": Base("NPU405", "channels", "channels going in and coming out", measure.channels, (_ALIGNED,)),
    "channels_in": Base("NPU405", "input channels", "channels going in", measure.channels_in, (_ALIGNED,)),
    "channels_out": Base("NPU405", "output channels", "channels coming out", measure.channels_out, (_ALIGNED,)),
    "spatial": Base("NPU405", "map", "height and width of the first input", measure.spatial, join="x"),
    "output_spatial": Base("NPU405", "output map", "height and width of the output", measure.output_spatial, join="x"),
    "batch": Base("NPU405", "batch", "axis 0 of the first input", measure_tensor.batch),
    "output_batch": Base("NPU405", "output's batch", "axis 0 of the output", measure_tensor.output_batch),
    "extent": Base(
        "NPU405", "extents", "every extent but the batch, of what goes in and comes out", measure_tensor.extent, named="input?"
    ),
    "elements": Base(
        "NPU405",
        "elements",
        "elements of one sample, of each tensor that goes in or comes out",
        measure_tensor.elements,
        named="input?",
    ),
    "rank": Base("NPU402", "rank", "rank of each input that is not constant", measure_tensor.rank, named="input?"),
    "output_rank": Base("NPU402", "output's rank", "rank of the output", measure_tensor.output_rank),
    "nonsingleton_rank": Base(
        "NPU402",
        "rank without extents of 1",
        "number of extents over 1, of each input that is not constant",
        measure_tensor.nonsingleton_rank,
    ),
    "dtype": Base(
        "NPU404",
        "element type",
        "element types of what goes in and comes out",
        measure_tensor.dtype,
        named="input?",
        kind="text",
        least=None,
    ),
    "quantized": Base(
        "NPU404",
        "quantized type",
        "element types between QuantizeLinear and DequantizeLinear of what goes in and comes out; elsewhere its own",
        measure_tensor.quantized,
        named="input?",
        kind="text",
        least=None,
    ),
    "reduce_size": Base(
        "NPU302",
        "reduced extent",
        "extents that are reduced or normalised; of a matrix product, the length of its sums",
        measure_tensor.reduce_size,
        (_PRODUCTS,),
    ),
    "axes": Base(
        "NPU702",
        "axes",
        "axes that the operator works over; those that Resize, Slice and Pad change",
        measure_tensor.axes,
        ((_REDUCTIONS, "NPU301"), _RESIZING),
        least=None,
    ),
    "perm": Base("NPU702", "permutation", "permutation of Transpose", measure_order.perm),
    "perm_in_memory": Base(
        "NPU702",
        "permutation in memory",
        "permutation of Transpose behind a Reshape, of axes as a map made by a convolution or the like has them: channels last",
        measure_layout.perm_in_memory,
    ),
    "tiles": Base(
        "NPU701",
        "tiles",
        "whether a Gather takes every place of its axis once, in rows or columns of its indices",
        measure_layout.tiles,
        kind="boolean",
    ),
    "kept_units": Base(
        "NPU702", "kept axes of extent 1", "number of axes of extent 1 that Transpose leaves in place", measure_order.kept_units
    ),
    "equation": Base(
        "NPU701",
        "equation",
        "equation of Einsum, its labels renamed to a, b, c in the order in which they appear",
        measure_order.equation,
        kind="text",
        least=None,
    ),
    "parts": Base("NPU702", "parts", "extents of the parts that Split makes", measure_tensor.parts),
    "scale": Base("NPU501", "scale", "scales of Resize in height and width", measure_resize.scale, join="x", kind="number"),
    "shrinking": Base(
        "NPU501",
        "1 / scale",
        "reciprocals of the scales of Resize in height and width, whole within 0.0001",
        measure_resize.shrinking,
        join="x",
        kind="number",
    ),
    "corner_scale": Base(
        "NPU501",
        "scale between corners",
        "extents of the output less 1 by those of the input less 1",
        measure_resize.corner_scale,
        join="x",
        kind="number",
    ),
    "constant": Base(
        "NPU601", "constant", "whether an input is constant", measure_tensor.constant, named="input", kind="boolean"
    ),
    "given": Base(
        "NPU701", "given", "whether an optional input is there and not empty", measure_tensor.given, named="input", kind="boolean"
    ),
    "value": Base(
        "NPU701", "value", "numbers of a small constant input", measure_tensor.value, named="input", kind="value", least=None
    ),
    "attr": Base(
        "NPU701",
        "attribute",
        "an attribute, ONNX's default where it is left out",
        measure_attribute.attribute,
        (_RESIZING, (("Pad.mode", "auto_pad"), "NPU205")),
        named="attribute",
        least=None,
    ),
    "written": Base(
        "NPU701",
        "written attribute",
        "whether an attribute is written in the file, where ONNX has a default",
        measure_attribute.written,
        named="attribute",
        kind="boolean",
    ),
    "varies": Base(
        "NPU701",
        "axes of variation",
        "axes of the first input along which a broadcast one has several numbers",
        measure_tensor.varies,
        named="input",
        least=None,
    ),
    "strided_axes": Base(
        "NPU701", "strided axes", "axes along which Slice takes steps of 2 or more", measure_tensor.strided_axes
    ),
    "kept": Base("NPU701", "extent that is left", "extents that Slice leaves of the axes that it cuts", measure_tensor.kept),
    "enters": Base(
        "NPU701",
        "an input of the model",
        "whether the first input comes from outside the model",
        measure_border.enters,
        kind="boolean",
    ),
    "shared": Base(
        "NPU701", "a shared input", "whether others read the first input as well", measure_border.shared, kind="boolean"
    ),
    "leaves": Base(
        "NPU701", "an output of the model", "whether what it gives leaves the model", measure_border.leaves, kind="boolean"
    ),
    "leaves_as_is": Base(
        "NPU701",
        "an output of the model behind elementwise operators",
        "whether what it gives leaves the model, itself or behind unary operators and Softmax",
        measure_border.leaves_as_is,
        kind="boolean",
    ),
    "inputs": Base("NPU701", "inputs", "number of inputs", measure_tensor.inputs),
    "outputs": Base("NPU701", "outputs", "number of outputs that are read", measure_tensor.outputs),
}
"""Everything that a limit may bound."""

VIEWS = {
    "h": "along the height (the last axis but one)",
    "w": "along the width (the last axis)",
    "begin": "before the map (padding)",
    "end": "after the map (padding)",
    "largest": "the largest of its numbers",
    "smallest": "the smallest of its numbers",
    "two_largest": "its two largest numbers multiplied, such as the map that a Transpose turns",
    "product": "all its numbers multiplied, such as a window's area",
    "count": "how many numbers it has",
}
