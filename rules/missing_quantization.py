from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.analysis.cost import MACS
from npu_guard.base.text import short
from npu_guard.checking.islands import islands
from npu_guard.checking.quantization import QuantizationRule, named, operator
from npu_guard.checking.rule import Case, Draft

if TYPE_CHECKING:
    from npu_guard.analysis.quantized.unit import Unit
    from npu_guard.checking.context import Context


class MissingQuantization(QuantizationRule):
    """An operator beside quantized ones reads or gives floating point.

    *What it does*

    Looks at operators some of whose activations are integers: all that such an operator reads, and its result, has to be.
    Constant operands count where the operator is a convolution or a matrix product. At the end of the network only
    operators that multiply and add are looked at, as what follows them is the host's anyway. What lies between integers
    on both sides is NPU801.

    *Why it matters*

    A compiler computes in integers only where it knows the scale of everything. One missing pair leaves the whole operator in
    floating point.

    *What to do*

    Quantize the tensor that the message names. Quantizers leave one out where an operator is in a list of exclusions, where
    calibration saw no value of it, or where a module was called without its QuantStub.
    """

    code = "NPU802"
    name = "missing-quantization"
    limits = ("quantization.whole",)
    good = (
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}, int8[2,2,1,1] w, float t = {0.1}, int8 n = {0}>
            { a = DequantizeLinear(x, s, z)  c = DequantizeLinear(w, t, n)  b = Conv(a, c)  y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.whole": True},
        ),
        Case(
            """g (uint8[1,2,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}>
            { a = DequantizeLinear(x, s, z)  y = Softmax<axis = 1>(a) }""",
            limits={"quantization.whole": True},
            title="the end of the network is no convolution",
        ),
        Case(
            """g (uint8[1,2,4,4] x, bool[1,2,4,4] m) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}>
            { a = DequantizeLinear(x, s, z)  b = Where(m, a, a)  y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.whole": True},
            title="a condition is no number",
        ),
    )
    bad = (
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}, float[2,2,1,1] c>
            { a = DequantizeLinear(x, s, z)    b = Conv(a, c)  y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.whole": True},
            expect=(("b", "c"),),
            allowed="integers",
            title="a weight in floating point",
        ),
        Case(
            """g (uint8[1,2,4,4] x, float[1,2,4,4] r) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}>
            { a = DequantizeLinear(x, s, z)  b = Add(a, r)  y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.whole": True},
            expect=(("b", "r"),),
            allowed="integers",
            title="one operand",
        ),
        Case(
            """g (uint8[1,2,4,4] x) => (float[1,2,4,4] b)
            <float s = {0.05}, uint8 z = {128}, int8[2,2,1,1] w, float t = {0.1}, int8 n = {0}>
            { a = DequantizeLinear(x, s, z)  c = DequantizeLinear(w, t, n)  b = Conv(a, c) }""",
            limits={"quantization.whole": True},
            expect=(("b", "b"),),
            allowed="integers",
            title="its result",
        ),
    )

    def check_unit(self, unit: Unit, ctx: Context) -> Iterable[Draft]:
        if not ctx.limit("quantization.whole") or not unit.is_quantized or unit.node in ctx.analysis_of(islands):
            return
        multiplies = operator(unit) in MACS
        missing = unit.in_float
        if multiplies:
            missing += [o.value for o in unit.operands if o.role == "weight" and o.encoding is None]
        if unit.output is None and multiplies:
            missing.append(ctx.quantized.scaled_output(unit.node))
        elif unit.output is None or (missing and all(o.encoding is None for o in unit.data) and not multiplies):
            return  # the end of the network, or its beginning
        for value in missing:
            what = "its result" if value.producer is not None and value not in unit.node.inputs else "it reads"
            text = (
                f"{what} {named(value)} in floating point"
                if what == "it reads"
                else f"its result {named(value)} is not quantized"
            )
            yield Draft(text, limit="quantization.whole", measured=short(value.name), allowed="integers", value=value)
