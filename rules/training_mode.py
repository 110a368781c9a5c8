from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.analysis.static import trains
from npu_guard.base.errors import Undecidable
from npu_guard.base.text import short
from npu_guard.checking.rule import Case, Draft, Rule

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node


class TrainingMode(Rule):
    """A Dropout or BatchNormalization does what it does at training only.

    *What it does*

    Looks at the flag `training_mode`. A BatchNormalization whose statistics are read counts as well. A Dropout whose flag is
    computed is undecided.

    *Why it matters*

    At inference a Dropout is nothing and a BatchNormalization a factor and a term for each channel, which a compiler folds into
    the convolution before it. In training mode the one draws random numbers and the other takes the mean and the variance of
    the whole map.

    *What to do*

    Call `eval()` before the export, and leave out `training=`.
    """

    code = "NPU602"
    name = "training-mode"
    ops = ("BatchNormalization", "Dropout")
    good = (
        Case(
            "g (float[1,8,4,4] x) => (float[1,8,4,4] y) <float[8] c> { y = BatchNormalization(x, c, c, c, c) }",
            title="as exported for inference",
        ),
        Case(
            """g (float[1,8,4,4] x) => (float[1,8,4,4] y) <float ratio = {0.5}, bool training = {0}>
            { y = Dropout(x, ratio, training) }""",
            title="a flag that says no",
        ),
    )
    bad = (
        Case(
            """g (float[1,8,4,4] x) => (float[1,8,4,4] y) <float ratio = {0.5}, bool training = {1}>
            { y = Dropout(x, ratio, training) }""",
            expect=(("y", None),),
        ),
        Case(
            """g (float[1,8,4,4] x) => (float[1,8,4,4] y) <float[8] c>
            { y, mean, variance = BatchNormalization<training_mode = 1>(x, c, c, c, c) }""",
            expect=(("y", None),),
            title="statistics of the data",
        ),
        Case(
            """g (float[1,8,4,4] x, bool training) => (float[1,8,4,4] y) <float ratio = {0.5}>
            { y = Dropout(x, ratio, training) }""",
            undecided=("y",),
            title="a flag that is an input",
        ),
    )

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        training = trains(node, ctx.analysis.constants)
        if training is None:
            raise Undecidable(f"whether {node.op} {short(node.label)!r} is in training mode is computed")
        if training:
            yield Draft(f"{node.op} is in training mode")
