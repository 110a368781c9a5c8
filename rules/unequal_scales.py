from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.checking.quantization import QuantizationRule, activations, alike, named, operator, show_scale
from npu_guard.checking.rule import Case, Draft

if TYPE_CHECKING:
    from npu_guard.analysis.quantized.unit import Unit
    from npu_guard.checking.context import Context


class UnequalScales(QuantizationRule):
    """Tensors that the device holds with one scale have several.

    *What it does*

    Compares, at the operators that the device names, type, scale and zero point of all activations that the operator reads,
    and of its result, where it has one in integers. A scale that is computed is left out.

    *Why it matters*

    Operators that move data, and on some devices the operands of a sum, are copied as integers. With different scales each of
    them has to be scaled again on the way, which such a unit does not do.

    *What to do*

    Let the tensors share a scale: observers of PyTorch's FX quantization do for Concat and data movers; in
    onnxruntime.quantization see `ForceQuantizeNoInputCheck` and `TensorQuantOverrides`. Scales of data movers can be made
    equal in the file without a loss.
    """

    code = "NPU807"
    name = "unequal-scales"
    limits = (
        "quantization.same_scale",
        "quantization.same_operands",
    )
    good = (
        Case(
            """g (uint8[1,2,4,4] p, uint8[1,2,4,4] q) => (uint8[1,2,4,4] y)
            <float s = {0.05}, float t = {0.1}, uint8 z = {128}>
            { a = DequantizeLinear(p, s, z)  b = DequantizeLinear(q, s, z)  c = Add(a, b)  y = QuantizeLinear(c, t, z) }""",
            limits={"quantization.same_operands": ["Add"]},
            title="the sum has a scale of its own",
        ),
        Case(
            """g (uint8[1,2,4,4] p, uint8[1,2,4,4] q) => (uint8[1,4,4,4] y)
            <float s = {0.05}, float t = {0.1}, uint8 z = {128}>
            { a = DequantizeLinear(p, s, z)  b = DequantizeLinear(q, s, z)  c = Concat<axis = 1>(a, b)
              y = QuantizeLinear(c, s, z) }""",
            limits={"quantization.same_scale": ["Concat"]},
        ),
        Case(
            """g (uint8[1,2,4,4] p, uint8[1,2,4,4] q) => (uint8[1,4,4,4] y)
            <float s = {0.05}, float t = {0.1}, uint8 z = {128}>
            { a = DequantizeLinear(p, s, z)  b = DequantizeLinear(q, t, z)  c = Concat<axis = 1>(a, b)
              y = QuantizeLinear(c, s, z) }""",
            limits={"quantization.same_scale": ["MaxPool"]},
            title="an operator that scales by itself",
        ),
    )
    bad = (
        Case(
            """g (uint8[1,2,4,4] p, uint8[1,2,4,4] q) => (uint8[1,4,4,4] y)
            <float s = {0.05}, float t = {0.1}, uint8 z = {128}>
            { a = DequantizeLinear(p, s, z)  b = DequantizeLinear(q, t, z)  c = Concat<axis = 1>(a, b)
              y = QuantizeLinear(c, s, z) }""",
            limits={"quantization.same_scale": ["Concat"]},
            expect=(("c", "0.1 (zero point 128)"),),
            allowed="0.05 (zero point 128)",
        ),
        Case(
            """g (uint8[1,8,4,4] x) => (uint8[1,8,2,2] y)
            <float s = {0.05}, float t = {0.1}, uint8 z = {128}>
            { a = DequantizeLinear(x, s, z)  b = MaxPool<kernel_shape = [1,1], strides = [2,2]>(a)
              y = QuantizeLinear(b, t, z) }""",
            limits={"quantization.same_scale": ["MaxPool"]},
            expect=(("b", "0.1 (zero point 128)"),),
            allowed="0.05 (zero point 128)",
            title="before and after",
        ),
        Case(
            """g (uint8[1,2,4,4] p, uint8[1,2,4,4] q) => (uint8[1,2,4,4] y)
            <float s = {0.05}, float t = {0.1}, uint8 z = {128}>
            { a = DequantizeLinear(p, s, z)  b = DequantizeLinear(q, t, z)  c = Add(a, b)  y = QuantizeLinear(c, t, z) }""",
            limits={"quantization.same_operands": ["Add"]},
            expect=(("c", "0.1 (zero point 128)"),),
            allowed="0.05 (zero point 128)",
            title="operands of a sum",
        ),
    )

    def check_unit(self, unit: Unit, ctx: Context) -> Iterable[Draft]:
        for limit in self.limits:
            if operator(unit) not in (ctx.limit(limit) or ()):
                continue
            held = activations(unit)
            if limit == "quantization.same_operands":
                held = [(value, encoding) for value, encoding in held if encoding is not unit.output]
            for value, encoding in held[1:]:
                if not alike(held[0][1], encoding, ctx):
                    first, other = show_scale(held[0][1], ctx), show_scale(encoding, ctx)
                    text = f"{named(held[0][0])} has the scale {first} and {named(value)} {other}"
                    yield Draft(text, limit, other, first, value=value)
                    return
