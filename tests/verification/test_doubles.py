"""Models of float64 are held to its rounding, not to that of float32."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from conftest import Cli, Write

WEIGHT = np.random.default_rng(3).normal(size=(8, 4))
TWICE = "a = Mul(x, half)  b = MatMul(a, w)  y = Add(b, b)"
SOFT = "a = MatMul(x, w)  y = Softmax(a)"
SPELLED = "a = MatMul(x, w)  m = ReduceMax(a, axis)  c = Sub(a, m)  e = Exp(c)  s = ReduceSum(e, axis)  y = Div(e, s)"

TANH = 'Gelu<approximate = "tanh">'
BY_TANH = (
    "k = Constant<value = double {0.044715}>()  r = Constant<value = double {0.7978845608028654}>()  s = Mul(b, b)  "
    "t = Mul(s, b)  u = Mul(t, k)  v = Add(b, u)  i = Mul(v, r)  h = Tanh(i)  m = Mul(h, b)  n = Add(m, b)  y = Mul(n, half)"
)


def graph(body: str, weight: np.ndarray = WEIGHT) -> str:
    numbers = ",".join(repr(float(v)) for v in weight.ravel())
    return (
        "g (double[1,8] x) => (double[1,4] y) <double[8,4] w, double half = {0.5}, int64[1] axis = {1}, double by = {1.0000001}> "
        f"{{ w = Constant<value = double[8,4] {{{numbers}}}>()  {body} }}"
    ).replace("double[8,4] w, ", "")


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (graph("y = MatMul(x, w)"), graph("y = MatMul(x, w)", WEIGHT * (1 + 1e-9)), "differs"),
        (graph("y = MatMul(x, w)"), graph("y = MatMul(x, w)", WEIGHT.astype(np.float32)), "differs"),
        (graph("y = MatMul(x, w)"), graph(TWICE), "equal"),
        (graph(SOFT), graph(SPELLED), "equal"),
        (graph(f"b = MatMul(x, w)  y = {TANH}(b)"), graph(f"b = MatMul(x, w)  {BY_TANH}"), "equal"),
        (
            graph(f"b = MatMul(x, w)  y = {TANH}(b)"),
            graph(f"b = MatMul(x, w)  {BY_TANH.replace('0.044715', '0.044716')}"),
            "differs",
        ),
        (graph(SOFT), graph(SPELLED.replace("y = Div(e, s)", "t = Mul(s, by)  y = Div(e, t)")), "differs"),
    ],
)
def test_float64_is_held_to_its_own_rounding(cli: Cli, write: Write, before: str, after: str, verdict: str) -> None:
    write(before)
    write(after, "other.onnx")
    done = cli("verify", "net.onnx", "other.onnx", "--format", "json")
    assert json.loads(done.out)["verdict"] == verdict, done.out
