"""TFLite forms of ONNX operators. What is not in MAPPED has no such form here, or none that says the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from tflite import SCALE  # type: ignore[import-not-found]  # lies beside this script, where it runs
from tflite_op import NotMapped, Op, axis_last, channels_last  # type: ignore[import-not-found]  # lies beside this script, where it runs
from tflite_windows import conv, conv_transpose, pool, resize  # type: ignore[import-not-found]  # lies beside this script, where it runs


def reduce(op: Op) -> list[int]:
    """Reductions, and global pools, which are reductions over space."""
    kind = op.node.op_type
    shape = op.shape(op.name(0))
    rank = len(shape)
    if kind.startswith("Global"):
        axes, keep = list(range(2, rank)), 1
    else:
        axes = op.attributes["axes"] if "axes" in op.attributes else op.array(1, np.arange(rank)).tolist()
        keep = op.get("keepdims", 1)
    codes = {
        "GlobalAveragePool": "MEAN", "ReduceMean": "MEAN", "GlobalMaxPool": "REDUCE_MAX", "ReduceMax": "REDUCE_MAX",
        "ReduceMin": "REDUCE_MIN", "ReduceSum": "SUM", "ReduceProd": "REDUCE_PROD",
    }  # fmt: skip
    x = op.into()
    axes = sorted(axis_last(a, rank) for a in axes)
    dropped = not keep and any(d > 1 for d in [shape[i] for i in range(rank)])
    y = op.out(last=not dropped or len(op.shape(op.node.output[0])) == rank)
    op.file.operator(codes[kind], [x, op.indices("axes", axes)], [y], "ReducerOptions", KeepDims=bool(keep))
    return [y]


def arg(op: Op) -> list[int]:
    """ArgMax and ArgMin; TFLite drops the axis."""
    shape = op.shape(op.name(0))
    axis = axis_last(op.get("axis", 0), len(shape))
    last = channels_last(shape)
    if op.get("select_last_index", 0):
        raise NotMapped("the last of equal values")
    x = op.into()
    y = op.file.activation(op.node.output[0], last[:axis] + last[axis + 1 :], "int32")
    kind = "ArgMax" if op.node.op_type == "ArgMax" else "ArgMin"
    code = "ARG_MAX" if kind == "ArgMax" else "ARG_MIN"
    op.file.operator(code, [x, op.indices("axis", [axis])], [y], f"{kind}Options", OutputType=2)
    return [y]


def softmax(op: Op) -> list[int]:
    """TFLite has it over the last axis, which the channels of a map are; scores of heads stay as they lie."""
    rank = len(op.shape(op.name(0)))
    axis = op.get("axis", -1) % rank
    if axis not in (rank - 1, 1):
        raise NotMapped("softmax over another axis, which needs a Transpose")
    x, y = op.into(last=axis == 1), op.out(last=axis == 1, scale=1 / 256, zero=-128)
    op.file.operator("SOFTMAX", [x], [y], "SoftmaxOptions", Beta=1.0)
    return [y]


UNARY = {
    "Relu": ("RELU", ""), "Sigmoid": ("LOGISTIC", ""), "Tanh": ("TANH", ""), "LeakyRelu": ("LEAKY_RELU", "LeakyReluOptions"),
    "Elu": ("ELU", ""), "HardSwish": ("HARD_SWISH", "HardSwishOptions"), "Exp": ("EXP", "ExpOptions"), "Log": ("LOG", ""),
    "Sqrt": ("SQRT", ""), "Sin": ("SIN", ""), "Cos": ("COS", "CosOptions"), "Abs": ("ABS", "AbsOptions"),
    "Neg": ("NEG", "NegOptions"), "Floor": ("FLOOR", ""), "Ceil": ("CEIL", ""), "Round": ("ROUND", ""),
    "Gelu": ("GELU", "GeluOptions"), "Sign": ("SIGN", "SignOptions"),
    "LogSoftmax": ("LOG_SOFTMAX", "LogSoftmaxOptions"), "Not": ("LOGICAL_NOT", "LogicalNotOptions"),
}  # fmt: skip
_RANGES = {"Sigmoid": (1 / 256, -128), "Tanh": (1 / 128, 0), "LogSoftmax": (16 / 256, 127)}


def unary(op: Op) -> list[int]:
    """Element by element."""
    code, options = UNARY[op.node.op_type]
    scale, zero = _RANGES.get(op.node.op_type, (SCALE, 0))
    fields = {"Alpha": float(op.get("alpha", 0.01))} if op.node.op_type == "LeakyRelu" else {}
    x, y = op.into(), op.out(scale=scale, zero=zero)
    op.file.operator(code, [x], [y], options, **fields)
    return [y]


_MOST = float(np.float32(3.4e38))


def clip(op: Op) -> list[int]:
    """The forms that TFLite has names for."""
    low, high = (float(op.array(i, np.float32(d))) for i, d in ((1, -_MOST), (2, _MOST)))
    codes = {(0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1", (0.0, 1.0): "RELU_0_TO_1", (0.0, _MOST): "RELU"}
    high = min(high, _MOST)
    if (low, high) not in codes:
        raise NotMapped(f"limits of {low:g} and {high:g}")
    x, y = op.into(), op.out()
    op.file.operator(codes[low, high], [x], [y])
    return [y]


BINARY = {
    "Add": ("ADD", "AddOptions"), "Sub": ("SUB", "SubOptions"), "Mul": ("MUL", "MulOptions"), "Div": ("DIV", "DivOptions"),
    "Max": ("MAXIMUM", "MaximumMinimumOptions"), "Min": ("MINIMUM", "MaximumMinimumOptions"), "Pow": ("POW", "PowOptions"),
    "Equal": ("EQUAL", "EqualOptions"), "Greater": ("GREATER", "GreaterOptions"), "Less": ("LESS", "LessOptions"),
    "GreaterOrEqual": ("GREATER_EQUAL", "GreaterEqualOptions"), "LessOrEqual": ("LESS_EQUAL", "LessEqualOptions"),
    "And": ("LOGICAL_AND", "LogicalAndOptions"), "Or": ("LOGICAL_OR", "LogicalOrOptions"), "PRelu": ("PRELU", ""),
}  # fmt: skip


def binary(op: Op) -> list[int]:
    """Element by element over two tensors; PRelu's slope has no batch."""
    code, options = BINARY[op.node.op_type]
    if len(op.node.input) != 2:
        raise NotMapped("another number of inputs")
    rank = max(len(op.shape(name)) for name in op.node.input)
    slope = op.node.op_type == "PRelu"
    if slope:
        shape = op.shape(op.name(1))
        z = op.file.constant("slope", np.ones(channels_last([1] * (rank - len(shape)) + shape)[1:]))
    x, z = op.into(0, rank=_rank(op, 0, rank)), z if slope else op.into(1, rank=_rank(op, 1, rank))
    y = op.out()
    op.file.operator(code, [x, z], [y], options)
    return [y]


