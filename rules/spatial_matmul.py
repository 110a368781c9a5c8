from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.analysis import einsum
from npu_guard.checking.rule import Case, Draft, Rule
from npu_guard.graph.plain_names import FUSED_ATTENTION, PACKED

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node

_OFF = {"matmul.spatial": False}


class SpatialMatmul(Rule):
    """A matrix product runs over positions: between two activations, or weights applied to tokens.

    *What it does*

    Looks at MatMul, Gemm, Einsum and Attention, and at the integer forms of MatMul. Fires where two operands or more are
    not constant, and where weights are applied to an activation of rank 3 or more (tokens `[B,N,C]`, maps `[B,H,W,C]`).
    Weights applied to a vector `[B,C]` are NPU104's.

    *Why it matters*

    The convolution engine multiplies an activation by weights that it has loaded before, channel by channel. It has no
    path that brings a second activation to the multipliers.

    *What to do*

    A Linear over tokens is a 1x1 convolution over the map. Self-attention on a small fixed grid can be written exactly
    with one map for each position; on larger grids an axial convolution comes close after fitting.
    """

    code = "NPU103"
    name = "spatial-matmul"
    ops = ("MatMul", "Gemm", "Einsum", "Attention", "MatMulInteger", "QLinearMatMul", *PACKED, *FUSED_ATTENTION)
    limits = ("matmul.spatial",)
    good = (
        Case(
            """g (float[1,64] x) => (float[1,10] y)
            <float[64,10] w> { y = MatMul(x, w) }""",
            limits=_OFF,
            title="weights applied to a vector; NPU104 speaks of it",
        ),
        Case(
            """g (float[1,64] x) => (float[1,10] y)
            <float[10,64] w, float[10] b> { y = Gemm<transB = 1>(x, w, b) }""",
            limits=_OFF,
        ),
        Case(
            """g (float[1,64] x, float[1,10] c) => (float[1,10] y)
            <float[64,10] w> { y = Gemm(x, w, c) }""",
            limits=_OFF,
            title="a bias is no operand of the product",
        ),
        Case(
            """g (float[1,8,4,4] x) => (float[1,8,4,4] y)
            <float[1,8,4,4] b> { c = MatMul(b, b)  y = Add(x, c) }""",
            limits=_OFF,
            title="the compiler folds it away",
        ),
        Case(
            "g (float[1,4,196,32] q, float[1,4,32,196] k) => (y) { y = MatMul(q, k) }",
            limits={"matmul.spatial": True},
            title="on a device that can",
        ),
    )
    bad = (
        Case(
            """g (float[1,49,8] x) => (y)
            <int64[2] flat = {49, 8}, float[8,16] w, int64[3] shape = {1, 49, 16}>
            { t = Reshape(x, flat)  p = Gemm(t, w)  y = Reshape(p, shape) }""",
            limits=_OFF,
            expect=(("p", None),),
            title="tokens without their batch of 1, as simplifiers write them",
        ),
        Case(
            "g (float[1,4,196,32] q, float[1,4,32,196] k) => (float[1,4,196,196] y) { y = MatMul(q, k) }",
            limits=_OFF,
            expect=(("y", None),),
            title="scores of attention",
        ),
        Case(
            """g (float[1,196,64] x) => (float[1,196,64] y)
            <float[64,64] w> { y = MatMul(x, w) }""",
            limits=_OFF,
            expect=(("y", None),),
            title="a Linear over tokens",
        ),
        Case(
            """g (float[1,196,64] x) => (float[1,32,64] y)
            <float[32,196] w> { y = MatMul(w, x) }""",
            limits=_OFF,
            expect=(("y", None),),
            title="mixes the tokens",
        ),
        Case(
            "g (float[1,64] a, float[64,10] b) => (float[1,10] y) { y = Gemm(a, b) }",
            limits=_OFF,
            expect=(("y", None),),
            title="weights that are not constant",
        ),
        Case(
            'g (float[1,196,64] q, float[1,196,64] k) => (y) { y = Einsum<equation = "bnc,bmc->bnm">(q, k) }',
            limits=_OFF,
            expect=(("y", None),),
        ),
        Case(
            "g (float[1,4,49,32] q, float[1,4,49,32] k, float[1,4,49,32] v) => (y) { y = Attention(q, k, v) }",
            limits=_OFF,
            expect=(("y", None),),
            opset=23,
        ),
        Case("g (uint8[1,49,32] a, uint8[1,32,49] b) => (y) { y = MatMulInteger(a, b) }", limits=_OFF, expect=(("y", None),)),
        Case(
            "g (float[] x) => (y) <float[64,64] w> { y = MatMul(x, w) }",
            limits=_OFF,
            undecided=("y",),
            title="a vector or tokens",
        ),
        Case(
            "g (float[1,2] x, float[2,2] w = {1.0, 2.0, 3.0, 4.0}) => (y) { y = MatMul(x, w) }",
            limits=_OFF,
            undecided=("y",),
            title="a caller may override the weights",
        ),
    )

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        if ctx.limit("matmul.spatial") or einsum.is_no_product(node):  # of which NPU102 and NPU301 speak
            return
        if node.op in FUSED_ATTENTION:
            yield Draft(f"{node.op}: queries meet keys, and both are activations", limit="matmul.spatial")
            return
        operands, active = ctx.operands(node), ctx.activations(node)
        if len(active) > 1:
            shapes = " x ".join(ctx.show(v) for v in active)
            count = "both" if len(active) == 2 else str(len(active))
            yield Draft(f"{shapes}: {count} operands are activations", limit="matmul.spatial", value=active[0])
            return
        for x in active:
            if (rank := ctx.rank(x) + ctx.is_flat_tokens(x)) > 2:
                what = "weights applied to" if len(operands) > 1 else f"{node.op} over"
                yield Draft(f"{what} {'tokens' if rank == 3 else 'a map'} {ctx.show(x)}", limit="matmul.spatial", value=x)
