from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from npu_guard.checking.quantization import QuantizationRule, activations, constants, named, scales, weights
from npu_guard.checking.rule import Case, Draft

if TYPE_CHECKING:
    from npu_guard.analysis.quantized.unit import Unit
    from npu_guard.checking.context import Context


class DegenerateScale(QuantizationRule):
    """A scale is 0, negative, not finite, or smaller than a normal number.

    *What it does*

    Looks at the scales of all that an operator reads and gives, whatever the device. That of a block of a weight may be
    negative: quantizers to 4 bits put the largest number of a block at the longer end of the range.

    *Why it matters*

    Dividing by such a scale gives infinities, and every compiler does something else with them. They come from calibration
    that saw nothing but zeros, or from weights of a channel that was pruned.

    *What to do*

    Calibrate with data that reaches the tensor. Remove channels whose weights are all 0, or give them the scale 1.
    """

    code = "NPU811"
    name = "degenerate-scale"
    good = (
        Case(
            """g (uint8[1,8,4,4] x) => (uint8[1,8,4,4] y)
            <float s = {0.05}, uint8 z = {128}>
            { a = DequantizeLinear(x, s, z)  b = Relu(a)  y = QuantizeLinear(b, s, z) }""",
        ),
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}, int8[2,2,1,1] w, float[2] t = {0.1, 0.2}, int8[2] n = {0, 0}>
            { a = DequantizeLinear(x, s, z)  c = DequantizeLinear<axis = 0>(w, t, n)  b = Conv(a, c)
              y = QuantizeLinear(b, s, z) }""",
            title="for each channel",
        ),
        Case(
            """g (float[1,32] x) => (float[1,2] y)
            <uint8[2,1,16] w, float[2] t = {-0.1, 0.2}>
            { y = com.microsoft.MatMulNBits<K = 32, N = 2, bits = 4, block_size = 32>(x, w, t) }""",
            title="of blocks, which may be negative",
        ),
    )
    bad = (
        Case(
            """g (uint8[1,8,4,4] x) => (uint8[1,8,4,4] y)
            <float s = {0.0}, uint8 z = {128}>
            { a = DequantizeLinear(x, s, z)  b = Relu(a)  y = QuantizeLinear(b, s, z) }""",
            expect=(("b", None),),
        ),
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}, int8[2,2,1,1] w, float[2] t = {0.1, 0.0}, int8[2] n = {0, 0}>
            { a = DequantizeLinear(x, s, z)  c = DequantizeLinear<axis = 0>(w, t, n)  b = Conv(a, c)
              y = QuantizeLinear(b, s, z) }""",
            expect=(("b", None),),
            title="of one channel",
        ),
        Case(
            """g (uint8[1,8,4,4] x) => (uint8[1,8,4,4] y)
            <float s = {0.05}, uint8 z = {128}, uint8[1,8,1,1] k, float t = {0.0}>
            { a = DequantizeLinear(x, s, z)  c = DequantizeLinear(k, t, z)  b = Add(a, c)  y = QuantizeLinear(b, s, z) }""",
            expect=(("b", None),),
            title="of what an Add adds",
        ),
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}, int8[2,2,1,1] w, float t = {0.1}, int8 n = {0}, int32[2] k, float u = {0.0}>
            { a = DequantizeLinear(x, s, z)  c = DequantizeLinear(w, t, n)  d = DequantizeLinear(k, u)  b = Conv(a, c, d)
              y = QuantizeLinear(b, s, z) }""",
            expect=(("b", None),),
            title="of a bias",
        ),
        Case(
            """g (uint8[1,2,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.0}, uint8 z = {128}, int8[2,2,1,1] w, int8 n = {0}>
            { i = ConvInteger(x, w, z, n)  f = Cast<to = 1>(i)  j = Identity(f)  y = Mul(j, s) }""",
            expect=(("i", None),),
            title="by which sums of integers are scaled",
        ),
        Case(
            """g (uint8[1,8,4,4] x) => (uint8[1,8,4,4] y)
            <float s = {-0.05}, uint8 z = {128}>
            { a = DequantizeLinear(x, s, z)  b = Relu(a)  y = QuantizeLinear(b, s, z) }""",
            expect=(("b", None),),
            title="negative",
        ),
    )

    def check_unit(self, unit: Unit, ctx: Context) -> Iterable[Draft]:
        read = [*activations(unit), *((o.value, e) for o, e in weights(unit)), *constants(unit)]
        for value, held in [*read, *((v, None) for v in ctx.quantized.scalings(unit.node))]:
            found = scales(held, ctx) if held is not None else np.asarray(ctx.array(value), np.float64).reshape(-1)
            if found is None:
                continue
            sizes = np.abs(found) if held is not None and held.block else found
            broken = ~(np.isfinite(found) & (sizes >= _SMALLEST))
            if broken.any():
                at = int(np.argmax(broken))
                where = f" of {'block' if held is not None and held.block else 'channel'} {at}" if len(found) > 1 else ""
                yield Draft(f"the scale{where} of {named(value)} is {found[at]:.6g}", value=value)
                return


_SMALLEST = float(np.finfo(np.float16).smallest_subnormal) ** 2
"""Far below any range that data has, and far above where float32 loses digits."""
