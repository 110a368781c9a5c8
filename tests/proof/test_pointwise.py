"""Few elements stand for many where operators work element by element, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from npu_guard.proof.prove import PROVED, REFUTED, SAMPLED
from npu_guard.results.proof import Proof

Prove = Callable[..., Proof]
LARGE = "float[1,64,1024,2048] x"
"""More elements than a proof evaluates."""
ELU = "r = Relu(x) n = Sub(x, r) e = Exp(n) m = Sub(e, one) z = Add(r, m)"
ROW = ",".join(["0.5"] * 63)


def graph(body: str, inputs: str = LARGE, weights: str = "float one = {1}") -> str:
    return f"g ({inputs}) => (z) <{weights}> {{ {body} }}"


def test_an_activation_of_a_large_map_is_proved(proof: Prove) -> None:
    assert proof(graph("z = Elu(x)"), graph(ELU), budget=1 << 14).label == PROVED


def test_a_wrong_one_is_not(proof: Prove) -> None:
    assert proof(graph("z = Elu(x)"), graph(ELU.replace("z = Add", "z = Sub")), budget=1 << 14).label == SAMPLED


@pytest.mark.parametrize(
    ("body", "other"),
    [
        ("z = Add(x, x)", "o = ReduceMax<axes = [3]>(x) z = Add(x, o)"),
        ("z = Relu(x)", "r = Relu(x) z = Conv(r, w)"),
        ("z = Softmax(x)", "z = Softmax(x)"),
    ],
)
def test_what_looks_at_other_elements_is_not_made_smaller(proof: Prove, body: str, other: str) -> None:
    found = proof(graph(body), graph(other, weights="float[64,64,1,1] w"), budget=1 << 14, opset=13)
    assert found.label == SAMPLED
    assert "multiplications" in found.reason, found


def test_an_axis_along_which_constants_vary_is_kept(proof: Prove) -> None:
    """The last of 64 channels differs: two of them would not show it."""
    scale = f"float[64,1,1] s = {{{ROW},0.5}}"
    small = "float[1,64,64,64] x"
    same = graph("z = Mul(s, x)", small, scale)
    assert proof(graph("z = Mul(x, s)", small, scale), same, budget=1 << 12).label == PROVED
    other = graph("z = Mul(x, s)", small, f"float[64,1,1] s = {{{ROW},0.75}}")
    assert proof(graph("z = Mul(x, s)", small, scale), other, budget=1 << 12).label in (SAMPLED, REFUTED)
    told = graph("s = Constant<value = float[64,1,1] {" + ROW + ",0.75}>() z = Mul(x, s)", small, "float one = {1}")
    assert proof(graph("z = Mul(x, s)", small, scale), told, budget=1 << 12).label in (SAMPLED, REFUTED)


def test_an_axis_that_is_broadcast_stays_one(proof: Prove) -> None:
    inputs = "float[1,8,1,1] y, float[1,8,64,512] x"
    assert proof(graph("z = Mul(x, y)", inputs), graph("z = Mul(y, x)", inputs), budget=1 << 12).label == PROVED
    turned = graph("a = Add(y, y) z = Mul(x, a)", inputs)
    assert proof(graph("z = Mul(x, y)", inputs), turned, budget=1 << 12).label in (SAMPLED, REFUTED)
