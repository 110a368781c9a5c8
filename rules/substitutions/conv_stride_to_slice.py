from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from npu_guard.rewriting.stated import numbers
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_SMALL = ({"ops": ["Conv"], "metric": "stride", "max": 2, "consequence": "host"},)
_ONE = ({"ops": ["Conv"], "metric": "stride", "max": 1, "consequence": "host"},)


class ConvStrideToSlice(Substitution):
    """A Conv with a long stride becomes one with a divisor of that stride, and a Slice with steps behind it.

    The windows of the long stride are some of those of the short one: with s = d r, every r-th. The others are computed for
    nothing, so the largest divisor that the device takes is the cheapest.
    """

    name = "conv-stride-to-slice"
    last = True  # a Conv may be wrong for another reason
    roots = ("Conv",)
    operators = dict.fromkeys(("Conv", "Slice", "Relu"), "supported")
    good = (
        Example(
            "g (float[1,3,8,12] x, float[8,3,4,4] w) => (y) { y = Conv<strides = [4,4]>(x, w) }",
            ops=("Conv", "Slice"),
            require=_SMALL,
            title="patches of a vision transformer",
        ),
        Example(
            "g (float[1,4,13,11] x, float[8,2,3,5] w, float[8] b) => (y)"
            "{ y = Conv<strides = [3,2], pads = [1,2,0,1], group = 2, dilations = [2,1]>(x, w, b) }",
            ops=("Conv", "Slice"),
            require=_ONE,
            title="padded, dilated, in groups",
        ),
        Example(
            "g (float[2,4,33] x, float[8,4,7] w) => (y) { y = Conv<strides = [6], pads = [3,3]>(x, w) }",
            ops=("Conv", "Slice"),
            require=_SMALL,
            title="a sequence",
        ),
        Example(
            "g (float[1,4,9,9] x, float[8,4,3,3] w) => (y) { y = Conv<strides = [4,1], pads = [1,1,1,1]>(x, w) }",
            ops=("Conv", "Slice"),
            require=_SMALL,
            title="along one axis",
        ),
    )
    bad = (
        Example(
            'g (float[1,4,9,9] x, float[8,4,3,3] w) => (y) { y = Conv<strides = [4,4], auto_pad = "SAME_UPPER">(x, w) }',
            refused="its padding follows from auto_pad",
            require=_SMALL,
        ),
        Example(
            'g (float[1,4,"H",9] x, float[8,4,3,3] w) => (y) { y = Conv<strides = [4,4]>(x, w) }',
            refused="its shapes are not known",
            require=_SMALL,
        ),
        Example(
            """g (float[1,4,9,9] x, float[8,4,3,3] w, bool b) => (y)
            { y = If<then_branch = t () => (c) { c = Conv<strides = [4,4]>(x, w) },
                     else_branch = e () => (r) { r = Relu(x) }>(b) }""",
            refused="it is inside a subgraph",
            require=_SMALL,
        ),
    )

    def match(self, node: Node, ctx: Context) -> Sequence[Match]:
        strides = [int(s) for s in node.attr("strides") or ()]
        longest, opset = max(strides, default=1), node.graph.model.opsets.get("", 1)
        if longest == 1:
            return []
        if opset < 10:
            raise Refused(f"opset {opset} has no Slice with steps")
        extents = numbers(node.output)
        if extents is None or numbers(node.input(0)) is None:
            raise Refused("its shapes are not known; fix them with --input-shape")
        stated = node.attr("auto_pad", "NOTSET")
        if stated not in ("NOTSET", b"NOTSET", "VALID", b"VALID"):
            raise Refused("its padding follows from auto_pad")
        found: dict[tuple[int, ...], Match] = {}
        for most in range(longest - 1, 0, -1):
            shorter = tuple(max(d for d in range(1, min(s, most) + 1) if s % d == 0) for s in strides)
            steps = [s // d for s, d in zip(strides, shorter, strict=True)]
            found.setdefault(shorter, Match(self, node, (node,), (node.output,), (shorter, steps, extents[2:]), shorter))
        return list(found.values())

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._write(match, build, 0)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The windows next to the right ones, where there are any."""
        return self._write(match, build, 1)

    def _write(self, match: Match, build: Builder, late: int) -> Mapping[Value, str]:
        node, (shorter, steps, extents) = match.root, match.facts
        (dense,) = build.like(node, *node.inputs, strides=list(shorter))
        axes = [i for i, step in enumerate(steps) if step > 1]
        ends = [late + (extents[i] - 1) * steps[i] + 1 for i in axes]
        cut = ([late for _ in axes], ends, [i + 2 for i in axes], [steps[i] for i in axes])
        return {node.output: build.op("Slice", dense, *(build.ints(*numbers) for numbers in cut))}
