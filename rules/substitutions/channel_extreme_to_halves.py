from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from npu_guard.rewriting.node_numbers import over_channels
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_LARGER = {"ReduceMax": "Max", "ReduceMin": "Min"}
_OPERATORS: Mapping[str, str] = {
    "ReduceMax": "refused", "ReduceMin": "refused", **dict.fromkeys(("Max", "Min", "Slice", "Reshape"), "supported"),
}  # fmt: skip


class ChannelExtremeToHalves(Substitution):
    """A maximum or minimum over channels becomes that of two halves, again and again.

    max(x) = max(a, b) for the first and the last half of the channels. Where their number is odd, the last one waits for the
    end. C channels take log2(C) steps, with half as many numbers each time: C - 1 comparisons in all. Where axes of space are
    reduced as well, a reduction along those is left. Bit by bit the same.
    """

    name = "channel-extreme-to-halves"
    roots = tuple(_LARGER)
    alone = True
    operators = _OPERATORS
    good = (
        Example("g (float[1,4,4,6] x) => (y) <int64[1] a = {1}> { y = ReduceMax(x, a) }", ops=("Slice", "Slice", "Max") * 2),
        Example(
            "g (float[2,5,3,2] x) => (y) { y = ReduceMin<axes = [-3]>(x) }",
            ops=("Slice", *("Slice", "Slice", "Min") * 2, "Min"),
            opset=13,
            title="five channels: two and two, and one that waits",
        ),
        Example(
            "g (float[1,3,3,2] x) => (y) <int64[1] a = {1}> { y = ReduceMax<keepdims = 0>(x, a) }",
            ops=("Slice", "Slice", "Slice", "Max", "Max", "Reshape"),
        ),
        Example(
            "g (float[1,2,3,2] x) => (y) <int64[2] a = {1, 2}> { y = ReduceMax(x, a) }",
            ops=("Slice", "Slice", "Max", "ReduceMax"),
            operators={**_OPERATORS, "ReduceMax": "supported"},
            require=({"ops": ["ReduceMax"], "metric": "axes", "not_in": [1]},),
            title="over rows as well",
        ),
    )
    bad = (
        Example("g (float[1,8,4,6] x, int64[1] a) => (y) { y = ReduceMax(x, a) }", refused="its axes are computed"),
        Example('g (float[1,"C",4,6] x) => (y) <int64[1] a = {1}> { y = ReduceMax(x, a) }', refused="its shape is not known"),
        Example("g (int8[1,8,4,6] x) => (y) <int64[1] a = {1}> { y = ReduceMax(x, a) }", refused="is not of floating point"),
        Example(
            "g (float[1,5000,4,6] x) => (y) <int64[1] a = {1}> { y = ReduceMax(x, a) }", refused="5000 channels, more than 4096"
        ),
        Example("g (float[2,8,4,6] x) => (y) <int64[2] a = {0, 1}> { y = ReduceMax(x, a) }", refused="over the batch"),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        found = over_channels(node, ctx, _FLOATS, "what it compares")
        if found is None or found[1][1] < 2:
            return None
        if found[1][1] > MOST:
            raise Refused(f"it has {found[1][1]} channels, more than {MOST}")
        return Match(self, node, (node,), (node.output,), found)

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return _written(match, build, 0)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The last channel is never looked at."""
        return _written(match, build, 1)


MOST = 4096
"""Channels; each doubling is a step more."""
_FLOATS = frozenset({1, 10, 11, 16})


def _written(match: Match, build: Builder, without: int) -> Mapping[Value, str]:
    node, (axes, shape) = match.root, match.facts
    count, op_type = max(shape[1] - without, 1), _LARGER[node.op_type]
    name: str | Value | None = node.inputs[0]
    assert name is not None
    odd: list[str] = []
    while count > 1:
        if count % 2:
            odd.append(build.slice(name, 1, count - 1, count))
        count //= 2
        name = build.op(op_type, build.slice(name, 1, 0, count), build.slice(name, 1, count, 2 * count))
    for left in odd:
        name = build.op(op_type, name, left)
    if space := sorted(a for a in axes if a != 1):
        name = build.reduce(node.op_type, name, space)
    assert isinstance(name, str)
    if not node.attr("keepdims", 1):
        name = build.op("Reshape", name, build.ints(0, *(n for a, n in enumerate(shape) if a and a not in axes)))
    return {node.output: name}
