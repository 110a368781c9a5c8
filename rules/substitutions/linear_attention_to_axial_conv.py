from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from npu_guard.rewriting import axial, mixing
from npu_guard.rewriting.substitution import APPROXIMATE, Builder, Example, Match, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value


class LinearAttentionToAxialConv(Substitution):
    """Attention without softmax, phi(Q) (phi(K)^T V), becomes an axial convolution that is fitted to it.

    Without softmax the products are re-ordered, so that a small matrix of channels is made first. What it computes is still a
    mean of V over all positions, weighted by phi(q) phi(k); the same axial convolution takes its place as for softmax attention:

        sum_i a[i] v[y+i, x]  +  sum_j b[j] v[y, x+j]  +  m mean(v)

    fitted by ridge regression for each channel of V. A division by the sum of the weights, where it follows, is part of the
    block. It is refused where V alone or its mean alone comes as close on held-out samples, and needs fine-tuning.
    """

    name = "linear-attention-to-axial-conv"
    exactness = APPROXIMATE
    roots = ("MatMul",)
    limits = {"layout.rearrange": False, "matmul.spatial": False, "conv.kernel_max": 17}
    good = (
        Example(
            """g (bool[2,8,6,8] x) => (y)
            <int64[3] flat = {2, 8, 48}, int64[4] back = {2, 8, 6, 8}> {
                h = Cast<to = 1>(x)  k = Reshape(h, flat)  kt = Transpose<perm = [0,2,1]>(k)
                c = MatMul(k, kt)  m = MatMul(c, k)  y = Reshape(m, back) }""",
            ops=("Cast", "Conv", "Conv", "Add", "GlobalAveragePool", "Mul", "Add"),
            title="V from the left",
        ),
        Example(
            """g (bool[2,8,6,8] x) => (y)
            <int64[3] flat = {2, 8, 48}, int64[4] back = {2, 8, 6, 8}, float n = {48}> {
                h = Cast<to = 1>(x)  k = Reshape(h, flat)  kt = Transpose<perm = [0,2,1]>(k)
                c0 = MatMul(k, kt)  c = Div(c0, n)  m = MatMul(kt, c)
                t = Transpose<perm = [0,2,1]>(m)  y = Reshape(t, back) }""",
            ops=("Cast", "Conv", "Conv", "Add", "GlobalAveragePool", "Mul", "Add"),
            title="Q from the left, scaled",
        ),
        Example(
            """g (bool[1,8,6,8] x) => (y)
            <int64[3] flat = {1, 8, 48}, int64[4] back = {1, 8, 6, 8}, int64[2] hw = {2, 3}, int64[1] c1 = {1}, float e = {0.1}> {
                f = Cast<to = 1>(x)  h = Add(f, e)  k = Reshape(h, flat)  kt = Transpose<perm = [0,2,1]>(k)
                s = ReduceSum(h, hw)  p = Mul(h, s)  w = ReduceSum(p, c1)
                c = MatMul(k, kt)  m = MatMul(c, k)  r = Reshape(m, back)  y = Div(r, w) }""",
            ops=("Cast", "Add", "Conv", "Conv", "Add", "GlobalAveragePool", "Mul", "Add"),
            title="divided by the sum of its weights",
        ),
        Example(
            """g (bool[2,8,6,8] x) => (y)
            <int64[4] heads = {2, 2, 4, 48}, int64[4] back = {2, 8, 6, 8}> {
                h = Cast<to = 1>(x)  v = Reshape(h, heads)  k0 = Reshape(h, heads)  k = Elu(k0)
                kt = Transpose<perm = [0,1,3,2]>(k)  c = MatMul(v, kt)  m = MatMul(c, k)  y = Reshape(m, back) }""",
            ops=("Cast", "Conv", "Conv", "Add", "GlobalAveragePool", "Mul", "Add"),
            title="two heads, phi on tokens",
        ),
    )
    bad = (
        Example(
            """g (float[1,8,4,4] x) => (y, c)
            <int64[3] flat = {1, 8, 16}, int64[4] back = {1, 8, 4, 4}> {
                k = Reshape(x, flat)  kt = Transpose<perm = [0,2,1]>(k)
                c = MatMul(k, kt)  m = MatMul(c, k)  y = Reshape(m, back) }""",
            refused="the inner value 'c' is an output of the model",
        ),
        Example(
            """g (float[1,8,4,4] x) => (y)
            <int64[3] flat = {1, 8, 16}, int64[4] back = {1, 8, 4, 4}> {
                k = Reshape(x, flat)  kt = Transpose<perm = [0,2,1]>(k)
                c = MatMul(k, kt)  p = Softmax(c)  m = MatMul(p, k)  y = Reshape(m, back) }""",
            refused="Softmax 'p' reads it before it is a map again",
        ),
        Example(
            """g (float[1,8,4,4] x) => (y)
            <int64[3] flat = {1, 8, 16}, float[16,8] w> {
                k = Reshape(x, flat)  kt = Transpose<perm = [0,2,1]>(k)  c = MatMul(k, kt)  m = MatMul(c, k)
                y = MatMul(m, w) }""",
            refused="reads it before it is a map again",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        found = mixing.linear_attention(node, ctx)
        return None if found is None else Match(self, node, found.nodes, (found.result,), found)

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return axial.write_axial(match.facts, build)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The sum over all positions in the place of their mean."""
        return axial.write_axial(match.facts, build, summed=True)
