"""The least number that an operator can give, as far as that follows from what it reads."""

from __future__ import annotations

import math
from collections.abc import Callable

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.quantized.encoding import dequantizes, is_float, quantizes
from npu_guard.graph.graph import Node, Value
from npu_guard.graph.handlers import OfKind
from npu_guard.graph.plain import plain

_POSITIVE = frozenset({"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs", "Sqrt", "Exp", "Softplus"})
_ABOVE = {"Erf": -1.0, "Tanh": -1.0, "Sin": -1.0, "Cos": -1.0, "Softsign": -1.0}
_KEEPING = OfKind("view", "data mover", "identity", "pooling", "global pooling")
_KEEPING_PLAIN = frozenset({"AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceMax", "ReduceSum", "Resize", "Min"})
"""Operators whose results are between numbers that they read; sums of such, as far as none is negative."""


def least(node: Node, below: Callable[[Value], float], analysis: Analysis) -> float:
    """A number that no result of the node is below; `below` tells the same of a tensor that it reads. -inf where nothing does.

    Of integers, `below` is about the numbers that they stand for.
    """
    op = plain(node)
    if (quantizes(node) or dequantizes(node)) and node.inputs[0] is not None:
        return below(node.inputs[0])
    if op in _POSITIVE:
        return 0.0
    if op in _ABOVE:
        return _ABOVE[op]
    if op == "Clip" and (bound := node.input(1)) is not None:
        known = analysis.constants.get(bound)
        return -math.inf if known is None or known.size != 1 else float(known.reshape(-1)[0])
    operands = [v for v in node.inputs if v is not None and v.dtype == node.output.dtype]
    if not is_float(node.output):  # the constants are zero points, and what fills the place of 0
        operands = [v for v in operands if not analysis.is_constant(v)]
    elif op == "Resize":
        operands = [] if node.attr("mode", "nearest") == "cubic" else operands[:1]
    if not operands:
        return -math.inf
    if op == "Mul" and len(operands) == 2 and operands[0] is operands[1]:
        return 0.0
    if op in ("Mul", "Div", "Add", "Sum", "Max"):
        lows = [below(v) for v in operands]
        if op == "Mul" and len(operands) == 2 and min(lows) < 0 and is_float(node.output):
            return min(0.0, _times(operands, lows, analysis))
        if op in ("Mul", "Div"):
            return 0.0 if min(lows) >= 0 and is_float(node.output) else -math.inf
        return -math.inf if not is_float(node.output) else max(lows) if op == "Max" else sum(lows)
    if node.op_type in _KEEPING or op in _KEEPING_PLAIN:
        low = min(map(below, operands))
        return low if low >= 0 or op != "ReduceSum" else -math.inf
    return -math.inf


def _times(operands: list[Value], lows: list[float], analysis: Analysis) -> float:
    """A number that no product is below where one of the two operands is a constant that is not negative."""
    for value, low in zip(operands, reversed(lows), strict=True):
        factors = analysis.constants.get(value)
        if factors is not None and factors.size and float(factors.min()) >= 0 and math.isfinite(low):
            return low * float(factors.max())
    return -math.inf
