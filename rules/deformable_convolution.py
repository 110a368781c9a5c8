from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.checking.rule import Case, Draft, Rule

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node

_GRAPH = """g (float[1,8,8,8] x, float[1,18,8,8] offset) => (y)
            <float[8,8,3,3] w> { y = DeformConv<pads = [1,1,1,1]>(x, w, offset) }"""


class DeformableConvolution(Rule):
    """A convolution samples its input at positions that the network computes.

    *What it does*

    Fires at every DeformConv, unless the profile says that the device supports it.

    *Why it matters*

    The engine streams neighbouring rows through its window. Taps at arbitrary positions need a random access to memory
    for each output, which the hardware does not have.

    *What to do*

    Replace it by a plain convolution of the same or a larger kernel, and train again.
    """

    code = "NPU106"
    name = "deformable-convolution"
    ops = ("DeformConv",)
    good = (
        Case(
            """g (float[1,8,8,8] x) => (float[1,8,8,8] y)
            <float[8,8,3,3] w> { y = Conv<pads = [1,1,1,1]>(x, w) }""",
            operators={"DeformConv": "judged"},
            title="a plain convolution",
        ),
        Case(_GRAPH, operators={"DeformConv": "supported"}, title="on a device that can"),
        Case(_GRAPH, operators={"Conv": "supported"}, title="not documented; NPU101 speaks of it"),
    )
    bad = (
        Case(_GRAPH, operators={"DeformConv": "judged"}, expect=(("y", None),)),
        Case(_GRAPH, operators={"DeformConv": "refused"}, expect=(("y", None),), title="refused by name"),
    )

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        entry = ctx.profile.operator(node.op)
        if entry is not None and entry.status != "supported":
            yield Draft(f"{node.op} samples its input at computed positions")
