from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.checking.quantization import QuantizationRule, named, type_name, weights
from npu_guard.checking.rule import Case, Draft

if TYPE_CHECKING:
    from npu_guard.analysis.quantized.unit import Unit
    from npu_guard.checking.context import Context


class WeightType(QuantizationRule):
    """Weights are quantized to a type that the device does not have.

    *What it does*

    Compares the integers of the weights of convolutions and matrix products with the device's types.

    *Why it matters*

    Weights are packed for the unit that multiplies, which has factors of a few widths.

    *What to do*

    Choose another type in the quantizer: `weight_type` of onnxruntime.quantization, `dtype` of PyTorch's observers.
    """

    code = "NPU806"
    name = "weight-type"
    limits = ("quantization.weight_types",)
    good = (
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}, int8[2,2,1,1] w, float t = {0.1}, int8 n = {0}>
            { a = DequantizeLinear(x, s, z)  c = DequantizeLinear(w, t, n)  b = Conv(a, c)  y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.weight_types": ["int8"]},
        ),
    )
    bad = (
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}, uint8[2,2,1,1] w, float t = {0.1}, uint8 n = {128}>
            { a = DequantizeLinear(x, s, z)  c = DequantizeLinear(w, t, n)  b = Conv(a, c)  y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.weight_types": ["int8"]},
            expect=(("b", "uint8"),),
            allowed="int8",
        ),
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}, uint8[2,2,1,1] w, float t = {0.1}, uint8 n = {0}>
            { y = QLinearConv(x, s, z, w, t, n, s, z) }""",
            limits={"quantization.weight_types": ["int8"]},
            expect=(("y", "uint8"),),
            allowed="int8",
            title="as QLinearConv",
        ),
    )

    def check_unit(self, unit: Unit, ctx: Context) -> Iterable[Draft]:
        types = ctx.limit("quantization.weight_types") or ()
        for weight, held in weights(unit):
            if (kind := type_name(held)) not in types:
                text = f"the weights {named(weight.value)} are held as {kind}"
                yield Draft(text, "quantization.weight_types", kind, ", ".join(types), value=weight.value)
