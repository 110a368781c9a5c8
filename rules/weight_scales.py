from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.checking.quantization import QuantizationRule, named, operator, weights
from npu_guard.checking.rule import Case, Draft

if TYPE_CHECKING:
    from npu_guard.analysis.quantized.encoding import Operand
    from npu_guard.analysis.quantized.unit import Unit
    from npu_guard.checking.context import Context


class WeightScales(QuantizationRule):
    """Weights have a scale for each channel, or each block, where the device has one for the tensor.

    *What it does*

    Looks at what of a weight has a scale of its own: the tensor, each channel or each block. Scales of channels have to run
    along the output channels (axis 0 of a convolution, 1 of a ConvTranspose, the columns of a matrix product), and a
    device may have them at some operators alone.

    *Why it matters*

    The sums of an output channel are scaled once, at the end. Scales along another axis would have to be applied before the
    sum, and a unit with one register for the scale has no second one for each channel. One vendor's own table has a
    MobileNetV2 at 92.7 % on the NPU with one scale and at 3.1 % with many.

    *What to do*

    Quantize per tensor, or per channel along the output channels: `per_channel` of onnxruntime.quantization, `ch_axis` of
    PyTorch's observers. The loss of one scale is smaller after cross-layer equalization.
    """

    code = "NPU804"
    name = "weight-scales"
    limits = (
        "quantization.weight_scales",
        "quantization.channel_operators",
    )
    good = (
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}, int8[2,2,1,1] w, float t = {0.1}, int8 n = {0}>
            { a = DequantizeLinear(x, s, z)  c = DequantizeLinear(w, t, n)  b = Conv(a, c)  y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.weight_scales": ["tensor"]},
        ),
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}, int8[2,2,1,1] w, float[2] t = {0.1, 0.2}, int8[2] n = {0, 0}>
            { a = DequantizeLinear(x, s, z)  c = DequantizeLinear<axis = 0>(w, t, n)  b = Conv(a, c)
              y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.weight_scales": ["tensor", "channel"], "quantization.channel_operators": ["Conv"]},
        ),
    )
    bad = (
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}, int8[2,2,1,1] w, float[2] t = {0.1, 0.2}, int8[2] n = {0, 0}>
            { a = DequantizeLinear(x, s, z)  c = DequantizeLinear<axis = 0>(w, t, n)  b = Conv(a, c)
              y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.weight_scales": ["tensor"]},
            expect=(("b", "channel"),),
            allowed="tensor",
        ),
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}, int8[2,2,1,1] w, float[2] t = {0.1, 0.2}, int8[2] n = {0, 0}>
            { a = DequantizeLinear(x, s, z)  c = DequantizeLinear<axis = 1>(w, t, n)  b = Conv(a, c)
              y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.weight_scales": ["tensor", "channel"]},
            expect=(("b", "axis 1"),),
            allowed="axis 0",
            title="along the input channels",
        ),
        Case(
            """g (uint8[1,2] x) => (uint8[1,2] y)
            <float s = {0.05}, uint8 z = {128}, int8[2,2] w, float[2] t = {0.1, 0.2}, int8[2] n = {0, 0}>
            { a = DequantizeLinear(x, s, z)  c = DequantizeLinear<axis = 1>(w, t, n)  b = MatMul(a, c)
              y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.weight_scales": ["tensor", "channel"], "quantization.channel_operators": ["Conv"]},
            expect=(("b", "MatMul"),),
            allowed="Conv",
            title="at an operator that has one scale",
        ),
    )

    def check_unit(self, unit: Unit, ctx: Context) -> Iterable[Draft]:
        allowed, operators = ctx.limit("quantization.weight_scales"), ctx.limit("quantization.channel_operators")
        for weight, held in weights(unit):
            what, axis, op = held.granularity, _channels(unit, weight), operator(unit)
            limit, name = "quantization.weight_scales", named(weight.value)
            if allowed is not None and what not in allowed:
                text = f"the weights {name} have a scale for each {what}"
                yield Draft(text, limit=limit, measured=what, allowed=", ".join(allowed), value=weight.value)
            elif what == "channel" and held.axis != axis:
                text = f"the scales of the weights {name} run along axis {held.axis}, the output channels are axis {axis}"
                yield Draft(text, limit=limit, measured=f"axis {held.axis}", allowed=f"axis {axis}", value=weight.value)
            elif what == "channel" and operators is not None and op not in operators:
                text = f"the weights {name} of {op} have a scale for each channel"
                limit = "quantization.channel_operators"
                yield Draft(text, limit=limit, measured=op, allowed=", ".join(operators), value=weight.value)


def _channels(unit: Unit, weight: Operand) -> int:
    """The axis of the output channels."""
    op, rank = operator(unit), len(weight.value.shape or ())
    if op == "ConvTranspose":
        return 1
    if unit.node.kind == "convolution":
        return 0
    return max(rank - (2 if unit.node.attr("transB", 0) else 1), 0)
