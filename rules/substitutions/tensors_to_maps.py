from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx
from msgspec.structs import replace

from npu_guard.results.proof import SAMPLED
from npu_guard.rewriting.maps.lowering import OPERATORS, Lowered, abilities, lowered
from npu_guard.rewriting.maps.program import Constant, Line
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution, closed

if TYPE_CHECKING:
    from collections.abc import Callable

    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

    Change = Callable[[Line], Line]

_TOKENS = {"layout.rearrange": False, "matmul.spatial": False, "reduce.axes": [[1], [2, 3]]}
_MAPS = {
    **dict.fromkeys(
        ("Conv", "ConvTranspose", "Split", "Slice", "Concat", "Pad", "Mul", "Add", "Sub", "Div", "Sqrt", "Max", "Min", "Relu"),
        "supported",
    ),
    **dict.fromkeys(("ReduceMean", "ReduceMax", "Softmax", "AveragePool", "MaxPool", "Max", "Min", "Relu"), "supported"),
    **dict.fromkeys(("Reshape", "Transpose", "MatMul", "Gemm", "Einsum", "DepthToSpace", "SpaceToDepth"), "judged"),
    **dict.fromkeys(("Gather", "Expand", "Where", "InstanceNormalization", "ReduceSum", "ReduceL2"), "refused"),
}


def _lowered(ctx: Context) -> Mapping[str, Lowered]:
    """The regions of a model by variant: what moves is convolved, or copied."""
    ways = ("convolved", "copied") if ctx.bounds("Conv", "group", "conv.group_max") else ("convolved",)
    return {way: lowered(ctx, abilities(ctx, convolved=way == "convolved")) for way in ways}


