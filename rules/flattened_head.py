from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.analysis import einsum
from npu_guard.analysis.rearrangement import collapses_to_vector
from npu_guard.checking.rule import Case, Draft, Rule
from npu_guard.graph.graph import is_known
from npu_guard.results.findings import Severity

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node

_RESHAPES = ("Reshape", "Flatten", "Squeeze")
_OFF = {"layout.vectors": False}


class FlattenedHead(Rule):
    """The tail of the network leaves the feature maps: `[B,C,1,1]` becomes `[B,C]`, and a Gemm follows.

    *What it does*

    Fires at a Reshape, Flatten or Squeeze that turns `[B,C,1,1]` into `[B,C]`, and at a matrix product of a vector `[B,C]`
    with constant weights. A step behind which nothing is computed, at the output of the model, is free: whoever reads the
    output takes it for a vector.

    *Why it matters*

    The device runs maps. Some compilers turn this tail into a 1x1 convolution by themselves, others give it to the host;
    that is why this is a warning.

    *What to do*

    Write the classifier as a 1x1 convolution behind the global pool, and flatten its result last.
    """

    code = "NPU104"
    name = "flattened-head"
    severity = Severity.WARNING
    ops = (*_RESHAPES, "Gemm", "MatMul", "Einsum", "MatMulInteger", "QLinearMatMul")
    limits = ("layout.vectors",)
    good = (
        Case(
            """g (float[1,64,1,1] x) => (float[1,16,1,1] y)
            <float[16,64,1,1] w> { y = Conv(x, w) }""",
            limits=_OFF,
            title="a classifier on maps",
        ),
        Case(
            "g (float[1,64,1,2] x) => (float[1,128] y) { y = Flatten(x) }",
            limits=_OFF,
            title="merges channels and space; NPU102 speaks of it",
        ),
        Case(
            """g (float[1,64,1,1] x) => (float[1,64,1] y)
            <int64[1] axes = {-1}> { y = Squeeze(x, axes) }""",
            limits=_OFF,
            title="still a map",
        ),
        Case(
            """g (float[1,196,64] x) => (float[1,196,16] y)
            <float[64,16] w> { y = MatMul(x, w) }""",
            limits=_OFF,
            title="over tokens; NPU103 speaks of it",
        ),
        Case(
            """g (float[1,64,"H",2] x) => (y)
            <int64[2] shape = {1, -1}> { y = Reshape(x, shape) }""",
            limits=_OFF,
            title="no vector behind a pool, whatever H is",
        ),
        Case(
            "g (float[1,64,1,1] x) => (float[1,64] y) { y = Flatten(x) }",
            limits=_OFF,
            title="at the output, where nothing is computed with it",
        ),
        Case(
            """g (float[1,64,1,1] x) => (float[1,64] y) <float s = {0.1}, uint8 z = {0}>
            { q = QuantizeLinear(x, s, z)  v = Flatten(q)  y = DequantizeLinear(v, s, z) }""",
            limits=_OFF,
            title="the same in integers",
        ),
        Case(
            "g (float[1,64,1,1] x) => (float[1,64] y) { v = Flatten(x)  y = Softmax(v) }",
            limits={"layout.vectors": True},
            title="on a device that runs vectors",
        ),
    )
    bad = (
        Case(
            """g (float[1,64,1,1] x) => (float[1,16] y)
            <float[16,64] w, float[16] b> { v = Flatten(x)  y = Gemm<transB = 1>(v, w, b) }""",
            limits=_OFF,
            expect=(("v", None), ("y", None)),
        ),
        Case(
            """g (float[1,64,1,1] x) => (float[1,16] y)
            <int64[2] axes = {-2, -1}, float[64,16] w> { v = Squeeze(x, axes)  y = MatMul(v, w) }""",
            limits=_OFF,
            expect=(("v", None), ("y", None)),
            title="in other operators",
        ),
        Case(
            """g (float[1,64] x) => (float[1,16] y)
            <float[64,16] w> { y = Einsum<equation = "bc,cd->bd">(x, w) }""",
            limits=_OFF,
            expect=(("y", None),),
        ),
        Case(
            """g (float[1,8,9,9] x) => (y)
            <float[5,4] boxes, int64[5] batch, float[16,8,1,1] w, float[16,8] v>
            { r = RoiAlign(x, boxes, batch)  c = Conv(r, w)  f = Flatten(c)  y = Gemm(f, v) }""",
            limits=_OFF,
            expect=(("f", None), ("y", None)),
            title="vectors of five regions are a batch, not tokens",
        ),
        Case(
            'g (float[1,64,"H","W"] x) => (y) { v = Flatten(x)  y = Softmax(v) }',
            limits=_OFF,
            undecided=("v",),
            title="H and W may be 1",
        ),
    )

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        if ctx.limit("layout.vectors"):
            return
        if node.op_type in _RESHAPES:
            x, y = ctx.input(node, 0), node.output
            before = ctx.map_order(x)
            if len(before) < 3 or any(isinstance(d, int) and d != 1 for d in before[2:]) or ctx.rank(y) != 2:
                return
            if not ctx.quantized.readers(y) or node in ctx.runs.passing:
                return  # at the model's output, or on the way to another map
            ctx.shape(x)
            if is_known(before) and collapses_to_vector(before, ctx.shape(y)):
                yield Draft(f"{ctx.show(x)} -> {ctx.show(y)} leaves the maps", limit="layout.vectors")
            return
        if einsum.elementwise(node) is not None:
            return
        active = ctx.activations(node)
        if len(active) == 1 < len(ctx.operands(node)) and ctx.rank(active[0]) <= 2 and not ctx.is_flat_tokens(active[0]):
            yield Draft(f"weights applied to the vector {ctx.show(active[0])}", limit="layout.vectors")
