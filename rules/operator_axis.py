from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.checking.rule import Case, Draft, Rule

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node

_CHANNELS = ({"ops": ["Concat", "Softmax"], "metric": "axes", "in": [-3]},)
_PERM = ({"ops": ["Transpose"], "metric": "perm", "in": [[0, 2, 3, 1]]},)


class OperatorAxis(Rule):
    """An operator works over an axis, or in an order of axes, that the device does not have.

    *What it does*

    Compares the axes of Concat, Split, Softmax, Slice, Pad, Gather, TopK and the normalisations, the order of Transpose
    and the parts of Split with the limits that the profile sets for the operator. Axes are counted from the front, or, in
    the profile, from the end. Reductions are NPU301's, Resize is NPU501's.

    *Why it matters*

    Data lie in memory in one order. Along it the hardware joins, cuts and sums in passing; across it, every element has
    to move.

    *What to do*

    Let the operator work over the axis that the profile states, most often channels.
    """

    code = "NPU702"
    name = "operator-axis"
    ops = ("*",)
    parametric = True
    good = (
        Case(
            "g (float[1,8,4,4] x) => (y) { y = Concat<axis = 1>(x, x) }",
            require=_CHANNELS,
            title="channels, counted from the front",
        ),
        Case(
            "g (float[1,8,4,4] x) => (y) { y = Transpose<perm = [0,2,3,1]>(x) }",
            require=_PERM,
        ),
    )
    bad = (
        Case(
            "g (float[1,8,4,4] x) => (y) { y = Concat<axis = -1>(x, x) }",
            require=_CHANNELS,
            expect=(("y", 3),),
            allowed="1",
            title="width",
        ),
        Case(
            "g (float[1,8,4,4] x) => (y) { y = Transpose(x) }",
            require=_PERM,
            expect=(("y", "3, 2, 1, 0"),),
            allowed="(0, 2, 3, 1)",
            title="without an order, which reverses the axes",
        ),
        Case(
            "g (float[] x) => (y) { y = Softmax(x) }",
            require=_CHANNELS,
            undecided=("y",),
            title="a tensor of unknown rank",
        ),
    )

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        return ()