def _rank(op: Op, index: int, rank: int) -> int:
    """Where ranks differ, ONNX puts axes in front, which are not the first ones once channels come last; a scalar stays one."""
    return 0 if math.prod(op.shape(op.name(index))) == 1 else rank


def normalize(op: Op) -> list[int]:
    """A factor and a summand for each channel, as converters leave a norm that they cannot fold into a convolution."""
    rank = len(op.shape(op.name(0)))
    if len(op.node.output) > 1 or rank < 2:
        raise NotMapped("a norm that is trained, or of a vector")
    (count,) = op.array(1).shape
    each = channels_last([1, count, *[1] * (rank - 2)])
    x, scaled = op.into(), op.file.activation("scaled", channels_last(op.shape(op.name(0))))
    op.file.operator("MUL", [x, op.file.constant("factor", np.ones(each))], [scaled], "MulOptions")
    y = op.out()
    op.file.operator("ADD", [scaled, op.file.constant("summand", np.ones(each))], [y], "AddOptions")
    return [y]


def concat(op: Op) -> list[int]:
    """CONCATENATION."""
    rank = len(op.shape(op.name(0)))
    parts, y = [op.into(i) for i in range(len(op.node.input))], op.out()
    op.file.operator("CONCATENATION", parts, [y], "ConcatenationOptions", Axis=axis_last(op.get("axis", 0), rank))
    return [y]


