from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx

from npu_guard.base.errors import Undecidable
from npu_guard.base.text import short
from npu_guard.rewriting.arithmetic import writable
from npu_guard.rewriting.finite import is_finite
from npu_guard.rewriting.node_numbers import numbers
from npu_guard.rewriting.substitution import Array, Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

MOST = 4096
"""Extent of an axis whose sums are made so: the triangle has its square of weights."""
_MATRIX, _CONV = "by MatMul", "by Conv"


class TriangleToProduct(Substitution):
    """CumSum and Trilu become products with a triangle of ones.

    The sum of all elements up to the j-th is a product with the matrix that has ones at i <= j: a MatMul from the right along
    the last axis, from the left along the one before it, behind a Transpose along any other; along the channels of a map a 1x1
    Conv. The upper or lower triangle of a matrix is its product with a mask, element by element. What is multiplied by 0 has to
    be finite.
    """

    name = "triangle-to-product"
    roots = ("CumSum", "Trilu")
    alone = True
    operators = dict.fromkeys(("MatMul", "Mul", "Conv", "Transpose", "Softmax"), "supported")
    good = (
        Example(
            "g (float[1,4,5,6] x) => (y, z) <int64 a = {3}, int64 b = {-2}> { y = CumSum(x, a)  z = CumSum<reverse = 1>(x, b) }",
            ops=("MatMul", "MatMul"),
            title="along columns, and along rows from behind",
        ),
        Example(
            "g (float[3,7] x) => (y) <int64[1] a = {0}> { y = CumSum<exclusive = 1>(x, a) }",
            ops=("MatMul",),
            title="without the element itself",
        ),
        Example(
            "g (float[1,8,5,6] x) => (y) <int64 a = {1}> { y = CumSum(x, a) }",
            ops=("Conv",),
            operators={"Conv": "supported"},
            title="over channels",
        ),
        Example(
            "g (float[5,4,3] x) => (y) <int64 a = {0}> { y = CumSum<exclusive = 1, reverse = 1>(x, a) }",
            ops=("Transpose", "MatMul", "Transpose"),
            title="along another axis",
        ),
        Example(
            "g (float[2,5,6] x) => (y, z) <int64 k = {-1}> { y = Trilu(x, k)  z = Trilu<upper = 0>(x) }",
            ops=("Mul", "Mul"),
            title="triangles above and below a diagonal",
        ),
    )
    bad = (
        Example("g (float[3,7] x, int64 a) => (y) { y = CumSum(x, a) }", refused="its axis is computed"),
        Example(
            "g (float[3,7] x) => (y) <int64 a = {1}> { e = Exp(x)  y = CumSum(e, a) }",
            refused="'e' may be infinite",
        ),
        Example("g (float[3,7] x, int64 k) => (y) { y = Trilu(x, k) }", refused="its diagonal is computed"),
        Example("g (int32[3,7] x) => (y) { y = Trilu(x) }", refused="neither float32, float16 nor double"),
        Example(
            'g (float[3,"N"] x) => (y) <int64 a = {1}> { y = CumSum(x, a) }',
            refused="its shape is not known",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Sequence[Match]:
        writable(node)
        x, shape = ctx.input(node, 0), numbers(node.input(0))
        if shape is None:
            raise Refused("its shape is not known; fix it with --input-shape")
        sums = node.op_type == "CumSum"
        place = 0
        if node.input(1) is not None:
            try:
                place = int(ctx.array(ctx.input(node, 1)).reshape(-1)[0])
            except Undecidable:
                raise Refused(f"its {'axis' if sums else 'diagonal'} is computed") from None
        if not is_finite(x, ctx):
            raise Refused(f"{short(x.name)!r} may be infinite, and what is multiplied by 0 has to be finite")
        if not sums:
            return [Match(self, node, (node,), (node.output,), (place, shape))]
        axis = place % len(shape)
        if shape[axis] > MOST:
            raise Refused(f"{shape[axis]} numbers are summed; {MOST} are the most")
        ways = [_MATRIX, _CONV] if len(shape) == 4 and axis == 1 else [_MATRIX]
        return [Match(self, node, (node,), (node.output,), (axis, shape), variant=way) for way in ways]

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return {match.root.output: _written(match, build, 0)}

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The diagonal lies one place on."""
        return {match.root.output: _written(match, build, 1)}


def _written(match: Match, build: Builder, on: int) -> str:
    node, (place, shape) = match.root, match.facts
    x = node.inputs[0]
    assert x is not None
    dtype = onnx.helper.tensor_dtype_to_np_dtype(node.output.dtype)
    if node.op_type == "Trilu":
        cut = np.triu if node.attr("upper", 1) else np.tril
        return build.op("Mul", x, build.later(shape[-2:], lambda: cut(np.ones(shape[-2:], dtype), place + on), dtype, "mask"))
    count, rank = shape[place], len(shape)

    def ones() -> Array:
        """1 where the i-th element counts for the j-th sum, [i, j]."""
        first = on + int(bool(node.attr("exclusive", 0)))
        upper = np.triu(np.ones((count, count), dtype), first)
        return np.asarray(upper.T if node.attr("reverse", 0) else upper)

    if match.variant == _CONV:
        weight = build.later((count, count, 1, 1), lambda: ones().T.reshape(count, count, 1, 1), dtype, "triangle")
        return build.op("Conv", x, weight, kernel_shape=[1, 1])
    if place == rank - 2:
        return build.op("MatMul", build.later((count, count), lambda: np.ascontiguousarray(ones().T), dtype, "triangle"), x)
    triangle = build.later((count, count), ones, dtype, "triangle")
    if place == rank - 1:
        return build.op("MatMul", x, triangle)
    order = [i for i in range(rank) if i != place] + [place]
    turned = build.op("MatMul", build.op("Transpose", x, perm=order), triangle)
    return build.op("Transpose", turned, perm=[order.index(i) for i in range(rank)])
