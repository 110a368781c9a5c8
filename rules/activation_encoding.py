from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.checking.quantization import MIDDLES, QuantizationRule, activations, named, type_name, zero_points
from npu_guard.checking.rule import Case, Draft

if TYPE_CHECKING:
    from npu_guard.analysis.quantized.unit import Unit
    from npu_guard.checking.context import Context


class ActivationEncoding(QuantizationRule):
    """Activations are quantized to a type, or with a zero point or scales, that the device does not have.

    *What it does*

    Compares the types of the integers that operators read and give with those of the device, and their zero points with 0
    where the device wants that (with the middle of an unsigned type). A scale for each channel of an activation is
    refused wherever types are stated.

    *Why it matters*

    Activations go through the device's memory in one of its types. Those of another are converted on the way, computed in
    floating point, or refused.

    *What to do*

    Choose the type in the quantizer: `activation_type` and `ActivationSymmetric` of onnxruntime.quantization, the dtype and
    qscheme of PyTorch's observers.
    """

    code = "NPU805"
    name = "activation-encoding"
    limits = (
        "quantization.activation_types",
        "quantization.activations_symmetric",
    )
    good = (
        Case(
            """g (uint8[1,8,4,4] x) => (uint8[1,8,4,4] y)
            <float s = {0.05}, uint8 z = {128}>
            { a = DequantizeLinear(x, s, z)  b = Relu(a)  y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.activation_types": ["uint8"]},
        ),
        Case(
            """g (uint8[1,8,4,4] x) => (uint8[1,8,4,4] y)
            <float s = {0.05}, uint8 z = {128}>
            { a = DequantizeLinear(x, s, z)  b = Relu(a)  y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.activations_symmetric": ["uint8"]},
            title="the middle of an unsigned type",
        ),
    )
    bad = (
        Case(
            """g (uint8[1,8,4,4] x) => (uint8[1,8,4,4] y)
            <float s = {0.05}, uint8 z = {128}>
            { a = DequantizeLinear(x, s, z)  b = Relu(a)  y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.activation_types": ["int8"]},
            expect=(("b", "uint8"),),
            allowed="int8",
        ),
        Case(
            """g (uint8[1,8,4,4] x) => (uint8[1,8,4,4] y)
            <float s = {0.05}, uint8 z = {3}>
            { a = DequantizeLinear(x, s, z)  b = Relu(a)  y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.activations_symmetric": ["uint8"]},
            expect=(("b", 3),),
            allowed=128,
            title="asymmetric",
        ),
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float[2] s = {0.05, 0.1}, uint8[2] z = {128, 128}>
            { a = DequantizeLinear<axis = 1>(x, s, z)  b = Relu(a)  y = QuantizeLinear<axis = 1>(b, s, z) }""",
            limits={"quantization.activation_types": ["uint8"]},
            expect=(("b", "channel"),),
            allowed="tensor",
            title="a scale for each channel",
        ),
    )

    def check_unit(self, unit: Unit, ctx: Context) -> Iterable[Draft]:
        types, symmetric = ctx.limit("quantization.activation_types"), ctx.limit("quantization.activations_symmetric")
        for value, held in activations(unit):
            name, kind = named(value), type_name(held)
            if types is not None and kind not in types:
                allowed = ", ".join(types)
                yield Draft(f"{name} is held as {kind}", "quantization.activation_types", kind, allowed, value=value)
                return
            if types is not None and held.axis is not None:
                text = f"{name} has a scale for each {held.granularity}"
                yield Draft(text, "quantization.activation_types", held.granularity, "tensor", value=value)
                return
        for value, held in activations(unit) if symmetric else ():
            middle = MIDDLES.get(held.dtype, 0)
            if type_name(held) in symmetric and (zero := zero_points(held, ctx)[0].item()) != middle:
                text = f"the zero point of {named(value)} is {zero}, not {middle}"
                yield Draft(text, "quantization.activations_symmetric", zero, middle, value=value)
                return