def reshape(op: Op) -> list[int]:
    """Rearrangements that keep the order of elements; between maps and others converters would put a Transpose."""
    x, y = op.into(last=False), op.out(last=False)
    shape = op.shape(op.node.output[0])
    op.file.operator("RESHAPE", [x, op.indices("shape", shape)], [y], "ReshapeOptions", NewShape=shape)
    return [y]


def transpose(op: Op) -> list[int]:
    """TRANSPOSE, of the axes as they stand in ONNX."""
    rank = len(op.shape(op.name(0)))
    x, y = op.into(last=False), op.out(last=False)
    op.file.operator("TRANSPOSE", [x, op.indices("perm", list(op.get("perm", range(rank - 1, -1, -1))))], [y], "TransposeOptions")
    return [y]


def pad(op: Op) -> list[int]:
    """PAD with zeros, or MIRROR_PAD."""
    rank, pads = len(op.shape(op.name(0))), op.array(1).tolist()
    mode = op.get("mode", "constant")
    if mode == "edge" or op.name(3) or min(pads) < 0:
        raise NotMapped("edge padding, chosen axes, or padding that cuts off")
    table = channels_last([[pads[i], pads[i + rank]] for i in range(rank)])
    x, y = op.into(), op.out()
    code = ("MIRROR_PAD", "MirrorPadOptions") if mode == "reflect" else ("PAD", "PadOptions")
    op.file.operator(code[0], [x, op.indices("pads", table)], [y], code[1], **({"Mode": 0} if mode == "reflect" else {}))
    return [y]


def cut(op: Op) -> list[int]:
    """STRIDED_SLICE."""
    shape = op.shape(op.name(0))
    rank = len(shape)
    starts, ends = op.array(1).tolist(), op.array(2).tolist()
    axes, steps = op.array(3, np.arange(len(starts))).tolist(), op.array(4, np.ones(len(starts), int)).tolist()
    if min(steps) < 1:
        raise NotMapped("negative steps")
    begin, end, step = [0] * rank, list(shape), [1] * rank
    for axis, first, last, by in zip(axes, starts, ends, steps, strict=False):
        d = shape[axis]
        begin[axis], end[axis], step[axis] = min(first + d * (first < 0), d), min(last + d * (last < 0), d), by
    x, y = op.into(), op.out()
    given = [op.indices(n, channels_last(v)) for n, v in (("begin", begin), ("end", end), ("step", step))]
    op.file.operator("STRIDED_SLICE", [x, *given], [y], "StridedSliceOptions")
    return [y]


def split(op: Op) -> list[int]:
    """SPLIT into equal parts, SPLIT_V otherwise."""
    shape = op.shape(op.name(0))
    axis = axis_last(op.get("axis", 0), len(shape))
    sizes = [op.shape(name)[op.get("axis", 0)] for name in op.node.output]
    x, number = op.into(), op.indices("axis", [axis])
    parts = [op.out(i) for i in range(len(sizes))]
    if len(set(sizes)) == 1:
        op.file.operator("SPLIT", [number, x], parts, "SplitOptions", NumSplits=len(sizes))
    else:
        op.file.operator("SPLIT_V", [x, op.indices("sizes", sizes), number], parts, "SplitVOptions", NumSplits=len(sizes))
    return parts


