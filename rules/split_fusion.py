from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.analysis.quantized.encoding import dequantizes, quantizes
from npu_guard.base.text import short
from npu_guard.checking.quantization import QuantizationRule
from npu_guard.checking.rule import Case, Draft

if TYPE_CHECKING:
    from npu_guard.analysis.quantized.unit import Unit
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node


class SplitFusion(QuantizationRule):
    """A pair of QuantizeLinear and DequantizeLinear splits what the compiler fuses.

    *What it does*

    Looks for an activation that the device computes with the convolution, matrix product or sum before it, and that reads
    that one's result through a pair of QuantizeLinear and DequantizeLinear, where nobody else reads it.

    *Why it matters*

    The pair makes a tensor of its own of what would have stayed in the unit, and rounds it: one more pass through memory, and
    half of its range is spent on values that the activation cuts off.

    *What to do*

    Fuse before quantizing: `fuse_modules` in PyTorch, `quant_pre_process` of onnxruntime; or leave the first of the two
    results out of the tensors to quantize.
    """

    code = "NPU812"
    name = "split-fusion"
    limits = ("quantization.fused",)
    good = (
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}, int8[2,2,1,1] w, float t = {0.1}, int8 n = {0}>
            { a = DequantizeLinear(x, s, z)  c = DequantizeLinear(w, t, n)  d = Conv(a, c)  b = Relu(d)
              y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.fused": ["Relu"]},
        ),
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}, int8[2,2,1,1] w, float t = {0.1}, int8 n = {0}>
            { a = DequantizeLinear(x, s, z)  c = DequantizeLinear(w, t, n)  d = Conv(a, c)  p = QuantizeLinear(d, s, z)
              q = DequantizeLinear(p, s, z)  b = Relu(q)  y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.fused": ["Clip"]},
            title="on a device that does not fuse it",
        ),
    )
    bad = (
        Case(
            """g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y)
            <float s = {0.05}, uint8 z = {128}, int8[2,2,1,1] w, float t = {0.1}, int8 n = {0}>
            { a = DequantizeLinear(x, s, z)  c = DequantizeLinear(w, t, n)  d = Conv(a, c)  p = QuantizeLinear(d, s, z)
              q = DequantizeLinear(p, s, z)  b = Relu(q)  y = QuantizeLinear(b, s, z) }""",
            limits={"quantization.fused": ["Relu"]},
            expect=(("b", "d"),),
            allowed="Relu",
        ),
    )

    def check_unit(self, unit: Unit, ctx: Context) -> Iterable[Draft]:
        before = _before(unit, ctx) if unit.node.op in (ctx.limit("quantization.fused") or ()) else None
        if before is not None:
            text = f"{unit.node.op} reads the result of {before.op} through a pair of its own, which keeps the two apart"
            fused = ", ".join(ctx.limit("quantization.fused"))
            yield Draft(text, "quantization.fused", short(before.output.name), fused, value=before.output)


def _before(unit: Unit, ctx: Context) -> Node | None:
    """The convolution, product or sum whose result the activation alone reads, through one pair."""
    value = unit.node.inputs[0]
    for reads in (dequantizes, quantizes):
        node = None if value is None else ctx.analysis.origin(value).producer
        if value is None or node is None or not reads(node) or ctx.analysis.only_reader(ctx.analysis.origin(value)) is None:
            return None
        value = node.inputs[0]
    node = None if value is None else ctx.analysis.origin(value).producer
    alone = node is not None and ctx.analysis.only_reader(node.output) is not None
    return node if node is not None and alone and (node.kind in ("convolution", "product") or node.op == "Add") else None
