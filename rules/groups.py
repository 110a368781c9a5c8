from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.checking.rule import Case, Draft, Rule

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node


class Groups(Rule):
    """A grouped convolution has more groups than the device's limit, or groups of a width that does not fit.

    *What it does*

    Compares the groups of Conv and ConvTranspose with `conv.group_max`, and the channels of each group, in and out, with
    `conv.group_channels_multiple`. Dense convolutions and depthwise ones (one input channel for each group) are exempt.

    *Why it matters*

    The multipliers work on a block of channels at a time. Narrow groups leave most of the block idle, or have no mapping.

    *What to do*

    Use a dense convolution with zeros outside of the groups, which is exact, or groups as wide as the block.
    """

    code = "NPU206"
    name = "groups"
    ops = ("Conv", "ConvTranspose")
    limits = ("conv.group_max", "conv.group_channels_multiple")
    good = (
        Case(
            """g (float[1,64,8,8] x) => (float[1,128,8,8] y)
            <float[128,16,1,1] w> { y = Conv<group = 4>(x, w) }""",
            limits={"conv.group_max": 4, "conv.group_channels_multiple": 16},
            title="four groups of 16 in and 32 out, just within both",
        ),
        Case(
            """g (float[1,60,8,8] x) => (float[1,60,6,6] y)
            <float[60,1,3,3] w> { y = Conv<group = 60>(x, w) }""",
            limits={"conv.group_max": 4, "conv.group_channels_multiple": 16},
            title="depthwise",
        ),
        Case(
            """g (float[1,3,8,8] x) => (float[1,20,8,8] y)
            <float[20,3,1,1] w> { y = Conv(x, w) }""",
            limits={"conv.group_max": 4, "conv.group_channels_multiple": 16},
            title="dense",
        ),
        Case(
            """g (float[1,60,8,8] x) => (y)
            <float[60,12,1,1] w> { y = Conv<group = 5>(x, w) }""",
            limits={"conv.group_channels_multiple": 12},
            title="no limit on the groups themselves",
        ),
    )
    bad = (
        Case(
            """g (float[1,128,8,8] x) => (float[1,128,6,6] y)
            <float[128,16,3,3] w> { y = Conv<group = 8>(x, w) }""",
            limits={"conv.group_max": 4},
            expect=(("y", 8),),
        ),
        Case(
            """g (float[1,32,8,8] x) => (float[1,128,8,8] y)
            <float[128,8,1,1] w> { y = Conv<group = 4>(x, w) }""",
            limits={"conv.group_max": 4, "conv.group_channels_multiple": 16},
            expect=(("y", 8),),
            title="8 input channels for each group",
        ),
        Case(
            """g (float[1,64,8,8] x) => (y)
            <float[64,24,2,2] w> { y = ConvTranspose<group = 4>(x, w) }""",
            limits={"conv.group_channels_multiple": 16},
            expect=(("y", 24),),
            title="24 output channels for each group",
        ),
        Case(
            'g (float[1,"C",8,8] x, float[64,"D",1,1] w) => (y) { y = Conv<group = 8>(x, w) }',
            limits={"conv.group_max": 4},
            undecided=("y",),
            title="it may be depthwise",
        ),
    )

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        group = node.attr("group", 1)
        most, multiple = ctx.limit("conv.group_max"), ctx.limit("conv.group_channels_multiple")
        if group == 1 or (multiple is None and group <= most):
            return
        inside = ctx.channel_count(node, out=False) // group
        if inside == 1:
            return
        if most is not None and group > most:
            yield Draft(f"{group} groups are more than {most}", limit="conv.group_max", measured=group)
        if multiple is not None:
            outside = ctx.channel_count(node, out=True) // group
            wrong = [c for c in (inside, outside) if c % multiple]
            if wrong:
                text = f"groups of {inside} channels in and {outside} out are no multiples of {multiple}"
                yield Draft(text, limit="conv.group_channels_multiple", measured=wrong[0])
