"""Small networks of whole numbers, one operator or two each, over all attributes that its reading looks at."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper


class Network(NamedTuple):
    """A graph in ONNX text; what it declares and nobody makes is a weight of drawn whole numbers."""

    text: str
    opset: int = 20
    positive: bool = False
    """Whether inputs and weights are above zero, as roots and logarithms need them."""


def model(network: Network, seed: int = 0) -> onnx.ModelProto:
    """The model with its weights."""
    proto = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : {network.opset}]>\n{network.text}')
    rng = np.random.default_rng(seed)
    known = {o for n in proto.graph.node for o in n.output} | {t.name for t in proto.graph.initializer}
    for entry in proto.graph.value_info:
        if entry.name not in known:
            shape = [d.dim_value for d in entry.type.tensor_type.shape.dim]
            proto.graph.initializer.append(numpy_helper.from_array(numbers(rng, shape, network), entry.name))
    return proto


def numbers(rng: np.random.Generator, shape: Sequence[int], network: Network) -> np.ndarray:
    return rng.integers(1 if network.positive else -4, 5, shape).astype(np.float32)


def net(
    body: str, x: str = "float[2,4,6,5] x", weights: str = "", out: str = "y", *, opset: int = 20, positive: bool = False
) -> Network:
    return Network(f"g ({x}) => ({out}) {f'<{weights}>' if weights else ''} {{ {body} }}", opset, positive)


def _ints(values: Sequence[int]) -> str:
    return f"[{', '.join(map(str, values))}]"


def _words(groups: Sequence[Sequence[str]]) -> str:
    return f"[{', '.join(f'{chr(34)}{word}{chr(34)}' for group in groups for word in group)}]"


def convolutions() -> Iterator[Network]:
    for stride, dilation, pads, group, kernel in itertools.product(
        ([1, 1], [2, 3]), ([1, 1], [2, 1]), ([0, 0, 0, 0], [1, 2, 0, 1], [2, 0, 1, 1]), (1, 2, 4), ([1, 1], [3, 2], [2, 3])
    ):
        attributes = f"strides = {stride}, dilations = {dilation}, pads = {pads}, group = {group}"
        k = f"{kernel[0]},{kernel[1]}"
        yield net(f"y = Conv<{attributes}>(x, w, b)", weights=f"float[8,{4 // group},{k}] w, float[8] b")
        yield net(f"y = ConvTranspose<{attributes}>(x, w, b)", weights=f"float[4,{8 // group},{k}] w, float[8] b")
    for auto, stride, kernel in itertools.product(
        ("SAME_UPPER", "SAME_LOWER", "VALID"), ([1, 1], [2, 3], [3, 2]), ("3,3", "3,4")
    ):
        first = _ints([int(k) for k in kernel.split(",")])
        yield net(f'y = Conv<auto_pad = "{auto}", strides = {stride}>(x, w)', weights=f"float[8,4,{kernel}] w")
        yield net(f'y = ConvTranspose<auto_pad = "{auto}", strides = {stride}>(x, w)', weights=f"float[4,8,{kernel}] w")
        yield net(f'y = MaxPool<auto_pad = "{auto}", kernel_shape = {first}, strides = {stride}>(x)')
        yield net(f'y = AveragePool<auto_pad = "{auto}", kernel_shape = {first}, strides = {stride}>(x)')
    for stride, extra, pads in itertools.product(([3, 2], [2, 2]), ([1, 1], [0, 1], [1, 0]), ([0] * 4, [1, 0, 0, 1])):
        attributes = f"strides = {stride}, output_padding = {extra}, pads = {pads}"
        yield net(f"y = ConvTranspose<{attributes}>(x, w)", weights="float[4,3,3,3] w")
    for out in ([18, 11], [17, 10], [19, 12], [16, 11]):
        yield net(f"y = ConvTranspose<strides = [3,2], output_shape = {out}>(x, w)", weights="float[4,3,3,3] w")
    for stride, pads in itertools.product((1, 2), ([0] * 6, [1, 0, 1, 1, 1, 0])):
        steps = [stride, 2, 1]
        yield net(f"y = Conv<pads = {pads}, strides = {steps}>(x, w)", "float[1,2,5,6,4] x", "float[3,2,3,2,2] w")
        yield net(f"y = ConvTranspose<pads = {pads}, strides = {steps}>(x, w)", "float[1,2,3,4,3] x", "float[2,3,3,2,2] w")
        yield net(
            f"y = Conv<pads = {pads[:2]}, dilations = [2], strides = [{stride}]>(x, w)", "float[2,4,11] x", "float[3,4,3] w"
        )
        yield net(f"y = ConvTranspose<pads = {pads[:2]}, strides = [{stride}]>(x, w)", "float[2,4,7] x", "float[4,3,3] w")


def pooling() -> Iterator[Network]:
    for up, count, kernel, stride, pads in itertools.product(
        (0, 1), (0, 1), ([3, 2], [2, 3]), ([1, 1], [2, 2], [3, 2]), ([0] * 4, [1, 1, 1, 0], [0, 1, 1, 1])
    ):
        attributes = f"kernel_shape = {kernel}, strides = {stride}, pads = {pads}, ceil_mode = {up}"
        yield net(f"y = AveragePool<{attributes}, count_include_pad = {count}>(x)")
        if not count:
            yield net(f"y = MaxPool<{attributes}>(x)")
            yield net(f"y = MaxPool<{attributes}, dilations = [2, 1]>(x)")
    for p, stride, pads in itertools.product((1, 2), ([1, 1], [2, 3]), ([0] * 4, [1, 1, 1, 0])):
        yield net(f"y = LpPool<kernel_shape = [3, 2], strides = {stride}, pads = {pads}, p = {p}>(x)")
    yield from (net(f"y = GlobalLpPool<p = {p}>(x)") for p in (1, 2))
    yield from (
        net(f"y = {op}(x)", x) for op in ("GlobalAveragePool", "GlobalMaxPool") for x in ("float[2,4,6,5] x", "float[1,3,7] x")
    )


REDUCTIONS = ("Max", "Min", "Mean", "Sum", "SumSquare", "L1", "L2", "Prod")


def reductions() -> Iterator[Network]:
    for kind, chosen, keep in itertools.product(REDUCTIONS, ([0], [1, -1], [-2, 2][:1], [1, 2, 3]), (0, 1)):
        values = ", ".join(map(str, chosen))
        yield net(f"y = Reduce{kind}<keepdims = {keep}>(x, a)", weights=f"int64[{len(chosen)}] a = {{{values}}}")
        yield net(f"y = Reduce{kind}<keepdims = {keep}, axes = {_ints(chosen)}>(x)", opset=11)
    for kind in REDUCTIONS:
        yield net(f"y = Reduce{kind}(x)")
        yield (
            net(f"y = Reduce{kind}<noop_with_empty_axes = 1>(x)")
            if kind in ("Max", "Sum")
            else net(f"y = Reduce{kind}(x)", opset=11)
        )
    for kind in ("LogSum", "LogSumExp"):
        yield net(f"y = Reduce{kind}(x, a)", weights="int64[1] a = {1}", positive=True)
    for axis, exclusive, reverse in itertools.product((0, 2, -1), (0, 1), (0, 1)):
        yield net(f"y = CumSum<exclusive = {exclusive}, reverse = {reverse}>(x, a)", weights=f"int64 a = {{{axis}}}")


def products() -> Iterator[Network]:
    for ta, tb, alpha, bias in itertools.product((0, 1), (0, 1), (1.0, 0.5, -2.0), ("", "float[7] b", "float[3,1] b", "float b")):
        x, w = ("float[5,3] x" if ta else "float[3,5] x"), ("float[7,5] w" if tb else "float[5,7] w")
        body = f"y = Gemm<transA = {ta}, transB = {tb}, alpha = {alpha}, beta = {alpha * 2}>(x, w{', b' if bias else ''})"
        yield net(body, x, f"{w}, {bias}" if bias else w)
    shapes = (
        ("2,3,4,5", "5,6"),
        ("2,1,4,5", "3,5,2"),
        ("4,5", "5"),
        ("5", "5,4"),
        ("5", "5"),
        ("3,4,5", "5"),
        ("2,4,5", "2,5,3"),
    )
    yield from (net("y = MatMul(x, z)", f"float[{a}] x, float[{b}] z") for a, b in shapes)
    equations = (
        ("bhqd,bhkd->bhqk", "2,2,3,4", "2,2,5,4"), ("bnc,cd->bdn", "2,3,4", "4,5"), ("ij,jk->ik", "2,3", "3,4"),
        ("ij,ij->i", "2,3", "2,3"),
        ("ij,kj->ki", "2,3", "4,3"), ("i,j->ij", "3", "4"), ("abc,cb->a", "2,3,4", "4,3"), ("bij,bjk->bik", "2,3,4", "2,4,2"),
        ("nchw,nc->nhw", "2,3,4,2", "2,3"), ("abc,d->ad", "2,3,4", "5"),
    )  # fmt: skip
    for equation, a, b in equations:
        yield net(f'y = Einsum<equation = "{equation}">(x, z)', f"float[{a}] x, float[{b}] z")
    for equation in ("abcd->dbca", "abcd->ad", "abcd->b"):
        yield net(f'y = Einsum<equation = "{equation}">(x)')


def moves() -> Iterator[Network]:
    yield from (net(f"y = Transpose<perm = {_ints(p)}>(x)") for p in itertools.permutations(range(4)))
    yield net("y = Transpose(x)")
    for shape in ("0, -1, 6", "-1", "8, 30", "2, 0, 30", "0, 0, -1", "5, 6, 4, 2"):
        yield net("y = Reshape(x, s)", weights=f"int64[{shape.count(',') + 1}] s = {{{shape}}}")
    yield from (net(f"y = Flatten<axis = {axis}>(x)") for axis in (-3, -1, 0, 1, 2, 4))
    slices = itertools.product((0, 1, -1, 2, -9), (3, -1, 99, -99), (0, 1, 2, 3, -2), (1, 2, -1, -3))
    for start, end, axis, step in slices:
        extent = (2, 4, 6, 5)[axis]
        if range(*slice(start, None if step < 0 and end < -extent else end, step).indices(extent)):
            values = f"int64[1] a = {{{start}}}, int64[1] b = {{{end}}}, int64[1] c = {{{axis}}}, int64[1] d = {{{step}}}"
            yield net("y = Slice(x, a, b, c, d)", weights=values)
            if step == 1:
                yield net(f"y = Slice<starts = [{start}], ends = [{end}], axes = [{axis}]>(x)", opset=9)
    for axis, first in itertools.product((0, 1, 2, 3, -1), (1, 2)):
        extent = (2, 4, 6, 5)[axis]
        if first < extent:
            yield net(f"y, z = Split<axis = {axis}>(x, s)", weights=f"int64[2] s = {{{first}, {extent - first}}}", out="y, z")
        if extent % 2 == 0:
            yield net(f"y, z = Split<axis = {axis}, num_outputs = 2>(x)", out="y, z")
            yield net(f"y, z = Split<axis = {axis}>(x)", out="y, z", opset=11)
        yield net(f"y = Gather<axis = {axis}>(x, i)", weights="int64[2,2] i = {0, 1, -1, 0}")
        yield net(f"y = Gather<axis = {axis}>(x, i)", weights="int64 i = {-1}")
        yield net(f"y = Concat<axis = {axis}>(x, z, x)", "float[2,4,6,5] x, float[2,4,6,5] z")
        yield (
            net("y = Unsqueeze(x, a)", weights=f"int64[2] a = {{{axis}, {axis + 1}}}")
            if axis >= 0
            else net(f"y = Unsqueeze<axes = [{axis + 4}]>(x)", opset=11)
        )
    yield net("y = Squeeze(x, a)", "float[1,3,1,2] x", "int64[1] a = {2}")
    yield net("y = Squeeze(x)", "float[1,3,1,2] x")
    yield net("y = Squeeze<axes = [0]>(x)", "float[1,3,1,2] x", opset=11)
    yield net("y = Expand(x, s)", "float[4,1,3] x", "int64[4] s = {2,1,5,3}")
    yield net("y = Tile(x, r)", weights="int64[4] r = {1,2,1,3}")
    for mode in ("reflect", "edge", "wrap", "constant"):
        for pads in ("0,0,2,1,0,0,1,3", "0,1,0,0,1,0,2,2", "0,0,3,0,0,0,0,4"):
            yield net(f'y = Pad<mode = "{mode}">(x, p)', weights=f"int64[8] p = {{{pads}}}")
            if mode != "wrap":
                yield net(f'y = Pad<mode = "{mode}", pads = [{pads}]>(x)', opset=10)
    yield net("y = Pad(x, p, v)", weights="int64[8] p = {0,1,2,0,0,0,1,3}, float v = {2}")
    yield net("y = Pad(x, p)", weights="int64[8] p = {0,0,-2,1,0,0,1,-3}")
    yield net("y = Pad(x, p, v, a)", weights="int64[4] p = {1,2,0,1}, float v = {-3}, int64[2] a = {3, 1}")
    for mode, k in itertools.product(("DCR", "CRD"), (1, 2, 3)):
        yield net(f'y = DepthToSpace<blocksize = {k}, mode = "{mode}">(x)', f"float[2,{2 * k * k},2,3] x")
        yield net(f"y = SpaceToDepth<blocksize = {k}>(x)", f"float[1,3,{2 * k},{3 * k}] x")
    for upper, k in itertools.product((0, 1), (-1, 0, 2)):
        yield net(f"y = Trilu<upper = {upper}>(x, k)", weights=f"int64 k = {{{k}}}")
    for axis in (0, 1, -1):
        extent = (2, 4, 3)[axis]
        yield net(f"y = GatherElements<axis = {axis}>(x, i)", "float[2,4,3] x", f"int64[1,2,2] i = {{0,1,{extent - 1},-1}}")
    yield net("y = GatherND(x, i)", weights="int64[2,2] i = {1,3,0,2}")
    yield net("y = RotaryEmbedding(x, c, s)", "float[2,3,4,6] x, float[2,4,3] c, float[2,4,3] s", opset=23)
    yield net(
        "y = RotaryEmbedding<num_heads = 2, rotary_embedding_dim = 4, interleaved = 1>(x, c, s, i)",
        "float[2,3,12] x, float[5,2] c, float[5,2] s", "int64[2,3] i = {0,1,2,4,3,2}", opset=23,
    )  # fmt: skip
    yield net("y = Shrink<lambd = 0.25, bias = 0.5>(x)")
    yield net("y = ScatterND(x, i, u)", "float[3,4] x, float[2,4] u", "int64[2,1] i = {2,0}")
    yield net('y = ScatterND<reduction = "add">(x, i, u)', "float[3,4] x, float[2] u", "int64[2,2] i = {2,-1,0,1}")
    yield net("y = ScatterElements<axis = 1>(x, i, u)", "float[3,4] x, float[2,2] u", "int64[2,2] i = {2,0,-1,1}")
    yield net('y = ScatterElements<reduction = "add">(x, i, u)', "float[3,4] x, float[2,2] u", "int64[2,2] i = {2,0,-2,1}")
    yield net(
        "s = Shape(x) a = Gather(s, z) t = Concat<axis = 0>(a, m) y = Reshape(x, t)",
        weights="int64[1] z = {1}, int64[1] m = {-1}",
    )
    yield net("s = Shape<start = 1, end = 3>(x) c = ConstantOfShape(s) t = Cast<to = 1>(c) y = Add(x, t)", "float[2,3,3] x")


UNARY = (
    "Neg", "Abs", "Relu", "Identity", "Sign", "Floor", "Ceil", "Round", "Exp", "Sigmoid", "Tanh", "Erf", "Softplus", "Softsign",
    "HardSwish", "Mish", "Elu", "Selu", "Celu", "Sin", "Cos", "Atan", "HardSigmoid", "LeakyRelu", "ThresholdedRelu", "Gelu",
)  # fmt: skip


def elementwise() -> Iterator[Network]:
    pairs = "float[2,3,4] x, float[3,1] z"
    yield from (net(f"y = {op}(x, z)", pairs) for op in ("Add", "Sub", "Mul", "Max", "Min", "Sum", "Mean"))
    yield from (net(f"y = {op}(x, z, x)", pairs) for op in ("Max", "Min", "Sum", "Mean"))
    yield net("y = Div(x, z)", pairs, positive=True)
    for op in UNARY:
        yield net(f"y = {op}(x)", opset=20)
    yield from (net(f"y = {op}(x)", positive=True) for op in ("Sqrt", "Log", "Reciprocal"))
    for alpha in (0.25, -0.5, 2.0):
        yield from (net(f"y = {op}<alpha = {alpha}>(x)") for op in ("LeakyRelu", "Elu", "Selu", "ThresholdedRelu"))
        yield net(f"y = HardSigmoid<alpha = {alpha}, beta = 0.75>(x)")
        yield net(f"y = Celu<alpha = {abs(alpha)}>(x)")
        yield net(f"y = Selu<alpha = {alpha}, gamma = 1.5>(x)")
    yield net('y = Gelu<approximate = "tanh">(x)')
    yield net("y = PRelu(x, s)", weights="float[4,1,1] s")
    yield net("y = PRelu(x, s)", weights="float s")
    for low, high in (("l", "h"), ("", "h"), ("l", ""), ("h", "l")):
        yield net(f"y = Clip(x, {low}{', ' if high else ''}{high})", weights="float l = {-2}, float h = {3}")
    yield net("y = Clip<min = -1.0, max = 2.0>(x)", opset=6)
    yield net("y = Clip<max = 2.0>(x)", opset=6)
    yield from (net("y = Pow(x, e)", weights=f"float e = {{{e}}}") for e in (1, 2, 3, 5))
    yield from (net("y = Pow(x, e)", weights=f"float e = {{{e}}}", positive=True) for e in (0.5, -0.5, -1, -2, 1.5))
    for op, to in itertools.product(("Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Equal"), ("x, z", "z, x", "x, x")):
        yield net(f"b = {op}({to}) y = Cast<to = 1>(b)", "float[2,3,4] x, float[4] z")
        yield net(f"b = {op}({to}) n = Not(b) y = Where(n, x, z)", "float[2,3,4] x, float[4] z")
        for logic in ("And", "Or", "Xor"):
            yield net(
                f"b = {op}({to}) d = Greater(x, c) e = {logic}(b, d) y = Where(e, x, z)",
                "float[2,3,4] x, float[4] z",
                "float c = {1}",
            )
    yield net("i = Cast<to = 7>(x) b = Cast<to = 9>(x) f = Cast<to = 1>(b) y = Add(f, x)")
    yield net("y = Where(b, x, z)", "float[2,2] x, float[2,2] z", "bool[2,2] b = {1,0,0,1}")
    yield net(
        "y = DequantizeLinear<axis = 1>(q, s, z)", "float[1] x", "int8[2,3] q = {1,-2,3,4,-5,6}, float[3] s, int8[3] z = {1,0,-1}"
    )


def layers() -> Iterator[Network]:
    for axis in (0, 1, 2, 3, -1):
        yield net(f"y = Softmax<axis = {axis}>(x)")
        yield net(f"y = LogSoftmax<axis = {axis}>(x)")
        if axis > 0:
            yield net(f"y = Softmax<axis = {axis}>(x)", opset=11)
    for axis, epsilon in itertools.product((-1, -2, 1, 2), (1e-5, 0.5)):
        shape = ",".join(map(str, (2, 4, 6, 5)[axis:]))
        body = f"y = LayerNormalization<axis = {axis}, epsilon = {epsilon}>(x, s, b)"
        yield net(body, weights=f"float[{shape}] s, float[{shape}] b")
        yield net(f"y = LayerNormalization<axis = {axis}, epsilon = {epsilon}>(x, s)", weights=f"float[{shape}] s")
    for epsilon in (1e-5, 0.5):
        yield net(f"y = InstanceNormalization<epsilon = {epsilon}>(x, s, b)", weights="float[4] s, float[4] b")
        yield net(
            f"y = BatchNormalization<epsilon = {epsilon}>(x, s, b, m, v)", positive=True,
            weights="float[4] s, float[4] b, float[4] m, float[4] v",
        )  # fmt: skip
        yield net(f"y = RMSNormalization<epsilon = {epsilon}>(x, s)", weights="float[5] s", opset=23)
        yield net(
            f"y = GroupNormalization<epsilon = {epsilon}, num_groups = 2>(x, s, b)", weights="float[4] s, float[4] b", opset=21
        )
    for size, beta in itertools.product((1, 3, 5), (0.75, 0.5, 1.0)):
        yield net(f"y = LRN<size = {size}, alpha = 0.25, beta = {beta}, bias = 1.5>(x)", "float[2,6,3,2] x")
    for axis, p in itertools.product((0, 1, -1), (1, 2)):
        yield net(f"y = LpNormalization<axis = {axis}, p = {p}>(x)", positive=True)
    yield from (net(f"y = MeanVarianceNormalization<axes = {axes}>(x)") for axes in ([0, 2, 3], [2, 3], [0, 1], [-1]))
    yield net("y = MeanVarianceNormalization(x)")
    for causal, scale in itertools.product((0, 1), ("", ", scale = 0.5")):
        shapes = "float[2,2,3,4] x, float[2,2,5,4] k, float[2,2,5,4] v"
        yield net(f"y = Attention<is_causal = {causal}{scale}>(x, k, v)", shapes, opset=23)
        flat = "float[2,3,8] x, float[2,5,8] k, float[2,5,8] v"
        heads = "q_num_heads = 2, kv_num_heads = 2"
        yield net(f"y = Attention<is_causal = {causal}, {heads}{scale}>(x, k, v)", flat, opset=23)
        yield net(f"y = Attention<{heads}{scale}>(x, k, v, m)", f"{flat}, float[3,5] m", opset=23)


def integers() -> Iterator[Network]:
    """Inputs are whole numbers from 1 to 4; steps are powers of two, so that a sum lies on no border by a rounding."""
    x, steps = "c = Cast<to = 2>(x)", "float s = {0.5}, float t = {0.25}, float r = {1.0}"
    for pads, zero, group in itertools.product(([0] * 4, [1, 0, 0, 1]), (0, 3), (1, 2)):
        numbers = ",".join(str(i * 7 % 11 - 5) for i in range(64 // group))
        weights = f"int8[4,{4 // group},2,2] w = {{{numbers}}}"
        zeros = f"uint8 z = {{{zero}}}, int8 v = {{0}}, uint8 o = {{90}}, int32[4] b = {{3,-2,0,9}}"
        yield net(
            f"{x} q = QLinearConv<pads = {pads}, group = {group}>(c, s, z, w, t, v, r, o, b) y = Cast<to = 1>(q)",
            weights=f"{steps}, {weights}, {zeros}", positive=True,
        )  # fmt: skip
        yield net(
            f"{x} q = ConvInteger<pads = {pads}, group = {group}>(c, w, z) y = Cast<to = 1>(q)",
            weights=f"{weights}, {zeros}", positive=True,
        )  # fmt: skip
    matrix = "int8[5,3] w = {" + ",".join(str(i * 5 % 9 - 4) for i in range(15)) + "}"
    for zero in (0, 2):
        zeros = f"uint8 z = {{{zero}}}, int8 v = {{1}}, uint8 o = {{120}}, int8[3] u = {{0,1,-1}}"
        for operands in ("c, w, z", "c, w, z, v", "c, w, z, u", "c, w"):
            body = f"{x} q = MatMulInteger({operands}) y = Cast<to = 1>(q)"
            yield net(body, weights=f"{matrix}, {zeros}", positive=True)
        unsigned = matrix.replace("int8", "uint8").replace("-", "")
        yield net(
            f"{x} q = QLinearMatMul(c, s, z, w, t, p, r, o) y = Cast<to = 1>(q)",
            weights=f"{steps}, {unsigned}, uint8 z = {{{zero}}}, uint8 p = {{1}}, uint8 o = {{120}}", positive=True,
        )  # fmt: skip


def resizing() -> Iterator[Network]:
    x = "float[1,2,4,5] x"
    modes = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric")
    for mode, place, scale in itertools.product(("nearest", "linear", "cubic"), modes, ("2,4", "0.5,2", "3,1")):
        attributes = f'mode = "{mode}", coordinate_transformation_mode = "{place}"'
        for rounding in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil") if mode == "nearest" else ("floor",):
            body = f'y = Resize<{attributes}, nearest_mode = "{rounding}">(x, , s)'
            yield net(body, x, f"float[4] s = {{1,1,{scale}}}", opset=19)
        if mode != "nearest":
            sizes = "int64[4] s = {1,2,8,3}" if "0.5" in scale else "int64[4] s = {1,2,7,9}"
            yield net(f"y = Resize<{attributes}>(x, , , s)", x, sizes, opset=19)
    for exclude, a in itertools.product((0, 1), (-0.75, -0.5)):
        for scale in ("2,2", "0.5,3"):
            body = f'y = Resize<mode = "cubic", exclude_outside = {exclude}, cubic_coeff_a = {a}>(x, , s)'
            yield net(body, x, f"float[4] s = {{1,1,{scale}}}")
    for mode in ("nearest", "linear"):
        yield net(f'y = Resize<mode = "{mode}">(x, s)', x, "float[4] s = {1,1,3,2}", opset=10)
        yield net(f'y = Upsample<mode = "{mode}">(x, s)', x, "float[4] s = {1,1,3,2}", opset=9)
    yield net('y = Resize<mode = "linear", axes = [2, 3]>(x, , s)', x, "float[2] s = {2, 3}")


def recurrences() -> Iterator[Network]:
    """Weights are tenths, or all gates were open or closed."""
    tenths = "v = Mul(w, t) s = Mul(r, t) c = Mul(b, t)"
    for kind, way in itertools.product(("LSTM", "GRU", "RNN"), ("forward", "reverse", "bidirectional")):
        count, d = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind], 2 if way == "bidirectional" else 1
        numbers = f"float[{d},{count * 5},4] w, float[{d},{count * 5},5] r, float t = {{0.1}}"
        bias, more = f", float[{d},{count * 10}] b", ", o" if kind == "LSTM" else ""
        start = f", float[{d},2,5] h" + (f", float[{d},2,5] k" if kind == "LSTM" else "")
        given = "h, k" if kind == "LSTM" else "h"
        for last in ("", ", linear_before_reset = 1") if kind == "GRU" else ("",):
            attributes = f'hidden_size = 5, direction = "{way}"{last}'
            x = "float[3,2,4] x"
            yield net(f"{tenths} y, n{more} = {kind}<{attributes}>(x, v, s, c)", x, numbers + bias, f"y, n{more}")
            yield net(
                f"{tenths} y, n{more} = {kind}<{attributes}>(x, v, s, c, , {given})", x + start, numbers + bias, f"y, n{more}"
            )
            yield net(f"v = Mul(w, t) s = Mul(r, t) y = {kind}<{attributes}>(x, v, s)", x, numbers)
        own = _words([("Relu", "Tanh", "Sigmoid")[: {"LSTM": 3, "GRU": 2, "RNN": 1}[kind]]] * d)
        yield net(
            f'v = Mul(w, t) s = Mul(r, t) y = {kind}<hidden_size = 5, direction = "{way}", activations = {own}>(x, v, s)',
            x,
            numbers,
        )
    tenths += " q = Mul(p, t)"
    numbers = "float[1,20,4] w, float[1,20,5] r, float[1,40] b, float[1,15] p, float t = {0.1}"
    start = "float[3,2,4] x, float[1,2,5] h, float[1,2,5] k"
    yield net(f"{tenths} y, n, o = LSTM<hidden_size = 5>(x, v, s, c, , h, k, q)", start, numbers, "y, n, o")


def places() -> Iterator[Network]:
    for kind, axis, keep, last in itertools.product(("ArgMax", "ArgMin"), (0, 1, -1), (0, 1), (0, 1)):
        yield net(f"i = {kind}<axis = {axis}, keepdims = {keep}, select_last_index = {last}>(x) y = Cast<to = 1>(i)")


def chosen() -> Iterator[Network]:
    """At indices that the network computes, of three axes each."""
    for axis, shape in itertools.product((0, 1, 2, -1), ("float[5] x", "float[2,3] x", "float x")):
        body = f"c = Clip(x, low, high)  i = Cast<to = 7>(c)  y = Gather<axis = {axis}>(w, i)"
        yield net(body, shape, "float[3,4,5] w, float low = {-2}, float high = {2}")


def everything() -> list[Network]:
    """All of them."""
    families = (
        convolutions, pooling, reductions, products, moves, elementwise, layers, integers, resizing, recurrences, places, chosen,
    )  # fmt: skip
    return [network for family in families for network in family()]
