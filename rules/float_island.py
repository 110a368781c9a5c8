from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.checking.islands import islands
from npu_guard.checking.quantization import QuantizationRule, operator
from npu_guard.checking.rule import Case, Draft

if TYPE_CHECKING:
    from npu_guard.analysis.quantized.unit import Unit
    from npu_guard.checking.context import Context


class FloatIsland(QuantizationRule):
    """Operators in floating point between quantized ones.

    *What it does*

    Looks for operators that lie between integers on both sides and are computed in floating point themselves, because a
    result between them is not quantized. Each of them is reported, with the number of those that hang together. An
    activation that ends in the bounds of the integers (Relu, Clip) may follow its operator directly.

    *Why it matters*

    In front of such an island the integers become floating point and behind it they are quantized again, in memory. Where the
    device runs integers alone, the island is the host's, and the network is cut in two. It is the commonest reason for a
    slow int8 model.

    *What to do*

    Quantize the results between them: give the quantizer the operators (`op_types_to_quantize` of onnxruntime.quantization, a
    QuantStub and DeQuantStub around the whole module in PyTorch), or write the function as one operator that the device
    has quantized, such as HardSwish.
    """

    code = "NPU801"
    name = "float-island"
    limits = ("quantization.whole",)
    good = (
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}>
            { a = DequantizeLinear(x, s, z)  b = Sigmoid(a)  p = QuantizeLinear(b, s, z)  q = DequantizeLinear(p, s, z)
              c = Mul(a, q)  y = QuantizeLinear(c, s, z) }""",
            limits={"quantization.whole": True},
            title="quantized between",
        ),
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}, int8[2,2,1,1] w, float t = {0.1}, int8 n = {0}>
            { a = DequantizeLinear(x, s, z)  c = DequantizeLinear(w, t, n)  d = Conv(a, c)  b = Relu(d)
              y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.whole": True},
            title="the convolution takes its activation along",
        ),
        Case(
            """g (uint8[1,2,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}>
            { a = DequantizeLinear(x, s, z)  b = Sigmoid(a)  y = Mul(a, b) }""",
            limits={"quantization.whole": True},
            title="at the end of the network",
        ),
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}>
            { a = DequantizeLinear(x, s, z)  b = Greater(a, a)  c = Cast<to = 1>(b)  y = QuantizeLinear(c, s, z) }""",
            limits={"quantization.whole": True},
            title="a comparison, whose result is no number",
        ),
    )
    bad = (
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}>
            { a = DequantizeLinear(x, s, z)  b = Sigmoid(a)  c = Mul(a, b)  y = QuantizeLinear(c, s, z) }""",
            limits={"quantization.whole": True},
            expect=(("b", 2), ("c", 2)),
            allowed=0,
        ),
    )

    def check_unit(self, unit: Unit, ctx: Context) -> Iterable[Draft]:
        size = ctx.analysis_of(islands).get(unit.node)
        if size is not None and ctx.limit("quantization.whole"):
            others = "" if size == 1 else f", with {size - 1} other{'s' * (size > 2)}"
            text = f"{operator(unit)} is in floating point between quantized operators{others}"
            yield Draft(text, limit="quantization.whole", measured=size, allowed=0)
