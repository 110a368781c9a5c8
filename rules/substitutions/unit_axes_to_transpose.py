from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from npu_guard.rewriting.node_numbers import numbers
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_INTO_MAPS = (
    {
        "ops": ["Reshape", "Unsqueeze"],
        "metric": "output_spatial.product",
        "multiple_of": 8,
        "when": {"output_rank": {"min": 4}},
        "consequence": "host",
    },
)
_OUT_OF_MAPS = (
    {"ops": ["Reshape", "Squeeze"], "metric": "spatial.product", "max": 1, "when": {"rank": {"min": 4}}, "consequence": "host"},
)
_FRONT, _BEHIND, _WHOLE = "in front", "behind", "alone"


class UnitAxesToTranspose(Substitution):
    """An axis of extent 1 comes or goes at another place, and a Transpose moves the others to where they belong.

    Squeeze, Unsqueeze, and a Reshape that adds or drops axes of extent 1 only, name the same numbers in the same order. So
    [n, a, b] becomes [n, 1, a, b] or [n, a, b, 1], whichever shape the device takes, and a Transpose of that has the axes as
    they were wanted: it moves nothing but the one of extent 1. Where axes go, the Transpose comes first, and where
    as many remain, it is all that there is.
    """

    name = "unit-axes-to-transpose"
    ends = True
    roots = ("Squeeze", "Unsqueeze", "Reshape")
    alone = True
    operators = dict.fromkeys(("Reshape", "Transpose", "Squeeze", "Unsqueeze"), "supported")
    good = (
        Example(
            "g (float[1,6,5,4] m) => (y) <int64[3] s = {1, 6, 20}, int64[1] a = {-1}> { x = Reshape(m, s)  y = Unsqueeze(x, a) }",
            ops=("Reshape", "Reshape", "Transpose"),
            require=_INTO_MAPS,
            title="a new last axis",
        ),
        Example(
            "g (float[1,3,8] x) => (y) <int64[4] s = {1, 1, 3, 8}> { y = Reshape(x, s) }",
            ops=("Reshape", "Transpose"),
            require=({"ops": ["Reshape"], "metric": "output_spatial.product", "max": 8, "consequence": "host"},),
            title="tokens as a map of one channel",
        ),
        Example(
            "g (float[2,8,1,6] x) => (y) <int64[1] a = {2}> { y = Squeeze(x, a) }",
            ops=("Transpose", "Reshape"),
            require=({"ops": ["Reshape", "Squeeze"], "metric": "spatial.w", "max": 1, "consequence": "host"},),
            title="a row",
        ),
        Example(
            "g (float[1,5,1,4] x) => (y) <int64[4] s = {1, 5, 4, 1}> { y = Reshape(x, s) }",
            ops=("Transpose",),
            require=({"ops": ["Reshape"], "metric": "output_spatial.w", "min": 2, "consequence": "host"},),
            title="a column of a row",
        ),
    )
    bad = (
        Example(
            "g (float[1,8,9] x) => (y) <int64[4] s = {1, 8, 3, 3}> { y = Reshape(x, s) }",
            refused="it does more than move axes of extent 1",
            require=_INTO_MAPS,
        ),
        Example(
            "g (float[3,1,1] x) => (y) <int64[1] a = {2}> { y = Squeeze(x, a) }",
            refused="its axes would stand where they do",
            require=({"ops": ["Squeeze"], "metric": "rank", "max": 2, "consequence": "host"},),
        ),
        Example(
            "g (float[1,5,4,1] x) => (y) <int64[1] a = {0}> { y = Squeeze(x, a) }",
            refused="its first axis changes",
            require=_OUT_OF_MAPS,
        ),
        Example(
            "g (float[1,H,5] x) => (y) <int64[1] a = {3}> { y = Unsqueeze(x, a) }",
            refused="its shapes are not known",
            require=_INTO_MAPS,
        ),
    )

    def match(self, node: Node, ctx: Context) -> Sequence[Match]:
        before, after = numbers(node.input(0)), numbers(node.output)
        if not before or not after:
            raise Refused("its shapes are not known; fix them with --input-shape")
        if _long(before) != _long(after):
            raise Refused("it does more than move axes of extent 1")
        if before[0] != after[0]:
            raise Refused("its first axis changes")
        wide = max(before, after, key=len)
        ways = {way: order for way, order in _orders(wide).items() if order != list(range(len(wide)))}
        if not ways:
            raise Refused("its axes would stand where they do")
        if len(before) == len(after):
            ways = {_WHOLE: _moved(before, after)}
        return [Match(self, node, (node,), (node.output,), (before, after, order), variant=way) for way, order in ways.items()]

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        before, after, order = match.facts
        return self._write(match, build, before, after, order)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The axes that are longer than 1 in the opposite order while they stand elsewhere."""
        before, after, order = match.facts
        wide = max(before, after, key=len)
        turned = iter([axis for axis in order[1:] if wide[axis] != 1][::-1])
        return self._write(match, build, before, after, [0] + [axis if wide[axis] == 1 else next(turned) for axis in order[1:]])

    def _write(
        self, match: Match, build: Builder, before: Sequence[int], after: Sequence[int], order: Sequence[int]
    ) -> Mapping[Value, str]:
        """With -1 in front, a shape holds for every batch."""
        x: str | Value | None = match.root.inputs[0]
        if len(before) < len(after):
            x = build.op("Reshape", x, build.ints(-1, *(after[axis] for axis in order[1:])))
            order = [order.index(axis) for axis in range(len(order))]
        made = build.op("Transpose", x, perm=list(order))
        if len(before) > len(after):
            made = build.op("Reshape", made, build.ints(-1, *after[1:]))
        return {match.root.output: made}


def _long(extents: Sequence[int]) -> list[int]:
    return [e for e in extents if e != 1]


def _orders(extents: Sequence[int]) -> Mapping[str, list[int]]:
    """Axes of a shape with those of extent 1 together, behind the first axis and at the end."""
    ones = [axis for axis, e in enumerate(extents) if axis and e == 1]
    long = [axis for axis, e in enumerate(extents) if axis and e != 1]
    return {_FRONT: [0, *ones, *long], _BEHIND: [0, *long, *ones]}


def _moved(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """The order of axes that makes the one shape of the other, where only axes of extent 1 move."""
    ones, long = (iter([axis for axis, e in enumerate(before) if axis and (e == 1) is one]) for one in (True, False))
    return [0, *(next(ones if e == 1 else long) for e in after[1:])]
