from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx

from npu_guard.base.errors import Undecidable
from npu_guard.rewriting.arithmetic import FLOATS
from npu_guard.rewriting.stated import numbers
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

SPACE = 2
"""The first axis behind batch and channels."""
_PLAIN_ONLY = ({"ops": ["Slice"], "metric": "value.steps", "is": 1, "consequence": "host"},)


class StridedSliceToConv(Substitution):
    """A Slice with steps over rows or columns of a map becomes a depthwise Conv with that stride.

    The kernel has one weight of 1, at the position where the Slice begins, and zeros before it; where the Slice begins further in
    than one step, or ends before the map does, a plain Slice cuts the map first. So each number is copied: x + 0 = x.
    """

    name = "strided-slice-to-conv"
    last = True  # others know their blocks by this operator
    roots = ("Slice",)
    operators = dict.fromkeys(("Slice", "Conv", "Concat"), "supported")
    good = (
        Example(
            "g (float[1,8,6,10] x) => (y) <int64[2] s = {1, 0}, int64[2] e = {6, 10}, int64[2] a = {2, 3}, int64[2] t = {2, 2}>"
            "{ y = Slice(x, s, e, a, t) }",
            ops=("Conv",),
            require=_PLAIN_ONLY,
            title="every second row and column, of a Focus layer",
        ),
        Example(
            "g (float[2,3,7,9] x) => (y) <int64[1] s = {4}, int64[1] e = {-1}, int64[1] a = {-1}, int64[1] t = {3}>"
            "{ y = Slice(x, s, e, a, t) }",
            ops=("Slice", "Conv"),
            require=_PLAIN_ONLY,
            title="from the fifth column on",
        ),
        Example(
            "g (float[1,8,9] x) => (y) <int64[1] s = {2}, int64[1] e = {9000}, int64[1] a = {2}, int64[1] t = {4}>"
            "{ y = Slice(x, s, e, a, t) }",
            ops=("Conv",),
            require=_PLAIN_ONLY,
            title="a sequence",
        ),
        Example(
            "g (float[1,8,5,5] x) => (y) <int64[2] s = {0, 2}, int64[2] e = {5, 6}, int64[2] a = {2, 1}, int64[2] t = {2, 1}>"
            "{ y = Slice(x, s, e, a, t) }",
            ops=("Slice", "Conv"),
            require=_PLAIN_ONLY,
            title="rows of some channels",
        ),
    )
    bad = (
        Example(
            "g (float[1,8,6,10] x) => (y) <int64[1] s = {0}, int64[1] e = {8}, int64[1] a = {1}, int64[1] t = {2}>"
            "{ y = Slice(x, s, e, a, t) }",
            refused="it steps over axis 1, which is no axis of space",
            require=_PLAIN_ONLY,
        ),
        Example(
            "g (float[1,8,6,10] x) => (y) <int64[1] s = {-1}, int64[1] e = {-9}, int64[1] a = {3}, int64[1] t = {-2}>"
            "{ y = Slice(x, s, e, a, t) }",
            refused="it steps backwards",
            require=_PLAIN_ONLY,
        ),
        Example(
            "g (float[1,8,6,10] x, int64[1] s) => (y) <int64[1] e = {8}, int64[1] a = {2}, int64[1] t = {2}>"
            "{ y = Slice(x, s, e, a, t) }",
            refused="where it begins and ends is computed",
            require=_PLAIN_ONLY,
        ),
        Example(
            "g (int32[1,8,6,10] x) => (y) <int64[1] s = {0}, int64[1] e = {8}, int64[1] a = {2}, int64[1] t = {2}>"
            "{ y = Slice(x, s, e, a, t) }",
            refused="its elements are neither float32, float16 nor double",
            require=_PLAIN_ONLY,
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        if node.input(4) is None:
            return None
        extents = numbers(node.input(0))
        if extents is None:
            raise Refused("its shapes are not known; fix them with --input-shape")
        cuts = _cuts(node, ctx, extents)
        strided = {axis: cut for axis, cut in cuts.items() if cut.step != 1}
        if not strided or not all(map(len, cuts.values())):
            return None
        if any(cut.step < 0 for cut in strided.values()):
            raise Refused("it steps backwards")
        if min(strided) < SPACE or len(extents) not in (3, 4):
            raise Refused(f"it steps over axis {min(strided)}, which is no axis of space")
        if node.output.dtype not in FLOATS:
            raise Refused("its elements are neither float32, float16 nor double")
        return Match(self, node, (node,), (node.output,), (extents, cuts))

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._write(match, build, 1.0)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The weight is not quite 1."""
        return self._write(match, build, 0.999)

    def _write(self, match: Match, build: Builder, weight: float) -> Mapping[Value, str]:
        node, (extents, cuts) = match.root, match.facts
        x: str | Value | None = node.inputs[0]
        assert x is not None
        kernel, strides = [1] * (len(extents) - SPACE), [1] * (len(extents) - SPACE)
        for axis, cut in sorted(cuts.items()):
            inside = cut.start % cut.step if cut.step > 1 else 0
            start = cut.start - inside
            # Behind the last window nothing may follow that would make room for one more.
            end = start + (len(cut) - 1) * cut.step + inside + 1
            if start or (extents[axis] - end) >= cut.step:
                x = build.slice(x, axis, start, end)
            if cut.step > 1:
                kernel[axis - SPACE], strides[axis - SPACE] = inside + 1, cut.step
        dtype = onnx.helper.tensor_dtype_to_np_dtype(node.output.dtype)
        channels = len(cuts.get(1, range(extents[1])))
        taps = np.zeros((channels, 1, *kernel), dtype)
        taps.reshape(channels, -1)[:, -1] = weight  # the last position of each kernel
        return {node.output: build.op("Conv", x, build.constant(taps, "taps"), group=channels, strides=strides)}


def _cuts(node: Node, ctx: Context, extents: tuple[int, ...]) -> dict[int, range]:
    """Positions along each axis that the Slice takes."""
    try:
        starts, ends, axes, steps = (ctx.array(ctx.input(node, i)) if node.input(i) is not None else None for i in range(1, 5))
    except Undecidable:
        raise Refused("where it begins and ends is computed") from None
    assert starts is not None
    assert ends is not None
    assert steps is not None
    over = range(len(starts)) if axes is None else (int(a) % len(extents) for a in axes)
    lists = zip(over, starts, ends, steps, strict=True)
    return {axis: range(extents[axis])[slice(int(a), int(b), int(step))] for axis, a, b, step in lists}
