"""Numbers at which a model may turn: bounds of a Clip, thresholds, and whatever single numbers its operators compute with.

A bound that is wrong shows on values between it and the right one alone. Where it stands in the file, in either of two models,
inputs can be drawn on both of its sides.
"""

from __future__ import annotations

import math

from npu_guard.analysis.analyze import Analysis
from npu_guard.graph.graph import Node
from npu_guard.graph.ops import find_operator
from npu_guard.verification.roles import SIZES

MOST = 64
"""Numbers that are kept of one model."""


def levels_of(analysis: Analysis) -> list[float]:
    """Finite numbers that a model compares or computes with, and their negatives, in rising order."""
    found: set[float] = set()
    for node in analysis.nodes():
        found |= {n for n in (*_constants(node, analysis), *_corners(node)) if math.isfinite(n)}
        if len(found) >= MOST:
            break
    return sorted({signed for n in sorted(found)[:MOST] for signed in (n, -n)})


def _constants(node: Node, analysis: Analysis) -> list[float]:
    """Single numbers among what an operator reads, but for sizes and axes."""
    roles = find_operator(node.op_type, node.domain)
    numbers = []
    for place, value in enumerate(node.inputs):
        if value is None or roles.role(place) in SIZES:
            continue
        if value.shape is not None and all(d == 1 for d in value.shape) and analysis.is_constant(value):
            array = analysis.constants.get(value)
            numbers += [] if array is None or array.dtype.kind not in "fiu" else [float(array.reshape(-1)[0])]
    return numbers


def _corners(node: Node) -> tuple[float, ...]:
    """Where an activation turns, as its attributes say."""
    if node.op_type == "HardSigmoid":
        alpha, beta = float(node.attr("alpha", 0.2)), float(node.attr("beta", 0.5))
        return (beta / alpha, (1.0 - beta) / alpha) if alpha else ()
    if node.op_type == "ThresholdedRelu":
        return (float(node.attr("alpha", 1.0)),)
    if node.op_type == "Clip" and ("min" in node.attributes or "max" in node.attributes):
        return tuple(float(node.attributes[name]) for name in ("min", "max") if name in node.attributes)
    corner = find_operator(node.op_type, node.domain).corner
    return () if corner is None else (corner,)
