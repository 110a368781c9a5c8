from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.analysis import einsum
from npu_guard.base.errors import Undecidable
from npu_guard.checking.rule import Case, Draft, Rule
from npu_guard.graph.plain import plain
from npu_guard.graph.plain_names import PACKED
from npu_guard.results.findings import Severity

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node

_EIGHT = {"channels.multiple_of": 8}


class ChannelAlignment(Rule):
    """The output channels of a convolution or Gemm are not a multiple of the device's block.

    *What it does*

    Compares the output channels of Conv, ConvTranspose and Gemm, their integer and fused forms, with `channels.multiple_of`. A
    MatMul or Einsum of vectors with constant weights counts as a Gemm, on whichever side the weights stand. A map of one
    channel, such as a gate or a head, is a warning: the hardware pads it.

    *Why it matters*

    The multipliers and the memory work on whole blocks of channels. A map that ends within a block does not compile.

    *What to do*

    Widen the layer to the next multiple: filters of zeros here and zero weights in the consumers change nothing.
    """

    code = "NPU401"
    name = "channel-alignment"
    ops = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum")
    limits = ("channels.multiple_of",)
    good = (
        Case(
            "g (float[1,3,8,8] x) => (float[1,16,8,8] y) <float[16,3,1,1] w> { y = Conv(x, w) }",
            _EIGHT,
            title="the input's channels do not count",
        ),
        Case(
            "g (float[1,16,4,4] x) => (y) <float[16,2,2,2] w> { y = ConvTranspose<group = 4>(x, w) }",
            _EIGHT,
            title="four groups of two",
        ),
        Case(
            'g (float[1,3,"H","W"] x) => (y) <float[16,3,1,1] w> { y = Conv(x, w) }',
            _EIGHT,
            title="the weight tells",
        ),
        Case(
            "g (float[1,196,60] x) => (float[1,196,60] y) <float[60,60] w> { y = MatMul(x, w) }",
            _EIGHT,
            title="over tokens, which have no channel axis; NPU103 speaks of it",
        ),
    )
    bad = (
        Case("g (float[1,3,8,8] x) => (float[1,12,8,8] y) <float[12,3,1,1] w> { y = Conv(x, w) }", _EIGHT, expect=(("y", 12),)),
        Case(
            "g (float[1,3,8,8] x) => (float[1,1,8,8] y) <float[1,3,1,1] w> { y = Conv(x, w) }",
            _EIGHT,
            expect=(("y", 1),),
            severity=Severity.WARNING,
            title="a gate",
        ),
        Case(
            "g (float[1,8,4,4] x) => (y) <float[8,5,2,2] w> { y = ConvTranspose<group = 2>(x, w) }",
            _EIGHT,
            expect=(("y", 10),),
            title="two groups of five",
        ),
        Case(
            "g (float[64,1] x) => (float[1,10] y) <float[10,64] w> { y = Gemm<transA = 1, transB = 1>(x, w) }",
            _EIGHT,
            expect=(("y", 10),),
        ),
        Case(
            "g (float[1,64] x) => (float[1,10] y) <float[64,10] w> { y = MatMul(x, w) }",
            _EIGHT,
            expect=(("y", 10),),
            title="a Gemm in another spelling",
        ),
        Case(
            'g (float[1,64] x) => (y) <float[64,12] w> { y = Einsum<equation = "bc,cd->bd">(x, w) }',
            _EIGHT,
            expect=(("y", 12),),
            title="and in a third",
        ),
        Case(
            "g (float[8,1] x) => (y) <float[12,8] w> { y = MatMul(w, x) }",
            _EIGHT,
            expect=(("y", 12),),
            title="weights on the left, applied to a column",
        ),
        Case("g (float[64] x) => (y) <float[64,12] w> { y = MatMul(x, w) }", _EIGHT, expect=(("y", 12),), title="no batch"),
        Case(
            "g (float[1,64] x) => (y) <float[64] w> { y = MatMul(x, w) }", _EIGHT, expect=(("y", 1),), severity=Severity.WARNING
        ),
        Case(
            """g (uint8[1,8,4,4] x) => (y) <float s = {0.1}, uint8 z = {0}, uint8[12,8,1,1] w>
            { y = QLinearConv(x, s, z, w, s, z, s, z) }""",
            _EIGHT,
            expect=(("y", 12),),
            title="a convolution of integers",
        ),
        Case(
            'g (float[1,8,8,8] x, float[8,"M",2,2] w) => (y) { y = ConvTranspose(x, w) }',
            _EIGHT,
            undecided=("y",),
            title="a weight of unknown shape",
        ),
    )

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        multiple = ctx.limit("channels.multiple_of")
        operator = plain(node)
        if operator in ("MatMul", "Einsum") and not _is_gemm(node, ctx):
            return
        if operator == "Gemm" and any(ctx.is_flat_tokens(v) for v in ctx.operands(node) if not ctx.is_constant(v)):
            return
        channels = _channels(node, ctx)
        if channels % multiple:
            severity = Severity.WARNING if channels == 1 else None
            text = f"{channels} output channel{'s are' if channels > 1 else ' is'} not a multiple of {multiple}"
            yield Draft(text, limit="channels.multiple_of", measured=channels, severity=severity)


def _is_gemm(node: Node, ctx: Context) -> bool:
    """Whether a product applies a constant matrix, or one row of it, to vectors: to a row, or from the left to a column."""
    if node.op_type == "Einsum" and (einsum.product(node) is None or einsum.elementwise(node) is not None):
        return False
    x, weight = ctx.operands(node)[1 if ctx.weight_is_first(node) else 0], ctx.weight(node)
    if ctx.is_constant(x) or ctx.is_flat_tokens(x):
        return False
    return ctx.is_fixed(weight) and (node.op in PACKED or ctx.rank(weight) in (1, 2)) and ctx.rank(x) in (1, 2)


def _channels(node: Node, ctx: Context) -> int:
    """Output channels: of the weight, which is known even where the map is not, else of the output."""
    try:
        return ctx.channel_count(node, out=True)
    except Undecidable:
        return ctx.along(node, node.output, 1)
