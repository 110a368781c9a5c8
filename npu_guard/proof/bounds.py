"""How far polynomials are from the functions that they stand for: bounds for every argument, derived from their coefficients."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

import numpy as np

from npu_guard.proof.modular import Array

Numbers = tuple[Fraction, ...]
_STEPS = 1 << 16
_SLACK = 1e-10
"""More than float64 is off in the sums and functions below."""


@lru_cache(maxsize=16)
def logarithm_misses(terms: Numbers) -> float:
    """The largest |P(e) / L(e) - 1| for 0 < e <= 1, where L(e) = log(1 + e) / e and P has these coefficients, lowest first.

    L(e) is the integral of 1 / (1 + e s) for s from 0 to 1: it falls to log 2, and its second derivative is below 2/3.
    """
    return _misses(terms, _logarithm, 2 / 3, math.log(2))


@lru_cache(maxsize=16)
def tail_misses(terms: Numbers) -> float:
    """The largest |Q(t) / F(t) - 1| for 0 < t <= 1, where t F(t) = exp(z^2) erfc(z) / 2 and z = 2 / t - 2.

    2 F(t) is 1 / sqrt(pi) times the integral over w > 0 of exp(h) with h = -t^2 w^2 / 4 - 2 w (1 - t) (from that of
    exp(-s^2 / 4 - z s) by s = t w). So 2 F'' has the integrand (h'^2 + h'') exp(h), with |h'| <= max(2 w, w^2 / 2) and
    h'' = -w^2 / 2, and h is at most -w^2 / 4 for w < 4 and 4 - 2 w beyond: |F''| < 5. F is never below its value at 0, which is
    1 / (4 sqrt(pi)), as exp(z^2) erfc(z) > 2 / sqrt(pi) / (z + sqrt(z^2 + 2)) (DLMF 7.8.2).
    """
    return _misses(terms, _half_tail, 5.0, 0.25 / math.sqrt(math.pi))


def _logarithm(e: float) -> float:
    return math.log1p(e) / e if e else 1.0


def _half_tail(t: float) -> float:
    """exp(z^2) erfc(z) / (2 t) for z = 2 / t - 2."""
    z = 2.0 / t - 2.0 if t else math.inf
    if z < 25.0:
        return 0.5 * math.exp(z * z) * math.erfc(z) / t
    # Beyond, the asymptotic series (DLMF 7.12.1), which is off by less than its next term: 5e-11 of the whole. t z is 2 - 2 t.
    s = 1.0 / (2.0 * z * z)
    return 0.25 / (1.0 - t) / math.sqrt(math.pi) * (1.0 - s + 3.0 * s * s - 15.0 * s**3)


def _misses(terms: Numbers, function: Callable[[float], float], curved: float, least: float) -> float:
    """The largest relative difference of a polynomial to a function on [0, 1], at most.

    Between two points of a grid of step h, a function is no larger than at the larger one of both by more than h^2 / 8 times its
    largest second derivative: `curved` for the function, and the sum of k (k - 1) |c_k| for the polynomial. The function is
    nowhere below `least`.
    """
    wanted = _table(function)
    values = np.polynomial.polynomial.polyval(np.linspace(0.0, 1.0, _STEPS + 1), np.array([float(t) for t in terms]))
    off = float((np.abs(values - wanted) / wanted).max())
    bend = curved + float(sum(k * (k - 1) * abs(t) for k, t in enumerate(terms)))
    return off + (bend / (8.0 * _STEPS**2) + _SLACK) / least


@lru_cache(maxsize=2)
def _table(function: Callable[[float], float]) -> Array:
    return np.array([function(i / _STEPS) for i in range(_STEPS + 1)])
