from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.checking.rule import Case, Draft, Rule

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node


class DilatedExtent(Rule):
    """A dilated convolution kernel reaches further than the device's limit.

    *What it does*

    Compares the reach of each axis of the kernel of Conv and ConvTranspose, (k-1)d+1 pixels for k taps with dilation d,
    with `conv.dilated_extent_max`. NPU201 looks at the taps alone.

    *Why it matters*

    The engine keeps as many lines of the input as the kernel reaches over, whether or not there is a tap on each of them.

    *What to do*

    Use smaller dilations in a row, or move the dilation into the layout at the cost of more channels.
    """

    code = "NPU202"
    name = "dilated-extent"
    ops = ("Conv", "ConvTranspose")
    limits = ("conv.dilated_extent_max",)
    good = (
        Case(
            """g (float[1,8,64,64] x) => (float[1,8,32,32] y)
            <float[8,8,3,3] w> { y = Conv<dilations = [16,16]>(x, w) }""",
            limits={"conv.dilated_extent_max": 33},
            title="33 pixels are the most that fits",
        ),
        Case(
            """g (float[1,8,64,64] x) => (float[1,8,32,32] y)
            <float[8,8,33,33] w> { y = Conv(x, w) }""",
            limits={"conv.dilated_extent_max": 33},
            title="without dilation the reach is the kernel",
        ),
    )
    bad = (
        Case(
            """g (float[1,8,64,64] x) => (float[1,8,30,30] y)
            <float[8,8,3,3] w> { y = Conv<dilations = [17,17]>(x, w) }""",
            limits={"conv.dilated_extent_max": 33},
            expect=(("y", 35),),
        ),
        Case(
            """g (float[1,8,8,8] x) => (y)
            <float[8,8,1,5] w> { y = ConvTranspose<dilations = [1,9]>(x, w) }""",
            limits={"conv.dilated_extent_max": 33},
            expect=(("y", 37),),
            title="one axis is enough",
        ),
        Case(
            'g (float[1,8,32,32] x, float[8,8,"k",3] w) => (y) { y = Conv<dilations = [2,2]>(x, w) }',
            limits={"conv.dilated_extent_max": 33},
            undecided=("y",),
            title="a weight of unknown shape",
        ),
    )

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        allowed = ctx.limit("conv.dilated_extent_max")
        reach = ctx.reach(node)
        if max(reach, default=0) > allowed:
            size = "x".join(map(str, reach))
            text = f"the kernel reaches over {size} pixels with its dilation, more than {allowed}"
            yield Draft(text, limit="conv.dilated_extent_max", measured=max(reach))
