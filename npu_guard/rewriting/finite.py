"""Which activations are finite for every finite input: what may be multiplied by a mask of zeros and ones.

0 times an infinity or a NaN is NaN, so selecting by a product gives what selecting gives only where all is finite.
"""

from __future__ import annotations

import math

import numpy as np

from npu_guard.checking.context import Context
from npu_guard.graph.graph import Node, Value

_NORMALISED = frozenset(
    {"BatchNormalization", "LayerNormalization", "InstanceNormalization", "Resize", "Upsample", "DequantizeLinear"}
)
"""Operators beside those of the table (`Operator.keeps_finite`): means of finite numbers, quotients that an epsilon guards."""
_NOT_NEGATIVE = frozenset(
    {"Relu", "Abs", "Exp", "Sigmoid", "HardSigmoid", "Softplus", "Softmax", "Sqrt", "ReduceL1", "ReduceL2", "ReduceSumSquare"}
)
_MOVERS = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Slice", "Split", "Expand", "Tile"})
_OF_THE_LEAST = frozenset({"ReduceMax", "ReduceMin", "MaxPool", "GlobalMaxPool", "Concat", "Min"})
"""Operators that give one of the numbers that they are given."""
_MEANS = frozenset({"Mul", "Div", "ReduceSum", "ReduceMean", "AveragePool", "GlobalAveragePool", "Pow"})
"""Operators whose result is not negative where no operand is."""
SMALLEST = 1e-12
"""What a finite number is divided by without becoming infinite: one that leads beyond that has no meaning."""


def is_finite(value: Value, ctx: Context) -> bool:
    """Whether the value holds neither infinities nor NaN as long as inputs and weights hold none.

    Sums are taken not to overflow: a network whose sums do has no meaning in the first place. Exponentials are no such operators;
    division, roots, logarithms and powers are where what they read is known to be large enough, as a sum with an epsilon is.
    """
    return value in ctx.analysis_of(_finite_values) or ctx.is_constant(value)


def _finite_values(ctx: Context) -> set[Value]:
    finite = set(ctx.analysis.model.graph.inputs)
    least: dict[Value, float] = {}
    for node in ctx.analysis.model.graph.nodes:
        if node.domain:
            continue
        bound = _bound(node, least, ctx)
        keeps = _keeps(node, least, ctx) and all(v is None or v in finite or ctx.is_constant(v) for v in node.inputs)
        for value in node.outputs:
            if value is not None:
                least[value] = bound
                finite.update([value] if keeps else [])
    return finite


def _least(value: Value | None, least: dict[Value, float], ctx: Context) -> float:
    """What the elements are at least, minus infinity where nothing is known."""
    if value is None:
        return -math.inf
    known = ctx.analysis.constants.get(value)
    if known is not None and known.dtype.kind in "fiu" and known.size:
        return float(np.min(known))
    return least.get(value, -math.inf)


def _bound(node: Node, least: dict[Value, float], ctx: Context) -> float:
    """What the elements of an operator's results are at least."""
    op_type, first = node.op_type, _least(node.input(0), least, ctx)
    given = [_least(v, least, ctx) for v in node.inputs if v is not None]
    if op_type in _NOT_NEGATIVE or (op_type == "Mul" and node.input(0) is node.input(1)):
        return 0.0
    if op_type == "Pow" and _least(node.input(1), least, ctx) == 2.0:
        return 0.0
    if op_type in _MOVERS:
        return first
    if op_type in _OF_THE_LEAST:
        return min(given if op_type in ("Concat", "Min") else [first], default=-math.inf)
    if op_type in ("Clip", "Max"):
        return max(given[:2] if op_type == "Clip" else given, default=-math.inf)
    if op_type == "Add":
        return sum(given) if min(given, default=-1.0) >= 0 else -math.inf
    if op_type in _MEANS and min(given if op_type in ("Mul", "Div", "Pow") else [first], default=-1.0) >= 0:
        return 0.0
    return -math.inf


def _keeps(node: Node, least: dict[Value, float], ctx: Context) -> bool:
    """Whether results are finite where operands are."""
    if node.op_type == "Div":
        divisor = None if node.input(1) is None else ctx.analysis.constants.get(ctx.input(node, 1))
        return (divisor is not None and bool((divisor != 0).all())) or _least(node.input(1), least, ctx) >= SMALLEST
    if node.op_type in ("Log", "Reciprocal"):
        return _least(node.input(0), least, ctx) >= SMALLEST
    if node.op_type == "Sqrt":
        return _least(node.input(0), least, ctx) >= 0
    if node.op_type == "Pow":
        exponent = ctx.analysis.constants.get(ctx.input(node, 1))
        positive = exponent is not None and bool((exponent >= 0).all())
        return positive and (_least(node.input(0), least, ctx) >= 0 or bool((np.asarray(exponent) % 1 == 0).all()))
    if node.op_type == "Pad":  # the number in the margins may be infinite, as where a maximum follows
        fill = node.input(2)
        known = np.asarray(node.attr("value", 0.0)) if fill is None else ctx.analysis.constants.get(fill)
        return known is not None and bool(np.isfinite(known).all())
    return node.operator.keeps_finite or node.op_type in _NORMALISED
