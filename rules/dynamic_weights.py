from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.checking.rule import Case, Draft, Rule

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node


class DynamicWeights(Rule):
    """The weights of a convolution or the parameters of a BatchNormalization are computed, or come in as an input.

    *What it does*

    Looks at the second input of Conv and ConvTranspose, and at scale, bias, mean and variance of BatchNormalization, which
    becomes a part of a convolution. What follows from constants is fine, the compiler folds it. An initializer that is
    listed as an input of the model as well may be overridden by a caller: undecided.

    *Why it matters*

    The compiler quantizes, reorders and packs the weights beforehand. It cannot do so with what is not there yet.

    *What to do*

    Make the weights of a layer constant. A product of two activations, as in attention or by a computed kernel, has none:
    NPU103 shows forms for attention, and what has no form is work for the host.
    """

    code = "NPU601"
    name = "dynamic-weights"
    ops = ("Conv", "ConvTranspose", "BatchNormalization")
    limits = ("conv.constant_weights",)
    good = (
        Case(
            """g (float[1,8,4,4] x) => (float[1,8,4,4] y)
            <float[8,8,1,1] w, float[8,1,1,1] s> { v = Mul(w, s)  y = Conv(x, v) }""",
            limits={"conv.constant_weights": True},
            title="weights that follow from constants",
        ),
        Case(
            """g (float[1,8,4,4] x, float[8] b) => (float[1,8,4,4] y)
            <float[8,8,1,1] w> { y = Conv(x, w, b) }""",
            limits={"conv.constant_weights": True},
            title="a bias is no weight",
        ),
        Case(
            "g (float[1,8,4,4] x, float[8,8,1,1] w) => (float[1,8,4,4] y) { y = Conv(x, w) }",
            limits={"conv.constant_weights": False},
            title="on a device that can",
        ),
    )
    bad = (
        Case(
            "g (float[1,8,4,4] x, float[8,8,1,1] w) => (float[1,8,4,4] y) { y = Conv(x, w) }",
            limits={"conv.constant_weights": True},
            expect=(("y", None),),
        ),
        Case(
            """g (float[1,8,4,4] x, float[8,1,1,1] s) => (y)
            <float[8,8,1,1] w> { v = Mul(w, s)  y = ConvTranspose(x, v) }""",
            limits={"conv.constant_weights": True},
            expect=(("y", None),),
            title="computed from an input",
        ),
        Case(
            """g (float[1,8,4,4] x, float[8] s) => (float[1,8,4,4] y)
            <float[8] c> { y = BatchNormalization(x, s, c, c, c) }""",
            limits={"conv.constant_weights": True},
            expect=(("y", None),),
            title="a scale that comes in",
        ),
        Case(
            "g (float[1,2,4,4] x, float[2,2,1,1] w = {1.0, 2.0, 3.0, 4.0}) => (float[1,2,4,4] y) { y = Conv(x, w) }",
            limits={"conv.constant_weights": True},
            undecided=("y",),
            title="a caller may override the initializer",
        ),
    )

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        if not ctx.limit("conv.constant_weights"):
            return
        weights = node.inputs[1:] if node.op_type == "BatchNormalization" else [ctx.weight(node)]
        for weight in weights:
            if weight is not None and not ctx.is_fixed(weight):
                origin = ctx.analysis.origin(weight)
                how = "an input of the model" if origin.is_input else "computed at run time"
                yield Draft(f"the weights {ctx.show(weight)} are {how}", limit="conv.constant_weights", value=weight)
                return
