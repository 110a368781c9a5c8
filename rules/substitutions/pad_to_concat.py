from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx

from npu_guard.rewriting.node_numbers import numbers, padding
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_NEEDS = dict.fromkeys(("Concat", "Relu"), "supported")


class PadToConcat(Substitution):
    """A Pad of a constant becomes a Concat with tensors of that constant.

    Along each padded axis in turn, what lies in front and behind is a stored tensor of one number, as large as the margin. Of
    any number and along any axis, also channels and features of tokens.
    """

    name = "pad-to-concat"
    roots = ("Pad",)
    alone = True
    operators = _NEEDS
    good = (
        Example(
            "g (float[1,4,5,7] x) => (y) <int64[8] p = {0, 0, 3, 0, 0, 0, 1, 0}> { a = Pad(x, p)  y = Relu(a) }",
            ops=("Concat", "Relu"),
            title="rows of zeros on both sides",
        ),
        Example(
            "g (float[2,7,4] x) => (y) <int64[6] p = {0, 0, 0, 0, 0, 1}, float o = {1.0}> { y = Pad(x, p, o) }",
            ops=("Concat",),
            title="a feature of ones",
        ),
        Example(
            """g (float[1,4,5,7] x) => (y) <int64[4] p = {2, 0, 1, 3}, float o = {-1.5}, int64[2] a = {1, -1}>
            { y = Pad(x, p, o, a) }""",
            ops=("Concat", "Concat"),
            title="channels and columns, which are named",
        ),
        Example(
            "g (float[1,4,9] x) => (y) { y = Pad<pads = [0,0,2,0,0,1], value = 0.5>(x) }",
            ops=("Concat",),
            opset=10,
            title="in an old opset",
        ),
    )
    bad = (
        Example(
            "g (float[1,4,5,7] x) => (y) <int64[8] p = {0, 0, 1, 0, 0, 0, -1, 0}> { y = Pad(x, p) }",
            refused="it cuts",
        ),
        Example(
            'g (float[1,4,5,7] x) => (y) <int64[8] p = {0, 0, 1, 0, 0, 0, 0, 0}> { y = Pad<mode = "wrap">(x, p) }',
            refused="its margins repeat what is inside",
        ),
        Example("g (float[1,4,5,7] x, int64[8] p) => (y) { y = Pad(x, p) }", refused="its amounts are computed"),
        Example(
            "g (float[1,4,5,7] x, float o) => (y) <int64[8] p = {0, 0, 1, 0, 0, 0, 0, 0}> { y = Pad(x, p, o) }",
            refused="what it pads by is computed",
        ),
        Example(
            'g (float[1,4,5,"W"] x) => (y) <int64[8] p = {0, 0, 1, 0, 0, 0, 0, 0}> { y = Pad(x, p) }',
            refused="its shape is not known",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        sides, value = padding(node, ctx)
        if not any(map(any, sides)):
            raise Refused("it pads nothing")
        return Match(self, node, (node,), (node.output,), (sides, value))

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return _written(match, build, turned=False)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """Front and back exchanged."""
        return _written(match, build, turned=True)


def _written(match: Match, build: Builder, *, turned: bool) -> Mapping[Value, str]:
    x = match.root.inputs[0]
    assert x is not None
    sides, value = match.facts
    shape, dtype = list(numbers(x) or ()), onnx.helper.tensor_dtype_to_np_dtype(x.dtype)
    name = x.name
    for axis, margins in enumerate(sides):
        if any(margins):
            parts = [_margin(build, [*shape[:axis], n, *shape[axis + 1 :]], value, dtype) if n else "" for n in margins]
            front, behind = parts[::-1] if turned else parts
            name = build.op("Concat", *filter(None, (front, name, behind)), axis=axis)
            shape[axis] += sum(margins)
    return {match.root.output: name}


def _margin(build: Builder, shape: list[int], value: float, dtype: np.dtype[np.generic]) -> str:
    return build.later(shape, lambda: np.full(shape, value, dtype), dtype, "margin")
