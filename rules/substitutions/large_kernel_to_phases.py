from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct

from npu_guard.graph.graph import is_known
from npu_guard.rewriting.node_numbers import padding_before
from npu_guard.rewriting.quantized import relaid
from npu_guard.rewriting.substitution import Array, Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

LIMIT = {"conv.kernel_max": 17}


class LargeKernelToPhases(Substitution):
    """A kernel over the limit becomes a sum of dilated kernels, one for each phase.

    The taps t = d*i + p of an axis, for one phase p < d, form a kernel of ceil((k - p) / d) taps with dilation d whose window
    starts p pixels later: its begin padding is smaller by p. The results of all phases are summed; on two axes the phases
    combine to d_h x d_w convolutions. Where a padding would become negative, the phase gets a zero tap on that side, which moves
    the edge back by d, so nothing is ever cropped. A kernel that is dilated by e already has its phases e pixels apart.

    A ConvTranspose writes where a convolution reads: phase p of it lands p pixels later, which is again a begin padding smaller
    by p. Exact but for the order of summation, also strided, depthwise and grouped.
    """

    name = "large-kernel-to-phases"
    roots = ("Conv", "ConvTranspose")
    alone = True
    limits = LIMIT
    good = (
        Example(
            """g (float[1,3,40,37] x) => (y)
            <float[4,3,19,19] w, float[4] b> { y = Conv<pads = [9,9,9,9]>(x, w, b) }""",
            ops=("Conv", "Conv", "Add", "Conv", "Add", "Conv", "Add"),
        ),
        Example(
            """g (float[1,4,45,20] x) => (y)
            <float[4,1,31,3] w> { y = Conv<group = 4, strides = [2,1], pads = [1,1,0,1]>(x, w) }""",
            ops=("Conv", "Conv", "Add"),
            title="depthwise, strided, padded less than a phase",
        ),
        Example(
            """g (float[2,4,80,16] x) => (y)
            <float[6,2,63,1] w, float[6] b> { y = Conv<group = 2, auto_pad = "SAME_LOWER">(x, w, b) }""",
            ops=("Conv", "Conv", "Add", "Conv", "Add", "Conv", "Add"),
            title="63 taps, grouped",
        ),
        Example(
            """g (float[1,4,7,5] x) => (y)
            <float[4,3,20,18] w, float[3] b>
            { y = ConvTranspose<strides = [10,9], pads = [5,4,5,5], output_padding = [1,0]>(x, w, b) }""",
            ops=("ConvTranspose", "ConvTranspose", "Add", "ConvTranspose", "Add", "ConvTranspose", "Add"),
        ),
        Example(
            """g (float[1,4,9,60] x) => (y)
            <float[4,4,1,18] w> { y = Conv<dilations = [1,3]>(x, w) }""",
            ops=("Conv", "Conv", "Add"),
            title="dilated already",
        ),
        Example(
            """g (float[1,4,45,9] x) => (y)
            <int8[4,1,31,3] q, float[4] s = {0.5, 0.25, 1, 2}, int8[4] z = {0, 3, -5, 1}> {
                w = DequantizeLinear<axis = 0>(q, s, z)  y = Conv<group = 4>(x, w) }""",
            ops=("DequantizeLinear", "Conv", "DequantizeLinear", "Conv", "Add"),
            title="quantized weights, whose integers and zero points move along",
        ),
    )
    bad = (
        Example(
            "g (float[1,8,40,40] x, float[8,8,19,19] w) => (y) { y = Conv(x, w) }",
            refused="its weights are not constant",
        ),
        Example(
            """g (float[1,8,"H",40] x) => (y)
            <float[8,8,19,19] w> { y = Conv<pads = [9,9,9,9]>(x, w) }""",
            refused="its shapes are not known",
        ),
        Example(
            """g (float[1,2,600,4] x) => (y)
            <float[2,2,545,1] w> { y = Conv(x, w) }""",
            refused="phases, more than 32",
            title="too long for it to pay",
        ),
    )

    def match(self, node: Node, ctx: Context) -> list[Match] | None:
        kernel = ctx.kernel(node)
        limits = [n for n in ctx.bounds(node.op_type, "kernel", "conv.kernel_max") if 1 < n < max(kernel, default=0)]
        if not limits:
            return None
        if not ctx.is_constant(ctx.input(node, 1)):
            raise Refused("its weights are not constant")
        if not (is_known(ctx.input(node, 0).shape) and is_known(node.output.shape)):
            raise Refused("its shapes are not known; fix them with --input-shape")
        axes = [_Axis.of(node, ctx.input(node, 0), i) for i in range(len(kernel))]
        splits = dict.fromkeys(tuple(axis.split(n) for axis in axes) for n in limits)
        most = MAX_STRIDED if node.op_type == "Conv" and any(a.stride > 1 for a in axes) else MAX_PHASES
        if (fewest := min(map(math.prod, splits))) > most:
            raise Refused(f"it would take {fewest} phases, more than {most}")
        return [Match(self, node, (node,), (node.output,), s, s) for s in splits if math.prod(s) <= most]

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._build(match, build, first=0)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """Phases in the wrong places: every second one is taken for its neighbour."""
        return self._build(match, build, first=1)

    def _build(self, match: Match, build: Builder, first: int) -> Mapping[Value, str]:
        node = match.root
        x, weight_value = node.inputs[0], node.inputs[1]
        assert x is not None
        assert weight_value is not None
        filters = [extent for extent in weight_value.shape or () if isinstance(extent, int)]
        axes = [_Axis.of(node, x, i) for i in range(len(filters) - 2)]
        total: str | None = None
        for phases in itertools.product(*(range(d) for d in match.facts)):
            parts = [axis.phase(p, d) for axis, p, d in zip(axes, phases, match.facts, strict=True)]
            shifted = [(p + first) % d for p, d in zip(phases, match.facts, strict=True)]
            kernel = [part.taps for part in parts]
            move = functools.partial(_phase_taps, starts=shifted, split=match.facts, parts=parts)
            taps = relaid(build, weight_value, (*filters[:2], *kernel), move)
            bias = node.input(2) if total is None else None
            piece = build.op(
                node.op_type, x, taps, *([bias] if bias is not None else []),
                kernel_shape=kernel, dilations=[part.dilation for part in parts],
                strides=[axis.stride for axis in axes], group=node.attr("group", 1),
                pads=[part.begin for part in parts] + [part.end for part in parts],
            )  # fmt: skip
            total = piece if total is None else build.op("Add", total, piece)
        assert total is not None
        return {node.output: total}


