from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from npu_guard.base.errors import Undecidable
from npu_guard.rewriting.node_numbers import numbers
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from collections.abc import Sequence

    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

MOST_PARTS = 64
"""Outputs of a Split that are written as Slices."""
_RESHAPE = "by Reshape"
_BEHIND = "behind a batch of 1"


class MoverToEquivalent(Substitution):
    """An operator that only moves data becomes another one that moves it the same way.

    Split is one Slice for each part. Gather with indices that follow each other, or one index, is a Slice, and a Reshape where
    the axis goes; for a device that wants a batch of 1, parts of the first axis are taken behind a Reshape that puts a 1 in front
    of it. Squeeze, Unsqueeze and Flatten are a Reshape to the shape that they give.
    """

    name = "mover-to-equivalent"
    ends = True
    roots = ("Split", "Gather", "Squeeze", "Unsqueeze", "Flatten")
    alone = True
    operators = dict.fromkeys(("Slice", "Reshape", "Relu", "Add"), "supported")
    good = (
        Example(
            "g (float[1,8,4,5] x) => (y, z) <int64[2] s = {3, 5}> { y, z = Split<axis = 1>(x, s) }",
            ops=("Slice", "Slice"),
            title="unequal parts",
        ),
        Example(
            "g (float[2,9,4] x) => (y) { a, b, c = Split<axis = -2, num_outputs = 3>(x)  y = Add(a, c) }",
            ops=("Slice", "Slice", "Add"),
            title="a part that nobody reads",
        ),
        Example(
            "g (float[3,2,5,4] x) => (y) <int64 i = {-1}> { y = Gather(x, i) }",
            ops=("Slice", "Reshape"),
            title="one of queries, keys and values",
        ),
        Example(
            "g (float[1,8,4,5] x) => (y) <int64[3] i = {2, 3, 4}> { y = Gather<axis = 3>(x, i) }",
            ops=("Slice",),
            title="columns in a row",
        ),
        Example(
            "g (float[1,8,1,1] x) => (y) <int64[2] a = {2, 3}, int64[1] b = {0}> { s = Squeeze(x, a)  y = Unsqueeze(s, b) }",
            ops=("Reshape", "Reshape"),
            title="axes of extent 1",
        ),
        Example("g (float[1,8,4,5] x) => (y) { y = Flatten(x) }", ops=("Reshape",)),
        Example(
            "g (float[3,1,2,5,4] x) => (q, k, v) { a, b, c = Split<num_outputs = 3>(x)  q = Relu(a)  k = Relu(b)  v = Relu(c) }",
            ops=("Reshape", *("Slice", "Reshape", "Relu") * 3),
            require=({"ops": ["Slice"], "metric": "batch", "max": 1, "consequence": "host"},),
            title="queries, keys and values, for a device that wants a batch of 1",
        ),
        Example(
            "g (float[1,8,4,5] x) => (y, z) { y, z = Split<axis = 1, split = [2, 6]>(x) }",
            ops=("Slice", "Slice"),
            opset=9,
            title="by attributes",
        ),
    )
    bad = (
        Example(
            "g (float[1,8,4,5] x) => (y) <int64[3] i = {2, 0, 4}> { y = Gather<axis = 3>(x, i) }",
            refused="its indices do not follow each other",
        ),
        Example("g (float[1,8,4,5] x, int64 i) => (y) { y = Gather<axis = 3>(x, i) }", refused="its indices are computed"),
        Example("g (float[1,8,N,1] x) => (y) { y = Flatten(x) }", refused="its shapes are not known"),
        Example(
            "g (float[1,8,4,5] x) => (y) <int64[1,2] i = {2, 3}> { y = Gather<axis = 3>(x, i) }",
            refused="its indices are no list",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | Sequence[Match] | None:
        extents = numbers(node.input(0))
        if extents is None or any(v is not None and numbers(v) is None for v in node.outputs):
            raise Refused("its shapes are not known; fix them with --input-shape")
        if node.op_type not in ("Split", "Gather"):
            return Match(self, node, (node,), (node.output,), variant=_RESHAPE)
        axis = node.attr("axis", 0) % len(extents)
        if node.op_type == "Gather":
            start, size = _run(node, ctx, extents[axis])
            return self._ways(node, axis, [(node.output, start, start + size)])
        if len(node.outputs) > MOST_PARTS:
            raise Refused(f"it has {len(node.outputs)} parts; {MOST_PARTS} are the most that are written out")
        sizes = [(numbers(v) or extents)[axis] for v in node.outputs]
        cuts = zip(node.outputs, accumulate(sizes), sizes, strict=True)
        parts = [(v, end - size, end) for v, end, size in cuts if v is not None and (v.consumers or v.is_output)]
        return self._ways(node, axis, parts)

    def _ways(self, node: Node, axis: int, parts: list[tuple[Value, int, int]]) -> list[Match]:
        """As Slices of the tensor, and for its first axis of one with a 1 in front."""
        ways = [None] if axis or len(numbers(node.input(0)) or ()) < 2 else [None, _BEHIND]
        return [Match(self, node, (node,), tuple(v for v, _, _ in parts), (axis, parts), variant=way) for way in ways]

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._write(match, build, 0)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """Every part begins one position too early, where there is one."""
        return self._write(match, build, 1)

    def _write(self, match: Match, build: Builder, early: int) -> Mapping[Value, str]:
        node, x = match.root, match.root.inputs[0]
        assert x is not None
        if match.variant == _RESHAPE:
            return {node.output: _reshaped(build, x, node.output)}
        axis, parts = match.facts
        rank = len(numbers(x) or ())
        source: str | Value = x
        if match.variant == _BEHIND:
            count, *_, last = numbers(x) or (1, 1)
            source, axis, rank = build.op("Reshape", x, build.ints(1, count, -1, last)), 1, 0
        made: dict[Value, str] = {}
        for value, start, end in parts:
            shift = min(early, start)
            part = build.slice(source, axis, start - shift, end - shift)
            made[value] = part if len(numbers(value) or ()) == rank else _reshaped(build, part, value)
        return made


def _reshaped(build: Builder, x: str | Value, like: Value) -> str:
    """The first axis follows from the others, so that the shape holds for every batch."""
    extents = numbers(like) or ()
    return build.op("Reshape", x, build.ints(*(-1, *extents[1:])[: len(extents)]))


def _run(node: Node, ctx: Context, extent: int) -> tuple[int, int]:
    """Where indices that follow each other begin, and how many there are."""
    try:
        indices = ctx.array(ctx.input(node, 1))
    except Undecidable:
        raise Refused("its indices are computed") from None
    if indices.ndim > 1 or not indices.size:
        raise Refused("its indices are no list")
    flat = indices.reshape(-1).astype(np.int64) % extent
    if (np.diff(flat) != 1).any():
        raise Refused("its indices do not follow each other")
    return int(flat[0]), int(flat.size)
