"""The second half of the fixed sweep: element by element, layout, products, and properties of tensors."""

from __future__ import annotations

from collections.abc import Iterator

import single as m
from single import Case, by, titled

ONE = (
    "Relu", "Sigmoid", "Tanh", "Elu", "Selu", "Celu", "LeakyRelu", "HardSwish", "HardSigmoid", "ThresholdedRelu", "Softplus",
    "Softsign", "Abs", "Neg", "Exp", "Log", "Sqrt", "Reciprocal", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh",
    "Asinh", "Acosh", "Atanh", "Erf", "Floor", "Ceil", "Round", "Sign", "Identity",
)  # fmt: skip


def elementwise() -> Iterator[Case]:
    for op in ONE:
        yield titled("One input", op, m.unary(op))
    yield titled("One input", "Mish", m.unary("Mish"), 18)
    yield titled("One input", "Gelu", m.unary("Gelu"), 20)
    yield titled("One input", "Not", m.unary("Not", dtype="bool"))
    for low, high in ((0.0, 6.0), (-1.0, 1.0), (0.0, 1.0), (-2.0, 3.0)):
        text = m.graph("y = Clip(x, a, b)", ["float[1,8,16,16] x"], [f"float a = {{{low}}}", f"float b = {{{high}}}"])
        yield titled("One input", f"Clip {low:g}..{high:g}", text)
    slope = m.graph("y = PRelu(x, s)", ["float[1,8,16,16] x"], ["float[8,1,1] s"])
    yield titled("One input", "PRelu by channel", slope)
    yield titled("One input", "PRelu one slope", m.graph("y = PRelu(x, s)", ["float[1,8,16,16] x"], ["float[1,1,1] s"]))
    for exponent in (0.5, -0.5, 2.0, 3.0, 4.0, 1.7):
        text = m.graph("y = Pow(x, e)", ["float[1,8,16,16] x"], [f"float e = {{{exponent}}}"])
        yield titled("One input", f"Pow {exponent:g}", text)
    for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"):
        yield titled("Two inputs", op, m.binary(op))
    for op in ("Add", "Mul", "Sub", "Div"):
        yield titled("Two inputs", f"{op} constant", m.binary(op, held=True))
        for right in ((1, 8, 1, 1), (1, 1, 16, 16), (1, 1, 1, 1), (1, 8, 16, 1), (1, 8, 1, 16)):
            yield titled("Two inputs", f"{op} with {by(right)}", m.binary(op, right=right))
    yield titled("Two inputs", "Mul constant by channel", m.binary("Mul", right=(1, 8, 1, 1), held=True))
    for op in ("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"):
        yield titled("Two inputs", op, m.binary(op, result="bool"))
    for op in ("And", "Or", "Xor"):
        text = m.graph(f"y = {op}(x, z)", ["bool[1,8,4,4] x", "bool[1,8,4,4] z"], (), ["bool[] y"])
        yield titled("Two inputs", op, text)
    yield titled("Two inputs", "Mod fmod", m.binary("Mod", fmod=1))
    yield titled("Two inputs", "Max of three", m.graph("y = Max(a, b, c)", [f"float[1,8,4,4] {n}" for n in "abc"]))
    yield titled("Two inputs", "Sum of three", m.graph("y = Sum(a, b, c)", [f"float[1,8,4,4] {n}" for n in "abc"]))
    yield titled("Two inputs", "Mean of three", m.graph("y = Mean(a, b, c)", [f"float[1,8,4,4] {n}" for n in "abc"]))
    yield titled(
        "Two inputs", "Where", m.graph("y = Where(c, x, z)", ["bool[1,8,4,4] c", "float[1,8,4,4] x", "float[1,8,4,4] z"])
    )


def softmax() -> Iterator[Case]:
    for axis in (1, 2, 3):
        yield titled("Softmax", f"axis {axis}", m.unary("Softmax", axis=axis))
        yield titled("LogSoftmax", f"axis {axis}", m.unary("LogSoftmax", axis=axis))
    for h, w in ((255, 257), (256, 256)):
        yield titled("Softmax", f"map {by((h, w))}", m.unary("Softmax", (1, 2, h, w), axis=1))
    for c in (1, 127, 1000, 8193):
        yield titled("Softmax", f"{c} channels", m.unary("Softmax", (1, c, 2, 2), axis=1))
    yield titled("Softmax", "rank 2", m.unary("Softmax", (1, 10), axis=1))
    yield titled("Softmax", "rank 3 last axis", m.unary("Softmax", (1, 16, 16), axis=2))
    yield titled("Softmax", "batch 2", m.unary("Softmax", (2, 8, 4, 4), axis=1))


