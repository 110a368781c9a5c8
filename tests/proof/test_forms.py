"""Forms that stand for a function: with their own numbers they are read as it, and with numbers or operands next to those not."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from npu_guard.proof.bounds import logarithm_misses, tail_misses
from npu_guard.results.proof import PROVED, ROUNDING, SAMPLED, Proof
from npu_guard.rules.substitutions.gelu_to_exponential import TAIL
from npu_guard.rules.substitutions.softplus_to_exponential import LOGARITHM

Prove = Callable[..., Proof]
XY = "float[1,4,3,5] x, float[1,4,3,5] y"
HALVES = tuple(c / 2 for c in TAIL)


def horner(terms: tuple[float, ...], at: str) -> tuple[str, str]:
    """Nodes that make `p`, a polynomial in a value, and its coefficients as constants."""
    names = [f"c{i}" for i in range(len(terms))]
    constants = ", ".join(f"float {n} = {{{float(np.float32(t)):.9g}}}" for n, t in zip(names, terms, strict=True))
    lines, last = [], names[-1]
    for i, name in enumerate(names[-2::-1]):
        made = "p" if i == len(names) - 2 else f"a{i}"
        lines.append(f"m{i} = Mul({last}, {at}) {made} = Add(m{i}, {name})")
        last = made
    return " ".join(lines), constants


def softplus(
    terms: tuple[float, ...] = LOGARITHM, *, sign: str = "-1", size: str = "s = Abs(x)", above: str = "x", last: str = "Add(r, c)"
) -> str:
    nodes, constants = horner(terms, "e")
    body = f"{size} n = Mul(s, minus) e = Exp(n) {nodes} c = Mul(p, e) r = Relu({above}) z = {last}"
    return f"g ({XY}) => (z) <{constants}, float minus = {{{sign}}}> {{ {body} }}"


def gelu(
    terms: tuple[float, ...] = HALVES, *, slope: float = math.sqrt(0.125), bell: str = "-0.5", size: str = "x", above: str = "x",
    end: str = "q = Mul(p, t) w = Mul(q, b) v = Mul(s, w)", last: str = "Sub(r, v)",
) -> str:  # fmt: skip
    nodes, constants = horner(terms, "t")
    body = f"""s = Abs({size}) m = Mul(s, slope) d = Add(m, one) t = Div(one, d) {nodes}
        k = Mul(x, x) h = Mul(k, bell) b = Exp(h) {end}
        r = Relu({above}) z = {last}"""
    numbers = f"float slope = {{{float(np.float32(slope)):.9g}}}, float one = {{1}}, float bell = {{{bell}}}"
    return f"g ({XY}) => (z) <{constants}, {numbers}> {{ {body} }}"


def whole(body: str, weights: str = "") -> str:
    return f"g ({XY}) => (z) {f'<{weights}>' if weights else ''} {{ {body} }}"


SOFTPLUS, GELU = whole("z = Softplus(x)"), whole("z = Gelu(x)")
SPELLED = whole(
    "d = Div(x, r) e = Erf(d) a = Add(e, one) m = Mul(x, a) z = Mul(m, half)",
    "float r = {1.41421354}, float one = {1}, float half = {0.5}",
)
SAME = {
    "softplus": (SOFTPLUS, softplus()),
    "softplus, the sum turned": (SOFTPLUS, softplus(last="Add(c, r)")),
    "in a product": (
        whole("s = Softplus(x) z = Mul(s, y)"), softplus(last="Add(r, c) z = Mul(y, f)").replace("z = Add", "f = Add")),
    "gelu": (GELU, gelu()),
    "gelu, spelled out": (SPELLED, gelu()),
    "gelu, the product in another order": (
        GELU, gelu(end="q = Mul(b, s) w = Mul(p, q) v = Mul(t, w)")),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_form_is_read_as_its_function(name: str, proof: Prove) -> None:
    found = proof(*SAME[name])
    assert found.label == ROUNDING, found
    assert "a polynomial of degree" in found.constants[0]
    assert "ulp" in found.constants[0]


def moved(terms: tuple[float, ...], place: int, by: float) -> tuple[float, ...]:
    return tuple(t + by * (i == place) for i, t in enumerate(terms))


OTHERS = {
    "a coefficient forgotten": (SOFTPLUS, softplus(LOGARITHM[:-1])),
    "the first coefficient moved by 5 ulp": (SOFTPLUS, softplus(moved(LOGARITHM, 0, 6e-7))),
    "the last coefficient moved by a ten thousandth": (SOFTPLUS, softplus(moved(LOGARITHM, 9, 3e-7))),
    "an exponential that grows": (SOFTPLUS, softplus(sign="1")),
    "another base": (SOFTPLUS, softplus(sign="-0.999")),
    "no absolute value": (SOFTPLUS, softplus(size="s = Identity(x)")),
    "the absolute value of another tensor": (SOFTPLUS, softplus(size="s = Abs(y)")),
    "the relu of another tensor": (SOFTPLUS, softplus(above="y")),
    "a difference for a sum": (SOFTPLUS, softplus(last="Sub(r, c)")),
    "a curve that does not end at 0": (SOFTPLUS, softplus(last="Add(r, p)")),
    "softplus for another": (whole("z = Softplus(y)"), softplus()),
    "the last coefficient of the tail forgotten": (GELU, gelu(HALVES[:-1])),
    "the first coefficient of the tail moved by 5 ulp": (GELU, gelu(moved(HALVES, 0, 1e-7))),
    "the tail not halved": (GELU, gelu(TAIL)),
    "a slope that is off by 5 ulp": (GELU, gelu(slope=math.sqrt(0.125) + 5 * 2.0**-25)),
    "another bell": (GELU, gelu(bell="-0.50000006")),
    "a bell that grows": (GELU, gelu(bell="0.5")),
    "the size of another tensor": (GELU, gelu(size="y")),
    "another relu": (GELU, gelu(above="y")),
    "the tail added": (GELU, gelu(last="Add(r, v)")),
    "a power of t forgotten": (GELU, gelu(end="q = Mul(p, b) v = Mul(s, q)")),
    "a power of t too many": (GELU, gelu(end="u = Mul(t, t) q = Mul(p, u) w = Mul(q, b) v = Mul(s, w)")),
    "the size squared": (GELU, gelu(end="u = Mul(s, s) q = Mul(p, t) w = Mul(q, b) v = Mul(u, w)")),
    "the tanh form": (whole('z = Gelu<approximate = "tanh">(x)'), gelu()),
    "the root of 2 of five digits": (SPELLED.replace("1.41421354", "1.4142"), gelu()),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_neighbour_is_not(name: str, proof: Prove) -> None:
    assert proof(*OTHERS[name]).label == SAMPLED


def test_the_same_form_on_both_sides_is_an_identity(proof: Prove) -> None:
    found = proof(softplus(), softplus(last="Add(c, r)"))
    assert (found.label, found.constants) == (PROVED, ()), found


ROOT = whole("z = Sqrt(x)")
POWERS = {
    "half": ("0.5", PROVED), "a hundredth less": ("0.495", SAMPLED), "the next float": ("0.50000006", SAMPLED),
    "twice": ("1", SAMPLED),
}  # fmt: skip


@pytest.mark.parametrize("name", POWERS)
def test_a_root_by_a_logarithm(name: str, proof: Prove) -> None:
    number, label = POWERS[name]
    assert proof(ROOT, whole("l = Log(x) h = Mul(l, c) z = Exp(h)", f"float c = {{{number}}}")).label == label


@pytest.mark.parametrize(
    "body",
    [
        "m = Mul(x, x) z = Identity(m)",
        "z = Pow(x, c)",
        "l = Log(y) h = Mul(l, c) z = Exp(h)",
        "l = Log(x) h = Mul(l, c) z = Sin(h)",
    ],
)
def test_a_whole_power_is_more_than_its_logarithm_gives(body: str, proof: Prove) -> None:
    """x^2 is defined below 0, where a logarithm is not."""
    whole_power = whole("l = Log(x) h = Mul(l, c) z = Exp(h)", "float c = {2}")
    assert proof(whole(body, "float c = {2}"), whole_power).label == SAMPLED


def stored(terms: tuple[float, ...]) -> tuple[Fraction, ...]:
    return tuple(Fraction(float(np.float32(t))) for t in terms)


@pytest.mark.parametrize("by", [0.0, 1e-7, -3e-6, 1e-3])
@pytest.mark.parametrize("place", [0, 3, 9])
def test_a_bound_holds_between_the_points_where_it_is_looked_at(place: int, by: float) -> None:
    """At random points the error is below the bound, and comes near it."""
    rng = np.random.default_rng(place)
    logarithm, tail = stored(moved(LOGARITHM, place, by)), stored(moved(HALVES, place, by))
    seen = [0.0, 0.0]
    for t in [*rng.random(1500), 1.0, *10.0 ** rng.uniform(-6, 0, 500)]:
        p, q = (sum(float(c) * t**k for k, c in enumerate(terms)) for terms in (logarithm, tail))
        z = 2 / t - 2
        seen[0] = max(seen[0], abs(p * t / math.log1p(t) - 1))
        if z < 26:
            seen[1] = max(seen[1], abs(q * t * 2 / (math.exp(z * z) * math.erfc(z)) - 1))
    for off, bound in zip(seen, (logarithm_misses(logarithm), tail_misses(tail)), strict=True):
        assert off <= bound <= 1.15 * off + 2e-8
