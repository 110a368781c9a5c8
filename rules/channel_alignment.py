from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.checking.rule import Case, Draft, Rule
from npu_guard.results.findings import Severity

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_EIGHT = {"channels.multiple_of": 8}


class ChannelAlignment(Rule):
    """The output channels of a convolution or Gemm are not a multiple of the device's block.

    *What it does*

    Compares the output channels of Conv, ConvTranspose and Gemm with `channels.multiple_of`. A MatMul of vectors with
    constant weights counts as a Gemm. A map of one channel, such as a gate or a head, is a warning: the hardware pads it.

    *Why it matters*

    The multipliers and the memory work on whole blocks of channels. A map that ends within a block does not compile.

    *What to do*

    Widen the layer to the next multiple: filters of zeros here and zero weights in the consumers change nothing.
    """

    code = "NPU401"
    name = "channel-alignment"
    ops = ("Conv", "ConvTranspose", "Gemm", "MatMul")
    limits = ("channels.multiple_of",)
    substitutions = ("channels-to-aligned", "eca-to-se")
    good = (
        Case(
            """g (float[1,3,8,8] x) => (float[1,16,8,8] y)
            <float[16,3,1,1] w> { y = Conv(x, w) }""",
            limits=_EIGHT,
            title="the input's channels do not count",
        ),
        Case(
            """g (float[1,16,4,4] x) => (y)
            <float[16,2,2,2] w> { y = ConvTranspose<group = 4>(x, w) }""",
            limits=_EIGHT,
            title="four groups of two",
        ),
        Case(
            """g (float[1,3,"H","W"] x) => (y)
            <float[16,3,1,1] w> { y = Conv(x, w) }""",
            limits=_EIGHT,
            title="the weight tells",
        ),
        Case(
            """g (float[1,196,60] x) => (float[1,196,60] y)
            <float[60,60] w> { y = MatMul(x, w) }""",
            limits=_EIGHT,
            title="over tokens, which have no channel axis; NPU103 speaks of it",
        ),
    )
    bad = (
        Case(
            """g (float[1,3,8,8] x) => (float[1,12,8,8] y)
            <float[12,3,1,1] w> { y = Conv(x, w) }""",
            limits=_EIGHT,
            expect=(("y", 12),),
        ),
        Case(
            """g (float[1,3,8,8] x) => (float[1,1,8,8] y)
            <float[1,3,1,1] w> { y = Conv(x, w) }""",
            limits=_EIGHT,
            expect=(("y", 1),),
            severity=Severity.WARNING,
            title="a gate",
        ),
        Case(
            """g (float[1,8,4,4] x) => (y)
            <float[8,5,2,2] w> { y = ConvTranspose<group = 2>(x, w) }""",
            limits=_EIGHT,
            expect=(("y", 10),),
            title="two groups of five",
        ),
        Case(
            """g (float[64,1] x) => (float[1,10] y)
            <float[10,64] w> { y = Gemm<transA = 1, transB = 1>(x, w) }""",
            limits=_EIGHT,
            expect=(("y", 10),),
        ),
        Case(
            """g (float[1,64] x) => (float[1,10] y)
            <float[64,10] w> { y = MatMul(x, w) }""",
            limits=_EIGHT,
            expect=(("y", 10),),
            title="a Gemm in another spelling",
        ),
        Case(
            'g (float[1,8,8,8] x, float[8,"M",2,2] w) => (y) { y = ConvTranspose(x, w) }',
            limits=_EIGHT,
            undecided=("y",),
            title="a weight of unknown shape",
        ),
    )

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        multiple = ctx.limit("channels.multiple_of")
        if node.op_type == "MatMul" and not _is_gemm(node, ctx):
            return
        if node.op_type == "Gemm" and ctx.is_flat_tokens(ctx.input(node, 0)):
            return
        channels = _channels(node, ctx)
        if channels % multiple:
            severity = Severity.WARNING if channels == 1 else None
            text = f"{channels} output channel{'s are' if channels > 1 else ' is'} not a multiple of {multiple}"
            yield Draft(text, limit="channels.multiple_of", measured=channels, severity=severity)


def _is_gemm(node: Node, ctx: Context) -> bool:
    """Whether a MatMul applies a constant matrix to vectors."""
    x, weight = ctx.operands(node)
    if ctx.is_constant(x) or ctx.is_flat_tokens(x):
        return False
    return ctx.is_fixed(weight) and ctx.rank(weight) == 2 and ctx.rank(x) == 2


def _channels(node: Node, ctx: Context) -> int:
    """Output channels: of the weight, which is known even where the map is not, else of the output."""
    weight: Value = ctx.input(node, 1)
    axis = {"Conv": 0, "ConvTranspose": 1, "MatMul": 1}.get(node.op_type, 0 if node.attr("transB", 0) else 1)
    if weight.shape is None or axis >= len(weight.shape) or not isinstance(weight.shape[axis], int):
        return ctx.extent(node.output, 1)
    return ctx.extent(weight, axis) * (node.attr("group", 1) if node.op_type == "ConvTranspose" else 1)
