"""How many roundings add up on the way to each output, which is what an output may differ by when a model is spelled another way.

Rounding errors of a sum grow with the square root of its terms (Higham, Accuracy and Stability, 2002, section 3.1), and those of
operators that follow each other add like independent ones. So each value has the terms of its longest way, counted in roundings
of float32; one of float16, bfloat16 or float64 weighs as many of these as its epsilon, squared, is larger, or the part of one.
"""

from __future__ import annotations

import math

import onnx

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.cost import elements
from npu_guard.graph.graph import Node, Value
from npu_guard.graph.ops import find_operator

_T = onnx.TensorProto
ROUNDING: dict[int, float] = {_T.FLOAT16: 2.0**26, _T.BFLOAT16: 2.0**32, _T.DOUBLE: 2.0**-58}
"""Roundings of float32 (epsilon 2^-23) that one of float16 (2^-10), bfloat16 (2^-7) or float64 (2^-52) weighs."""
_KEEPING = frozenset(("view", "identity", "data mover", "selection", "query", "generator"))
_EXACT = frozenset((
    "MaxPool", "GlobalMaxPool", "Relu", "Clip", "Max", "Min", "ReduceMax", "ReduceMin", "Where", "Neg", "Abs", "Sign", "Floor",
    "Ceil", "Round",
))  # fmt: skip

_OF_FLOAT32 = frozenset({"Attention", "Gelu"})
"""Operators whose kernels in ONNX Runtime have constants of float32, such as 0.044715, for float64 too."""


def is_exact(op_type: str, domain: str = "") -> bool:
    """Whether an operator rounds nothing: what comes out went in, or is a whole number."""
    return (not domain and op_type in _EXACT) or find_operator(op_type, domain).kind in _KEEPING


def summed_terms(analysis: Analysis, node: Node) -> float:
    """Terms that one element of a node's output sums, at least one."""
    cost, out = analysis.costs.get(node), elements(node.output.shape) if node.outputs else None
    if not out or is_exact(node.op_type, node.domain):
        return 1.0
    kind = find_operator(node.op_type, node.domain).kind
    if kind == "pooling":
        return float(math.prod(node.attr("kernel_shape", ())))
    if kind in ("reduction", "global pooling"):
        return float(max(1, (elements(node.inputs[0].shape) or 1) // out)) if node.inputs and node.inputs[0] is not None else 1.0
    return float(max(1, cost.macs // out)) if cost is not None else 1.0


def node_terms(analysis: Analysis, node: Node) -> float:
    """Roundings of float32 that a node adds to its output; those of its bodies one after the other."""
    weight = ROUNDING.get(node.output.dtype, 1.0)
    if node.op_type in _OF_FLOAT32 and not node.domain:
        weight = max(weight, 1.0)
    terms = summed_terms(analysis, node) * min(1.0, weight)  # kernels for types below float32 sum in float32
    if not is_exact(node.op_type, node.domain):
        terms = max(terms, weight)
    return terms + sum(node_terms(analysis, inner) for _, body in node.subgraphs for inner in body.nodes)


def accumulated_by_value(analysis: Analysis) -> dict[Value, float]:
    """For each value that a node of the main graph makes, the terms on the longest way to it."""
    terms: dict[Value, float] = {}
    for node in analysis.model.graph.nodes:
        before = max((terms.get(value, 0.0) for value in node.inputs if value is not None), default=0.0)
        own = before if node in analysis.elided else before + node_terms(analysis, node)
        terms.update((value, own) for value in node.outputs if value is not None)
    return terms


def at_least(value: Value) -> float:
    """The terms of a value that nothing has rounded yet."""
    return min(1.0, ROUNDING.get(value.dtype, 1.0))


def accumulated_by_output(analysis: Analysis) -> dict[str, float]:
    """For each output of the model, the terms on the longest way to it, at least a rounding of its type."""
    terms = accumulated_by_value(analysis)
    return {value.name: at_least(value) + terms.get(value, 0.0) for value in analysis.model.graph.outputs}


def accumulated_terms(analysis: Analysis) -> float:
    """The terms on the longest way to any output."""
    return max(accumulated_by_output(analysis).values(), default=1.0)


def accumulated_together(before: Analysis, after: Analysis, names: dict[str, str] | None = None) -> dict[str, float]:
    """Terms of both models for each output of the first; `names` maps these to those of the second where they differ."""
    first, second = accumulated_by_output(before), accumulated_by_output(after)
    return {name: terms + second.get((names or {}).get(name, name), terms) for name, terms in first.items()}
