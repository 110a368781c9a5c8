"""Operators with a window or over height and width as TFLite.

A window whose padding is neither TFLite's SAME nor none gets a PAD before it, as converters write it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tflite import SCALE  # type: ignore[import-not-found]  # lies beside this script, where it runs
from tflite_op import NotMapped, Op, channels_last  # type: ignore[import-not-found]  # lies beside this script, where it runs

SAME, VALID = 0, 1


def windows(op: Op, kernel: Sequence[int], x: int) -> tuple[int, int, list[int], list[int]]:
    """(input, padding, strides, dilations) of a window over height and width; an explicit PAD where TFLite has no word for it."""
    shape = op.shape(op.name(0))
    strides, dilations = list(op.get("strides", [1, 1])), list(op.get("dilations", [1, 1]))
    pads = _pads(op, kernel, strides, dilations, shape[2:])
    if not any(pads):
        return x, VALID, strides, dilations
    average, counted = op.node.op_type == "AveragePool", op.get("count_include_pad", 0)
    if pads == _same(shape[2:], kernel, strides, dilations) and not (average and counted):
        return x, SAME, strides, dilations
    if average and not counted:
        raise NotMapped("an average over explicit padding that does not count it")
    if op.node.op_type == "MaxPool" and op.name(0) not in op.positive:  # where 0 is the least, PAD is no other maximum
        raise NotMapped("a maximum over explicit padding, which would need the smallest number in it")
    if min(pads) < 0:
        raise NotMapped("padding that cuts off")
    table = [[0, 0], [pads[0], pads[2]], [pads[1], pads[3]], [0, 0]]
    padded = [d + sum(p) for d, p in zip(channels_last(shape), table, strict=False)]
    between = op.file.activation("padded", padded)
    op.file.operator("PAD", [x, op.indices("pads", table)], [between], "PadOptions")
    return between, VALID, strides, dilations


def _pads(op: Op, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], space: Sequence[int]) -> list[int]:
    auto = op.get("auto_pad", "NOTSET")
    if auto == "SAME_UPPER":
        return _same(space, kernel, strides, dilations)
    if auto not in ("NOTSET", "VALID"):
        raise NotMapped(f"auto_pad={auto}")
    return list(op.get("pads", [0, 0, 0, 0])) if auto == "NOTSET" else [0, 0, 0, 0]


def _same(space: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """TFLite's SAME, which puts the odd pixel at the end."""
    total = [
        max((-(-d // s) - 1) * s + (k - 1) * t + 1 - d, 0) for d, k, s, t in zip(space, kernel, strides, dilations, strict=False)
    ]
    return [t // 2 for t in total] + [t - t // 2 for t in total]


def conv(op: Op) -> list[int]:
    """Dense or depthwise, over rows as over maps."""
    name = op.name(0)
    if len(op.shape(name)) == 3:
        return _conv_1d(op)
    x = op.into()
    shape, weight = op.shape(name), op.array(1).shape
    if len(shape) != 4:
        raise NotMapped("a convolution over volumes")
    if op.name(2) and op.name(2) not in op.constants:
        raise NotMapped("a bias that is not constant")
    group, kernel = op.get("group", 1), list(weight[2:])
    depthwise = group > 1 and group == shape[1]
    if group > 1 and not depthwise:
        raise NotMapped("groups of several channels, which converters split")
    x, padding, strides, dilations = windows(op, kernel, x)
    fields = {
        "Padding": padding, "StrideH": strides[0], "StrideW": strides[1],
        "DilationHFactor": dilations[0], "DilationWFactor": dilations[1],
    }  # fmt: skip
    if depthwise:
        w = op.file.constant("w", np.ones([1, *kernel, weight[0]]))
        fields["DepthMultiplier"] = weight[0] // group
    else:
        w = op.file.constant("w", np.ones([weight[0], *kernel, weight[1]]))
    bias = op.file.constant("b", np.zeros(weight[0]), "int32", SCALE * SCALE)
    code = ("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions") if depthwise else ("CONV_2D", "Conv2DOptions")
    y = op.out()
    op.file.operator(code[0], [x, w, bias], [y], code[1], **fields)
    return [y]


def _conv_1d(op: Op) -> list[int]:
    """As converters write it: a map of height 1 between two reshapes."""
    n, c, length = op.shape(op.name(0))
    weight = op.array(1).shape
    pads, stride, dilation = op.get("pads", [0, 0]), op.get("strides", [1])[0], op.get("dilations", [1])[0]
    if op.get("group", 1) != 1 or op.get("auto_pad", "NOTSET") != "NOTSET":
        raise NotMapped("a grouped convolution over rows")
    after = op.shape(op.node.output[0])[2]
    same = _same([length], weight[2:], [stride], [dilation])
    if any(pads) and list(pads) != same:
        raise NotMapped("padding that is not SAME")
    x, row = op.into(), op.file.activation("row", [n, 1, length, c])
    op.file.operator("RESHAPE", [x, op.indices("s", [n, 1, length, c])], [row], "ReshapeOptions", NewShape=[n, 1, length, c])
    w = op.file.constant("w", np.ones([weight[0], 1, weight[2], weight[1]]))
    bias = op.file.constant("b", np.zeros(weight[0]), "int32", SCALE * SCALE)
    made = op.file.activation("made", [n, 1, after, weight[0]])
    op.file.operator(
        "CONV_2D", [row, w, bias], [made], "Conv2DOptions", Padding=SAME if any(pads) else VALID,
        StrideH=1, StrideW=stride, DilationHFactor=1, DilationWFactor=dilation,
    )  # fmt: skip
    y = op.out()
    shape = [n, after, weight[0]]
    op.file.operator("RESHAPE", [made, op.indices("t", shape)], [y], "ReshapeOptions", NewShape=shape)
    return [y]


def conv_transpose(op: Op) -> list[int]:
    """TRANSPOSE_CONV, with SAME or no padding."""
    x, shape, weight = op.into(), op.shape(op.name(0)), op.array(1).shape
    strides, pads = list(op.get("strides", [1, 1])), list(op.get("pads", [0, 0, 0, 0]))
    if op.get("group", 1) != 1 or set(op.get("dilations", [1])) != {1} or len(shape) != 4:
        raise NotMapped("groups, dilation or volumes")
    out = op.shape(op.node.output[0])
    padding = SAME if out[2:] == [d * s for d, s in zip(shape[2:], strides, strict=False)] else VALID
    if padding == VALID and (
        any(pads) or out[2:] != [(d - 1) * s + k for d, s, k in zip(shape[2:], strides, weight[2:], strict=False)]
    ):
        raise NotMapped("padding that TFLite has no word for")
    w = op.file.constant("w", np.ones([weight[1], *weight[2:], weight[0]]))
    y = op.out()
    size = op.indices("size", channels_last(out))
    bias = op.file.constant("b", np.zeros(weight[1]), "int32", SCALE * SCALE)
    op.file.operator(
        "TRANSPOSE_CONV", [size, w, x, bias], [y], "TransposeConvOptions", Padding=padding, StrideH=strides[0], StrideW=strides[1]
    )
    return [y]


def pool(op: Op) -> list[int]:
    """A window that is not global."""
    if len(op.shape(op.name(0))) != 4 or set(op.get("dilations", [1])) != {1}:
        raise NotMapped("dilated pooling, rows or volumes")
    if op.get("ceil_mode", 0) or len(op.node.output) > 1:
        raise NotMapped("ceil_mode or indices")
    kernel = list(op.get("kernel_shape", []))
    x, padding, strides, _ = windows(op, kernel, op.into())
    y = op.out()
    code = "MAX_POOL_2D" if op.node.op_type == "MaxPool" else "AVERAGE_POOL_2D"
    op.file.operator(
        code, [x], [y], "Pool2DOptions", Padding=padding, StrideH=strides[0], StrideW=strides[1],
        FilterHeight=kernel[0], FilterWidth=kernel[1],
    )  # fmt: skip
    return [y]


def resize(op: Op) -> list[int]:
    """Over height and width only, in the three coordinate transformations that TFLite has."""
    shape, out = op.shape(op.name(0)), op.shape(op.node.output[0])
    mode, transform = op.get("mode", "nearest"), op.get("coordinate_transformation_mode", "half_pixel")
    if len(shape) != 4 or out[:2] != shape[:2] or mode == "cubic":
        raise NotMapped("a Resize of other axes, or cubic")
    flags = {"asymmetric": {}, "align_corners": {"AlignCorners": True}, "half_pixel": {"HalfPixelCenters": True}}
    rounding = op.get("nearest_mode", "round_prefer_floor")
    wanted = "round_prefer_ceil" if transform == "align_corners" else "floor"
    if transform not in flags or (mode == "nearest" and rounding != wanted):
        raise NotMapped(f"{transform} with {rounding}")
    code, options = ("RESIZE_BILINEAR", "ResizeBilinearOptions") if mode == "linear" else (
        "RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions"
    )  # fmt: skip
    x, y = op.into(), op.out()
    op.file.operator(code, [x, op.indices("size", out[2:])], [y], options, **flags[transform])
    return [y]
