"""What else the constants of a model may stand for: numbers of which they are the rounded floats.

Only values that are new on one side may be read otherwise. By how much they are off is told; an identity that needs it holds
up to rounding and no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from npu_guard.proof.exact import CUBIC, ROOT_OF_2_OVER_PI, Exact
from npu_guard.proof.modular import Array
from npu_guard.proof.program import Program

MOST_NEW = 512
"""New values of one side that are looked at."""
ULPS = 2.0
"""By how much a constant may be off: a rewrite rounds once or twice."""
NEAREST = 0.5
"""The same where nobody said what it stands for: it has to be the very float that the number is rounded to."""
_KNOWN = 12
_DIGITS = 5
"""Of a decimal such as 0.044715; of random floats, one in a hundred is such a one."""


@dataclass(frozen=True, slots=True)
class Adjusted:
    """How the constants of both models are read: of each, the values that stand for another number."""

    before: Mapping[float, Exact]
    after: Mapping[float, Exact]
    told: tuple[str, ...]


def values(program: Program) -> dict[float, np.dtype[np.floating]]:
    """Finite stored floats, each with its type."""
    found: dict[float, np.dtype[np.floating]] = {}
    for array in program.floats():
        for value in np.unique(array[np.isfinite(array)]).tolist():
            found.setdefault(float(value), array.dtype)
    return found


def readings(before: Program, after: Program) -> Iterator[Adjusted]:
    """First as simple numbers; then also as numbers of the other model that are next to them."""
    one, other = values(before), values(after)
    new = [{v: t for v, t in one.items() if v not in other}, {v: t for v, t in other.items() if v not in one}]
    new = [side if len(side) <= MOST_NEW else {} for side in new]
    known = _few(before)
    simple = [{v: e for v, t in side.items() if (e := simplest(v, t, known)) is not None} for side in new]
    if any(simple):
        yield Adjusted(simple[0], simple[1], _told(simple[0], new[0]) + _told(simple[1], new[1]))
    near = _almost_whole(new[1]) | _nearest(new[1], one)
    if near:
        left = {v: e for v, e in simple[0].items() if v not in {float(x.floats()) for x in near.values()}}
        right = {**simple[1], **near}
        yield Adjusted(left, right, _told(left, new[0]) + _told(right, new[1]))


def _told(table: Mapping[float, Exact], types: Mapping[float, np.dtype[np.floating]]) -> tuple[str, ...]:
    lines = []
    for stored, exact in sorted(table.items()):
        off = exact.misses(np.asarray(stored, types[stored]))
        if off:
            lines.append(f"{stored:.9g} for {exact} ({off:.2g} ulp)")
    return tuple(lines)


def _few(program: Program) -> Sequence[float]:
    """Single numbers of a model, the parts of products that a rewrite may have made."""
    found = {abs(float(a.reshape(-1)[0])) for a in program.floats() if a.size == 1}
    return sorted(v for v in found if v and np.isfinite(v))[:_KNOWN]


def _nearest(new: Mapping[float, np.dtype[np.floating]], others: Mapping[float, object]) -> dict[float, Exact]:
    """For each new value the other model's one that is next to it, where it is as near as rounding goes."""
    if not others:
        return {}
    known: Array = np.array(sorted(others))
    found = {}
    for value, dtype in new.items():
        at = int(np.searchsorted(known, value))
        around = known[max(0, at - 1) : at + 1]
        closest = float(around[np.abs(around - value).argmin()])
        if abs(closest - value) <= ULPS * float(np.spacing(np.asarray(abs(value), dtype))):
            found[value] = Exact.of(np.asarray(closest, dtype))
    return found


def _almost_whole(new: Mapping[float, np.dtype[np.floating]]) -> dict[float, Exact]:
    """New values next to a number such as 1 or 1/2, from which a rewrite can have come by rounding more than once."""
    found = {}
    for value, dtype in new.items():
        whole = Fraction(value).limit_denominator(8)
        if whole and abs(float(whole) - value) <= ULPS * float(np.spacing(np.asarray(abs(value), dtype))):
            found[value] = Exact.of(whole)
    return found


def simplest(value: float, dtype: np.dtype[np.floating], known: Sequence[float] = ()) -> Exact | None:
    """A simple number of which the value is the rounded float: a fraction, a root, a decimal, a product of `known` ones."""
    if not 1e-9 < abs(value) < 1e9:
        return None
    ulp = float(np.spacing(np.asarray(abs(value), dtype)))

    def rounds(x: Fraction | float) -> bool:
        return abs(float(x) - value) <= NEAREST * ulp

    near = Fraction(value).limit_denominator(4096)
    if abs(near.numerator * near.denominator) < 1 << 16 and rounds(near):
        return Exact.of(near)
    square = Fraction(value**2).limit_denominator(4096)
    if value > 0 and 0 < square.numerator * square.denominator < 1 << 13 and rounds(float(square) ** 0.5):
        return Exact.root(square)
    decimal = Fraction(f"{value:.{_DIGITS}g}")
    if rounds(decimal):
        return Exact.of(decimal)
    for number in (ROOT_OF_2_OVER_PI, *(ROOT_OF_2_OVER_PI * factor for factor in (2, CUBIC, 2 * CUBIC))):
        if rounds(float(number.floats())):
            return number
    return next((Exact.of(x) for x in _products(known) if rounds(x)), None)


def _products(known: Sequence[float]) -> Iterator[Fraction]:
    """Products and quotients of two numbers, and those with 2 or -1."""
    for i, first in enumerate(known):
        for second in (1.0, *known[i:]):
            x, y = Fraction(first), Fraction(second)
            for factor in (Fraction(1), Fraction(-1), Fraction(2), Fraction(-2), Fraction(1, 2), Fraction(-1, 2)):
                yield from (x * y * factor, x / y * factor, y / x * factor)
