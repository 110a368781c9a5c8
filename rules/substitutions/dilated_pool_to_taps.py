from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING

from msgspec import Struct

from npu_guard.rewriting.node_numbers import numbers
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_PLAIN = ({"ops": ["MaxPool"], "metric": "dilation", "max": 1, "consequence": "host"},)
MOST = 16
"""Taps along one axis, each of which is a Slice in every part of the result."""


class DilatedPoolToTaps(Substitution):
    """A MaxPool whose taps lie apart becomes the largest of as many Slices, axis by axis.

    The maximum of a window is the maximum over its rows of the maximum of each, so each axis is a pool of its own, and one
    without a rate stays a MaxPool. Tap j of window q sees the element s q + j d - p. Padding never is the largest, so the windows
    at the edges have fewer taps: the result is joined from parts whose windows see the same taps inside of the map.
    """

    name = "dilated-pool-to-taps"
    roots = ("MaxPool",)
    alone = True
    operators = dict.fromkeys(("MaxPool", "Max", "Slice", "Concat"), "supported")
    good = (
        Example(
            "g (float[1,4,9,3] x) => (y) { y = MaxPool<kernel_shape = [3,1], dilations = [2,1]>(x) }",
            ops=("Slice", "Slice", "Slice", "Max", "Max"),
            require=_PLAIN,
            title="one axis",
        ),
        Example(
            """g (float[1,4,20,17] x) => (y)
            { y = MaxPool<kernel_shape = [3,3], dilations = [2,2], pads = [2,2,2,2]>(x) }""",
            require=_PLAIN,
            title="a map keeps its size",
        ),
        Example(
            """g (float[2,4,20,18] x) => (y)
            { y = MaxPool<kernel_shape = [2,3], dilations = [3,1], strides = [2,2], pads = [1,1,0,0]>(x) }""",
            require=_PLAIN,
            title="strided, with a rate along one axis and padded unevenly",
        ),
        Example(
            """g (float[1,4,11] x) => (y)
            { y = MaxPool<kernel_shape = [3], dilations = [2], strides = [3], pads = [1,2]>(x) }""",
            require=_PLAIN,
            title="a sequence",
        ),
        Example(
            """g (float[1,3,12,12] x) => (y)
            { y = MaxPool<kernel_shape = [2,2], dilations = [2,2], strides = [3,3], ceil_mode = 1>(x) }""",
            require=_PLAIN,
            title="a last window that is not whole",
        ),
    )
    bad = (
        Example(
            'g (float[1,4,"H",9] x) => (y) { y = MaxPool<kernel_shape = [3,3], dilations = [2,2]>(x) }',
            refused="its shapes are not known",
            require=_PLAIN,
        ),
        Example(
            "g (float[1,4,9,9] x) => (y, i) { y, i = MaxPool<kernel_shape = [3,3], dilations = [2,2]>(x) }",
            refused="it also tells where the largest elements are",
            require=_PLAIN,
        ),
        Example(
            """g (float[1,4,11] x) => (y)
            { y = MaxPool<kernel_shape = [3], dilations = [2], strides = [3], auto_pad = "SAME_LOWER">(x) }""",
            refused="ONNX and ONNX Runtime do not agree on its padding",
            require=_PLAIN,
        ),
        Example(
            "g (float[1,4,9,50] x) => (y) { y = MaxPool<kernel_shape = [1,17], dilations = [1,2]>(x) }",
            refused="it has 17 taps along an axis, more than 16",
            require=_PLAIN,
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        rates, kernel = [int(d) for d in node.attr("dilations") or ()], [int(k) for k in node.attr("kernel_shape") or ()]
        if not any(d > 1 and k > 1 for d, k in zip(rates, kernel, strict=False)):
            return None
        if any(v is not None and (v.consumers or v.is_output) for v in node.outputs[1:]):
            raise Refused("it also tells where the largest elements are")
        if node.attr("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            raise Refused("ONNX and ONNX Runtime do not agree on its padding, as it is named with a rate")
        size, out = numbers(node.input(0)), numbers(node.output)
        if size is None or out is None:
            raise Refused("its shapes are not known; fix them with --input-shape")
        axes = [_axis(node, i, size[i + 2], out[i + 2]) for i in range(len(kernel))]
        longest = max(len(a.kernel) for a in axes if a.rate > 1)
        if longest > MOST:
            raise Refused(f"it has {longest} taps along an axis, more than {MOST}")
        if any(not a.inside(q) for a in axes for q in range(a.out)):
            raise Refused("its windows lie in the padding alone")
        return Match(self, node, (node,), (node.output,), axes)

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return _written(match, build, 0)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The last tap of each axis lies one element too early."""
        return _written(match, build, 1)


class _Axis(Struct, frozen=True):
    """A pool along one axis: its taps, their rate, and the extents before and after."""

    kernel: range
    rate: int
    stride: int
    before: int
    """Padding in front."""
    size: int
    out: int

    def first(self, window: int, tap: int) -> int:
        """The element that a window sees through a tap."""
        return self.stride * window + tap * self.rate - self.before

    def inside(self, window: int) -> list[int]:
        """The taps through which a window sees the map."""
        return [t for t in self.kernel if 0 <= self.first(window, t) < self.size]

    def parts(self) -> list[tuple[int, int, list[int]]]:
        """Windows in a row, from and up to, that see the map through the same taps."""
        found: list[tuple[int, int, list[int]]] = []
        for window in range(self.out):
            taps = self.inside(window)
            start = found.pop()[0] if found and found[-1][2] == taps else window
            found.append((start, window + 1, taps))
        return found


def _axis(node: Node, axis: int, size: int, out: int) -> _Axis:
    rank, kernel = len(node.attr("kernel_shape")), int(node.attr("kernel_shape")[axis])
    rate, stride = (int((node.attr(name) or [1] * rank)[axis]) for name in ("dilations", "strides"))
    before = int((node.attr("pads") or [0] * 2 * rank)[axis]) if node.attr("auto_pad", "NOTSET") == "NOTSET" else 0
    return _Axis(range(kernel), rate if kernel > 1 else 1, stride, before, size, out)


def _written(match: Match, build: Builder, early: int) -> Mapping[Value, str]:
    node, axes = match.root, match.facts
    x: str | Value | None = node.inputs[0]
    assert x is not None
    plain = [a.rate == 1 and (len(a.kernel) > 1 or a.stride > 1 or a.before > 0) for a in axes]
    if any(plain):
        behind = [max(0, (a.out - 1) * a.stride + len(a.kernel) - a.size - a.before) for a in axes]
        x = build.op(
            "MaxPool", x, kernel_shape=[len(a.kernel) if p else 1 for a, p in zip(axes, plain, strict=True)],
            strides=[a.stride if p else 1 for a, p in zip(axes, plain, strict=True)],
            pads=[n if p else 0 for side in ([a.before for a in axes], behind) for n, p in zip(side, plain, strict=True)],
        )  # fmt: skip
    for i, axis in enumerate(axes):
        if axis.rate > 1:
            x = _pooled(build, x, i + 2, axis, early)
    return {node.output: str(x)}


def _pooled(build: Builder, x: str | Value, at: int, axis: _Axis, early: int) -> str:
    """The largest of what the taps of an axis see."""
    parts = [
        reduce(lambda a, b: build.op("Max", a, b), [_seen(build, x, at, axis, part, tap, early) for tap in part[2]])
        for part in axis.parts()
    ]
    return build.op("Concat", *parts, axis=at) if len(parts) > 1 else parts[0]


def _seen(
    build: Builder, x: str | Value, at: int, axis: _Axis, part: tuple[int, int, Sequence[int]], tap: int, early: int
) -> str:
    """What the windows of a part see through one tap."""
    start, end, _ = part
    begin, last = axis.first(start, tap), axis.first(end - 1, tap)
    if tap == axis.kernel[-1] and begin >= early:
        begin, last = begin - early, last - early
    return build.slice(x, at, begin, last + 1, axis.stride)
