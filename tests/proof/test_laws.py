"""What is proved and what must not be: each law of the interpretation, and its nearest neighbour that is none."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from npu_guard.proof.exact import Exact
from npu_guard.proof.prove import PROVED, REFUTED, ROUNDING, SAMPLED
from npu_guard.results.proof import Proof

Prove = Callable[..., Proof]
X, XY = "float[1,4,3,5] x", "float[1,4,3,5] x, float[1,4,3,5] y"


def graph(body: str, inputs: str = XY, weights: str = "", out: str = "z") -> str:
    return f"g ({inputs}) => ({out}) {f'<{weights}>' if weights else ''} {{ {body} }}"


UNIT = "float l = {0}, float h = {1}"
TWO, MINUS, THIRD = "float c = {2}", "float c = {-2}", "float c = {0.375}"
IDENTITIES = {
    "products distribute": (graph("s = Add(x, y) z = Mul(s, x)"), graph("a = Mul(x, x) b = Mul(x, y) z = Add(a, b)")),
    "a relu of a multiple": (graph("a = Mul(x, c) z = Relu(a)", X, THIRD), graph("a = Relu(x) z = Mul(a, c)", X, THIRD)),
    "a relu by absolute values": (
        graph("z = Relu(x)", X), graph("a = Abs(x) s = Add(a, x) z = Mul(s, h)", X, "float h = {0.5}")),
    "a leaky relu by two": (
        graph("z = LeakyRelu<alpha = 0.25>(x)", X),
        graph("a = Relu(x) n = Neg(x) b = Relu(n) d = Mul(b, q) z = Sub(a, d)", X, "float q = {0.25}")),
    "clip by relus": (
        graph("z = Clip(x, l, h)", X, "float l = {-1}, float h = {2}"),
        graph("a = Sub(x, l) r = Relu(a) s = Sub(r, w) n = Neg(s) m = Relu(n) z = Sub(h, m)", X,
              "float l = {-1}, float h = {2}, float w = {3}")),
    "exp of a sum": (graph("s = Add(x, y) z = Exp(s)"), graph("a = Exp(x) b = Exp(y) z = Mul(a, b)")),
    "sigmoid by exp": (
        graph("z = Sigmoid(x)", X), graph("n = Neg(x) e = Exp(n) d = Add(e, o) z = Reciprocal(d)", X, "float o = {1}")),
    "sigmoid turned": (graph("n = Neg(x) z = Sigmoid(n)", X), graph("s = Sigmoid(x) z = Sub(o, s)", X, "float o = {1}")),
    "tanh by sigmoid": (
        graph("z = Tanh(x)", X), graph("d = Add(x, x) s = Sigmoid(d) t = Mul(s, w) z = Sub(t, o)", X,
                                       "float w = {2}, float o = {1}")),
    "softmax moved": (graph("z = Softmax<axis = 3>(x)", X), graph("s = Add(x, c) z = Softmax<axis = 3>(s)", X, TWO)),
    "the larger of a number and minus infinity": (
        graph("m = Max(x, c) z = Exp(m)", X, "float c = {-inf}"), graph("z = Exp(x)", X)),
    "max in another order": (
        graph("m = Max(x, y) z = ReduceMax(m, a)", weights="int64[1] a = {1}"),
        graph("p = ReduceMax(y, a) q = ReduceMax(x, a) z = Max(p, q)", weights="int64[1] a = {1}")),
    "max pooling in two steps": (
        graph("z = MaxPool<kernel_shape = [3, 1]>(x)", X), graph("z = GlobalMaxPool(t) ", X).replace(
            "z = GlobalMaxPool(t)", "z = ReduceMax(x, a)").replace("{ z", "<int64[1] a = {2}> { z")),
    "min by max": (graph("z = Min(x, y)"), graph("a = Neg(x) b = Neg(y) m = Max(a, b) z = Neg(m)")),
    "a choice by factors": (
        graph("b = Greater(x, y) z = Where(b, x, y)"),
        graph("b = Greater(x, y) f = Cast<to = 1>(b) d = Sub(x, y) p = Mul(f, d) z = Add(p, y)")),
    "not greater": (
        graph("b = Greater(x, y) z = Where(b, x, y)"), graph("b = LessOrEqual(x, y) z = Where(b, y, x)")),
    "a normalization written out": (
        graph("z = LayerNormalization<axis = 3, epsilon = 0.5>(x, s)", X, "float[5] s"),
        graph("m = ReduceMean(x, a) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, a) e = Add(v, t) r = Sqrt(e) n = Div(d, r) "
              "z = Mul(n, s)", X, "float[5] s, int64[1] a = {3}, float t = {0.5}")),
    "a comparison with the next float": (
        graph("b = GreaterOrEqual(x, c) z = Cast<to = 1>(b)", X, TWO),
        graph("b = Greater(x, c) z = Cast<to = 1>(b)", X, f"float c = {{{np.nextafter(np.float32(2), np.float32(0)):.9g}}}")),
    "a constant that the graph computes": (
        graph("r = Pow(d, h) z = Mul(x, r)", X, "float d = {8}, float h = {-0.5}"),
        graph("z = Mul(x, c)", X, f"float c = {{{np.float32(8) ** np.float32(-0.5):.9g}}}")),
    "shapes that the graph computes": (
        graph("s = Shape(x) b = Gather(s, k) t = Concat<axis = 0>(b, m) z = Reshape(x, t)", X,
              "int64[1] k = {0}, int64[1] m = {-1}"), graph("z = Flatten(x)", X)),
    "a sum in doubles of what was a float": (
        graph("d = Cast<to = 11>(x) s = Add(d, d) z = Cast<to = 1>(s)", X), graph("z = Add(x, x)", X)),
    "both round the same double": (
        "g (double[1,4,4,4] x) => (z) { a = Add(x, x) z = Cast<to = 1>(a) }",
        "g (double[1,4,4,4] x) => (z) <double c = {2}> { a = Mul(x, c) z = Cast<to = 1>(a) }"),
    "both round the same number": (
        graph("a = Mul(x, c) h = Cast<to = 10>(a) z = Cast<to = 1>(h)", X, TWO),
        graph("a = Add(x, x) h = Cast<to = 10>(a) z = Cast<to = 1>(h)", X)),
    "a step of quantization": (
        graph("a = Add(x, x) q = QuantizeLinear(a, s, o) z = DequantizeLinear(q, s, o)", X, "float s = {0.1}, uint8 o = {3}"),
        graph("a = Mul(x, c) q = QuantizeLinear(a, s, o) z = DequantizeLinear(q, s, o)", X,
              f"float s = {{0.1}}, uint8 o = {{3}}, {TWO}")),
    "what is chosen of multiples": (
        graph("i = ArgMax<axis = 1>(x) m = Mul(y, c) z = Gather<axis = 2>(m, i)", weights=THIRD),
        graph("i = ArgMax<axis = 1>(x) g = Gather<axis = 2>(y, i) z = Mul(g, c)", weights=THIRD)),
    "the place of the largest of a multiple": (
        graph("m = Mul(x, c) i = ArgMax<axis = 1>(m) z = Cast<to = 1>(i)", X, THIRD),
        graph("i = ArgMax<axis = 1>(x) z = Cast<to = 1>(i)", X)),
}  # fmt: skip


@pytest.mark.parametrize("name", IDENTITIES)
def test_identity_is_proved(name: str, proof: Prove) -> None:
    found = proof(*IDENTITIES[name])
    assert found.label == PROVED, found
    assert found.bound < 1e-6
    assert not found.constants


TRAPS = {
    # An interpretation by true signs hides what is behind a unit that is off.
    "a relu of minus a multiple": (graph("a = Mul(x, c) z = Relu(a)", X, MINUS), graph("a = Relu(x) z = Mul(a, c)", X, MINUS)),
    "a sign taken for another": (graph("a = Abs(x) z = Mul(a, y)"), graph("a = Abs(y) z = Mul(a, x)")),
    "a relu removed": (graph("z = Relu(x)", X), graph("z = Identity(x)", X)),
    "a relu for an absolute value": (graph("z = Relu(x)", X), graph("z = Abs(x)", X)),
    "the root of a square": (graph("s = Mul(x, x) z = Sqrt(s)", X), graph("z = Identity(x)", X)),
    # An odd power sum would make them equal.
    "min for max": (graph("z = Max(x, y)"), graph("z = Min(x, y)")),
    "the larger of a number and a small one": (
        graph("m = Max(x, c) z = Exp(m)", X, "float c = {-100}"), graph("z = Exp(x)", X)),
    "min for max over an axis": (
        graph("z = ReduceMax(x, a)", X, "int64[1] a = {1}"), graph("z = ReduceMin(x, a)", X, "int64[1] a = {1}")),
    "max of negatives": (graph("a = Neg(x) b = Neg(y) z = Max(a, b)"), graph("m = Max(x, y) z = Neg(m)")),
    "max of a sum": (graph("a = Mul(x, x) b = Mul(y, y) z = Max(a, b)"), graph("m = Max(x, y) z = Mul(m, m)")),
    "a maximum for a mean": (graph("z = GlobalMaxPool(x)", X), graph("z = GlobalAveragePool(x)", X)),
    # An order of the elements that puts 1 below 0 saturates every Clip.
    "another bound above": (
        graph("z = Clip(x, l, h)", X, UNIT), graph("z = Clip(x, l, h)", X, "float l = {0}, float h = {2}")),
    "another bound below": (
        graph("z = Clip(x, l, h)", X, UNIT), graph("z = Clip(x, l, h)", X, "float l = {-1}, float h = {1}")),
    "a clip removed": (graph("z = Clip(x, l, h)", X, UNIT), graph("z = Identity(x)", X)),
    # Equal as formulas is not equal for every input.
    "a choice where numbers meet": (
        graph("b = Equal(x, y) z = Where(b, x, c)", weights=TWO),
        graph("o = Sub(x, x) z = Add(c, o)", weights=TWO)),
    "equality for greater": (graph("b = Greater(x, y) z = Where(b, x, y)"), graph("b = GreaterOrEqual(x, y) z = Where(b, y, x)")),
    "the other comparison": (
        graph("b = Greater(x, y) z = Cast<to = 1>(b)"), graph("b = GreaterOrEqual(x, y) z = Cast<to = 1>(b)")),
    "the other branch": (graph("b = Greater(x, y) z = Where(b, x, y)"), graph("b = Greater(x, y) z = Where(b, y, x)")),
    "a truth value squared": (
        graph("b = Greater(x, y) f = Cast<to = 1>(b) p = Mul(f, x) z = Mul(p, x)"),
        graph("b = Greater(x, y) f = Cast<to = 1>(b) p = Mul(f, x) z = Mul(p, y)")),
    # Only values that are new on one side may be read otherwise, attributes too.
    "an epsilon": (
        graph("z = LayerNormalization<axis = 3, epsilon = 0.00001>(x, s)", X, "float[5] s"),
        graph("z = LayerNormalization<axis = 3, epsilon = 0.00002>(x, s)", X, "float[5] s")),
    "an alpha": (graph("z = LeakyRelu<alpha = 0.1>(x)", X), graph("z = LeakyRelu<alpha = 0.11>(x)", X)),
    "exp of a product": (graph("p = Mul(x, y) z = Exp(p)"), graph("a = Exp(x) b = Exp(y) z = Mul(a, b)")),
    "sums of exponentials": (graph("a = Exp(x) b = Exp(y) z = Add(a, b)"), graph("s = Add(x, y) z = Exp(s)")),
    "sigmoid for tanh": (graph("z = Sigmoid(x)", X), graph("z = Tanh(x)", X)),
    "tanh for erf": (graph("z = Tanh(x)", X), graph("z = Erf(x)", X)),
    "gelu by tanh": (graph("z = Gelu(x)", X), graph('z = Gelu<approximate = "tanh">(x)', X)),
    "softmax over another axis": (graph("z = Softmax<axis = 3>(x)", X), graph("z = Softmax<axis = 2>(x)", X)),
    "a cast that cuts": (graph("i = Cast<to = 7>(x) z = Cast<to = 1>(i)", X), graph("z = Identity(x)", X)),
    "a cast of doubles that rounds": (
        "g (double[1,4,4,4] x) => (z) { f = Cast<to = 1>(x) z = Cast<to = 11>(f) }",
        "g (double[1,4,4,4] x) => (z) { z = Identity(x) }"),
    "a cast that rounds": (graph("h = Cast<to = 10>(x) z = Cast<to = 1>(h)", X), graph("z = Identity(x)", X)),
    "a cut for a floor": (graph("i = Cast<to = 7>(x) z = Cast<to = 1>(i)", X), graph("z = Floor(x)", X)),
    "a step of quantization": (
        graph("q = QuantizeLinear(x, s, o) z = DequantizeLinear(q, s, o)", X, "float s = {0.1}, uint8 o = {3}"),
        graph("z = Identity(x)", X)),
    "a zero point": (
        graph("q = QuantizeLinear(x, s, o) z = DequantizeLinear(q, s, o)", X, "float s = {0.1}, uint8 o = {3}"),
        graph("q = QuantizeLinear(x, s, o) z = DequantizeLinear(q, s, o)", X, "float s = {0.1}, uint8 o = {4}")),
    "the place of the largest of minus a multiple": (
        graph("m = Mul(x, c) i = ArgMax<axis = 1>(m) z = Cast<to = 1>(i)", X, MINUS),
        graph("i = ArgMax<axis = 1>(x) z = Cast<to = 1>(i)", X)),
    "what is chosen at another place": (
        graph("i = ArgMax<axis = 1>(x) z = Gather<axis = 2>(y, i)"), graph("i = ArgMin<axis = 1>(x) z = Gather<axis = 2>(y, i)")),
    "what is chosen in another order": (
        graph("i = ArgMax<axis = 1>(x) z = Gather<axis = 1>(y, i)"),
        graph("i = ArgMax<axis = 1>(x) t = Gather<axis = 1>(y, k) z = Gather<axis = 1>(t, i)",
              weights="int64[4] k = {0, 2, 1, 3}")),
    "what is chosen of others": (
        graph("i = ArgMax<axis = 1>(x) z = Gather<axis = 2>(y, i)"), graph("i = ArgMax<axis = 1>(x) z = Gather<axis = 2>(x, i)")),
    "the place of the least": (graph("z = ArgMax<axis = 1>(x)", X), graph("z = ArgMin<axis = 1>(x)", X)),
    "the last of several": (graph("z = ArgMax<axis = 1>(x)", X), graph("z = ArgMax<axis = 1, select_last_index = 1>(x)", X)),
    "the place on another axis": (graph("z = ArgMax<axis = 2>(x)", "float[1,4,4,4] x"), graph(
        "t = Transpose<perm = [0,1,3,2]>(x) z = ArgMax<axis = 2>(t)", "float[1,4,4,4] x")),
    "the place in another order": (graph("z = ArgMax<axis = 1>(x)", X), graph(
        "t = Gather<axis = 1>(x, i) z = ArgMax<axis = 1>(t)", X, "int64[4] i = {0, 2, 1, 3}")),
    "outputs exchanged": (graph("z = Relu(x) w = Relu(y)", out="z, w"), graph("z = Relu(y) w = Relu(x)", out="z, w")),
    "weights that are zero": (
        graph("z = Conv(x, w)", X, f"float[4,4,1,1] w = {{{','.join('0' * 16)}}}"),
        graph("z = Conv(x, w)", X, f"float[4,4,1,1] w = {{{','.join('0' * 16)}}}")),
    "a division by zero": (graph("d = Sub(x, x) z = Div(x, d)", X), graph("d = Sub(x, x) z = Div(x, d)", X)),
    "an operator without a reading": (graph("z = Det(x)", "float[1,4,3,3] x"),) * 2,
}  # fmt: skip


@pytest.mark.parametrize("name", TRAPS)
def test_trap_is_not_proved(name: str, proof: Prove) -> None:
    found = proof(*TRAPS[name])
    assert found.label in (SAMPLED, REFUTED), found
    assert found.reason


CONV = graph("c = Conv<pads = [1,1,1,1]>(x, w, b) z = Relu(c)", X, "float[6,4,3,3] w, float[6] b")
W = np.random.default_rng(0).standard_normal((6, 4, 3, 3)).astype(np.float32)


def moved(by: float, at: tuple[int, ...] = (3, 1, 0, 2)) -> np.ndarray:
    w = W.copy()
    w[at] += np.float32(by)
    return w


def test_weight_behind_a_unit_that_may_be_off_counts(proof: Prove) -> None:
    assert proof(CONV, CONV, weights={"w": W}).label == PROVED
    assert proof(CONV, CONV, {"w": moved(0.26)}, weights={"w": W}).label == SAMPLED


def test_weight_moved_by_an_ulp_is_listed(proof: Prove) -> None:
    w = W.copy()
    w[2, 2, 1, 1] = np.nextafter(w[2, 2, 1, 1], np.float32(np.inf))
    found = proof(CONV, CONV, {"w": w}, weights={"w": W})
    assert found.label == ROUNDING
    assert len(found.constants) == 1
    assert found.constants == (f"{w[2, 2, 1, 1]:.9g} for {W[2, 2, 1, 1]!s} (1 ulp)",)


def test_linear_model_that_differs_is_refuted(proof: Prove) -> None:
    linear = graph("z = Conv<pads = [1,1,1,1]>(x, w, b)", X, "float[6,4,3,3] w, float[6] b")
    found = proof(linear, linear, {"w": moved(1e-3)}, weights={"w": W})
    assert found.label == REFUTED
    assert "'z' differs by" in found.reason
    rounded = proof(linear, linear, {"w": (W * np.float32(3) / np.float32(3)).astype(np.float32)}, weights={"w": W})
    assert rounded.label in (PROVED, ROUNDING, SAMPLED)
    assert proof(CONV, CONV, {"w": moved(1e-3)}, weights={"w": W}).label == SAMPLED, "not linear, so that it cannot be told"


def test_channel_that_a_grouped_maximum_forgets_is_seen(proof: Prove) -> None:
    """On random numbers the maximum is somewhere else nearly always."""
    axes = "int64[1] a = {1}"
    slices = "s{0} = Slice(x, b{0}, e{0}, a) m{0} = ReduceMax(s{0}, a) "
    cut = lambda ends: (
        "".join(slices.format(i) for i in range(2)) + "z = Max(m0, m1)",
        f"{axes}, int64[1] b0 = {{0}}, int64[1] e0 = {{{ends[0]}}}, int64[1] b1 = {{{ends[1]}}}, int64[1] e1 = {{64}}",
    )
    inputs = "float[1,64,2,2] x"
    whole = graph("z = ReduceMax(x, a)", inputs, axes)
    body, weights = cut((32, 32))
    assert proof(whole, graph(body, inputs, weights)).label == PROVED
    body, weights = cut((32, 33))
    assert proof(whole, graph(body, inputs, weights)).label == SAMPLED


def test_stated_numbers_are_used_and_listed(proof: Prove) -> None:
    """alpha w + beta b in a kernel that was computed in float32."""
    rng = np.random.default_rng(5)
    w, b = rng.standard_normal((7, 6)).astype(np.float32), rng.standard_normal(7).astype(np.float32)
    alpha, beta = np.float32(0.3), np.float32(1.7)
    before = "g (float[5,6] x) => (z) <float[7,6] w, float[7] b> { z = Gemm<transB = 1, alpha = 0.3, beta = 1.7>(x, w, b) }"
    after = "g (float[5,6] x) => (z) <float[7,6] v, float[7] c> { z = Gemm<transB = 1>(x, v, c) }"
    made = {"v": alpha * w, "c": beta * b}
    exact = {"v": Exact.of(alpha) * Exact.of(w), "c": Exact.of(beta) * Exact.of(b)}
    found = proof(before, after, made, weights={"w": w, "b": b}, exact=exact)
    assert found.label == ROUNDING
    assert found.constants[0].startswith("42 numbers (0.")
    wrong = {"v": made["v"] * np.float32(1 + 1e-5), "c": made["c"]}
    assert proof(before, after, wrong, weights={"w": w, "b": b}, exact=exact).label == REFUTED
    lied = exact | {"v": Exact.of(alpha) * Exact.of(w[::-1])}
    assert proof(before, after, made, weights={"w": w, "b": b}, exact=lied).label in (SAMPLED, ROUNDING)


def test_simple_numbers_are_recognized(proof: Prove) -> None:
    before = graph("z = HardSwish(x)", X)
    after = graph("a = Add(x, t) c = Clip(a, l, h) p = Mul(x, c) z = Mul(p, s)", X,
                  "float t = {3}, float l = {0}, float h = {6}, float s = {0.16666667}")  # fmt: skip
    found = proof(before, after)
    assert found.label == ROUNDING
    assert found.constants == ("0.166666672 for 1/6 (0.33 ulp)",)
    assert proof(before, after.replace("0.16666667", "0.1666668")).label == SAMPLED


def test_what_is_too_large_is_sampled(proof: Prove) -> None:
    found = proof(CONV, CONV, weights={"w": W}, budget=100)
    assert found.label == SAMPLED
    assert "more multiplications than are granted" in found.reason


def test_interfaces_are_compared(proof: Prove) -> None:
    one = graph("z = Relu(x)", X)
    for other in (
        graph("z = Relu(x)", "float[1,4,5,3] x"),
        graph("z = Relu(u)", X.replace(" x", " u")),
        graph("z = Relu(x) w = Neg(x)", X, out="z, w"),
    ):
        assert "different" in proof(one, other).reason


def test_same_models_have_the_same_answer_and_others_another_point(proof: Prove) -> None:
    one, two = graph("a = Exp(x) z = Mul(a, a)", X), graph("a = Add(x, x) z = Exp(a)", X)
    assert proof(one, two) == proof(one, two)
    assert Fraction(0) < Fraction(proof(one, two).bound) < Fraction(1, 10**6)


@pytest.mark.parametrize("kind", ["string", "complex64"])
def test_input_that_is_no_number_ends_as_sampled(proof: Prove, kind: str) -> None:
    text = f"g ({kind}[2] x) => (z) {{ z = Identity(x) }}"
    found = proof(text, text)
    assert (found.label, found.reason) == (SAMPLED, "an input that is no number")