def resize() -> Iterator[Case]:
    plain = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    half = {"coordinate_transformation_mode": "half_pixel"}
    for s in (0.5, 1, 1.5, 2, 2.5, 3, 4, 8, 9, 16):
        yield titled("Resize nearest", f"x{s:g}", m.resize((1, 1, s, s), mode="nearest", **plain))
        yield titled("Resize linear", f"x{s:g} asymmetric", m.resize((1, 1, s, s), mode="linear", **plain))
        yield titled("Resize linear", f"x{s:g} half_pixel", m.resize((1, 1, s, s), mode="linear", **half))
    for s in ((1, 1, 2, 1), (1, 1, 2, 4), (1, 2, 1, 1), (1, 2, 2, 2), (2, 1, 1, 1)):
        yield titled("Resize nearest", f"scales {by(s)}", m.resize(s, mode="nearest", **plain))
    yield titled("Resize linear", "scales 1x1x2x4", m.resize((1, 1, 2, 4), mode="linear", **half))
    for transform in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
        for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
            words = {"coordinate_transformation_mode": transform, "nearest_mode": rounding}
            yield titled("Resize nearest", f"x2 {transform} {rounding}", m.resize((1, 1, 2, 2), mode="nearest", **words))
    for mode in ("linear", "cubic"):
        for transform in ("pytorch_half_pixel", "align_corners"):
            words = {"coordinate_transformation_mode": transform}
            yield titled(f"Resize {mode}", f"x2 {transform}", m.resize((1, 1, 2, 2), mode=mode, **words))
    yield titled("Resize cubic", "x2 half_pixel", m.resize((1, 1, 2, 2), mode="cubic", **half))
    yield titled(
        "Resize linear", "x4 align_corners", m.resize((1, 1, 4, 4), mode="linear", coordinate_transformation_mode="align_corners")
    )
    yield titled("Resize nearest", "rank 3 x2", m.resize((1, 1, 2), (1, 8, 8), mode="nearest", **plain))
    yield titled("Resize nearest", "rank 5 x2", m.resize((1, 1, 2, 2, 2), (1, 8, 4, 4, 4), mode="nearest", **plain))