def matmul(op: Op) -> list[int]:
    """BATCH_MATMUL of activations; by weights, FULLY_CONNECTED."""
    if op.name(1) in op.constants and len(op.shape(op.name(1))) == 2:
        return gemm(op)
    x, z, y = op.into(0, last=False), op.into(1, last=False), op.out(last=False)
    op.file.operator("BATCH_MATMUL", [x, z], [y], "BatchMatMulOptions")
    return [y]


def gemm(op: Op) -> list[int]:
    """FULLY_CONNECTED."""
    weight = op.array(1).shape
    if op.get("transA", 0) or op.get("alpha", 1.0) != 1.0 or op.get("beta", 1.0) != 1.0:
        raise NotMapped("a factor, or a transposed A")
    rows = weight if op.get("transB", 0) else weight[::-1]
    x, y = op.into(last=False), op.out(last=False)
    w = op.file.constant("w", np.ones(rows))
    bias = op.file.constant("b", np.zeros(rows[0]), "int32", SCALE * SCALE)
    op.file.operator("FULLY_CONNECTED", [x, w, bias], [y], "FullyConnectedOptions", KeepNumDims=True)
    return [y]


def gather(op: Op) -> list[int]:
    """GATHER along one axis."""
    shape, axis = op.shape(op.name(0)), op.get("axis", 0)
    x, y = op.into(last=False), op.out(last=False)
    z = op.indices("indices", op.array(1)) if op.name(1) in op.constants else op.into(1, last=False)
    op.file.operator("GATHER", [x, z], [y], "GatherOptions", Axis=axis % len(shape), BatchDims=0)
    return [y]


def blocks(op: Op) -> list[int]:
    """DEPTH_TO_SPACE (of mode DCR) and SPACE_TO_DEPTH."""
    if op.get("mode", "DCR") != "DCR":
        raise NotMapped("mode CRD")
    kind = op.node.op_type
    x, y = op.into(), op.out()
    code = "DEPTH_TO_SPACE" if kind == "DepthToSpace" else "SPACE_TO_DEPTH"
    op.file.operator(code, [x], [y], f"{kind}Options", BlockSize=op.get("blocksize", 1))
    return [y]


def where(op: Op) -> list[int]:
    """SELECT_V2."""
    x, y = [op.into(i) for i in range(3)], op.out()
    op.file.operator("SELECT_V2", x, [y], "SelectV2Options")
    return [y]


def tile(op: Op) -> list[int]:
    """TILE."""
    x, y = op.into(), op.out()
    op.file.operator("TILE", [x, op.indices("repeats", channels_last(op.array(1).tolist()))], [y], "TileOptions")
    return [y]


def expand(op: Op) -> list[int]:
    """BROADCAST_TO."""
    if len(op.shape(op.name(0))) != len(op.shape(op.node.output[0])):
        raise NotMapped("a change of rank")
    x, y = op.into(), op.out()
    shape = channels_last(op.shape(op.node.output[0]))
    op.file.operator("BROADCAST_TO", [x, op.indices("shape", shape)], [y], "BroadcastToOptions")
    return [y]


MAPPED: Mapping[str, Callable[[Op], list[int]]] = {
    "Conv": conv, "ConvTranspose": conv_transpose, "MaxPool": pool, "AveragePool": pool, "ArgMax": arg, "ArgMin": arg,
    "Resize": resize, "Softmax": softmax, "Clip": clip, "Concat": concat, "Transpose": transpose, "Pad": pad, "Slice": cut,
    "Split": split, "MatMul": matmul, "Gemm": gemm, "Gather": gather, "Where": where, "Tile": tile, "Expand": expand,
    "BatchNormalization": normalize,
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), blocks),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), reshape),
    **dict.fromkeys(
        ("GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceProd"), reduce
    ),
    **dict.fromkeys(UNARY, unary),
    **dict.fromkeys(BINARY, binary),
}  # fmt: skip
