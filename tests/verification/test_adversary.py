"""Pairs that somebody made to be called equal, each wrong on few inputs alone, beside pairs that are the same function.

Each change is right for numbers of moderate size; those that are the same lose last bits where the others do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Cli, Write

NUMBERS = """<float zero = {0.0}, float one = {1.0}, float less = {-1.0}, float half = {0.5}, float low = {-7.0},
    float big = {1000000.0}, float nbig = {-1000000.0}, float deep = {-300.0}, float thirty = {30.0}, float nine = {0.9},
    float small = {0.001}, float tiny = {0.0000001}, int64[2] space = {2, 3}, int64[8] border = {0, 0, 1, 1, 0, 0, 1, 1}>"""
IMAGE, TWO = "float[1,3,12,12] x", "float[1,4,5,5] a, float[1,4,5,5] b"
UNARY = {
    "softplus, zero below -7": ("y = Softplus(x)", "b = Less(x, low)  s = Softplus(x)  y = Where(b, zero, s)"),
    "relu, -1 below -300": ("y = Relu(x)", "b = Less(x, deep)  s = Relu(x)  y = Where(b, less, s)"),
    "clipped at a million": ("y = Neg(x)", "n = Neg(x)  y = Clip(n, nbig, big)"),
    "at the threshold": ("b = Greater(x, one)  y = Where(b, x, zero)", "b = GreaterOrEqual(x, one)  y = Where(b, x, zero)"),
    "just above a threshold": ("y = ThresholdedRelu<alpha = 1.0>(x)", "y = ThresholdedRelu<alpha = 1.001>(x)"),
    "a blank image": (
        "y = Relu(x)", "h = ReduceMax(x)  l = ReduceMin(x)  s = Sub(h, l)  b = Less(s, tiny)  r = Relu(x)  q = Add(r, one)"
        "  y = Where(b, q, r)",
    ),
    "a blank and negative image": (
        "y = Neg(x)", "h = ReduceMax(x)  l = ReduceMin(x)  s = Sub(h, l)  b = Less(s, tiny)  n = Less(h, less)  c = And(b, n)"
        "  r = Neg(x)  q = Add(r, one)  y = Where(c, q, r)",
    ),
    "a channel that is constant": (
        "y = Neg(x)", "h = ReduceMax(x, space)  l = ReduceMin(x, space)  s = Sub(h, l)  b = Less(s, tiny)  n = Greater(h, tiny)"
        "  c = And(b, n)  r = Neg(x)  q = Add(r, one)  y = Where(c, q, r)",
    ),
    "all below -7": ("y = Neg(x)", "h = ReduceMax(x)  n = Less(h, low)  r = Neg(x)  q = Add(r, one)  y = Where(n, q, r)"),
    "all above 30": ("y = Neg(x)", "h = ReduceMin(x)  n = Greater(h, thirty)  r = Neg(x)  q = Add(r, one)  y = Where(n, q, r)"),
    "a mean below -300": ("y = Neg(x)", "h = ReduceMean(x)  n = Less(h, deep)  r = Neg(x)  q = Mul(r, nine)  y = Where(n, q, r)"),
    "exponential that overflows": ("y = Softplus(x)", "e = Exp(x)  a = Add(e, one)  y = Log(a)"),
    "border of a pool": ("y = MaxPool<kernel_shape = [3,3], pads = [1,1,1,1]>(x)",
                         "p = Pad(x, border, zero)  y = MaxPool<kernel_shape = [3,3]>(p)"),
    "boxes and scores": ("s = Sigmoid(x)  k = Mul(x, big)  y = Concat<axis = 1>(k, s)",
                         "s = HardSigmoid(x)  k = Mul(x, big)  y = Concat<axis = 1>(k, s)"),
}  # fmt: skip
BINARY = {
    "one far below the other": ("y = Max(a, b)", "d = Sub(b, a)  t = Less(d, big)  m = Max(a, b)  y = Where(t, m, a)"),
    "one large, one negative": (
        "y = Max(a, b)", "p = Greater(a, thirty)  q = Less(b, deep)  r = And(p, q)  m = Max(a, b)  y = Where(r, b, m)",
    ),
    "one is zero": ("t = Abs(b)  u = Add(t, one)  y = Div(a, u)",
                    "t = Abs(b)  u = Add(t, one)  e = Equal(a, zero)  v = Div(a, u)  y = Where(e, b, v)"),
    "one huge, one tiny": (
        "y = Mul(a, b)", "p = Abs(a)  q = Abs(b)  g = Greater(p, big)  s = Less(q, small)  n = And(g, s)  u = Mul(a, b)"
        "  y = Where(n, zero, u)",
    ),
}  # fmt: skip
SAME = {
    "softplus": (
        "y = Softplus(x)", "r = Relu(x)  n = Abs(x)  m = Neg(n)  e = Exp(m)  a = Add(e, one)  l = Log(a)  y = Add(r, l)",
    ),
    "sigmoid": ("y = Sigmoid(x)", "a = Mul(x, half)  t = Tanh(a)  u = Add(t, one)  y = Mul(u, half)"),
    "swish": ("s = Sigmoid(x)  y = Mul(x, s)", "n = Neg(x)  e = Exp(n)  a = Add(e, one)  y = Div(x, a)"),
    "threshold": ("y = ThresholdedRelu<alpha = 1.0>(x)", "b = Greater(x, one)  y = Where(b, x, zero)"),
    "pool behind a Relu": ("r = Relu(x)  y = MaxPool<kernel_shape = [3,3], pads = [1,1,1,1]>(r)",
                           "r = Relu(x)  p = Pad(r, border, zero)  y = MaxPool<kernel_shape = [3,3]>(p)"),
    "mean that cancels": (
        "m = GlobalAveragePool(x)  s = Sigmoid(m)  y = Mul(x, s)",
        "m = AveragePool<kernel_shape = [12,12]>(x)  s = Sigmoid(m)  y = Mul(x, s)",
    ),
    "absolute": ("y = Abs(x)", "n = Neg(x)  y = Max(x, n)"),
}  # fmt: skip
CASES = [
    *((IMAGE, *pair, 5) for pair in UNARY.values()), *((TWO, *pair, 5) for pair in BINARY.values()),
    *((IMAGE, *pair, 0) for pair in SAME.values()),
]  # fmt: skip


@pytest.mark.parametrize(("inputs", "before", "after", "code"), CASES, ids=[*UNARY, *BINARY, *(f"same {n}" for n in SAME)])
def test_what_few_inputs_show(cli: Cli, write: Write, inputs: str, before: str, after: str, code: int) -> None:
    for body, file in ((before, "net.onnx"), (after, "other.onnx")):
        write(f"g ({inputs}) => (y) {NUMBERS} {{ {body} }}", file)
    assert cli("verify", "net.onnx", "other.onnx").code == code
