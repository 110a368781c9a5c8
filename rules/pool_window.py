from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.checking.rule import Case, Draft, Rule

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node


class PoolWindow(Rule):
    """A pooling window is longer than the device's limit.

    *What it does*

    Compares each axis of the window of MaxPool, AveragePool and LpPool, dilation included, with `pool.window_max`. A window
    that covers the whole map without padding is a global pool in other words, and does not count.

    *Why it matters*

    The pooling unit holds a fixed window of lines. Global pooling runs as a reduction, so it is not bound by that.

    *What to do*

    Pool in several steps: the maximum of maxima and the mean of means over equal windows are exact.
    """

    code = "NPU204"
    name = "pool-window"
    ops = ("MaxPool", "AveragePool", "LpPool")
    limits = ("pool.window_max",)
    good = (
        Case(
            "g (float[1,8,32,32] x) => (y) { y = MaxPool<kernel_shape = [5,5], strides = [5,5]>(x) }",
            limits={"pool.window_max": 5},
            title="5 is the longest window that fits",
        ),
        Case(
            "g (float[1,8,32,32] x) => (y) { y = MaxPool<kernel_shape = [3,3], dilations = [2,2]>(x) }",
            limits={"pool.window_max": 5},
            title="three taps that reach over 5 pixels",
        ),
        Case(
            "g (float[1,8,7,7] x) => (float[1,8,1,1] y) { y = AveragePool<kernel_shape = [7,7]>(x) }",
            limits={"pool.window_max": 5},
            title="the whole map",
        ),
        Case(
            "g (float[1,8,7,7] x) => (float[1,8,1,1] y) { y = GlobalAveragePool(x) }",
            limits={"pool.window_max": 5},
        ),
    )
    bad = (
        Case(
            "g (float[1,8,32,32] x) => (y) { y = MaxPool<kernel_shape = [13,13], pads = [6,6,6,6]>(x) }",
            limits={"pool.window_max": 5},
            expect=(("y", 13),),
            title="pyramid pooling",
        ),
        Case(
            "g (float[1,8,8,7] x) => (y) { y = AveragePool<kernel_shape = [7,7]>(x) }",
            limits={"pool.window_max": 5},
            expect=(("y", 7),),
            title="not quite the whole map",
        ),
        Case(
            "g (float[1,8,32,32] x) => (y) { y = MaxPool<kernel_shape = [3,3], dilations = [3,1]>(x) }",
            limits={"pool.window_max": 5},
            expect=(("y", 7),),
            title="three taps that reach over 7 pixels",
        ),
        Case(
            'g (float[1,8,"H",7] x) => (y) { y = AveragePool<kernel_shape = [7,7]>(x) }',
            limits={"pool.window_max": 5},
            undecided=("y",),
            title="H may be 7",
        ),
    )

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        allowed = ctx.limit("pool.window_max")
        window = ctx.reach(node)
        if max(window, default=0) <= allowed or _is_global(node, ctx):
            return
        size = "x".join(map(str, window))
        yield Draft(f"pooling window {size} is longer than {allowed}", limit="pool.window_max", measured=max(window))


def _is_global(node: Node, ctx: Context) -> bool:
    """Whether the window covers the whole map once and nothing around it."""
    padded = any(node.attributes.get("pads", ())) or node.attr("auto_pad", "NOTSET").startswith("SAME")
    if padded or max(ctx.per_axis(node, "dilations")) > 1:
        return False
    x, kernel = ctx.data(node), ctx.kernel(node)
    if any(isinstance(d, int) and d != k for d, k in zip(ctx.map_of(node, x)[2:], kernel, strict=False)):
        return False
    return all(ctx.along(node, x, axis) == k for axis, k in enumerate(kernel, 2))
