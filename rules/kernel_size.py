from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.checking.rule import Case, Draft, Rule

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node


class KernelSize(Rule):
    """A convolution kernel is longer than the device's limit.

    *What it does*

    Compares each axis of the kernel of Conv and ConvTranspose, in taps, with `conv.kernel_max`. Dilation does not
    count here; NPU202 looks at the dilated extent.

    *Why it matters*

    The convolution engine holds a fixed window of lines and taps. A longer kernel is not slow, it does not compile.

    *What to do*

    Split the kernel: two or three stacked smaller kernels, a dilated one, or the exact split by phases.
    """

    code = "NPU201"
    name = "kernel-size"
    ops = ("Conv", "ConvTranspose")
    limits = ("conv.kernel_max",)
    good = (
        Case(
            """g (float[1,8,32,32] x) => (float[1,8,32,32] y)
            <float[8,8,17,17] w> { y = Conv<pads = [8,8,8,8]>(x, w) }""",
            limits={"conv.kernel_max": 17},
            title="17 taps are the most that fits",
        ),
        Case(
            """g (float[1,8,64,64] x) => (float[1,8,32,32] y)
            <float[8,8,3,3] w> { y = Conv<dilations = [16,16]>(x, w) }""",
            limits={"conv.kernel_max": 17},
            title="three taps that reach over 33 pixels",
        ),
    )
    bad = (
        Case(
            """g (float[1,8,32,32] x) => (float[1,8,32,32] y)
            <float[8,8,19,19] w> { y = Conv<pads = [9,9,9,9]>(x, w) }""",
            limits={"conv.kernel_max": 17},
            expect=(("y", 19),),
        ),
        Case(
            """g (float[1,8,32,32] x) => (float[1,8,32,32] y)
            <float[8,1,1,18] w> { y = Conv<group = 8, auto_pad = "SAME_UPPER">(x, w) }""",
            limits={"conv.kernel_max": 17},
            expect=(("y", 18),),
            title="one axis is enough, depthwise too",
        ),
        Case(
            """g (float[1,8,4,4] x) => (y)
            <float[8,8,20,20] w> { y = ConvTranspose<strides = [10,10]>(x, w) }""",
            limits={"conv.kernel_max": 17},
            expect=(("y", 20),),
        ),
        Case(
            'g (float[1,8,32,32] x, float[8,8,"k","k"] w) => (y) { y = Conv(x, w) }',
            limits={"conv.kernel_max": 17},
            undecided=("y",),
            title="a weight of unknown shape",
        ),
    )

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        allowed = ctx.limit("conv.kernel_max")
        longest = max(ctx.kernel(node), default=0)
        if longest > allowed:
            size = "x".join(map(str, ctx.kernel(node)))
            yield Draft(f"kernel {size} is longer than {allowed}", limit="conv.kernel_max", measured=longest)