MAX_PHASES, MAX_STRIDED = 32, 15
"""As many convolutions in the place of one; beyond that the model is the wrong one for the device. With a stride, the kernel is
rather folded."""


def _phase_taps(taps: Array, starts: Sequence[int], split: Sequence[int], parts: Sequence[_Phase]) -> Array:
    """The taps of one phase."""
    for axis, (start, step, part) in enumerate(zip(starts, split, parts, strict=True), 2):
        taps = _padded(np.take(taps, range(start, taps.shape[axis], step), axis), axis, part.front, part.taps)
    return taps


def _padded(taps: Array, axis: int, front: int, length: int) -> Array:
    """Zero taps in front and behind, up to `length`; a wrong phase of a mutant may have one too many."""
    shape = list(taps.shape)
    shape[axis] = length
    result = np.zeros(shape, taps.dtype)
    space = length - front
    index: list[slice] = [slice(None)] * taps.ndim
    index[axis] = slice(front, front + min(taps.shape[axis], space))
    result[tuple(index)] = np.take(taps, range(min(taps.shape[axis], space)), axis)
    return result


class _Phase(Struct, frozen=True):
    """One axis of one phase's kernel: taps with `front` zero taps among them, dilation and paddings."""

    taps: int
    front: int
    dilation: int
    begin: int
    end: int


class _Axis(Struct, frozen=True):
    """One spatial axis of the original: everything in pixels of the side that the kernel slides over."""

    transposed: bool
    kernel: int
    dilation: int
    stride: int
    begin: int
    size: int
    out: int

    @staticmethod
    def of(node: Node, x: Value, i: int) -> _Axis:
        assert x.shape is not None
        weight = node.inputs[1]
        assert weight is not None
        assert weight.shape is not None
        kernel, size, out = (int(s[i + 2]) for s in (weight.shape, x.shape, node.output.shape))  # type: ignore[index, arg-type]
        dilation = (node.attr("dilations") or [1] * 9)[i]
        stride = (node.attr("strides") or [1] * 9)[i]
        transposed = node.op_type == "ConvTranspose"
        begin = padding_before(node, i, (kernel - 1) * dilation + 1, stride, size, out)
        return _Axis(transposed, kernel, dilation, stride, begin, size, out)

    def split(self, limit: int) -> int:
        """The fewest phases whose kernels, zero taps included, stay within the limit."""
        if self.kernel <= limit:
            return 1
        return next(d for d in itertools.count(2) if d >= self.kernel or max(self.phase(p, d).taps for p in range(d)) <= limit)

    def phase(self, p: int, d: int) -> _Phase:
        """The kernel of phase p of d, with paddings that give the original's output extent and are not negative."""
        taps = -(-(self.kernel - p) // d)
        dilation = d * self.dilation
        begin = self.begin - p * self.dilation
        front = 0
        while begin < 0:
            front, begin = front + 1, begin + dilation
        behind = 0
        while True:
            reach = (taps + front + behind - 1) * dilation + 1
            end = self._end(reach, begin)
            if end >= 0:
                return _Phase(taps + front + behind, front, dilation, begin, end)
            behind += 1

    def _end(self, reach: int, begin: int) -> int:
        if self.transposed:
            return self.stride * (self.size - 1) + reach - begin - self.out
        exact = (self.out - 1) * self.stride + reach - self.size - begin
        # A strided window may leave up to stride - 1 pixels unread, so padding that is short by that much is none.
        return 0 if -self.stride < exact < 0 else exact