def layout() -> Iterator[Case]:
    for perm in ((0, 2, 3, 1), (0, 3, 1, 2), (0, 1, 3, 2), (0, 2, 1, 3), (1, 0, 2, 3), (0, 3, 2, 1), (3, 2, 1, 0)):
        yield titled("Transpose", ",".join(map(str, perm)), m.unary("Transpose", (1, 8, 6, 4), perm=perm))
    yield titled("Transpose", "rank 2", m.unary("Transpose", (6, 4), perm=(1, 0)))
    yield titled("Transpose", "rank 3", m.unary("Transpose", (2, 6, 4), perm=(0, 2, 1)))
    yield titled("Transpose", "rank 5", m.unary("Transpose", (1, 2, 3, 4, 5), perm=(0, 1, 3, 2, 4)))
    yield titled("Transpose", "rank 6", m.unary("Transpose", (1, 2, 2, 3, 4, 5), perm=(0, 1, 3, 2, 4, 5)))
    for shape, after in (
        ((1, 8, 4, 4), (1, 8, 16)),
        ((1, 8, 4, 4), (1, 128)),
        ((1, 8, 4, 4), (1, 2, 4, 4, 4)),
        ((1, 2, 4, 4, 4), (1, 8, 4, 4)),
        ((1, 8, 4, 4), (1, 2, 2, 2, 4, 4)),
    ):
        yield titled("Reshape", f"{by(shape)} to {by(after)}", m.reshape(shape, after))
    yield titled("Reshape", "allowzero", m.reshape((1, 8, 4, 4), (1, 8, 16), allowzero=1))
    yield titled("Reshape", "Flatten", m.unary("Flatten", (1, 8, 4, 4)))
    yield titled("Reshape", "Squeeze", m.axes_op("Squeeze", (2, 3), (1, 8, 1, 1)))
    yield titled("Reshape", "Unsqueeze", m.axes_op("Unsqueeze", (2, 3), (1, 8)))
    for axis in range(4):
        yield titled("Concat", f"axis {axis}", m.concat(axis))
    yield titled("Concat", "of 8", m.concat(1, parts=8))
    yield titled("Concat", "7 channels", m.concat(1, (1, 7, 4, 4)))
    yield titled("Concat", "rank 3", m.concat(1, (1, 8, 4)))
    yield titled("Concat", "rank 5", m.concat(1, (1, 8, 2, 2, 2)))
    for axis in range(1, 4):
        yield titled("Split", f"axis {axis}", m.split(axis, (2, 2) if axis > 1 else (4, 4)))
    yield titled("Split", "uneven", m.split(1, (3, 5)))
    for axis in range(1, 4):
        yield titled("Slice", f"axis {axis}", m.cut((1,), (4,), (axis,), (1,)))
        yield titled("Slice", f"axis {axis} step 2", m.cut((0,), (8,), (axis,), (2,)))
    yield titled("Slice", "backwards", m.cut((-1,), (-9,), (3,), (-1,)))
    for pads, words in (
        ((0, 0, 1, 1, 0, 0, 1, 1), "space"),
        ((0, 1, 0, 0, 0, 1, 0, 0), "channels"),
        ((1, 0, 0, 0, 1, 0, 0, 0), "batch"),
    ):
        yield titled("Pad", words, m.pad(pads))
    for mode in ("reflect", "edge"):
        yield titled("Pad", mode, m.pad((0, 0, 1, 1, 0, 0, 1, 1), mode=mode))
    value = m.graph("y = Pad(x, p, v)", ["float[1,8,8,8] x"], [m.numbers("p", (0, 0, 1, 1, 0, 0, 1, 1)), "float v = {1.5}"])
    yield titled("Pad", "value 1.5", value)
    for mode in ("DCR", "CRD"):
        yield titled("Blocks", f"DepthToSpace {mode}", m.unary("DepthToSpace", (1, 16, 4, 4), blocksize=2, mode=mode))
    for size in (3, 4):
        yield titled("Blocks", f"DepthToSpace {size}", m.unary("DepthToSpace", (1, 2 * size * size, 4, 4), blocksize=size))
    yield titled("Blocks", "SpaceToDepth", m.unary("SpaceToDepth", (1, 4, 8, 8), blocksize=2))
    yield titled("Tile", "space", m.graph("y = Tile(x, r)", ["float[1,8,4,4] x"], [m.numbers("r", (1, 1, 2, 2))]))
    yield titled("Expand", "to a map", m.graph("y = Expand(x, s)", ["float[1,8,1,1] x"], [m.numbers("s", (1, 8, 4, 4))]))


def products() -> Iterator[Case]:
    yield titled("MatMul", "by weights, rank 2", m.matmul((4, 32), (32, 8), held=True))
    yield titled("MatMul", "by weights, rank 3", m.matmul((1, 16, 32), (32, 8), held=True))
    yield titled("MatMul", "by weights, rank 4", m.matmul((1, 2, 16, 32), (32, 8), held=True))
    yield titled("MatMul", "of activations, rank 2", m.matmul((16, 32), (32, 16)))
    yield titled("MatMul", "of activations, rank 3", m.matmul((1, 16, 32), (1, 32, 16)))
    yield titled("MatMul", "of activations, rank 3, batch 2", m.matmul((2, 16, 32), (2, 32, 16)))
    yield titled("MatMul", "of activations, rank 4", m.matmul((1, 4, 16, 32), (1, 4, 32, 16)))
    yield titled("MatMul", "of activations, rank 5", m.matmul((1, 2, 2, 16, 32), (1, 2, 2, 32, 16)))
    yield titled("MatMul", "length 8193", m.matmul((1, 2, 8193), (1, 8193, 2)))
    yield titled("Gemm", "plain", m.gemm())
    yield titled("Gemm", "rows 4", m.gemm(4))
    yield titled("Gemm", "transB", m.gemm(transB=1))
    yield titled("Gemm", "alpha 0.5", m.gemm(alpha=0.5))
    yield titled("Gemm", "beta 0.5", m.gemm(beta=0.5))
    yield titled("Gemm", "transA", m.graph("y = Gemm<transA = 1>(x, w)", ["float[16,4] x"], ["float[16,8] w"]))


