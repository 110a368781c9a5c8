from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.checking.rule import Case, Draft, Rule

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node

_FLOOR = ({"ops": ["MaxPool"], "metric": "attr.ceil_mode", "is": 0},)
_SQUARE = ({"ops": ["Pow"], "metric": "value.Y", "is": 2},)


class AttributeValue(Rule):
    """An attribute, a number that the operator is given, or the count of its inputs or outputs is none that the device has.

    *What it does*

    Compares attributes (`attr.ceil_mode`), small constant inputs (`value.Y`) and the number of inputs and outputs with the
    limits that the profile sets for the operator. What is left out counts as ONNX's default. The mode of Resize is
    NPU501's, that of Pad NPU205's.

    *Why it matters*

    The compiler has an operator in the form that networks mostly use. Another rounding, exponent or coefficient needs
    arithmetic that the hardware was not given.

    *What to do*

    Write the layer in the form that the profile states, or with operators that compute the same.
    """

    code = "NPU701"
    name = "attribute-value"
    ops = ("*",)
    parametric = True
    good = (
        Case(
            "g (float[1,8,9,9] x) => (y) { y = MaxPool<kernel_shape = [2,2], strides = [2,2]>(x) }",
            require=_FLOOR,
            title="the default is what the device has",
        ),
        Case(
            "g (float[1,8,9,9] x) => (y) <float e = {2.0}> { y = Pow(x, e) }",
            require=_SQUARE,
        ),
    )
    bad = (
        Case(
            "g (float[1,8,9,9] x) => (y) { y = MaxPool<kernel_shape = [2,2], strides = [2,2], ceil_mode = 1>(x) }",
            require=_FLOOR,
            expect=(("y", 1),),
            allowed=0,
        ),
        Case(
            "g (float[1,8,9,9] x) => (y) <float e = {3.0}> { y = Pow(x, e) }",
            require=_SQUARE,
            expect=(("y", "3"),),
            allowed=2,
            title="a cube",
        ),
        Case(
            "g (float[1,8,9,9] x, float e) => (y) { y = Pow(x, e) }",
            require=_SQUARE,
            undecided=("y",),
            title="an exponent that is computed",
        ),
    )

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        return ()
