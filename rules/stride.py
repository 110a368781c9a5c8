from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.checking.rule import Case, Draft, Rule
from npu_guard.graph.plain import plain

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node

_CONVOLUTIONS = ("Conv", "ConvTranspose")


class Stride(Rule):
    """A convolution or pooling window moves in longer steps than the device's limit.

    *What it does*

    Compares each axis of the strides of Conv and ConvTranspose with `conv.stride_max`, and of MaxPool, AveragePool and
    LpPool with `pool.stride_max`.

    *Why it matters*

    The engine's address unit knows a few steps. A patch embedding with a stride of 16 is outside of most of them.

    *What to do*

    Take the long step in several layers, or run with a short stride and drop what is not needed.
    """

    code = "NPU203"
    name = "stride"
    ops = (*_CONVOLUTIONS, "MaxPool", "AveragePool", "LpPool")
    limits = ("conv.stride_max", "pool.stride_max")
    good = (
        Case(
            """g (float[1,8,32,32] x) => (float[1,8,8,8] y)
            <float[8,8,4,4] w> { y = Conv<strides = [4,4]>(x, w) }""",
            limits={"conv.stride_max": 4},
            title="4 is the longest step that fits",
        ),
        Case(
            """g (float[1,8,32,32] x) => (y)
            <float[8,8,4,4] w> { y = Conv(x, w) }""",
            limits={"conv.stride_max": 1},
            title="no strides are strides of 1",
        ),
        Case(
            "g (float[1,8,32,32] x) => (y) { y = MaxPool<kernel_shape = [8,8], strides = [8,8]>(x) }",
            limits={"conv.stride_max": 4},
            title="no limit for pooling",
        ),
    )
    bad = (
        Case(
            """g (float[1,3,224,224] x) => (float[1,64,14,14] y)
            <float[64,3,16,16] w> { y = Conv<strides = [16,16]>(x, w) }""",
            limits={"conv.stride_max": 4},
            expect=(("y", 16),),
            title="a patch embedding",
        ),
        Case(
            """g (float[1,8,"H","W"] x) => (y)
            <float[8,8,5,5] w> { y = ConvTranspose<strides = [1,5]>(x, w) }""",
            limits={"conv.stride_max": 4},
            expect=(("y", 5),),
            title="one axis is enough, and no shape is needed",
        ),
        Case(
            "g (float[1,8,32,32] x) => (y) { y = AveragePool<kernel_shape = [3,3], strides = [3,3]>(x) }",
            limits={"conv.stride_max": 4, "pool.stride_max": 2},
            expect=(("y", 3),),
        ),
    )

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        key = "conv.stride_max" if plain(node) in _CONVOLUTIONS else "pool.stride_max"
        allowed = ctx.limit(key)
        strides = node.attributes.get("strides") or (1,)
        if allowed is not None and max(strides) > allowed:
            steps = "x".join(map(str, strides))
            yield Draft(f"stride {steps} is longer than {allowed}", limit=key, measured=max(strides))
