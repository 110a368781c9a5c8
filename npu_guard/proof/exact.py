"""The numbers that stored weights stand for: a weight is a float, and 1/6 or sqrt(1/2) or 0.3 w is none.

A rewrite that computes a weight says beside the rounded array what it rounded; the proof is about that, and says by how
much the stored one is off.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import DTypeLike, NDArray

from npu_guard.proof import modular

Array = NDArray[Any]


_SHORT = 16
"""Characters of a fraction that is told as one."""


class Exact(Struct, frozen=True, eq=False):
    """An array of real numbers, as an expression of floats, fractions, roots and named constants.

    >>> third = Exact.of(Fraction(1, 3)) * Exact.of(np.array([3.0, 6.0]))
    >>> third.floats().tolist()
    [1.0, 2.0]
    """

    op: str
    args: tuple[Any, ...]

    @staticmethod
    def of(value: Any) -> Exact:
        """A fraction or whole number, an array of such (of type object), or of floats, which are taken as stored."""
        if isinstance(value, Exact):
            return value
        if isinstance(value, Fraction | int):
            return Exact("fractions", (np.array(Fraction(value), object),))
        array = np.asarray(value)
        return Exact("fractions" if array.dtype == object else "stored", (array,))

    @staticmethod
    def symbol(name: str, near: float) -> Exact:
        """A number of which nothing is used but that it is the same wherever it is named; `near` is its float64."""
        return Exact("symbol", (name, near))

    @staticmethod
    def root(of: Fraction | int) -> Exact:
        """The positive square root of a positive fraction."""
        return Exact("root", (Fraction(of),))

    def __mul__(self, other: Any) -> Exact:
        return Exact("multiply", (self, Exact.of(other)))

    def __truediv__(self, other: Any) -> Exact:
        return Exact("divide", (self, Exact.of(other)))

    def __add__(self, other: Any) -> Exact:
        return Exact("add", (self, Exact.of(other)))

    def __sub__(self, other: Any) -> Exact:
        return Exact("subtract", (self, Exact.of(other)))

    def map(self, move: Callable[[Array], Array]) -> Exact:
        """The same numbers at other places."""
        return Exact("move", (self, move))

    def floats(self) -> Array:
        """Nearly the numbers, in float64; their sums and products are rounded there."""
        match self.op, self.args:
            case "fractions", (array,):
                return np.asarray(np.vectorize(float, otypes=[np.float64])(array) if array.size else array.astype(np.float64))
            case "stored", (array,):
                return np.asarray(array, np.float64)
            case "symbol", (_, near):
                return np.asarray(near)
            case "root", (radicand,):
                return np.asarray(float(radicand) ** 0.5, np.float64)
            case "move", (inner, move):
                return np.asarray(move(inner.floats()))
        left, right = (a.floats() for a in self.args)
        return np.asarray(getattr(np, self.op)(left, right))

    def elements(self, m: int, symbol: Callable[[str], int]) -> Array:
        """The numbers modulo m; `symbol` gives elements for named constants and for roots that m does not have."""
        match self.op, self.args:
            case "fractions", (array,):
                return np.asarray(np.vectorize(lambda x: modular.fraction(x, m), otypes=[np.int64])(array))
            case "stored", (array,):
                return modular.dyadic(array, m)[0]
            case "symbol", (name, _):
                return np.asarray(symbol(name), np.int64)
            case "root", (radicand,):
                found = modular.root(modular.fraction(radicand, m), m)
                return np.asarray(symbol(f"root of {radicand}") if found is None else found, np.int64)
            case "move", (inner, move):
                return np.asarray(move(inner.elements(m, symbol)))
        left, right = (a.elements(m, symbol) for a in self.args)
        if self.op in ("multiply", "divide"):
            return np.asarray(left * (right if self.op == "multiply" else modular.inverse(right, m)) % m)
        return np.asarray((left + right if self.op == "add" else left - right) % m)

    def radicands(self) -> Iterator[Fraction]:
        """Of what there are roots in it."""
        if self.op == "root":
            yield self.args[0]
        for arg in self.args:
            if isinstance(arg, Exact):
                yield from arg.radicands()

    def misses(self, stored: Array) -> float:
        """By how many units in its last place the worst of the stored weights is off; infinite where shapes differ."""
        near = self.floats()
        if near.shape != stored.shape and near.size != 1:
            return float("inf")
        if not stored.size:
            return 0.0
        with np.errstate(all="ignore"):
            off = np.abs(stored.astype(np.float64) - near) / np.spacing(np.abs(stored)).astype(np.float64)
        worst = float(np.max(off))
        return worst if np.isfinite(worst) else float("inf")

    def rounded(self, dtype: DTypeLike) -> Array:
        """The floats next to the numbers."""
        return self.floats().astype(dtype)

    def __str__(self) -> str:
        match self.op, self.args:
            case "symbol", (name, _):
                return str(name)
            case "root", (radicand,):
                return f"sqrt({radicand})"
            case "fractions" | "stored", (array,) if array.size == 1:
                value = array.reshape(-1)[0]
                return str(value) if self.op == "stored" or len(str(value)) <= _SHORT else f"{float(value):.12g}..."
            case "multiply" | "divide" | "add" | "subtract", (left, right):
                sign = {"multiply": "*", "divide": "/", "add": "+", "subtract": "-"}[self.op]
                return f"{left} {sign} {right}"
            case "move", (inner, _):
                return str(inner)
        return f"{self.args[0].size} numbers"


ROOT_OF_2_OVER_PI = Exact.symbol("sqrt(2/pi)", (2 / math.pi) ** 0.5)
CUBIC = Fraction(44715, 1000000)
"""Of the tanh form of GELU (Hendrycks and Gimpel 2016)."""
