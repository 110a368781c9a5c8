from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx

from npu_guard.rewriting.node_numbers import numbers
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_FLOATS = frozenset({1, 10, 11})
LIMITS = {"resize": [{"mode": "nearest", "scales": [2]}]}


class ExpandToBroadcast(Substitution):
    """A pooled vector spread over a map by Expand, Tile or Resize becomes a sum with a map of zeros.

    Every axis that grows has extent 1 before, so each value of the result is the one value there is along it. An element-wise
    operator repeats such axes by itself, as the product of a squeeze-and-excitation block does: x + 0, with zeros of the
    shape of the result, is x at every position, bit by bit but for the sign of zero. A Resize whose input is a single pixel
    interpolates between equal values, so every mode of it is the same.

    An Expand whose readers all broadcast by themselves is not one that a device sees, and stays.
    """

    name = "expand-to-broadcast"
    roots = ("Expand", "Tile", "Resize", "Upsample")
    alone = True
    limits = LIMITS
    operators = dict.fromkeys(("Add", "Mul", "Concat", "GlobalAveragePool", "Resize"), "supported")
    good = (
        Example(
            """g (float[1,8,4,6] x) => (y)
            <int64[4] s = {1,8,4,6}> { p = GlobalAveragePool(x)  e = Expand(p, s)  y = Concat<axis = 1>(x, e) }""",
            ops=("GlobalAveragePool", "Add", "Concat"),
            title="the pooled branch of ASPP",
        ),
        Example(
            """g (float[2,8,4,6] x) => (y)
            <int64[4] r = {1,1,4,6}> { p = GlobalAveragePool(x)  e = Tile(p, r)  y = Concat<axis = 1>(x, e) }""",
            ops=("GlobalAveragePool", "Add", "Concat"),
            title="by Tile, two images",
        ),
        Example(
            """g (float[1,8,5,7] x) => (y)
            <int64[4] s = {1,8,5,7}> { p = GlobalAveragePool(x)
              e = Resize<mode = "linear", coordinate_transformation_mode = "align_corners">(p, , , s)
              y = Concat<axis = 1>(x, e) }""",
            ops=("GlobalAveragePool", "Add", "Concat"),
            title="interpolated, between equal values",
        ),
        Example(
            "g (float[8,1,6] x) => (y) <int64[4] s = {2,1,4,1}> { y = Expand(x, s) }",
            ops=("Add",),
            title="two ways at once, and a new axis",
        ),
    )
    bad = (
        Example(
            "g (float[1,8,4,6] x) => (y) <int64[4] r = {1,1,2,1}> { y = Tile(x, r) }",
            refused="it repeats axis 2, which has extent 4",
        ),
        Example(
            "g (float[1,8,4,4] x) => (y) <float[4] s = {1, 1, 3, 3}> { y = Resize(x, , s) }",
            refused="it repeats axis 2, which has extent 4",
        ),
        Example(
            "g (float[1,8,1,1] x, int64[4] s) => (y) { y = Expand(x, s) }",
            refused="its shapes are not known",
        ),
        Example(
            "g (int32[1,8,1,1] x) => (y) <int64[4] s = {1,8,4,6}> { y = Expand(x, s) }",
            refused="what it spreads is not of floating point",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        before, after = numbers(node.input(0)), numbers(node.output)
        if before is None or after is None:
            raise Refused("its shapes are not known; fix them with --input-shape")
        aligned = (1,) * (len(after) - len(before)) + before
        wrong = next((i for i, (a, b) in enumerate(zip(aligned, after, strict=True)) if a not in (1, b)), None)
        if wrong is not None or node.attr("coordinate_transformation_mode", "") == "tf_crop_and_resize":
            raise Refused(f"it repeats axis {wrong or 0}, which has extent {aligned[wrong or 0]}")
        if node.output.dtype not in _FLOATS:
            raise Refused("what it spreads is not of floating point")
        extents = [1 if have == want else want for have, want in zip(aligned, after, strict=True)]
        return Match(self, node, (node,), (node.output,), extents[next((i for i, e in enumerate(extents) if e > 1), 0) :])

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._build(match, build, "Add")

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """A product with the zeros, in the right shape."""
        return self._build(match, build, "Mul")

    def _build(self, match: Match, build: Builder, op_type: str) -> Mapping[Value, str]:
        node = match.root
        # Zeros have an extent only where the operand is spread: two broadcasts meet in the sum.
        dtype = onnx.helper.tensor_dtype_to_np_dtype(node.output.dtype)
        zeros = build.later(match.facts, lambda: np.zeros(match.facts, dtype), dtype, "zeros")
        return {node.output: build.op(op_type, node.inputs[0], zeros)}
