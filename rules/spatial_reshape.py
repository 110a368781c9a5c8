from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.analysis import einsum
from npu_guard.analysis.layout import lays
from npu_guard.checking.rule import Case, Draft, Rule
from npu_guard.graph.ops import names

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node

_VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "SpaceToDepth", "DepthToSpace", "Einsum")
_OFF = {"layout.rearrange": False}


class SpatialReshape(Rule):
    """A feature map is rearranged: an axis is merged, split or moved among batch, channels and space.

    *What it does*

    Looks at Reshape, Flatten, Squeeze, Unsqueeze, Transpose, SpaceToDepth and DepthToSpace. Axis 0 is batch, axis 1
    channels, the others space. Axes of extent 1 do not count, so adding or dropping them is fine as long as no other axis
    changes its part: `[B,C,1,1] -> [B,1,1,C]` moves the channels into space and fires. Operators that follow each other
    directly are judged together, in the shortest spelling of what they do: a Transpose between two Reshapes that add and
    drop axes of extent 1 is one rearrangement, and what undoes itself is none. Quantization of the whole tensor in between
    changes nothing of that. An axis keeps its part when a reduction or a Squeeze drops others, so `[B,H,W]` behind a maximum
    over channels comes back as `[B,1,H,W]`. Broadcasting an operand of fewer axes puts axes in front, as an Unsqueeze does:
    `[B,C]` times `[B,C,H,W]` lays the channels along the width. An Einsum of one operand that only moves axes is a Transpose.

    *Why it matters*

    A feature map lies in memory in an order that the engine fixes. There is no operator that rearranges it, so the model
    does not compile.

    *What to do*

    Stay in [B, C, H, W]: a Linear over tokens is a 1x1 convolution, a 1-D convolution over channels is a 1x1 convolution
    with a banded weight, LayerNorm over channels is a mean over axis 1.
    """

    code = "NPU102"
    name = "spatial-reshape"
    ops = (*_VIEWS, *sorted((*names("broadcasting"), "Expand")))
    limits = ("layout.rearrange",)
    good = (
        Case(
            """g (float[1,8,7] x) => (y)
            <int64[2] flat = {8, 7}, float[7,5] w, int64[3] shape = {1, 8, 5}>
            { t = Reshape(x, flat)  p = Gemm(t, w)  y = Reshape(p, shape) }""",
            _OFF,
            title="drops the batch of 1 for a matrix product, of which NPU103 speaks",
        ),
        Case(
            "g (float[1,8,1,1] x) => (float[1,8] y) <int64[2] shape = {1, 8}> { y = Reshape(x, shape) }",
            _OFF,
            title="a head; NPU104 speaks of it",
        ),
        Case(
            """g (float[1,8,4,4] x) => (float[1,8,4,4] y)
            <float[8,8,1,1] w, float[64] v, int64[4] shape = {8, 8, 1, 1}> { f = Reshape(v, shape)  y = Conv(x, f) }""",
            _OFF,
            title="the compiler folds it away",
        ),
        Case(
            """g (float[1,8,4,4] x) => (float[1,8,4,4] y)
            <int64[3] flat = {1, 8, 16}, int64[4] shape = {1, 8, 4, 4}> { t = Reshape(x, flat)  y = Reshape(t, shape) }""",
            _OFF,
            title="undoes itself",
        ),
        Case(
            """g (float[1,8,6,4] x) => (float[1,8,6,4] y) <int64[1] a = {1}>
            { m = ReduceMax<keepdims = 0>(x, a)  s = Sigmoid(m)  u = Unsqueeze(s, a)  y = Mul(x, u) }""",
            _OFF,
            title="the axis that the reduction dropped comes back",
        ),
        Case(
            "g (float[1,8,4,4] x) => (float[1,128] y) { y = Flatten(x) }",
            limits={"layout.rearrange": True},
            title="on a device that can",
        ),
    )
    bad = (
        Case(
            """g (float[1,8,8,8] x) => (float[1,8,8,8] y) <int64[2] axes = {2, 3}>
            { m = ReduceMean<keepdims = 0>(x, axes)  y = Mul(x, m) }""",
            _OFF,
            expect=(("y", None),),
            title="broadcasting lays the channels along the width",
        ),
        Case(
            "g (float[1,8] x) => (float[1,8,8,8] y) <int64[4] shape = {1, 8, 8, 8}> { y = Expand(x, shape) }",
            _OFF,
            expect=(("y", None),),
            title="an Expand broadcasts as well",
        ),
        Case(
            "g (float[1,8,4,4] x) => (float[1,8,16] y) <int64[3] shape = {0, 0, -1}> { y = Reshape(x, shape) }",
            _OFF,
            expect=(("y", None),),
            title="height and width merged",
        ),
        Case(
            "g (float[1,8,1,1] x) => (float[1,1,1,8] y) { y = Transpose<perm = [0,2,3,1]>(x) }",
            _OFF,
            expect=(("y", None),),
            title="channels move into space",
        ),
        Case("g (float[1,8,4,4] x) => (float[1,128] y) { y = Flatten(x) }", _OFF, expect=(("y", None),)),
        Case(
            """g (float[1,4,6,8] q, float[1,4,6,8] k) => (s)
            <int64[3] three = {4, 6, 8}, int64[4] four = {1, 4, 8, 6}>
            { a = Reshape(k, three)  b = Transpose<perm = [0,2,1]>(a)  c = Reshape(b, four)  s = MatMul(q, c) }""",
            _OFF,
            expect=(("b", None),),
            title="one Transpose, spelled with three operators",
        ),
        Case(
            "g (float[1,8,4,6] x) => (float[1,8,6,4] y) { y = Transpose<perm = [0,1,3,2]>(x) }",
            _OFF,
            expect=(("y", None),),
            title="height and width swapped",
        ),
        Case(
            'g (float[1,8,"H",4] x) => (y) <int64[3] shape = {1, 8, -1}> { y = Reshape(x, shape) }',
            _OFF,
            undecided=("y",),
            title="H may be 1",
        ),
    )

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        if ctx.limit("layout.rearrange"):
            return
        what = ctx.rearrangements.get(node)
        if lays(node):
            if what is not None:
                yield Draft(f"{ctx.show_operands(node)} -> {ctx.show(node.output)}: {what}", limit="layout.rearrange")
            return
        if node in ctx.runs.kept or (node.op_type == "Einsum" and einsum.order(node) is None):
            return
        x, y = ctx.input(node, 0), node.output
        if ctx.rank(x) < 2 and ctx.rank(y) < 2:
            return
        before, after = ctx.shape(x), ctx.shape(y)
        if what is not None:
            yield Draft(f"{list(before)} -> {list(after)}: {what}", limit="layout.rearrange")
