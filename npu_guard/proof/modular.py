"""Arithmetic modulo a prime below 2^31, on arrays of int64 that hold 0 to the prime less one."""

from __future__ import annotations

import functools
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_BITS = 11
TERMS = 1 << 11
"""Terms of one sum of products: below 2^42 each, and float64 holds whole numbers up to 2^53."""
_WITNESSES = (2, 3, 5, 7)
"""Bases that tell every prime below 3,215,031,751 (Pomerance, Selfridge and Wagstaff 1980)."""
_LOW, _HIGH = -1200, 1100
"""Exponents of two in what `frexp` gives for a float64, its 53 bits taken off."""


def is_prime(n: int) -> bool:
    """Whether n < 3,215,031,751 is a prime: Miller and Rabin with bases that are known to do."""
    if n < 2 or any(n % a == 0 for a in _WITNESSES):
        return n in _WITNESSES
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in _WITNESSES:
        x = pow(base, odd, n)
        if x in (1, n - 1):
            continue
        for _ in range(twos - 1):
            x = x * x % n
            if x == n - 1:
                break
        else:
            return False
    return True


def draw_pair(rng: np.random.Generator) -> tuple[int, int]:
    """A safe prime p = 2 q + 1 of 31 bits with p = 7 mod 8, and q. Both are 3 mod 4, so a root is a power."""
    while True:
        q = int(rng.integers(1 << 29, 1 << 30)) | 3
        if q % 3 != 1 and is_prime(q) and is_prime(2 * q + 1):
            return 2 * q + 1, q


def draw_prime(rng: np.random.Generator) -> int:
    """A prime of 31 bits that is 3 mod 4."""
    while True:
        p = int(rng.integers(1 << 30, 1 << 31)) | 3
        if is_prime(p):
            return p


@functools.lru_cache(32)
def _powers_of_two(m: int) -> Array:
    return _ladder(2, m, _HIGH - _LOW + 1) * pow(2, _LOW % (m - 1), m) % m


def dyadic(a: Array, *moduli: int) -> list[Array]:
    """Finite floats as the elements that they are, for each modulus: whole numbers times powers of two."""
    a = np.asarray(a)
    flat = a.reshape(-1)
    filled = np.flatnonzero(flat)
    if 2 * filled.size < flat.size:  # bands, moves and one-hot rows, of which a rewrite makes large matrices
        return [_placed(part, filled, a.shape) for part in dyadic(flat[filled], *moduli)]
    bits = 24 if a.dtype in (np.float32, np.float16) else 53
    mantissa, exponent = np.frexp(a.astype(np.float32 if bits == 24 else np.float64, copy=False))
    whole, place = np.ldexp(mantissa, bits).astype(np.int64), exponent.astype(np.intp) - bits - _LOW
    if bits == 24:  # below 2^55 times a power of two, which has 31 bits
        return [whole * _powers_of_two(m)[place] % m for m in moduli]
    return [whole % m * _powers_of_two(m)[place] % m for m in moduli]


def _placed(elements: Array, at: Array, shape: tuple[int, ...]) -> Array:
    """The elements at these places of an array that is zero elsewhere."""
    whole = np.zeros(shape, np.int64)
    whole.reshape(-1)[at] = elements
    return whole


def fraction(x: Fraction | int, m: int) -> int:
    """A rational number. Raises ValueError where m divides its denominator."""
    x = Fraction(x)
    return x.numerator % m * pow(x.denominator % m, -1, m) % m


def root(x: int, m: int) -> int | None:
    """The square root that is itself a square, for a prime that is 3 mod 4; None where there is none."""
    r = pow(x, (m + 1) // 4, m)
    return r if r * r % m == x % m else None


def matmul(a: Array, b: Array, m: int) -> Array:
    """a @ b. The smaller one is cut into pieces of 11 bits, whose products with 31 bits float64 sums without rounding.

    Either may hold its whole numbers as float64 already.
    """
    if b.size < a.size:
        return matmul(b.swapaxes(-1, -2), a.swapaxes(-1, -2), m).swapaxes(-1, -2)
    pieces = _pieces(a)
    other = b.astype(np.float64, copy=False)
    rows, inner = a.shape[-2:]
    result: Array | None = None
    for start in range(0, max(inner, 1), TERMS):
        end = start + TERMS
        sums = np.matmul(pieces[..., start:end], other[..., start:end, :]).astype(np.int64)
        high, middle, low = (sums[..., i * rows : (i + 1) * rows, :] for i in range(3))
        part = (((((high % m) << _BITS) + middle) % m << _BITS) + low) % m
        result = part if result is None else (result + part) % m
    assert result is not None
    return result


def _pieces(a: Array) -> Array:
    """The high, middle and low bits, one below the other."""
    whole = a.astype(np.int64, copy=False)
    mask = (1 << _BITS) - 1
    return np.concatenate([whole >> 2 * _BITS, whole >> _BITS & mask, whole & mask], axis=-2).astype(np.float64)


def inverse(a: Array, m: int) -> Array:
    """1 / a, and 0 for 0. One inversion for all: a tree of products going up, and one of inverses coming down."""
    flat = a.ravel()
    if not flat.size:
        return a
    levels = [np.where(flat == 0, 1, flat)]
    while levels[-1].size > 1:
        v = levels[-1]
        if v.size % 2:
            v = levels[-1] = np.append(v, 1)
        levels.append(v[::2] * v[1::2] % m)
    found = np.array([pow(int(levels[-1][0]), -1, m)], np.int64)
    for v in reversed(levels[:-1]):
        found = found[: v.size // 2]
        both = np.empty_like(v)
        both[::2], both[1::2] = found * v[1::2] % m, found * v[::2] % m
        found = both
    return np.where(flat == 0, 0, found[: flat.size]).reshape(a.shape)


class Powers:
    """g^e for arrays of exponents below 2^30, from two tables."""

    def __init__(self, g: int, m: int) -> None:
        self._m = m
        self._small, self._large = _ladder(g, m, 1 << 15), _ladder(pow(g, 1 << 15, m), m, 1 << 15)

    def of(self, exponents: Array) -> Array:
        """Element by element."""
        result: Array = self._small[exponents & 0x7FFF] * self._large[exponents >> 15] % self._m
        return result


def _ladder(base: int, m: int, count: int) -> Array:
    """So many powers from 0 on, each half from the one before it."""
    powers = np.ones(1, np.int64)
    while powers.size < count:
        powers = np.concatenate([powers, powers * pow(base, powers.size, m) % m])
    return powers[:count]
