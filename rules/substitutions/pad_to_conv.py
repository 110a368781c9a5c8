from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from npu_guard.rewriting.arithmetic import writable
from npu_guard.rewriting.finite import is_finite
from npu_guard.rewriting.node_numbers import padding
from npu_guard.rewriting.substitution import Array, Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_NEEDS = dict.fromkeys(("Conv", "Relu"), "supported")
_MERGED, _OWN, _LONG = "merged", "own", "long"
_BELOW = ({"ops": ["Conv"], "metric": "pads", "below": "kernel", "consequence": "host"},)


class PadToConv(Substitution):
    """Zeros around a map become the padding of a convolution.

    A Conv that alone reads the padded map takes the zeros on itself: its windows are the same. Elsewhere a depthwise Conv of 1x1
    with weight 1 copies each number, 1 x = x for infinite ones too, and its padding is the margin. For a device whose kernels are
    longer than their padding, f zeros in front and b behind are a kernel of f + b + 1 with its 1 at place b, padded by f + b on
    either side; as that makes 0 x of all others, x has to be finite.
    """

    name = "pad-to-conv"
    roots = ("Pad",)
    operators = _NEEDS
    good = (
        Example(
            """g (float[1,4,5,7] x, float[8,4,3,3] w) => (y)
            <int64[8] p = {0, 0, 0, 1, 0, 0, 1, 2}> { a = Pad(x, p)  y = Conv<strides = [2,2], pads = [1,0,0,0]>(a, w) }""",
            ops=("Conv",),
            title="in front of a convolution, as TensorFlow pads",
        ),
        Example(
            "g (float[1,4,5,7] x) => (y) <int64[8] p = {0, 0, 3, 1, 0, 0, 1, 2}> { a = Pad(x, p)  y = Relu(a) }",
            ops=("Conv", "Relu"),
            title="in front of something else",
        ),
        Example(
            """g (float[1,4,5,7] x, float[8,4,3,3] w) => (y, z)
            <int64[4] p = {1, 0, 0, 2}, float o = {0.0}, int64[2] a = {2, -1}> {
                m = Pad(x, p, o, a)  y = Conv(m, w)  z = Relu(m) }""",
            ops=("Conv", "Conv", "Relu"),
            title="that others read too, along the axes that are named",
        ),
        Example(
            "g (float[1,4,5,7] x) => (y) <int64[8] p = {0, 0, 3, 0, 0, 0, 1, 2}> { a = Relu(x)  b = Pad(a, p)  y = Relu(b) }",
            ops=("Relu", "Conv", "Relu"),
            require=_BELOW,
            title="a device whose kernels are longer than their padding",
        ),
        Example(
            "g (float[2,4,9] x) => (y) { y = Pad<pads = [0,0,2,0,0,1]>(x) }",
            ops=("Conv",),
            opset=10,
            title="a sequence, in an old opset",
        ),
    )
    bad = (
        Example(
            "g (float[1,4,5,7] x) => (y) <int64[8] p = {0, 1, 0, 0, 0, 0, 0, 0}> { y = Pad(x, p) }",
            refused="it pads batch or channels",
        ),
        Example(
            "g (float[1,4,5,7] x) => (y) <int64[8] p = {0, 0, 1, 0, 0, 0, 0, 0}, float o = {1.0}> { y = Pad(x, p, o) }",
            refused="it pads by 1",
        ),
        Example(
            "g (float[1,4,5,7] x) => (y) <int64[8] p = {0, 0, 1, 0, 0, 0, -1, 0}> { y = Pad(x, p) }",
            refused="it cuts",
        ),
        Example(
            'g (float[1,4,5,7] x) => (y) <int64[8] p = {0, 0, 1, 0, 0, 0, 0, 0}> { y = Pad<mode = "edge">(x, p) }',
            refused="its margins repeat what is inside",
        ),
        Example("g (float[1,4,5,7] x, int64[8] p) => (y) { y = Pad(x, p) }", refused="its amounts are computed"),
        Example(
            "g (int32[1,4,5,7] x) => (y) <int64[8] p = {0, 0, 1, 0, 0, 0, 0, 0}> { y = Pad(x, p) }",
            refused="neither float32, float16 nor double",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Sequence[Match]:
        margins = _margins(node, ctx)
        writable(node)
        reader = node.output.only_consumer
        made = [Match(self, node, (node,), (node.output,), margins, _OWN)]
        if is_finite(ctx.input(node, 0), ctx):
            made.append(Match(self, node, (node,), (node.output,), margins, _LONG))
        if reader is not None and _takes(reader, node):
            made.insert(0, Match(self, node, (node, reader), (reader.output,), margins, _MERGED))
        return made

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._write(match, build, match.facts)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """Front and back exchanged."""
        half = len(match.facts) // 2
        return self._write(match, build, [*match.facts[half:], *match.facts[:half]])

    def _write(self, match: Match, build: Builder, margins: list[int]) -> Mapping[Value, str]:
        node, x = match.root, match.root.inputs[0]
        assert x is not None
        if match.variant == _MERGED:
            conv = match.nodes[1]
            own = conv.attr("pads") or [0] * len(margins)
            pads = [a + int(b) for a, b in zip(margins, own, strict=True)]
            return {conv.output: build.like(conv, x, *conv.inputs[1:], pads=pads, auto_pad=None)[0]}
        channels, rank = (x.shape or ())[1], len(margins) // 2
        assert isinstance(channels, int)
        kind = np.dtype({1: np.float32, 10: np.float16, 11: np.float64}[node.output.dtype])
        kernel, place, pads = [1] * rank, [0] * rank, margins
        if match.variant == _LONG:
            sums = [a + b for a, b in zip(margins[:rank], margins[rank:], strict=True)]
            kernel, place, pads = [n + 1 for n in sums], margins[rank:], [*sums, *sums]

        def hot() -> Array:
            weight = np.zeros((channels, 1, *kernel), kind)
            weight.reshape(channels, -1)[:, np.ravel_multi_index(place, kernel)] = 1
            return weight

        ones = build.later((channels, 1, *kernel), hot, kind, "ones")
        return {node.output: build.op("Conv", x, ones, group=channels, kernel_shape=kernel, pads=pads)}


def _takes(conv: Node, pad: Node) -> bool:
    """Whether a Conv can pad for itself what it reads."""
    stated = conv.attr("auto_pad", b"NOTSET")
    plain = stated in ("NOTSET", b"NOTSET") or (stated in ("VALID", b"VALID") and not any(conv.attr("pads") or ()))
    return conv.op_type == "Conv" and not conv.domain and conv.inputs[0] is pad.output and plain and conv.graph is pad.graph


def _margins(node: Node, ctx: Context) -> list[int]:
    """Zeros in front along each axis of space, then behind. Raises Refused."""
    sides, value = padding(node, ctx)
    if len(sides) not in (3, 4):
        raise Refused("its shape is that of no map")
    if value != 0:
        raise Refused(f"it pads by {value:g}")
    if any(map(any, sides[:2])):
        raise Refused("it pads batch or channels")
    return [*(front for front, _ in sides[2:]), *(behind for _, behind in sides[2:])]