class TensorsToMaps(Substitution):
    """Tensors of any axes lie in maps [B, C, H, W], and every operator on them is one on maps.

    An axis of a tensor is a product of factors, and so is each axis of the map that holds its numbers. Reshape, Transpose,
    Expand and their like only say anew which factors make up which axis: nothing moves. An operator that needs its factors
    elsewhere has them brought there by the cheapest product of these, all of which copy numbers: a Split along one axis and a
    Concat along another; a depthwise Conv of one-hot weights, whose kernel and stride are a block of space that goes into
    channels, and its transposed; a 1x1 Conv with a permutation; for repetitions a Concat, or a convolution with ones. So:

    - a product of two activations over any axes, S[b,i,j] = sum over k of X[b,i,k] Y[b,j,k]: both are brought into one
      arrangement of all factors (repeated, or broadcast where they lack an axis), multiplied, and summed over k. That is
      attention of all kinds: self and cross, windows, class tokens, grouped queries, between channels, linear
    - a matrix on some axis: its factors become channels of a 1x1 Conv, or blocks of space the kernel of a strided one
    - a reduction over any axes: over channels, over space, by a pool, by a Conv with ones, or by adding halves
    - Softmax: its factors become the channels; normalizations: by their definitions
    - Concat, Split, Slice, Gather and GatherND at constant places, Pad: the axis becomes the outermost part of one of the map's

    `Where(mask, x, c)` with constant mask and c is min and max with constant maps, which holds for infinite x too; by a computed
    mask it stays, and what it chooses between is brought to where the mask lies. A constant beside computed tensors in a Concat
    is added to zeros, so that it goes with every batch. Exact but for the order of summation.
    """

    name = "tensors-to-maps"
    roots = tuple(sorted(OPERATORS))
    limits = _TOKENS
    operators = _MAPS
    good = (
        Example(
            """g (float[1,8,4,6] x) => (y)
            <int64[6] apart = {1, 8, 2, 2, 3, 2}, int64[3] tokens = {6, 4, 8}, int64[4] heads = {6, 4, 2, 4},
             int64[3] flat = {6, 4, 8}, int64[6] windows = {1, 2, 3, 2, 2, 8}, int64[4] back = {1, 8, 4, 6},
             float[8,8] w, float[1,2,4,4] bias> {
                a = Reshape(x, apart)  b = Transpose<perm = [0,2,4,3,5,1]>(a)  t = Reshape(b, tokens)  m = MatMul(t, w)
                h = Reshape(m, heads)  q = Transpose<perm = [0,2,1,3]>(h)  k = Transpose<perm = [0,2,3,1]>(h)
                s = MatMul(q, k)  d = Add(s, bias)  p = Softmax<axis = -1>(d)  o = MatMul(p, q)
                n = Transpose<perm = [0,2,1,3]>(o)  f = Reshape(n, flat)  u = Reshape(f, windows)
                v = Transpose<perm = [0,5,1,3,2,4]>(u)  y = Reshape(v, back) }""",
            title="attention in windows of 2 x 2 with two heads and a position bias",
        ),
        Example(
            """g (float[1,6,3,5] x) => (y)
            <int64[3] flat = {1, 6, 15}, float[1,1,6] token, int64 first = {0}, float root = {2.4}, float[6,5] w,
             int64[4] map = {1, 5, 1, 1}> {
                a = Reshape(x, flat)  t = Transpose<perm = [0,2,1]>(a)  c = Concat<axis = 1>(token, t)
                k = Transpose<perm = [0,2,1]>(c)  s = MatMul(c, k)  d = Div(s, root)  p = Softmax(d)  m = MatMul(p, c)
                r = Add(c, m)  f = Gather<axis = 1>(r, first)  z = MatMul(f, w)  y = Reshape(z, map) }""",
            title="a class token, which is all that is read",
        ),
        Example(
            """g (float[1,12,5,4] x) => (y)
            <int64[4] bins = {1, 4, 3, 20}, float[1,3,1,1] w, int64[4] back = {1, 4, 5, 4}> {
                a = Reshape(x, bins)  t = Transpose<perm = [0,2,1,3]>(a)  p = Softmax<axis = 1>(t)  c = Conv(p, w)
                y = Reshape(c, back) }""",
            title="the expectation of a distribution for each side of a box (DFL)",
        ),
        Example(
            """g (float[1,12,3,5] x) => (y)
            <int64[6] apart = {1, 3, 2, 2, 3, 5}, int64[4] large = {1, 3, 6, 10}> {
                a = Reshape(x, apart)  t = Transpose<perm = [0,1,4,2,5,3]>(a)  y = Reshape(t, large) }""",
            ops=("ConvTranspose",),
            title="PixelShuffle, written by hand",
        ),
        Example(
            """g (float[1,6,4,5] x) => (y)
            <int64[4] heads = {1, 2, 3, 20}, int64[1] last = {-1}, int64[4] back = {1, 6, 4, 5}> {
                a = Reshape(x, heads)  l = ReduceL2(a, last)  q = Div(a, l)  k = Transpose<perm = [0,1,3,2]>(q)  s = MatMul(q, k)
                p = Softmax<axis = -1>(s)  m = MatMul(p, a)  y = Reshape(m, back) }""",
            title="attention between channels, of unit vectors (XCA)",
        ),
        Example(
            """g (float[1,6,3,4] x) => (y)
            <int64[3] flat = {1, 6, 12}, float[12,7] w, float[7] c, float[7,12] v, int64[4] back = {1, 6, 3, 4}> {
                a = Reshape(x, flat)  h = MatMul(a, w)  b = Add(h, c)  r = Relu(b)  o = MatMul(r, v)  s = Add(a, o)
                y = Reshape(s, back) }""",
            title="a matrix over positions (MLP-Mixer)",
        ),
        Example(
            """g (float[1,12,3,5] x) => (y)
            <int64[3] groups = {0, 3, -1}, float[3] one = {1,1,1}, float[3] zero = {0,0,0}, int64[4] back = {1, 12, 3, 5},
             float[12,1,1] s> {
                a = Reshape(x, groups)  n = InstanceNormalization(a, one, zero)  b = Reshape(n, back)  y = Mul(b, s) }""",
            title="GroupNorm, as exporters write it",
        ),
        Example(
            """g (float[1,8,3,3] x, float[1,4,3,3] z) => (y)
            <int64[4] four = {1, 4, 2, 9}, int64[5] two = {1, 2, 1, 2, 9}, int64[5] twice = {1, 2, 2, 2, 9},
             int64[4] same = {1, 4, 2, 9}, bool[9] mask = {1, 1, 0, 1, 1, 1, 1, 0, 1}, float low = {-1000000000.0},
             int64[4] back = {1, 8, 3, 3}> {
                q = Reshape(x, four)  u = Reshape(z, two)  e = Expand(u, twice)  k = Reshape(e, same)
                s = Einsum<equation = "bhdi,bhdj->bhij">(q, k)  m = Where(mask, s, low)  p = Softmax(m)
                o = Einsum<equation = "bhij,bhdj->bhdi">(p, k)  y = Reshape(o, back) }""",
            title="grouped queries and a mask, by Einsum",
            label=SAMPLED,
        ),
        Example(
            """g (float[1,7,6] x) => (y)
            <float[6,1,3] w, float[6] s, float[6] b, int64[1] i0 = {0}, int64[1] i7 = {7}, int64[1] i2 = {2}> {
                n = LayerNormalization(x, s, b)  t = Transpose<perm = [0,2,1]>(n)
                c = Conv<auto_pad = "NOTSET", pads = [2,1], group = 6>(t, w)  p = Slice(c, i0, i7, i2)
                u = Transpose<perm = [0,2,1]>(p)  y = Add(x, u) }""",
            title="a convolution along tokens, with what exporters write of its padding",
        ),
        Example(
            """g (float[2,5,6] x, float[2,3,6] z) => (y) {
                k = Transpose<perm = [0,2,1]>(z)  s = MatMul(x, k)  p = Softmax<axis = -1>(s)  y = MatMul(p, z) }""",
            title="tokens as inputs and as the output: they enter and leave as maps [B, N, 1, C], so that nothing is transposed",
        ),
        Example(
            """g (float[1,6,4,5] x) => (y)
            <int64[3] flat = {1, 6, 20}, int64[2] axes = {1, 2}, float zero = {0.0}, int64[4] back = {1, 6, 4, 5}> {
                a = Reshape(x, flat)  t = Transpose<perm = [0,2,1]>(a)  m = ReduceMax(t, axes)  e = Equal(m, zero)
                q = Div(t, m)  w = Where(e, zero, q)  u = Transpose<perm = [0,2,1]>(w)  y = Reshape(u, back) }""",
            operators=_MAPS | {"Where": "supported", "Equal": "supported"},
            title="a division that gives 0 where it has no result, of tokens",
        ),
        Example(
            """g (float[1,6,4,5] x, float[1,6,20] z) => (y)
            <int64[3] flat = {1, 6, 20}, int64[4] back = {1, 6, 4, 5}> {
                a = Reshape(x, flat)  t = Transpose<perm = [0,2,1]>(a)  s = Transpose<perm = [0,2,1]>(z)  c = Less(t, s)
                w = Where(c, t, s)  u = Transpose<perm = [0,2,1]>(w)  y = Reshape(u, back) }""",
            operators=_MAPS | {"Where": "supported", "Less": "supported"},
            title="a choice between two tensors",
        ),
        Example(
            """g (float[1,2,3,5] x) => (y) <int64[8] p = {0, 0, 2, 3, 0, 0, 1, 4}> { y = Pad<mode = "reflect">(x, p) }""",
            operators=_MAPS | {"Pad": "refused"},
            title="margins that mirror what is inside",
        ),
        Example(
            """g (float[1,6,3,5] x) => (y) <int64[4] t = {6, 3, 5, 1}, int64[2,3,2] i = {0,2, 0,0, 0,1, 4,2, 4,0, 4,1}> {
                m = Reshape(x, t)  y = GatherND(m, i) }""",
            operators=_MAPS | {"GatherND": "refused"},
            title="GatherND at all places of some rows and columns",
        ),
        Example(
            """g (float[3,5,2,4] x) => (y) <int64[4,2] i = {2,4, 0,3, 1,-1, 0,3}> { y = GatherND(x, i) }""",
            operators=_MAPS | {"GatherND": "refused"},
            title="GatherND at single places",
        ),
        Example(
            """g (float[1,8,2,3] x) => (y) <int64[3] flat = {1, 8, 6}, int64[4] back = {1, 8, 2, 3}> {
                a = Reshape(x, flat)  b = Softmax<axis = 2>(a)  y = Reshape(b, back) }""",
            opset=12,
            title="Softmax of an opset before 13, which runs over all axes from the one that it names",
        ),
        Example(
            """g (float[1,5,8] x) => (y)
            <float[8,8] w, float[8,4] v, int64[4] four = {1, 5, 4, 2}, int64[4] two = {1, 5, 2, 2}, int64[1] second = {2},
             int64[5] twice = {1, 2, 2, 5, 2}, int64[4] same = {1, 4, 5, 2}, float low = {-inf}, int64[3] flat = {1, 5, 8},
             float less = {0.1},
             bool[5,5] later = {0,1,1,1,1, 0,0,1,1,1, 0,0,0,1,1, 0,0,0,0,1, 0,0,0,0,0}> {
                a = MatMul(x, w)  b = Reshape(a, four)  q = Transpose<perm = [0,2,1,3]>(b)
                c = MatMul(x, v)  d = Reshape(c, two)  e = Transpose<perm = [0,2,1,3]>(d)
                f = Unsqueeze(e, second)  h = Expand(f, twice)  k = Reshape(h, same)  t = Transpose<perm = [0,1,3,2]>(k)
                s = MatMul(q, t)  z = Mul(s, less)  m = Where(later, low, z)  p = Softmax(m)  o = MatMul(p, q)
                u = Transpose<perm = [0,2,1,3]>(o)  r = Reshape(u, flat)  y = Add(x, r) }""",
            title="grouped keys and a causal mask: what is minus infinity is put in where Softmax takes it, and moved no more",
            label=SAMPLED,
        ),
        Example(
            """g (float[1,2,5,4] q, float[1,2,6,4] k, float[1,2,6,4] v) => (y) { y = Attention<softcap = 3.0>(q, k, v) }""",
            opset=23,
            operators=_MAPS | {"Attention": "refused", "Tanh": "supported"},
            title="scores that are held within a range",
            label=SAMPLED,
        ),
        Example(
            """g (float[1,6,3,4] x) => (y, z) <int64[2] rows = {1, 2}> {
                y = ReduceLogSumExp(x, rows)  z = LogSoftmax<axis = 1>(x) }""",
            opset=18,
            operators=_MAPS | {"ReduceLogSumExp": "refused", "LogSoftmax": "refused", "Exp": "supported", "Log": "supported"},
            title="the logarithm of a sum of exponentials, its maximum taken out",
            label=SAMPLED,
        ),
        Example(
            """g (float[1,6,3,4] x) => (u, w, y) <int64[1] one = {1}, int64[1] last = {3}> {
                u = LpNormalization<axis = 1>(x)
                w = ReduceProd(x, one)  y = ReduceMin(x, last) }""",
            opset=18,
            operators=_MAPS | dict.fromkeys(("LpNormalization", "ReduceProd", "ReduceMin"), "refused") | {"Neg": "supported"},
            title="a unit vector, which is 0 where all is 0; a product; a minimum by a maximum",
            label=SAMPLED,
        ),
        Example(
            """g (float[1,5,8] x, float[1,2,5,3] z) => (u, v, w)
            <float[8] q, float[3,4] k> {
                u = MatMul(x, q)  v = Einsum<equation = "... i d, ... j d -> ... i j">(z, z)
                w = Einsum<equation = "bhnd,de">(z, k) }""",
            operators=_MAPS | {"Einsum": "refused", "MatMul": "refused"},
            title="weights of a vector; Einsum with an ellipsis, and without an arrow",
            label=SAMPLED,
        ),
    )
    bad = (
        Example(
            """g (float[1,8,"H",4] x) => (y) <float[8,8] w> {
                t = Transpose<perm = [0,2,3,1]>(x)  m = MatMul(t, w)  y = Transpose<perm = [0,3,1,2]>(m) }""",
            refused="fix it with --input-shape",
        ),
        Example(
            """g (float[1,8,4,4] x, int64[3] i) => (y) { y = Gather<axis = 1>(x, i) }""",
            refused="Gather at computed indices",
        ),
        Example(
            """g (float[1,4,4,4] x) => (y) { y = Einsum<equation = "bchw,bcwk,bchk->bhk">(x, x, x) }""",
            refused="Einsum 'bchw,bcwk,bchk->bhk'",
        ),
        Example(
            """g (float[1,6,1] x, float[1,1,5] z) => (y) <float k = {0.5}> { c = Less(x, k)  y = Where(c, z, k) }""",
            operators=_MAPS | {"Where": "refused", "Less": "supported"},
            refused="Where chooses between tensors of which none has all axes",
        ),
        Example(
            """g (float[1,8,4,4] x, int64[3,2] i) => (y) { y = GatherND(x, i) }""",
            refused="GatherND at computed indices",
        ),
        Example(
            """g (float[2,3,4,4] x) => (y) <int64[2,1] i = {2, 0}> { y = GatherND<batch_dims = 1>(x, i) }""",
            refused="GatherND for each batch apart",
        ),
        Example(
            """g (float[1,2,3,5] x) => (y) <int64[8] p = {0, 0, -1, 3, 0, 0, 1, 0}> { y = Pad<mode = "reflect">(x, p) }""",
            refused="Pad by 'reflect' of 3 with -1 in front",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | Sequence[Match] | None:
        made: list[Match] = []
        refusals: list[str] = []
        for variant, known in ctx.analysis_of(_lowered).items():
            region = known.regions.get(node)
            if region is None:
                refusals += [known.refused[node]] if node in known.refused else []
                continue
            nodes = (*region.nodes, *region.shapes)
            replaced = (*region.exits, *(n.output for n in region.shapes))
            try:
                if region.stuck:
                    raise Refused(region.refused)
                closed(nodes, replaced, ctx)
            except Refused as refusal:
                refusals.append(refusal.reason)
            else:
                made.append(Match(self, node, nodes, replaced, (region, ctx), variant))
        if refusals and not made:
            raise Refused(refusals[0])
        return made or None

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return _written(match, build)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """Pieces joined in reverse, and weights the wrong way round."""
        return _written(match, build, _reversed)


def _written(match: Match, build: Builder, *change: Change) -> Mapping[Value, str]:
    region, ctx = match.facts
    names = region.program.write(build, list(region.exits.values()), region.maps, *change)
    outputs = {name for node in build.nodes for name in node.output}
    made: dict[Value, str] = {}
    for value, name in zip(region.exits, names, strict=True):
        made[value] = name if name in outputs and name not in made.values() else build.op("Identity", name)
    for node in region.shapes:
        made[node.output] = build.op("Constant", value=onnx.numpy_helper.from_array(ctx.array(node.output)))
    return made


def _reversed(line: Line) -> Line:
    if line.op_type == "Concat":
        return replace(line, inputs=line.inputs[::-1])
    return replace(line, inputs=tuple(_flipped(i) if isinstance(i, Constant) and i.dtype != np.int64 else i for i in line.inputs))


def _flipped(constant: Constant) -> Constant:
    return replace(constant, make=lambda build: np.flip(np.asarray(constant.make(build)).reshape(constant.shape)))
