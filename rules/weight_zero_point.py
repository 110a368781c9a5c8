from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.checking.quantization import MIDDLES, QuantizationRule, named, type_name, weights, zero_points
from npu_guard.checking.rule import Case, Draft

if TYPE_CHECKING:
    from npu_guard.analysis.quantized.unit import Unit
    from npu_guard.checking.context import Context


class WeightZeroPoint(QuantizationRule):
    """The zero point of quantized weights is not 0.

    *What it does*

    Compares the zero points of the weights of convolutions and matrix products with 0; those of unsigned weights with the
    middle of their type, which is the same thing shifted.

    *Why it matters*

    A product with shifted weights needs the sum of the data beside it, for each output. A unit that multiplies and adds only
    has no place for that.

    *What to do*

    Quantize weights symmetrically: `WeightSymmetric` of onnxruntime.quantization, `qscheme=torch.per_channel_symmetric` in
    PyTorch.
    """

    code = "NPU803"
    name = "weight-zero-point"
    limits = ("quantization.weights_symmetric",)
    good = (
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}, int8[2,2,1,1] w, float t = {0.1}, int8 n = {0}>
            { a = DequantizeLinear(x, s, z)  c = DequantizeLinear(w, t, n)  b = Conv(a, c)  y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.weights_symmetric": ["int8", "uint8"]},
        ),
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}, uint8[2,2,1,1] w, float t = {0.1}, uint8 n = {128}>
            { a = DequantizeLinear(x, s, z)  c = DequantizeLinear(w, t, n)  b = Conv(a, c)  y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.weights_symmetric": ["int8", "uint8"]},
            title="the middle of an unsigned type",
        ),
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}, int8[2,2,1,1] w, float t = {0.1}, int8 n = {3}>
            { a = DequantizeLinear(x, s, z)  c = DequantizeLinear(w, t, n)  b = Conv(a, c)  y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.weights_symmetric": ["uint8"]},
            title="where unsigned ones alone have to be",
        ),
    )
    bad = (
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}, int8[2,2,1,1] w, float t = {0.1}, int8 n = {3}>
            { a = DequantizeLinear(x, s, z)  c = DequantizeLinear(w, t, n)  b = Conv(a, c)  y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.weights_symmetric": ["int8", "uint8"]},
            expect=(("b", 3),),
            allowed=0,
        ),
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}, int8[2,2,1,1] w, float t = {0.1}, int8 n = {-5}>
            { y = QLinearConv(x, s, z, w, t, n, s, z) }""",
            limits={"quantization.weights_symmetric": ["int8", "uint8"]},
            expect=(("y", -5),),
            allowed=0,
            title="as QLinearConv",
        ),
    )

    def check_unit(self, unit: Unit, ctx: Context) -> Iterable[Draft]:
        types = ctx.limit("quantization.weights_symmetric") or ()
        for weight, held in weights(unit):
            middle = MIDDLES.get(held.dtype, 0)
            for zero in zero_points(held, ctx) if type_name(held) in types else ():
                if zero != middle:
                    text = f"the zero point of the weights {named(weight.value)} is {zero}, not {middle}"
                    yield Draft(
                        text, limit="quantization.weights_symmetric", measured=zero.item(), allowed=middle, value=weight.value
                    )
                    break
