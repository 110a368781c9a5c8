from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from npu_guard.graph.graph import is_known
from npu_guard.rewriting.node_numbers import padding_before
from npu_guard.rewriting.quantized import relaid
from npu_guard.rewriting.substitution import Array, Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_LOW = ({"ops": ["Conv"], "metric": "dilation", "max": 16, "consequence": "host"},)
MOST = 25
"""Taps, each of which is a convolution of 1x1."""


class DilatedKernelToTaps(Substitution):
    """A kernel whose rate the device lacks becomes a sum of 1x1 convolutions, one for each tap.

    The tap at o pixels from the window's start sees the map moved by o: a Slice of what is inside, padded with as many zeros
    as there are windows outside. Taps that no window sees inside of the map, as the outer ones of rate 24 on 20 x 20 pixels,
    are left out. Exact but for the order of summation.
    """

    name = "dilated-kernel-to-taps"
    roots = ("Conv",)
    alone = True
    operators = dict.fromkeys(("Conv", "Slice", "Add"), "supported")
    good = (
        Example(
            """g (float[1,4,40,36] x) => (y) <float[6,4,3,3] w, float[6] b>
            { y = Conv<dilations = [24,24], pads = [24,24,24,24]>(x, w, b) }""",
            require=_LOW,
            title="the pyramid of DeepLab",
        ),
        Example(
            "g (float[1,4,20,20] x) => (y) <float[6,4,3,3] w> { y = Conv<dilations = [24,24], pads = [24,24,24,24]>(x, w) }",
            ops=("Conv",),
            require=_LOW,
            title="where the middle alone is inside",
        ),
        Example(
            """g (float[2,4,50,30] x) => (y) <float[4,1,2,3] w, float[4] b>
            { y = Conv<dilations = [17,2], strides = [2,3], pads = [5,2,0,3], group = 4>(x, w, b) }""",
            require=_LOW,
            title="depthwise, strided, padded on three sides",
        ),
        Example(
            "g (float[1,4,40] x) => (y) <float[6,4,2] w> { y = Conv<dilations = [18], pads = [18,0]>(x, w) }",
            ops=("Slice", "Conv", "Conv", "Add"),
            require=_LOW,
            title="a causal one over time",
        ),
    )
    bad = (
        Example(
            "g (float[1,4,40,36] x, float[6,4,3,3] w) => (y) { y = Conv<dilations = [24,24], pads = [24,24,24,24]>(x, w) }",
            refused="its weights are not constant",
            require=_LOW,
        ),
        Example(
            'g (float[1,4,"H",36] x) => (y) <float[6,4,3,3] w> { y = Conv<dilations = [18,18], pads = [18,18,18,18]>(x, w) }',
            refused="its shapes are not known",
            require=_LOW,
        ),
        Example(
            "g (float[1,2,130,130] x) => (y) <float[2,2,6,5] w> { y = Conv<dilations = [17,17]>(x, w) }",
            refused="it has 30 taps, more than 25",
            require=_LOW,
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        x, weight = ctx.input(node, 0), ctx.input(node, 1)
        dilations = [int(d) for d in node.attr("dilations") or ()]
        if max(dilations, default=1) == 1:
            return None
        if node.graph.parent is not None:
            raise Refused("it is inside a subgraph")
        if not ctx.is_constant(weight):
            raise Refused("its weights are not constant")
        if x.shape is None or weight.shape is None or node.output.shape is None:
            raise Refused("its shapes are not known; fix them with --input-shape")
        size, kernel, out = x.shape[2:], weight.shape[2:], node.output.shape[2:]
        if not (is_known(size) and is_known(kernel) and is_known(out) and is_known(weight.shape)):
            raise Refused("its shapes are not known; fix them with --input-shape")
        if (taps := math.prod(kernel)) > MOST:
            raise Refused(f"it has {taps} taps, more than {MOST}")
        axes = [_taps(node, i, size[i], kernel[i], out[i]) for i in range(len(kernel))]
        if not all(axes):
            raise Refused("its windows lie in the padding alone")
        return Match(self, node, (node,), (node.output,), (axes, size, weight.shape))

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return _written(match, build, mirrored=False)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """Each tap with the weights of the one on the other side, and those of the middle twice."""
        return _written(match, build, mirrored=True)


class _Tap(Struct, frozen=True):
    """One tap along one axis: what it sees of the map, and the zeros in front and behind for the windows outside."""

    index: int
    begin: int
    end: int
    front: int
    behind: int


def _taps(node: Node, axis: int, size: int, kernel: int, out: int) -> list[_Tap]:
    """The taps along an axis that some window sees inside of the map."""
    rate, stride = (int((node.attr(name) or [1] * 9)[axis]) for name in ("dilations", "strides"))
    start = padding_before(node, axis, (kernel - 1) * rate + 1, stride, size, out)
    found = []
    for index in range(kernel):
        offset = index * rate - start
        first, last = max(0, -(offset // stride)), min(out - 1, (size - 1 - offset) // stride)
        if first <= last:
            begin, end = offset + first * stride, offset + last * stride + 1
            found.append(_Tap(index, begin, end, first * stride, (out - 1 - last) * stride))
    return found


def _written(match: Match, build: Builder, *, mirrored: bool) -> Mapping[Value, str]:
    node, (axes, size, shape) = match.root, match.facts
    weight, rank = node.inputs[1], len(axes)
    assert weight is not None
    total = ""
    for taps in itertools.product(*axes):
        x = node.inputs[0].name  # type: ignore[union-attr]
        for axis, tap in enumerate(taps):
            if (tap.begin, tap.end) != (0, size[axis]):
                x = build.slice(x, axis + 2, tap.begin, tap.end)
        place = [t.index for t in taps]
        if mirrored:
            place = [0 if 2 * i == n - 1 else n - 1 - i for i, n in zip(place, shape[2:], strict=True)]
        one = relaid(build, weight, (*shape[:2], *[1] * rank), functools.partial(_one, place=tuple(place)))
        bias = [] if total or node.input(2) is None else [node.inputs[2]]
        piece = build.op(
            "Conv", x, one, *bias, kernel_shape=[1] * rank, strides=node.attr("strides") or [1] * rank,
            pads=[t.front for t in taps] + [t.behind for t in taps], group=node.attr("group", 1),
        )  # fmt: skip
        total = build.op("Add", total, piece) if total else piece
    return {node.output: total}


def _one(weight: Array, place: tuple[int, ...]) -> Array:
    """The weights of one tap."""
    return weight[(slice(None), slice(None), *(slice(i, i + 1) for i in place))]
