from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from npu_guard.rewriting import axial, mixing
from npu_guard.rewriting.substitution import APPROXIMATE, Builder, Example, Match, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value


class SelfAttentionToAxialConv(Substitution):
    """Attention over all positions of a map becomes an axial convolution that is fitted to it.

    The projections of V and of the result, gamma and the residual stay, with their trained weights. In the place of
    softmax(Q K^T) V each channel v of V gives

        sum_i a[i] v[y+i, x]  +  sum_j b[j] v[y, x+j]  +  m mean(v)

    as depthwise convolutions (k,1) and (1,k), k at most 17, and a weight on the global mean; a[0] is the weight on V itself.
    The formula is linear in a, b and m, so ridge regression on activations of the calibration samples gives them at once,
    for each channel alone. Two thirds of the samples are fitted, the last third is held out (with one sample: the last
    third of its positions).

    Two fits are trivial: V alone and its mean alone, each with a least-squares weight for each channel. Where the held-out
    signal-to-noise ratio is not better than both, the block is refused with the three numbers; so it is for attention that
    looks at few positions far away, which needs the exact form or another design. What is replaced needs fine-tuning.
    """

    name = "self-attention-to-axial-conv"
    exactness = APPROXIMATE
    roots = ("MatMul", "Attention")
    limits = {"layout.rearrange": False, "matmul.spatial": False, "conv.kernel_max": 17}
    good = (
        Example(
            """g (bool[2,8,6,8] x) => (y)
            <int64[3] flat = {2, 8, 48}, int64[4] back = {2, 8, 6, 8}, float root = {1.6}, float half = {0.5}> {
                f = Cast<to = 1>(x)  h = Sub(f, half)  m0 = AveragePool<kernel_shape = [3,3], pads = [1,1,1,1]>(h)
                q = Reshape(h, flat)  qt = Transpose<perm = [0,2,1]>(q)  v = Reshape(m0, flat)
                s = MatMul(qt, q)  d = Div(s, root)  p = Softmax(d)  pt = Transpose<perm = [0,2,1]>(p)
                m = MatMul(v, pt)  y = Reshape(m, back) }""",
            ops=("Cast", "Sub", "AveragePool", "Conv", "Conv", "Add", "GlobalAveragePool", "Mul", "Add"),
            title="[B, C, N] tokens, V from the left",
        ),
        Example(
            """g (bool[2,8,6,8] x) => (y)
            <int64[3] flat = {2, 8, 48}, int64[4] back = {2, 8, 6, 8}, float[1] r = {0.6}, float[1] g = {2}, float half = {0.5}> {
                f = Cast<to = 1>(x)  h = Sub(f, half)  q = Reshape(h, flat)  qt = Transpose<perm = [0,2,1]>(q)
                s = MatMul(qt, q)  d = Mul(s, r)  p = Softmax(d)
                m = MatMul(p, qt)  n = Transpose<perm = [0,2,1]>(m)  o = Reshape(n, back)  e = Mul(o, g)  y = Add(e, f) }""",
            ops=("Cast", "Sub", "Conv", "Conv", "Add", "GlobalAveragePool", "Mul", "Add", "Mul", "Add"),
            title="V from the right, gamma and residual kept",
        ),
        Example(
            """g (bool[1,8,6,10] x) => (y)
            <int64[4] heads = {1, 2, 4, 60}, int64[4] back = {1, 8, 6, 10}, float[8,8,1,1] w, float half = {0.5}> {
                f = Cast<to = 1>(x)  h = Sub(f, half)  c = Conv(h, w)  q = Reshape(h, heads)  qt = Transpose<perm = [0,1,3,2]>(q)
                v0 = Reshape(c, heads)  v = Transpose<perm = [0,1,3,2]>(v0)
                s = MatMul(qt, q)  p = Softmax(s)  m = MatMul(p, v)  n = Transpose<perm = [0,1,3,2]>(m)
                y = Reshape(n, back) }""",
            ops=("Cast", "Sub", "Conv", "Conv", "Conv", "Add", "GlobalAveragePool", "Mul", "Add"),
            limits={"layout.rearrange": False, "matmul.spatial": False, "conv.kernel_max": 5},
            title="two heads, short kernels",
        ),
        Example(
            """g (bool[2,8,1,40] x) => (y)
            <int64[3] flat = {2, 8, 40}, int64[4] back = {2, 8, 1, 40}, float half = {0.5}> {
                f = Cast<to = 1>(x)  h = Sub(f, half)  a = Reshape(h, flat)  t = Transpose<perm = [0,2,1]>(a)
                o = Attention<q_num_heads = 1, kv_num_heads = 1>(t, t, t)
                n = Transpose<perm = [0,2,1]>(o)  y = Reshape(n, back) }""",
            ops=("Cast", "Sub", "Conv", "Conv", "Add", "GlobalAveragePool", "Mul", "Add"),
            opset=23,
            title="the fused operator, on one row",
        ),
    )
    bad = (
        Example(
            """g (float[1,8,4,4] x) => (y, p)
            <int64[3] flat = {1, 8, 16}, int64[4] back = {1, 8, 4, 4}> {
                k = Reshape(x, flat)  q = Transpose<perm = [0,2,1]>(k)  s = MatMul(q, k)  p = Softmax(s)
                m = MatMul(p, q)  n = Transpose<perm = [0,2,1]>(m)  y = Reshape(n, back) }""",
            refused="the inner value 'p' is an output of the model",
        ),
        Example(
            """g (float[1,16,8] q, float[1,8,16] k, float[1,16,8] v) => (y)
            { s = MatMul(q, k)  p = Softmax(s)  y = MatMul(p, v) }""",
            refused="its values are not a map",
        ),
        Example(
            """g (float[1,8,4,4] x, float[1,8,2,4] z) => (y)
            <int64[3] flat = {1, 8, 16}, int64[3] less = {1, 8, 8}, int64[4] back = {1, 8, 2, 4}> {
                k = Reshape(x, flat)  v = Transpose<perm = [0,2,1]>(k)  a = Reshape(z, less)  q = Transpose<perm = [0,2,1]>(a)
                s = MatMul(q, k)  p = Softmax(s)  m = MatMul(p, v)  n = Transpose<perm = [0,2,1]>(m)  y = Reshape(n, back) }""",
            refused="its queries lie on another grid than its values",
        ),
        Example(
            """g (float[1,8,4,4] x) => (y)
            <int64[3] flat = {1, 8, 16}, float[8,8] w> {
                k = Reshape(x, flat)  q = Transpose<perm = [0,2,1]>(k)  s = MatMul(q, k)  p = Softmax(s)
                m = MatMul(p, q)  y = MatMul(m, w) }""",
            refused="reads it before it is a map again",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        found = mixing.softmax_attention(node, ctx)
        return None if found is None else Match(self, node, found.nodes, (found.result,), found)

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return axial.write_axial(match.facts, build)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The sum over all positions in the place of their mean."""
        return axial.write_axial(match.facts, build, summed=True)
