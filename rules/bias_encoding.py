from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from npu_guard.checking.quantization import QuantizationRule, named, scales, type_name, weights
from npu_guard.checking.rule import Case, Draft

if TYPE_CHECKING:
    from npu_guard.analysis.quantized.encoding import Encoding
    from npu_guard.analysis.quantized.unit import Unit
    from npu_guard.checking.context import Context


class BiasEncoding(QuantizationRule):
    """A quantized bias has another type or scale than the sums that it is added to.

    *What it does*

    Compares the type of a quantized bias with the device's, and its scale with the scale of the data times that of the
    weights, to a part in ten thousand. A bias in floating point is no matter, as the compiler quantizes it.

    *Why it matters*

    The bias is added to the integer sums of products, whose scale is that product. One of another scale would be added
    wrongly, so that compilers refuse it or take the whole operator out.

    *What to do*

    Leave the bias to the quantizer (onnxruntime.quantization writes int32 with that scale; PyTorch's export keeps it in
    floating point), and quantize it anew after a change of the other scales.
    """

    code = "NPU809"
    name = "bias-encoding"
    limits = (
        "quantization.bias_types",
        "quantization.bias_scale",
    )
    good = (
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}, int8[2,2,1,1] w, float t = {0.1}, int8 n = {0}, int32[2] q,
              float u = {0.005}>
            { a = DequantizeLinear(x, s, z)  c = DequantizeLinear(w, t, n)  d = DequantizeLinear(q, u)  b = Conv(a, c, d)
              y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.bias_types": ["int32"], "quantization.bias_scale": True},
        ),
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}, int8[2,2,1,1] w, float t = {0.1}, int8 n = {0}, float[2] d>
            { a = DequantizeLinear(x, s, z)  c = DequantizeLinear(w, t, n)  b = Conv(a, c, d)  y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.bias_types": ["int32"], "quantization.bias_scale": True},
            title="in floating point",
        ),
    )
    bad = (
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}, int8[2,2,1,1] w, float t = {0.1}, int8 n = {0}, int32[2] q,
              float u = {0.01}>
            { a = DequantizeLinear(x, s, z)  c = DequantizeLinear(w, t, n)  d = DequantizeLinear(q, u)  b = Conv(a, c, d)
              y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.bias_scale": True},
            expect=(("b", "0.01"),),
            allowed="0.005",
        ),
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}, int8[2,2,1,1] w, float t = {0.1}, int8 n = {0}, int8[2] q,
              float u = {0.005}>
            { a = DequantizeLinear(x, s, z)  c = DequantizeLinear(w, t, n)  d = DequantizeLinear(q, u)  b = Conv(a, c, d)
              y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.bias_types": ["int32"]},
            expect=(("b", "int8"),),
            allowed="int32",
            title="of eight bits",
        ),
    )

    def check_unit(self, unit: Unit, ctx: Context) -> Iterable[Draft]:
        types = ctx.limit("quantization.bias_types")
        for operand in unit.operands:
            held = operand.encoding
            if operand.role != "bias" or held is None:
                continue
            name, kind = named(operand.value), type_name(held)
            if types is not None and kind not in types:
                yield Draft(
                    f"the bias {name} is held as {kind}", "quantization.bias_types", kind, ", ".join(types), value=operand.value
                )
            elif ctx.limit("quantization.bias_scale") and (wrong := _wrong(unit, held, ctx)) is not None:
                have, want = (f"{number:.6g}" for number in wrong)
                text = f"the scale of the bias {name} is {have}, that of the sums is {want}"
                yield Draft(text, "quantization.bias_scale", have, want, value=operand.value)


def _wrong(unit: Unit, bias: Encoding, ctx: Context) -> tuple[float, float] | None:
    """The first scale of the bias that is not that of the sums, and that one. Raises Undecidable."""
    data = next((o.encoding for o in unit.data if o.encoding is not None), None)
    held = [encoding for _, encoding in weights(unit)]
    own = scales(bias, ctx)
    first = None if data is None else scales(data, ctx)
    second = scales(held[0], ctx) if held else None
    if own is None or first is None or second is None:
        return None
    wanted = first * second
    if len(own) not in (1, len(wanted)) and len(wanted) != 1:
        return None
    for have, want in zip(*np.broadcast_arrays(own, wanted), strict=True):
        if abs(have - want) > 1e-4 * abs(want):
            return float(have), float(want)
    return None