def tensors() -> Iterator[Case]:
    for rank in range(1, 8):
        yield titled("Rank", f"Relu {rank}", m.unary("Relu", (2,) * rank))
        if rank > 1:
            yield titled("Rank", f"Add {rank}", m.binary("Add", (1, *(2,) * (rank - 1))))
    for extent in (8192, 8193, 65535, 65536):
        yield titled("Extent", f"Relu width {extent}", m.unary("Relu", (1, 1, 1, extent)))
        yield titled("Extent", f"Add height {extent}", m.binary("Add", (1, 1, extent, 1)))
        yield titled("Extent", f"Relu channels {extent}", m.unary("Relu", (1, extent, 1, 1)))
    for extent in (8193, 16384):
        yield titled("Extent", f"Conv width {extent}", m.conv(space=(8, extent)))
    for batch in (2, 8):
        for op in ("Relu", "Sigmoid"):
            yield titled("Batch", f"{op} {batch}", m.unary(op, (batch, 8, 4, 4)))
        yield titled("Batch", f"Add {batch}", m.binary("Add", (batch, 8, 4, 4)))
        yield titled("Batch", f"Mul constant {batch}", m.binary("Mul", (batch, 8, 4, 4), (1, 8, 1, 1), held=True))
    for dtype in ("float16", "double", "int32", "int64", "int8", "uint8"):
        if dtype != "uint8":  # ONNX has no such Relu
            yield titled("Element type", f"Relu {dtype}", m.unary("Relu", dtype=dtype), 14)
        yield titled("Element type", f"Abs {dtype}", m.unary("Abs", dtype=dtype))
    yield titled("Element type", "Conv float16", m.conv(dtype="float16"))
    yield titled("Element type", "Cast bool to float", m.graph("y = Cast<to = 1>(x)", ["bool[1,8,4,4] x"]))
    yield titled("Element type", "Cast float to int32", m.graph("y = Cast<to = 6>(x)", ["float[1,8,4,4] x"], (), ["int32[] y"]))
    yield titled(
        "Element type", "Cast float to float16", m.graph("y = Cast<to = 10>(x)", ["float[1,8,4,4] x"], (), ["float16[] y"])
    )
    yield titled("Dynamic shape", "Relu batch", m.unary("Relu", ("N", 8, 4, 4)))
    yield titled("Dynamic shape", "Relu width", m.unary("Relu", (1, 8, 4, "W")))


