from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from npu_guard.rewriting.node_numbers import reduced
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value


class WideReduceMaxToGroups(Substitution):
    """A maximum over more channels than fit becomes the maximum of maxima over groups of them.

    The channels are cut into groups of at most as many as the device takes at once. max(x) = max(max(x_1), ..., max(x_n)) for
    any partition of x, whatever else is reduced along with the channels and whether or not the axes are kept. Each group's
    result has the shape of the whole one, so the last step is element-wise. No rounding takes place: bit by bit the same.
    """

    name = "wide-reduce-max-to-groups"
    roots = ("ReduceMax",)
    alone = True
    limits = {"reduce.max_channels": 256}
    good = (
        Example(
            "g (float[1,512,4,6] x) => (y) <int64[1] a = {1}> { y = ReduceMax(x, a) }",
            ops=("Slice", "ReduceMax", "Slice", "ReduceMax", "Max"),
        ),
        Example(
            "g (float[2,600,3,2] x) => (y) { y = ReduceMax<axes = [-3], keepdims = 0>(x) }",
            ops=("Slice", "ReduceMax", "Slice", "ReduceMax", "Slice", "ReduceMax", "Max"),
            opset=13,
            title="an old opset, counted from the end, axis dropped, an uneven rest",
        ),
        Example(
            "g (float[1,20,4,6] x) => (y) { y = ReduceMax(x) }",
            ops=("Slice", "ReduceMax", "Slice", "ReduceMax", "Slice", "ReduceMax", "Max"),
            limits={"reduce.max_channels": 8},
            title="over all axes",
        ),
        Example(
            "g (float[1,16,4,6] x) => (y) { y = ReduceMax<axes = [1]>(x) }",
            ops=("Slice", "ReduceMax", "Slice", "ReduceMax", "Max"),
            limits={"reduce.max_channels": 8},
            opset=9,
            title="a Slice with attributes",
        ),
    )
    bad = (
        Example(
            """g (float[1,"C",4,6] x) => (y) <int64[1] a = {1}> { y = ReduceMax(x, a) }""",
            refused="the number of channels is not known",
        ),
        Example(
            "g (float[1,512,4,6] x, int64[1] a) => (y) { y = ReduceMax(x, a) }",
            refused="its axes are computed",
        ),
        Example(
            "g (float[1,5000,4,6] x) => (y) <int64[1] a = {1}> { y = ReduceMax(x, a) }",
            refused="it would take 20 groups, more than 16",
        ),
        Example(
            "g (uint8[1,512,4,6] x) => (y) <int64[1] a = {1}> { y = ReduceMax(x, a) }",
            refused="is not of floating point",
        ),
    )

    def match(self, node: Node, ctx: Context) -> list[Match] | None:
        limits = ctx.bounds("ReduceMax", "reduce_size", "reduce.max_channels")
        x, axes = node.inputs[0], reduced(node, ctx)
        if not limits or x is None:
            return None
        if axes is None:
            raise Refused("its axes are computed")
        if 1 not in axes:
            return None
        channels = (x.shape or (None, None))[1]
        if not isinstance(channels, int):
            raise Refused("the number of channels is not known")
        limits = tuple(n for n in limits if n < channels)
        if not limits:
            return None
        if x.dtype not in _FLOATS:
            raise Refused("what it compares is not of floating point")
        if (groups := -(-channels // limits[0])) > MAX_GROUPS:
            raise Refused(f"it would take {groups} groups, more than {MAX_GROUPS}")
        sites = []
        for limit in (n for n in limits if -(-channels // n) <= MAX_GROUPS):
            parts = tuple((start, min(start + limit, channels)) for start in range(0, channels, limit))
            sites.append(Match(self, node, (node,), (node.output,), (parts, axes), limit))
        return sites

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._build(match, build, match.facts[0])

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The last group, the uneven one, is forgotten."""
        return self._build(match, build, (*match.facts[0][:-1], match.facts[0][0]))

    def _build(self, match: Match, build: Builder, parts: Sequence[tuple[int, int]]) -> Mapping[Value, str]:
        node, axes = match.root, match.facts[1]
        assert node.inputs[0] is not None
        keep = bool(node.attr("keepdims", 1))
        groups = [build.reduce("ReduceMax", build.slice(node.inputs[0], 1, *part), axes, keep) for part in parts]
        return {node.output: build.op("Max", *groups)}


MAX_GROUPS = 16
"""Beyond that the model is the wrong one for the device."""
_FLOATS = frozenset({1, 10, 11, 16})
"""float32, float16, float64, bfloat16: what Max is sure to have wherever ReduceMax has it."""
