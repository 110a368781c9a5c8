from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx
from msgspec import Struct

from npu_guard.rewriting.arithmetic import FLOATS
from npu_guard.rewriting.node_numbers import numbers, padding_before
from npu_guard.rewriting.one_hot import dense_one_hot_weights, one_hot_weights
from npu_guard.rewriting.quantized import relaid
from npu_guard.rewriting.substitution import Array, Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

LIMIT = {"conv.kernel_max": 17}


class StridedKernelToFolds(Substitution):
    """A long kernel with a stride becomes a shorter one over a map whose neighbours are folded into channels.

    With a divisor f of the stride s, a first convolution of one-hot weights, kernel f and stride f, puts each run of f pixels
    into f channels. Tap t = f q + r of the old kernel is then tap q of a new one, at channel r of the run: ceil(k / f) taps with
    stride s / f, as many products as before. Padding before the map is f b + a pixels: a are padded before the runs, b runs
    before the new kernel. Two stacks of weights are tried, one group for each channel and all channels in one.

    The front end of audio networks is such a layer: a Fourier transform as 256 taps with stride 64. Exact where the input is
    finite, but for the order of summation.
    """

    name = "strided-kernel-to-folds"
    roots = ("Conv",)
    alone = True
    limits = LIMIT
    good = (
        Example(
            "g (float[1,1,1,300] x) => (y) <float[24,1,1,64] w, float[24] b> { y = Conv<strides = [1,16]>(x, w, b) }",
            ops=("Conv", "Conv"),
            title="a Fourier transform of frames",
        ),
        Example(
            """g (float[1,3,50,45] x) => (y)
            <float[8,3,20,20] w> { y = Conv<strides = [20,20], pads = [3,2,12,0]>(x, w) }""",
            ops=("Conv", "Conv"),
            title="patches, padded",
        ),
        Example(
            """g (float[2,4,61] x) => (y)
            <float[6,2,31] w, float[6] b> { y = Conv<group = 2, strides = [6], auto_pad = "SAME_LOWER">(x, w, b) }""",
            ops=("Conv", "Conv"),
            title="a sequence in groups, the last run filled with taps of zeros",
        ),
        Example(
            """g (float[1,2,3,80] x) => (y)
            <int8[8,2,1,24] q, float[8] s, int8[8] z> {
                w = DequantizeLinear<axis = 0>(q, s, z)  y = Conv<strides = [1,4], pads = [0,9,0,6]>(x, w) }""",
            ops=("Conv", "DequantizeLinear", "Conv"),
            title="quantized weights, whose integers move",
        ),
    )
    bad = (
        Example(
            "g (float[1,8,40,40] x, float[8,8,20,20] w) => (y) { y = Conv<strides = [4,4]>(x, w) }",
            refused="its weights are not constant",
        ),
        Example(
            'g (float[1,8,"H",40] x) => (y) <float[8,8,20,20] w> { y = Conv<strides = [4,4]>(x, w) }',
            refused="its shapes are not known",
        ),
        Example(
            "g (float[1,2,9,90] x) => (y) <float[8,2,1,20] w> { y = Conv<strides = [1,2], dilations = [1,3]>(x, w) }",
            refused="its taps are 1x3 pixels apart",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Sequence[Match]:
        kernel = ctx.kernel(node)
        limits = [n for n in ctx.bounds("Conv", "kernel", "conv.kernel_max") if 1 < n < max(kernel, default=0)]
        strides = [int(s) for s in node.attr("strides") or [1] * len(kernel)]
        if not limits or all(s == 1 for s, k in zip(strides, kernel, strict=True) if k > min(limits)):
            return []
        if not ctx.is_constant(ctx.input(node, 1)):
            raise Refused("its weights are not constant")
        size, out, x = numbers(node.input(0)), numbers(node.output), ctx.input(node, 0)
        if size is None or out is None:
            raise Refused("its shapes are not known; fix them with --input-shape")
        if x.dtype not in FLOATS:
            raise Refused("its elements are neither float32, float16 nor double")
        apart = [int(d) for d in node.attr("dilations") or [1] * len(kernel)]
        if max(apart) > 1:
            raise Refused(f"its taps are {'x'.join(map(str, apart))} pixels apart")
        ways = [
            _ways(node, i, k, s, limits, size[i + 2], out[i + 2]) for i, (k, s) in enumerate(zip(kernel, strides, strict=True))
        ]
        folds = [f for f in itertools.product(*ways) if any(one.by > 1 for one in f)]
        return [
            Match(self, node, (node,), (node.output,), (several, grouped), (*(one.by for one in several), grouped))
            for several in folds
            for grouped in ((False, True) if size[1] > 1 else (False,))
        ]

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._write(match, build, 0)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The last two pixels of each run change places."""
        return self._write(match, build, 1)

    def _write(self, match: Match, build: Builder, wrong: int) -> Mapping[Value, str]:
        node, (folds, grouped) = match.root, match.facts
        x, weight = node.inputs[0], node.inputs[1]
        assert x is not None
        assert weight is not None
        channels, filters = (numbers(x) or ())[1], numbers(weight) or ()
        run = [fold.by for fold in folds]
        many = channels * math.prod(run)

        def stack() -> Array:
            order = np.arange(math.prod(run))
            order[-2:] = order[::-1][: len(order[-2:])] if wrong else order[-2:]
            return (one_hot_weights if grouped else dense_one_hot_weights)(channels, order.tolist(), run, dtype)

        dtype = onnx.helper.tensor_dtype_to_np_dtype(x.dtype)
        folded = build.op(
            "Conv", x, build.later((many, 1 if grouped else channels, *run), stack, dtype),
            kernel_shape=run, strides=run, group=channels if grouped else 1,
            pads=[fold.pads[0] for fold in folds] + [fold.pads[1] for fold in folds],
        )  # fmt: skip
        taps = [fold.taps for fold in folds]
        shape = (filters[0], filters[1] * math.prod(run), *taps)
        made = build.op(
            "Conv", folded, relaid(build, weight, shape, lambda old: _relaid(old, run, taps)), *node.inputs[2:],
            kernel_shape=taps, strides=[fold.stride for fold in folds], group=node.attr("group", 1),
            pads=[fold.runs[0] for fold in folds] + [fold.runs[1] for fold in folds],
        )  # fmt: skip
        return {node.output: made}


BLOCK = 8
"""Channels that hardware keeps together."""


class _Fold(Struct, frozen=True):
    """One axis: `by` pixels in a run, kernel and stride in runs, paddings in pixels and in runs."""

    by: int
    taps: int
    stride: int
    pads: tuple[int, int]
    runs: tuple[int, int]


def _ways(node: Node, axis: int, kernel: int, stride: int, limits: Sequence[int], size: int, out: int) -> list[_Fold]:
    """How an axis may be folded: by the first divisors that make the kernel short enough, or else by the longest."""
    begin = padding_before(node, axis, kernel, stride, size, out)
    wide = [n for n in limits if n < kernel]
    runs = [f for f in range(2, min(stride, max(wide, default=0)) + 1) if stride % f == 0]
    short = [f for f in runs if any(max(f, -(-kernel // f)) <= n for n in wide)] or runs[-1:] or [1]
    even = [f for f in short if f % BLOCK == 0]
    folds = (_folded(f, kernel, stride, begin, size, out) for f in dict.fromkeys(short[:1] + even[:1]))
    return [fold for fold in folds if fold is not None]


def _folded(by: int, kernel: int, stride: int, begin: int, size: int, out: int) -> _Fold | None:
    """None where all windows lie in the padding."""
    taps, stride = -(-kernel // by), stride // by
    before, pixels = divmod(begin, by)
    needed = (out - 1) * stride + taps - before
    there = min(-(-(pixels + size) // by), needed)
    if there < 1:
        return None
    return _Fold(by, taps, stride, (pixels, max(0, there * by - pixels - size)), (before, needed - there))


def _relaid(weight: Array, run: Sequence[int], taps: Sequence[int]) -> Array:
    """Taps of the old kernel as channels of runs by taps of the new one; what the last run has too much is zero."""
    outer, space = weight.shape[:2], len(run)
    behind = [(0, 0), (0, 0), *((0, r * t - k) for r, t, k in zip(run, taps, weight.shape[2:], strict=True))]
    parts = np.pad(weight, behind).reshape(*outer, *itertools.chain(*zip(taps, run, strict=True)))
    order = [0, 1, *(3 + 2 * i for i in range(space)), *(2 + 2 * i for i in range(space))]
    return np.ascontiguousarray(parts.transpose(order).reshape(outer[0], -1, *taps))
