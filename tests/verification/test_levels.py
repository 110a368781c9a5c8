"""Inputs are drawn on both sides of where a function turns; where that is, the table of operators says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.formula import compiled
from npu_guard.graph.ops import Operator, operators
from npu_guard.verification.levels import levels_of

BY_ATTRIBUTES = {"Clip", "HardSigmoid", "Shrink", "ThresholdedRelu"}
"""They turn where their attributes say."""
STEPS = {"Ceil", "Floor", "Round", "IsInf", "IsNaN", "Not", "BitwiseNot", "Sqrt"}
"""They turn everywhere, or have no left side."""
OTHERWISE = {"Softplus"}
"""Smooth; kernels compute it otherwise below zero."""
UNARY = [o for o in operators("unary", domain="") if o.formula and o.name not in BY_ATTRIBUTES | STEPS]


@pytest.mark.parametrize("operator", UNARY, ids=lambda o: o.name)
def test_each_function_turns_where_the_table_says(operator: Operator) -> None:
    """Slopes on both sides of 0 and 3, by the formula of the operator."""
    evaluate = compiled(operator.formula)

    def at(x: float) -> float:
        return float(evaluate({"x": np.float64(x), "alpha": 0.3, "gamma": 1.1, "approximate": "none"}))

    step = 1e-6
    with np.errstate(all="ignore"):
        slopes = {c: ((at(c + 2 * step) - at(c + step)) / step, (at(c - step) - at(c - 2 * step)) / step) for c in (0.0, 3.0)}
        jumps = {c: at(c + step) - at(c - step) for c in slopes}
    turns = {c for c, (right, left) in slopes.items() if abs(right - left) > 0.05 or abs(jumps[c]) > 0.05}
    turns = {c for c in turns if np.isfinite(slopes[c]).all() and abs(jumps[c]) < 10}
    assert turns == (set() if operator.corner is None or operator.name in OTHERWISE else {operator.corner})


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = HardSwish(x)", [-3.0, 3.0]),
        ("y = Selu(x)", [0.0]),
        ("y = HardSigmoid<alpha = 0.25, beta = 0.5>(x)", [-2.0, 2.0]),
        ("y = ThresholdedRelu<alpha = 1.5>(x)", [-1.5, 1.5]),
        ("y = Tanh(x)", []),
    ],
)
def test_levels_of_a_model(analysis: Callable[..., Analysis], body: str, expected: list[float]) -> None:
    assert sorted(set(levels_of(analysis(f"g (float[1,4] x) => (float[1,4] y) {{ {body} }}")))) == expected
