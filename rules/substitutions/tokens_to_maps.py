from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from npu_guard.rewriting.map_writer import Writer
from npu_guard.rewriting.substitution import Array, Builder, Example, Match, Substitution
from npu_guard.rewriting.tokens.sites import OPERATORS, match_region, write_region

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value


_NORM = ("ReduceMean", "Sub", "Mul", "ReduceMean", "Add", "Sqrt", "Div")


class TokensToMaps(Substitution):
    """What runs on tokens between two rearrangements runs on the map itself.

    `[B, N, C]` and `[B, H, W, C]` hold the same numbers as `[B, C, H, W]`, so a Reshape or Transpose between them is only another
    name for the axes. A Linear over C is a 1x1 convolution; LayerNorm over C is the mean and the variance over axis 1; a mean
    over N is one over height and width; element-wise operators stay, with their constants laid out in the order of the map.
    The rearrangements at both ends, and all inside, disappear. Exact but for the order of summation.

    Where the model itself takes or gives tokens, one rearrangement at that edge has to stay: its interface is not changed.
    """

    name = "tokens-to-maps"
    roots = tuple(sorted(OPERATORS))
    limits = {"layout.rearrange": False, "matmul.spatial": False, "reduce.axes": [[1], [2, 3]]}
    operators = {
        **dict.fromkeys(("Conv", "ReduceMean", "Sub", "Mul", "Add", "Sqrt", "Div", "Gelu", "Relu", "Tanh"), "supported"),
        **dict.fromkeys(("Reshape", "Transpose", "MatMul", "Gemm", "Slice", "Concat"), "judged"),
    }
    good = (
        Example(
            """g (float[1,8,5,3] x) => (y)
            <float[8] s, float[8] b, float[8,32] w, float[32] c, float[32,8] v, float[8] d, float[8] gamma> {
                t = Transpose<perm = [0,2,3,1]>(x)  n = LayerNormalization(t, s, b)  h0 = MatMul(n, w)  h = Add(h0, c)
                a = Gelu(h)  o0 = MatMul(a, v)  o = Add(d, o0)  q = Mul(gamma, o)  r = Transpose<perm = [0,3,1,2]>(q)
                y = Add(x, r) }""",
            ops=(*_NORM, "Mul", "Add", "Conv", "Gelu", "Conv", "Mul", "Add"),
            title="ConvNeXt",
        ),
        Example(
            """g (float[2,6,3,4] x) => (y)
            <int64[3] flat = {2, 6, 12}, float[6,6] w, float[1,12,6] position, int64[4] back = {2, 6, 3, 4}> {
                a = Reshape(x, flat)  t = Transpose<perm = [0,2,1]>(a)  p = Add(t, position)
                m = MatMul(p, w)  h = Relu(m)  r = Add(p, h)
                n = Transpose<perm = [0,2,1]>(r)  y = Reshape(n, back) }""",
            ops=("Add", "Conv", "Relu", "Add"),
            title="token MLP with a position embedding and a residual",
        ),
        Example(
            """g (float[1,8,4,4] x) => (y)
            <int64[1] last = {-1}, float two = {2.0}, float eps = {0.00001}, float[8] s> {
                t = Transpose<perm = [0,2,3,1]>(x)  m = ReduceMean(t, last)  c = Sub(t, m)  p = Pow(c, two)
                v = ReduceMean(p, last)
                e = Add(v, eps)  d = Sqrt(e)  n = Div(c, d)  z = Mul(n, s)  y = Transpose<perm = [0,3,1,2]>(z) }""",
            ops=(*_NORM, "Mul"),
            title="LayerNorm, spelled out",
        ),
        Example(
            """g (float[1,4,4,4] x) => (y)
            <int64[2] flat = {16, 4}, float[4,4] w, float[4] b, int64[4] map = {1, 4, 4, 4}> {
                t = Transpose<perm = [0,2,3,1]>(x)  f = Reshape(t, flat)  g = Gemm<transB = 1, alpha = 0.5>(f, w, b)  h = Tanh(g)
                m = Reshape(h, map)  y = Transpose<perm = [0,3,1,2]>(m) }""",
            ops=("Conv", "Tanh"),
            title="a Gemm over all positions",
        ),
        Example(
            """g (float[1,12,8] x) => (float[1,12,8] y)
            <float[8,8] w, float[8,8] v, float[8] k> {
                a = MatMul(x, w)  b = Relu(a)  c = MatMul(b, v)  d = LayerNormalization(c, k)  y = MatMul(d, w) }""",
            limits={"matmul.spatial": False},
            title="tokens at the model's own input and output, which keep one rearrangement each",
        ),
    )
    bad = (
        Example(
            """g (float[1,8,2,2] x, float[1,1,8] token) => (y)
            <int64[3] flat = {1, 8, 4}> {
                a = Reshape(x, flat)  t = Transpose<perm = [0,2,1]>(a)  y = Concat<axis = 1>(token, t) }""",
            refused="Concat joins 'token', such as a class token, to the positions",
        ),
        Example(
            """g (float[1,8,2,2] x) => (y)
            <int64[3] flat = {1, 8, 4}, float[4,4] w, int64[4] back = {1, 8, 2, 2}> {
                a = Reshape(x, flat)  m = MatMul(a, w)  y = Reshape(m, back) }""",
            refused="mix positions",
        ),
        Example(
            """g (float[1,8,4,4] x, float[8,8] w) => (y) {
                t = Transpose<perm = [0,2,3,1]>(x)  m = MatMul(t, w)  y = Transpose<perm = [0,3,1,2]>(m) }""",
            refused="weight 'w' is an input of the model",
        ),
        Example(
            """g (float[1,8,"H",4] x) => (y) <float[8,8] w> {
                t = Transpose<perm = [0,2,3,1]>(x)  m = MatMul(t, w)  y = Transpose<perm = [0,3,1,2]>(m) }""",
            refused="fix it with --input-shape",
        ),
        Example(
            """g (float[1,8,4,4] x) => (y) {
                t = Transpose<perm = [0,2,3,1]>(x)  r = Relu(t)  s = com.example.Op(r)  y = Transpose<perm = [0,3,1,2]>(s) }""",
            refused="is not known on tokens",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        return match_region(self, node, ctx, products=False)

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return write_region(match.facts, build)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """Weights the wrong way round, as [in, out], and biases in reverse."""
        return write_region(match.facts, build, _Reversed)


class _Reversed(Writer):
    def constant(self, make: Callable[[], Array], key: Hashable = None) -> str:
        return super().constant(lambda: make() if make().dtype == np.int64 else np.flip(make()), key)
