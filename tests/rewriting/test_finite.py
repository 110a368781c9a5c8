"""What is finite for every finite input, and its nearest neighbours that are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from npu_guard.analysis.analyze import analyze
from npu_guard.checking import registry
from npu_guard.checking.context import Context
from npu_guard.checking.examples import case_model
from npu_guard.checking.rule import Case
from npu_guard.file.load import load
from npu_guard.rewriting.finite import is_finite


@pytest.mark.parametrize(
    ("nodes", "finite"),
    [
        ("a = Mul(x, x)  y = Sqrt(a)", True),
        ("a = Mul(x, u)  y = Sqrt(a)", False),
        ("a = Relu(x)  b = Add(a, e)  y = Log(b)", True),
        ("a = Relu(x)  y = Log(a)", False),
        ("b = Add(x, e)  y = Log(b)", False),
        ("a = Mul(x, x)  b = ReduceSum(a)  c = Add(b, e)  s = Sqrt(c)  d = Add(s, e)  y = Div(x, d)", True),
        ("a = Mul(x, x)  b = ReduceSum(a)  s = Sqrt(b)  y = Div(x, s)", False),
        ("a = Max(x, e)  y = Reciprocal(a)", True),
        ("a = Min(x, e)  y = Reciprocal(a)", False),
        ("a = Clip(x, e)  y = Div(u, a)", True),
        ("a = Clip(x, n)  y = Div(u, a)", False),
        ("a = Clip(x, n, e)  y = Div(u, a)", False),
        ("a = Abs(x)  y = Pow(a, h)", True),
        ("y = Pow(x, h)", False),
        ("y = Pow(x, two)", True),
        ("a = Abs(x)  y = Pow(a, n)", False),
        ("a = Abs(x)  b = Mul(a, n)  y = Sqrt(b)", False),
        ("a = Sub(x, e)  b = Relu(a)  c = Concat<axis = 1>(b, u)  y = Sqrt(c)", False),
        ("y = Pad(x, p)", True),
        ("y = Pad(x, p, n)", True),
        ("y = Pad(x, p, low)", False),
        ("y = Exp(x)", False),
    ],
)
def test_roots_and_quotients_are_finite_where_a_bound_says_so(nodes: str, finite: bool, tmp_path: Path) -> None:
    graph = f"""g (float[1,4,3,3] x, float[1,4,3,3] u) => (y)
        <float e = {{0.001}}, float n = {{-1.0}}, float h = {{0.5}}, float two = {{2.0}},
         int64[8] p = {{0,0,1,1,0,0,1,1}}, float low = {{-inf}}> {{ {nodes} }}"""
    path = tmp_path / "model.onnx"
    path.write_bytes(case_model(Case(graph)).SerializeToString())
    analysis = analyze(load(path))
    (y,) = analysis.model.graph.outputs
    assert is_finite(y, Context(analysis, registry.profile("aimotive-aiware"))) is finite