def other() -> Iterator[Case]:
    norm = [f"float[8] {n}" for n in "sbmv"]
    yield titled(
        "Normalisation", "BatchNormalization", m.graph("y = BatchNormalization(x, s, b, m, v)", ["float[1,8,4,4] x"], norm)
    )
    yield titled(
        "Normalisation",
        "BatchNormalization rank 5",
        m.graph("y = BatchNormalization(x, s, b, m, v)", ["float[1,8,2,4,4] x"], norm),
    )
    for shape in ((1, 8, 16), (1, 8, 4, 4), (1, 8, 2, 4, 4)):
        text = m.graph("y = InstanceNormalization(x, s, b)", [m.tensor("x", shape)], ["float[8] s", "float[8] b"])
        yield titled("Normalisation", f"InstanceNormalization rank {len(shape)}", text)
    for axis, width in ((-1, "[32]"), (1, "[16,32]")):
        text = m.graph(
            f"y = LayerNormalization<axis = {axis}>(x, s, b)", ["float[1,16,32] x"], [f"float{width} s", f"float{width} b"]
        )
        yield titled("Normalisation", f"LayerNormalization axis {axis}", text)
    for size in (3, 4):
        yield titled("Normalisation", f"LRN {size}", m.unary("LRN", size=size))
    for p in (1, 2):
        yield titled("Normalisation", f"LpNormalization p={p}", m.unary("LpNormalization", axis=1, p=p))
    for axis in (0, 1, 2):
        text = m.graph(f"y = Gather<axis = {axis}>(x, i)", ["float[1,8,4,4] x"], [m.numbers("i", (0,) if axis == 0 else (0, 2))])
        yield titled("Indexing", f"Gather axis {axis}", text)
    yield titled(
        "Indexing", "Gather negative", m.graph("y = Gather<axis = 1>(x, i)", ["float[1,8,4,4] x"], [m.numbers("i", (-1, -2))])
    )
    text = m.graph("y = Gather<axis = 1>(x, i)", ["float[1,8,4,4] x", "int64[2] i"])
    yield titled("Indexing", "Gather indices not constant", text)
    yield titled(
        "Indexing", "GatherElements", m.graph("y = GatherElements<axis = 1>(x, i)", ["float[1,8] x"], ["int64[1,2] i = {0,1}"])
    )
    yield titled("Indexing", "GatherND", m.graph("y = GatherND(x, i)", ["float[1,8,4] x"], ["int64[1,2] i = {0,1}"]))
    scatter = m.graph("y = ScatterND(x, i, u)", ["float[1,8,4] x", "float[1,4] u"], ["int64[1,2] i = {0,1}"])
    yield titled("Indexing", "ScatterND", scatter)
    scatter = m.graph("y = ScatterElements<axis = 1>(x, i, u)", ["float[1,8] x", "float[1,2] u"], ["int64[1,2] i = {0,1}"])
    yield titled("Indexing", "ScatterElements", scatter)
    yield titled(
        "Indexing", "TopK", m.graph("y, i = TopK(x, k)", ["float[1,16] x"], ["int64[1] k = {4}"], ["float[] y", "int64[] i"])
    )
    yield titled("Indexing", "NonZero", m.graph("y = NonZero(x)", ["float[1,8] x"], (), ["int64[] y"]))
    yield titled(
        "Indexing", "OneHot", m.graph("y = OneHot(x, d, v)", ["int64[1,8] x"], ["int64 d = {4}", "float[2] v = {0.0,1.0}"])
    )
    for mode, padding in (("bilinear", "zeros"), ("nearest", "border"), ("bicubic", "zeros"), ("bilinear", "reflection")):
        text = m.graph(
            f'y = GridSample<mode = "{mode}", padding_mode = "{padding}">(x, z)', ["float[1,8,8,8] x", "float[1,4,4,2] z"]
        )
        yield titled("Sampling", f"GridSample {mode} {padding}", text)
    roi = m.graph(
        'y = RoiAlign<output_height = 2, output_width = 2, mode = "avg">(x, r, b)',
        ["float[1,8,8,8] x", "float[2,4] r"],
        ["int64[2] b = {0,0}"],
    )
    yield titled("Sampling", "RoiAlign", roi)
    deform = m.graph(
        "y = DeformConv<kernel_shape = [3,3], pads = [1,1,1,1]>(x, w, o)",
        ["float[1,8,8,8] x", "float[1,18,8,8] o"],
        ["float[8,8,3,3] w"],
    )
    yield titled("Sampling", "DeformConv", deform, 19)
    for axis in (1, 3):
        text = m.graph("y = CumSum(x, a)", ["float[1,8,4,4] x"], [f"int64 a = {{{axis}}}"])
        yield titled("Recurrence", f"CumSum axis {axis}", text)
    text = m.graph("y = CumSum<exclusive = 1>(x, a)", ["float[1,8,4,4] x"], ["int64 a = {1}"])
    yield titled("Recurrence", "CumSum exclusive", text)
    for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        held = [f"float[1,{gates * 8},16] w", f"float[1,{gates * 8},8] r"]
        yield titled("Recurrence", op, m.graph(f"y = {op}<hidden_size = 8>(x, w, r)", ["float[4,1,16] x"], held))
    yield titled(
        "Recurrence", "Einsum", m.graph('y = Einsum<equation = "bij,bjk->bik">(x, z)', ["float[1,4,8] x", "float[1,8,4] z"])
    )
    yield titled("Normalisation", "Dropout", m.unary("Dropout"))
