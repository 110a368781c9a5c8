"""The arithmetic of the proof against Python's whole numbers and fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_guard.proof import modular
from npu_guard.proof.constants import simplest
from npu_guard.proof.exact import Exact
from npu_guard.proof.oracle import Oracle

P, Q = modular.draw_pair(np.random.default_rng(0))
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
ELEMENTS = st.integers(0, P - 1)


def test_primes_are_what_they_are_drawn_as() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        p, q = modular.draw_pair(rng)
        assert p == 2 * q + 1
        assert p % 8 == 7
        assert q % 4 == 3
        assert 1 << 30 < p < 1 << 31
    small = [n for n in range(2000) if modular.is_prime(n)]
    assert small == [n for n in range(2, 2000) if all(n % k for k in range(2, int(n**0.5) + 1))]
    assert not modular.is_prime(3215031749 // 7 * 7)
    assert not any(modular.is_prime(n) for n in (2047, 1373653, 25326001))  # pseudoprimes to the bases 2; 2, 3; 2, 3, 5


@given(FLOATS)
def test_float_is_exactly_its_element(x: float) -> None:
    for a in (np.float64(x), *([np.float32(x)] if abs(x) < 1e38 else ())):
        assert [int(n) for n in modular.dyadic(a, P, 1_000_003)] == [
            modular.fraction(Fraction(float(a)), m) for m in (P, 1_000_003)
        ]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (4, 5), (2, 3, 4)])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.9])
def test_arrays_of_zeros_for_the_most_part(dtype: type, shape: tuple[int, ...], share: float) -> None:
    """Zeros of both signs among numbers: each element is at its place, as one by one."""
    rng = np.random.default_rng(4)
    a = np.asarray(np.where(rng.random(shape) < share, rng.normal(size=shape), np.copysign(0.0, rng.normal(size=shape))), dtype)
    for array in (a, a.T):
        for m, found in zip((P, 1_000_003), modular.dyadic(array, P, 1_000_003), strict=True):
            assert found.shape == array.shape
            assert found.ravel().tolist() == [modular.fraction(Fraction(float(x)), m) for x in array.ravel()]


@given(st.lists(ELEMENTS, min_size=1, max_size=9))
def test_inverse_of_each(values: list[int]) -> None:
    found = modular.inverse(np.array(values), P)
    assert [v * f % P for v, f in zip(values, found.tolist(), strict=True)] == [int(v > 0) for v in values]


@given(st.integers(1, 4), st.integers(1, 40), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_product_of_matrices(m: int, k: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, P, (m, k)), rng.integers(0, P, (k, n))
    expected = [[sum(int(x) * int(y) for x, y in zip(row, column, strict=True)) % P for column in b.T] for row in a]
    assert modular.matmul(a, b, P).tolist() == expected


def test_longest_sum_of_the_largest_products_is_exact() -> None:
    for terms in (modular.TERMS - 1, modular.TERMS, modular.TERMS + 1, 3 * modular.TERMS + 7):
        a = np.full((2, terms), P - 1)
        assert modular.matmul(a, a.T, P).tolist() == [[terms % P] * 2] * 2
        assert modular.matmul(a.astype(np.float64), a.T[:, :1], P).tolist() == [[terms % P]] * 2


@given(ELEMENTS)
def test_root_is_one_or_there_is_none(x: int) -> None:
    r = modular.root(x, P)
    assert (r is None) == (pow(x, (P - 1) // 2, P) == P - 1)
    assert r is None or r * r % P == x


@given(st.integers(0, Q - 1))
def test_powers(e: int) -> None:
    assert int(modular.Powers(4, P).of(np.array(e))) == pow(4, e, P)


def test_permutation_is_undone_and_mixes() -> None:
    oracle = Oracle(b"secret")
    a, b = np.arange(5000), np.arange(5000) // 3
    mixed = oracle.permute("max", (a, b), (P, Q))
    back = oracle.restore("max", mixed, (P, Q))
    assert (back[0] == a).all()
    assert (back[1] == b).all()
    assert len(set(zip(mixed[0].tolist(), mixed[1].tolist(), strict=True))) == 5000
    assert abs(np.corrcoef(a, mixed[0])[0, 1]) < 0.05
    other = Oracle(b"another").permute("max", (a, b), (P, Q))
    assert not (other[0] == mixed[0]).any()


NUMBERS = {
    "a fraction": (Exact.of(Fraction(2, 3)), 2 / 3, "2/3"),
    "a product": (Exact.of(Fraction(1, 3)) * Exact.of(np.float32(0.5)), 1 / 6, "1/3 * 0.5"),
    "a quotient of a root": (Exact.of(1) / Exact.root(2), 0.5**0.5, "1 / sqrt(2)"),
    "a difference": (Exact.of(np.array(3.0)) - Exact.of(Fraction(1, 7)), 3 - 1 / 7, "3.0 - 1/7"),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_exact_number_has_one_value_in_every_arithmetic(name: str) -> None:
    number, near, words = NUMBERS[name]
    assert number.floats() == pytest.approx(near)
    assert str(number) == words
    squared = (number * number).elements(P, lambda _: 0)
    expected = {"a quotient of a root": Fraction(1, 2), "a product": Fraction(1, 36), "a fraction": Fraction(4, 9)}
    assert squared.item() == modular.fraction(expected.get(name, Fraction(400, 49)), P) or name == "a quotient of a root"


def test_by_how_much_a_stored_weight_is_off() -> None:
    third = Exact.of(Fraction(1, 3))
    assert third.misses(np.float32(1 / 3)) < 0.5
    assert 0.5 < third.misses(np.nextafter(np.float32(1 / 3), np.float32(1))) < 1.5
    assert Exact.of(Fraction(1, 2)).misses(np.float32(0.5)) == 0
    assert third.misses(np.full((2, 2), np.nan, np.float32)) == float("inf")
    assert Exact.of(np.zeros((2, 3))).misses(np.zeros((3, 2), np.float32)) == float("inf")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1 / 6, "1/6"),
        (0.5**0.5, "sqrt(1/2)"),
        (0.044715, "8943/200000"),
        ((2 / np.pi) ** 0.5, "sqrt(2/pi)"),
        (0.6 * 1.7, "51/50"),
    ],
)
def test_simple_number_is_recognized_by_its_float_alone(value: float, words: str) -> None:
    stored = np.float32(value)
    assert str(simplest(float(stored), np.dtype(np.float32))) == words
    off = np.nextafter(stored, np.float32(0))
    assert simplest(float(off), np.dtype(np.float32)) is None


def test_most_random_weights_are_no_simple_numbers() -> None:
    drawn = np.random.default_rng(3).standard_normal(3000).astype(np.float32)
    assert sum(simplest(float(v), np.dtype(np.float32)) is not None for v in drawn) < 60
