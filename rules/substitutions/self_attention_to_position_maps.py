from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from npu_guard.results.proof import ROUNDING
from npu_guard.rewriting.map_writer import Name, Writer
from npu_guard.rewriting.substitution import Builder, Example, Match, Substitution
from npu_guard.rewriting.tokens.sites import match_region, write_region

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_LIMITS = {"layout.rearrange": False, "matmul.spatial": False}
_ALIGNED = _LIMITS | {"channels.multiple_of": 8, "conv.kernel_max": 17}


class SelfAttentionToPositionMaps(Substitution):
    """Attention over a static grid becomes one score map for each position of the keys.

    Position j of K, as a 1x1 map, times Q, summed over channels, is score map j. The maps of all positions stand in the
    channels of one tensor, so softmax runs over channels; the sum over j of map j times V at position j is the result.

    All positions are done at once where the device has grouped convolutions: a one-hot depthwise window as large as the grid
    (along columns, then along rows; in two steps where an axis is longer than the longest kernel) moves the positions of K and V
    into channels, `[B, C, H, W] -> [B, C H W, 1, 1]`; Q with each channel repeated, times that, halved and added log2(C) times,
    gives the scores; the attention maps repeated for each channel, times that of V, are summed by a grouped convolution of
    ones. Where channels do not fill the device's blocks, the same sums run position by position, which takes about 6 nodes
    for each of the N positions and heads; beyond `attention.node_budget` the block is refused.

    What surrounds the attention as tokens (heads, projections, norms, MLPs) is written on maps too, as tokens-to-maps does it.
    Exact but for the order of summation.
    """

    name = "self-attention-to-position-maps"
    roots = ("MatMul", "Attention")
    limits = _LIMITS
    good = (
        Example(
            """g (float[1,16,3,4] x, float[1,8,3,4] q, float[1,8,3,4] k) => (y)
            <int64[3] eight = {1, 8, 12}, int64[3] sixteen = {1, 16, 12}, int64[4] back = {1, 16, 3, 4}, float root = {2.8}> {
                a = Reshape(q, eight)  at = Transpose<perm = [0,2,1]>(a)  b = Reshape(k, eight)  v = Reshape(x, sixteen)
                s = MatMul(at, b)  d = Div(s, root)  p = Softmax(d)  pt = Transpose<perm = [0,2,1]>(p)
                m = MatMul(v, pt)  y = Reshape(m, back) }""",
            limits=_ALIGNED,
            title="single head on maps",
        ),
        Example(
            """g (float[1,24,3,5] x) => (y)
            <int64[5] heads = {1, 3, 2, 4, 15}, int64 i0 = {0}, int64 i1 = {1}, int64 i2 = {2}, int64[4] back = {1, 8, 3, 5}> {
                t = Reshape(x, heads)  q0 = Gather<axis = 1>(t, i0)  k = Gather<axis = 1>(t, i1)  v0 = Gather<axis = 1>(t, i2)
                q = Transpose<perm = [0,1,3,2]>(q0)  v = Transpose<perm = [0,1,3,2]>(v0)
                s = MatMul(q, k)  p = Softmax<axis = -1>(s)  m = MatMul(p, v)  n = Transpose<perm = [0,1,3,2]>(m)
                y = Reshape(n, back) }""",
            title="two heads, from one projection",
        ),
        Example(
            """g (float[2,6,2,3] x, float[2,6,5,1] c) => (y)
            <int64[3] six = {2, 6, 6}, int64[3] five = {2, 6, 5}, int64[4] back = {2, 6, 2, 3},
             float[6,6] wq, float[6,6] wk, float[1,6,5] mask> {
                a = Reshape(x, six)  t = Transpose<perm = [0,2,1]>(a)  b = Reshape(c, five)  u = Transpose<perm = [0,2,1]>(b)
                q = MatMul(t, wq)  k = MatMul(u, wk)  kt = Transpose<perm = [0,2,1]>(k)
                s = MatMul(q, kt)  sm = Add(s, mask)  p = Softmax(sm)  m = MatMul(p, u)
                n = Transpose<perm = [0,2,1]>(m)  y = Reshape(n, back) }""",
            limits=_LIMITS | {"channels.multiple_of": 8},
            title="position by position: cross-attention with a mask, channels that fill no block",
        ),
        Example(
            """g (float[1,16,4,5] x) => (y)
            <int64[3] flat = {1, 16, 20}, int64[4] back = {1, 16, 4, 5}> {
                a = Reshape(x, flat)  t = Transpose<perm = [0,2,1]>(a)
                o = Attention<q_num_heads = 2, kv_num_heads = 2, is_causal = 1>(t, t, t)
                n = Transpose<perm = [0,2,1]>(o)  y = Reshape(n, back) }""",
            limits=_LIMITS | {"conv.kernel_max": 4},
            opset=23,
            title="the fused operator, on a grid longer than the longest kernel",
            label=ROUNDING,
        ),
    )
    bad = (
        Example(
            """g (float[1,8,64,64] x) => (y)
            <int64[3] flat = {1, 8, 4096}, int64[4] back = {1, 8, 64, 64}> {
                k = Reshape(x, flat)  q = Transpose<perm = [0,2,1]>(k)  s = MatMul(q, k)  p = Softmax(s)
                m = MatMul(p, q)  n = Transpose<perm = [0,2,1]>(m)  y = Reshape(n, back) }""",
            limits=_ALIGNED | {"attention.node_budget": 5000},
            refused="attention over 4096 positions would take 24576 nodes, more than the budget of 5000; an axial convolution",
        ),
        Example(
            """g (float[1,8,4,4] x, float[16,16] mask) => (y)
            <int64[3] flat = {1, 8, 16}, int64[4] back = {1, 8, 4, 4}> {
                k = Reshape(x, flat)  q = Transpose<perm = [0,2,1]>(k)  s = MatMul(q, k)  d = Add(s, mask)  p = Softmax(d)
                m = MatMul(p, q)  n = Transpose<perm = [0,2,1]>(m)  y = Reshape(n, back) }""",
            refused="the mask 'mask' is not constant",
        ),
        Example(
            """g (float[1,8,4,4] x) => (y, p)
            <int64[3] flat = {1, 8, 16}, int64[4] back = {1, 8, 4, 4}> {
                k = Reshape(x, flat)  q = Transpose<perm = [0,2,1]>(k)  s = MatMul(q, k)  p = Softmax(s)
                m = MatMul(p, q)  n = Transpose<perm = [0,2,1]>(m)  y = Reshape(n, back) }""",
            refused="the attention weights 'p' are an output of the model",
        ),
        Example(
            """g (float[1,8,4,4] x) => (y)
            <int64[3] flat = {1, 8, 16}, int64[4] back = {1, 8, 4, 4}, float half = {0.5}, bool train = {1}> {
                k = Reshape(x, flat)  q = Transpose<perm = [0,2,1]>(k)  s = MatMul(q, k)  p = Softmax(s)
                d = Dropout(p, half, train)  m = MatMul(d, q)  n = Transpose<perm = [0,2,1]>(m)  y = Reshape(n, back) }""",
            refused="Dropout is active",
        ),
        Example(
            """g (float[1,8,"H",4] x) => (y)
            <int64[3] flat = {1, 8, -1}> {
                k = Reshape(x, flat)  q = Transpose<perm = [0,2,1]>(k)  s = MatMul(q, k)  p = Softmax(s)  y = MatMul(p, q) }""",
            refused="fix it with --input-shape",
        ),
        Example(
            """g (float[1,8,4,4] x) => (y)
            <int64[3] flat = {1, 8, 16}, int64[4] back = {1, 8, 4, 4}> {
                v = Reshape(x, flat)  k = Transpose<perm = [0,2,1]>(v)  c = MatMul(v, k)  m = MatMul(c, v)
                y = Reshape(m, back) }""",
            refused="it sums over the positions of both operands",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        return match_region(self, node, ctx, products=True)

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return write_region(match.facts, build)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """Softmax over rows: what a query pays to one position then depends on the other queries."""
        return write_region(match.facts, build, _OverRows)


class _OverRows(Writer):
    def op(self, op_type: str, *inputs: Name | None, **attributes: Any) -> str:
        return super().op(op_type, *inputs, **attributes | ({"axis": 2} if op_type == "Softmax" else {}))
