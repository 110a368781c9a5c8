"""Tensors of the evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from npu_guard.proof.modular import Array


class Unsupported(Exception):
    """No reading of the models can be given: the reason, in words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


MOST = 1 << 60


@dataclass(frozen=True, slots=True)
class Degree:
    """A bound on the degrees of numerator and denominator of each element, as rational functions of what was drawn."""

    over: int = 0
    under: int = 0

    def __add__(self, other: Degree) -> Degree:
        if not self.under and not other.under:
            return self if self.over >= other.over else other
        return _bounded(max(self.over + other.under, other.over + self.under), self.under + other.under)

    def __mul__(self, other: Degree) -> Degree:
        return _bounded(self.over + other.over, self.under + other.under)

    def total(self, terms: int) -> Degree:
        """Of a sum of so many."""
        return self if not self.under else _bounded(self.over + (terms - 1) * self.under, terms * self.under)

    @property
    def inverse(self) -> Degree:
        """Of the reciprocal."""
        return Degree(self.under, self.over)

    @property
    def height(self) -> int:
        """Bound on the degree of the numerator of a difference of two such elements."""
        return self.over + self.under


def _bounded(over: int, under: int) -> Degree:
    return Degree(min(over, MOST), min(under, MOST))


CONSTANT, DRAWN = Degree(), Degree(1)


@dataclass(slots=True)
class Tensor:
    """One function of the inputs, at the point that was drawn."""

    parts: tuple[Array, ...]
    """Its values, modulo each of the arithmetic's primes p."""
    logs: tuple[Array, ...] | None = None
    """Its values modulo each of the primes q, for exponents; none where it comes from an exponential, or none is needed."""
    lowest: Array | None = None
    """Where it is minus infinity, as in a mask."""
    number: Array | None = None
    """The floats, where it is a constant."""
    scale: tuple[int, ...] | None = None
    """A positive number, in each part and log. |x| = s |x / s| for any: this one makes x / s the same in more spellings."""
    degree: Degree = CONSTANT
    kind: str = "f"
    """f for floats, i for whole numbers, b for truth values, which are elements too: Where takes b u + (1 - b) v."""
    inverse: Tensor | None = None
    """Its reciprocal, where that is what was drawn."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents."""
        return self.parts[0].shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.parts[0].ndim

    def map(self, move: Callable[[Array], Array]) -> Tensor:
        """The same elements at other places."""
        return replace(
            self,
            parts=tuple(map(move, self.parts)),
            logs=None if self.logs is None else tuple(map(move, self.logs)),
            lowest=None if self.lowest is None else move(self.lowest),
            number=None if self.number is None else move(self.number),
            inverse=None if self.inverse is None else self.inverse.map(move),
        )

    def varying(self) -> Tensor:
        """The same without the knowledge that it is constant."""
        return replace(self, number=None)


Operand = Tensor | Array | None
"""A tensor of the evaluation, whole numbers and truth values that are known, or an input that is left out."""


def join(tensors: Sequence[Tensor], move: Callable[[list[Array]], Array]) -> Tensor:
    """The elements of several tensors, at other places."""
    first = tensors[0]
    logs = None
    if all(t.logs is not None for t in tensors):
        logs = tuple(move([t.logs[i] for t in tensors if t.logs is not None]) for i in range(len(first.logs or ())))
    lowest = None
    if any(t.lowest is not None for t in tensors):
        lowest = move([np.zeros(t.shape, bool) if t.lowest is None else t.lowest for t in tensors])
    numbers = [t.number for t in tensors if t.number is not None]
    degree = first.degree
    for t in tensors[1:]:
        degree = Degree(max(degree.over, t.degree.over), max(degree.under, t.degree.under))
    return Tensor(
        parts=tuple(move([t.parts[i] for t in tensors]) for i in range(len(first.parts))),
        logs=logs, lowest=lowest, number=move(numbers) if len(numbers) == len(tensors) else None,
        scale=first.scale if all(t.scale == first.scale for t in tensors) else None, degree=degree, kind=first.kind,
    )  # fmt: skip
