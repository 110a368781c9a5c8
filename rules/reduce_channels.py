from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.base.errors import Undecidable
from npu_guard.checking.rule import Case, Draft, Rule

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node


class ReduceChannels(Rule):
    """A ReduceMax runs over more channels than the device's limit.

    *What it does*

    Compares the channels of the input of ReduceMax with `reduce.max_channels`, where the reduced axes include the channels.

    *Why it matters*

    The comparison over channels happens in a buffer of fixed size. A sum can be accumulated in parts, this one is not.

    *What to do*

    Take the maximum of each group of channels and then the maximum of these, which is exact.
    """

    code = "NPU302"
    name = "reduce-channels"
    ops = ("ReduceMax",)
    limits = ("reduce.max_channels",)
    good = (
        Case(
            """g (float[1,256,8,8] x) => (float[1,1,8,8] y)
            <int64[1] axes = {1}> { y = ReduceMax(x, axes) }""",
            limits={"reduce.max_channels": 256},
            title="256 channels are the most that fits",
        ),
        Case(
            """g (float[1,512,8,8] x) => (float[1,512,1,1] y)
            <int64[2] axes = {2, 3}> { y = ReduceMax(x, axes) }""",
            limits={"reduce.max_channels": 256},
            title="over space",
        ),
        Case(
            """g (float[1,512,8,8] x) => (float[1,1,8,8] y)
            <int64[1] axes = {1}> { y = ReduceMean(x, axes) }""",
            limits={"reduce.max_channels": 256},
            title="a mean",
        ),
    )
    bad = (
        Case(
            """g (float[1,264,8,8] x) => (float[1,1,8,8] y)
            <int64[1] axes = {1}> { y = ReduceMax(x, axes) }""",
            limits={"reduce.max_channels": 256},
            expect=(("y", 264),),
        ),
        Case(
            "g (float[1,512,8,8] x) => (float[1,1,8,8] y) { y = ReduceMax<axes = [-3]>(x) }",
            limits={"reduce.max_channels": 256},
            expect=(("y", 512),),
            opset=17,
            title="counted from the end",
        ),
        Case(
            "g (float[1,512,1,1] x) => (float[1,1,1,1] y) { y = ReduceMax(x) }",
            limits={"reduce.max_channels": 256},
            expect=(("y", 512),),
            title="over all axes",
        ),
        Case(
            """g (float[1,"C",8,8] x) => (y)
            <int64[1] axes = {1}> { y = ReduceMax(x, axes) }""",
            limits={"reduce.max_channels": 256},
            undecided=("y",),
            title="an unknown number of channels",
        ),
    )

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        allowed = ctx.limit("reduce.max_channels")
        x = ctx.input(node, 0)
        if 1 not in ctx.map_axes(x, ctx.axes(node)):
            return
        channels = ctx.map_dims(x)[1]
        if not isinstance(channels, int):
            raise Undecidable(ctx.why(x))
        if channels > allowed:
            text = f"maximum over {channels} channels, more than {allowed}"
            yield Draft(text, limit="reduce.max_channels", measured=channels, value=x)
