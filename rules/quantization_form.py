from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.checking.quantization import QuantizationRule
from npu_guard.checking.rule import Case, Draft

if TYPE_CHECKING:
    from npu_guard.analysis.quantized.unit import Unit
    from npu_guard.checking.context import Context


class QuantizationForm(QuantizationRule):
    """Quantization is spelled, or scaled at run time, as the compiler does not read it.

    *What it does*

    Looks at how each quantized operator is written: with QuantizeLinear and DequantizeLinear around it (`qdq`), as
    QLinearConv and its like (`qoperator`), as ConvInteger and its like, whose sums other operators scale (`integer`), with
    scales that are computed at run time (`dynamic`), or with quantized weights alone (`weights`). What a device's documents say
    of such an operator by its name is reported here as well.

    *Why it matters*

    A compiler looks for one spelling. Another is no operator of its, so that everything goes to the host. Scales that are
    computed at run time leave the host to compute them, between any two operators.

    *What to do*

    Quantize statically, with calibration data, and in the format that the device reads: `quant_format` of
    onnxruntime.quantization.
    """

    code = "NPU810"
    name = "quantization-form"
    limits = ("quantization.forms",)
    good = (
        Case(
            """g (uint8[1,8,4,4] x) => (uint8[1,8,4,4] y)
            <float s = {0.05}, uint8 z = {128}>
            { a = DequantizeLinear(x, s, z)  b = Relu(a)  y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.forms": ["qdq"]},
        ),
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}, int8[2,2,1,1] w, float t = {0.1}, int8 n = {0}>
            { y = QLinearConv(x, s, z, w, t, n, s, z) }""",
            limits={"quantization.forms": ["qdq", "qoperator"]},
        ),
    )
    bad = (
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}, int8[2,2,1,1] w, float t = {0.1}, int8 n = {0}>
            { y = QLinearConv(x, s, z, w, t, n, s, z) }""",
            limits={"quantization.forms": ["qdq"]},
            expect=(("y", "qoperator"),),
            allowed="qdq",
        ),
        Case(
            """g (float[1,2,4,4] x) => (float[1,2,4,4] y)
            <int8[2,2,1,1] w, int8 n = {0}, float t = {0.1}>
            { q, s, z = DynamicQuantizeLinear(x)  i = ConvInteger(q, w, z, n)  f = Cast<to = 1>(i)  u = Mul(s, t)
              y = Mul(f, u) }""",
            limits={"quantization.forms": ["qdq"]},
            expect=(("i", "dynamic"),),
            allowed="qdq",
            title="scales at run time",
        ),
        Case(
            """g (float[1,2,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}, int8[2,2,1,1] w, float t = {0.1}, int8 n = {0}>
            { q = QuantizeLinear(x, s, z)  i = ConvInteger(q, w, z, n)  f = Cast<to = 1>(i)  y = Mul(f, t) }""",
            limits={"quantization.forms": ["qdq", "qoperator", "weights"]},
            expect=(("i", "integer"),),
            allowed="qdq, qoperator, weights",
            title="sums that are scaled by others",
        ),
    )

    def check_unit(self, unit: Unit, ctx: Context) -> Iterable[Draft]:
        forms = ctx.limit("quantization.forms")
        if forms is not None and unit.form not in (*forms, "float"):
            text = f"{unit.node.op} is quantized in the form {unit.form!r}: {_FORMS[unit.form]}"
            yield Draft(text, "quantization.forms", unit.form, ", ".join(forms) or "none")


_FORMS = {
    "qdq": "between DequantizeLinear and QuantizeLinear",
    "qoperator": "an operator on integers with the scale of its result",
    "integer": "an operator on integers whose sums other operators scale",
    "dynamic": "its scales are computed at run time",
    "weights": "its weights are integers and its activations are not",
}
