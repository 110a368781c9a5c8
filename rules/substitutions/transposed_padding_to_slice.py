from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution
from npu_guard.rewriting.transposed import transposed_pads

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_NONE = ({"ops": ["ConvTranspose"], "metric": "pads", "is": 0},)
END = (1 << 31) - 1


class TransposedPaddingToSlice(Substitution):
    """The padding of a ConvTranspose, which cuts its result, becomes a Slice behind it.

    A transposed convolution without padding writes s (n - 1) + (k - 1) d + 1 elements along an axis, and its pads only say how
    many of them are cut off at either end. So pads of 0 and a Slice from the begin padding to the end padding are the same
    numbers, bit by bit. An output padding stays: it lengthens the result at the end in both.
    """

    name = "transposed-padding-to-slice"
    roots = ("ConvTranspose",)
    alone = True
    good = (
        Example(
            """g (float[1,3,5,7] x) => (y) <float[3,4,4,4] w, float[4] b>
            { y = ConvTranspose<strides = [2,2], pads = [1,1,1,1]>(x, w, b) }""",
            ops=("ConvTranspose", "Slice"),
            require=_NONE,
        ),
        Example(
            """g (float[2,4,3,6] x) => (y)
            <float[4,2,3,2] w>
            { y = ConvTranspose<strides = [2,3], pads = [1,0,0,1], output_padding = [1,2], group = 2>(x, w) }""",
            ops=("ConvTranspose", "Slice"),
            require=_NONE,
            title="unequal, with an output padding, in groups",
        ),
        Example(
            "g (float[1,2,6,5] x) => (y) <float[2,2,3,3] w> { y = ConvTranspose<dilations = [2,1], pads = [2,0,1,0]>(x, w) }",
            ops=("ConvTranspose", "Slice"),
            require=_NONE,
            title="dilated, padded on one axis",
        ),
        Example(
            """g (float[1,2,6,5] x) => (y) <float[2,3,3,3] w>
            { y = ConvTranspose<strides = [2,2], pads = [0,0,1,1]>(x, w) }""",
            ops=("ConvTranspose", "Slice"),
            require=_NONE,
            opset=9,
            title="at the end only, in an old opset",
        ),
        Example(
            """g (float[1,2,6,5] x) => (y, z) <float[2,3,3,3] w, float[2,3,4,3] v>
            { y = ConvTranspose<auto_pad = "SAME_UPPER", strides = [2,2]>(x, w)
              z = ConvTranspose<output_shape = [11,10], strides = [2,2], output_padding = [1,0]>(x, v) }""",
            ops=("ConvTranspose", "Slice", "ConvTranspose", "Slice"),
            require=_NONE,
            title="that follows from the size of the output",
        ),
    )
    bad = (
        Example(
            "g (float[1,2,6,5] x) => (y) <float[2,3,3,3] w> { y = ConvTranspose<output_shape = [14,12], strides = [2,2]>(x, w) }",
            refused="its output_shape is larger than what it writes",
            require=_NONE,
        ),
        Example(
            """g (float[1,2,"H",5] x) => (y) <float[2,3,3,3] w>
            { y = ConvTranspose<auto_pad = "SAME_UPPER", strides = [2,2]>(x, w) }""",
            refused="its shapes are not known",
            require=_NONE,
        ),
        Example(
            """g (float[1,2,6,5] x, bool c) => (y) <float[2,2,3,3] w>
            { y = If(c)<then_branch = t () => (u) { u = ConvTranspose<pads = [1,1,1,1]>(x, w) },
                        else_branch = e () => (v) { v = Relu(x) }> }""",
            refused="inside a subgraph",
            require=_NONE,
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        named = node.attr("auto_pad", "NOTSET") not in ("NOTSET", b"NOTSET", "VALID", b"VALID") or node.attr("output_shape")
        if not any(node.attr("pads") or ()) and not named:
            return None
        if node.graph.parent is not None:
            raise Refused("it is inside a subgraph")
        pads = transposed_pads(node)
        if not any(pads):
            return None
        return Match(self, node, (node,), (node.output,), pads)

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        half = len(match.facts) // 2
        return _written(match, build, match.facts[:half], match.facts[half:])

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """One element further on along the last axis that is cut, or one before, where there is none behind."""
        half = len(match.facts) // 2
        begins, ends = list(match.facts[:half]), list(match.facts[half:])
        axis = max(i for i in range(half) if begins[i] or ends[i])
        by = 1 if ends[axis] else -1
        begins[axis], ends[axis] = begins[axis] + by, ends[axis] - by
        return _written(match, build, begins, ends)


def _written(match: Match, build: Builder, begins: Sequence[int], ends: Sequence[int]) -> Mapping[Value, str]:
    node = match.root
    whole = build.like(node, *node.inputs, pads=[0] * (2 * len(begins)), auto_pad=None, output_shape=None)[0]
    axes = [i + 2 for i, (a, b) in enumerate(zip(begins, ends, strict=True)) if a or b]
    starts, stops = [begins[a - 2] for a in axes], [-ends[a - 2] or END for a in axes]
    if build.opset < 10:
        return {node.output: build.op("Slice", whole, starts=starts, ends=stops, axes=axes)}
    return {node.output: build.op("Slice", whole, build.ints(*starts), build.ints(*stops), build.ints(*axes))}
