from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.checking.rule import Case, Draft, Rule

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node


class OneDimensionalConvolution(Rule):
    """A convolution runs on a tensor `[B,C,L]` and the device has two-dimensional ones only.

    *What it does*

    Looks at the rank of the input of Conv and ConvTranspose. Fires at rank 3 where `conv.rank` does not list it.

    *Why it matters*

    The convolution engine walks over rows and columns. A tensor without rows has no layout there.

    *What to do*

    Write it as a 1 x k convolution on `[B,C,1,L]`. Over the channel axis of a pooled vector, as in ECA, it is a 1x1
    convolution with a banded weight.
    """

    code = "NPU105"
    name = "one-dimensional-convolution"
    ops = ("Conv", "ConvTranspose")
    limits = ("conv.rank",)
    good = (
        Case(
            """g (float[1,8,1,32] x) => (float[1,8,1,32] y)
            <float[8,8,1,3] w> { y = Conv<pads = [0,1,0,1]>(x, w) }""",
            limits={"conv.rank": [4]},
            title="the same, one row high",
        ),
        Case(
            """g (float[1,8,4,8,8] x) => (y)
            <float[8,8,1,1,1] w> { y = Conv(x, w) }""",
            limits={"conv.rank": [4]},
            title="three dimensions; NPU402 speaks of them",
        ),
        Case(
            """g (float[1,8,32] x) => (float[1,8,30] y)
            <float[8,8,3] w> { y = Conv(x, w) }""",
            limits={"conv.rank": [3, 4]},
            title="on a device that has both",
        ),
    )
    bad = (
        Case(
            """g (float[1,1,64] x) => (float[1,1,64] y)
            <float[1,1,3] w> { y = Conv<pads = [1,1]>(x, w) }""",
            limits={"conv.rank": [4]},
            expect=(("y", 3),),
            allowed=4,
            title="over channels, as in ECA",
        ),
        Case(
            """g (float[1,8,32] x) => (y)
            <float[8,8,2] w> { y = ConvTranspose<strides = [2]>(x, w) }""",
            limits={"conv.rank": [4, 5]},
            expect=(("y", 3),),
            allowed="4 or 5",
        ),
        Case(
            "g (float[] x, float[] w) => (y) { y = Conv(x, w) }",
            limits={"conv.rank": [4]},
            undecided=("y",),
            title="an input of unknown rank",
        ),
    )

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        ranks = ctx.limit("conv.rank")
        x = ctx.input(node, 0)
        if ctx.rank(x) == 3 and 3 not in ranks:
            allowed = ranks[0] if len(ranks) == 1 else " or ".join(map(str, ranks))
            yield Draft(f"{node.op} on {ctx.show(x)}, a tensor of rank 3", "conv.rank", measured=3, allowed=allowed, value=x)
