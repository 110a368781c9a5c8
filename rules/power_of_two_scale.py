from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from npu_guard.analysis.quantized.encoding import INT32
from npu_guard.checking.quantization import QuantizationRule, activations, constants, named, scales, weights
from npu_guard.checking.rule import Case, Draft

if TYPE_CHECKING:
    from npu_guard.analysis.quantized.unit import Unit
    from npu_guard.checking.context import Context


class PowerOfTwoScale(QuantizationRule):
    """A scale is no power of two.

    *What it does*

    Looks at the scales of all activations and weights of an operator.

    *Why it matters*

    Without a multiplier behind the sums, a device scales by shifting bits.

    *What to do*

    Quantize with scales that are powers of two: the vendor's own quantizer does, as does AMD Quark's `PowerOfTwoMethod`; in
    PyTorch, round the scale of the observer up to the next power.
    """

    code = "NPU808"
    name = "power-of-two-scale"
    limits = ("quantization.power_of_two",)
    good = (
        Case(
            """g (uint8[1,8,4,4] x) => (uint8[1,8,4,4] y)
            <float s = {0.0625}, uint8 z = {128}>
            { a = DequantizeLinear(x, s, z)  b = Relu(a)  y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.power_of_two": True},
        ),
        Case(
            """g (uint8[1,8,4,4] x) => (uint8[1,8,4,4] y)
            <float s = {0.05}, uint8 z = {128}>
            { a = DequantizeLinear(x, s, z)  b = Relu(a)  y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.power_of_two": False},
            title="on a device that multiplies",
        ),
    )
    bad = (
        Case(
            """g (uint8[1,8,4,4] x) => (uint8[1,8,4,4] y)
            <float s = {0.05}, uint8 z = {128}>
            { a = DequantizeLinear(x, s, z)  b = Relu(a)  y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.power_of_two": True},
            expect=(("b", "0.05"),),
            allowed="a power of two",
        ),
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.0625}, uint8 z = {128}, int8[2,2,1,1] w, float t = {0.1}, int8 n = {0}>
            { a = DequantizeLinear(x, s, z)  c = DequantizeLinear(w, t, n)  b = Conv(a, c)  y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.power_of_two": True},
            expect=(("b", "0.1"),),
            allowed="a power of two",
            title="of the weights",
        ),
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.0625}, uint8 z = {128}, uint8[1,2,1,1] k, float t = {0.1}>
            { a = DequantizeLinear(x, s, z)  c = DequantizeLinear(k, t, z)  b = Add(a, c)  y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.power_of_two": True},
            expect=(("b", "0.1"),),
            allowed="a power of two",
            title="of what an Add adds",
        ),
    )

    def check_unit(self, unit: Unit, ctx: Context) -> Iterable[Draft]:
        if not ctx.limit("quantization.power_of_two"):
            return
        operands = [entry for entry in constants(unit) if entry[1].dtype != INT32]  # a bias has the scale of its products
        for value, held in [*activations(unit), *((o.value, e) for o, e in weights(unit)), *operands]:
            found = scales(held, ctx)
            other = [] if found is None else [float(s) for s in found if s > 0 and np.frexp(s)[0] != 0.5]
            if other:
                text = f"the scale of {named(value)} is {other[0]:.6g}"
                yield Draft(text, "quantization.power_of_two", f"{other[0]:.6g}", "a power of two", value=value)
                return
