"""Exact arithmetic at a random point: each number modulo two random primes, and exponents modulo two more.

A float is m 2^e, so weights are exact. Two rational functions that differ agree at a random point with a probability of at most
degree / p for each prime (Schwartz 1980, Zippel 1979). What is no rational function is stood in for by a random function with
the laws that are used, and no more:

- f(x) by a keyed hash of x modulo both primes, with its values at 0 or 1 where they are known, odd or even where it is; 1 / x
  too at first, with 1 / (c x) = (1 / c) (1 / x) for constants;
- max by the sum of a random permutation of the elements, taken back: the associative and commutative function that is free;
- exp by g^(x mod q) modulo p = 2 q + 1: then exp(x + y) = exp(x) exp(y) and exp(0) = 1 (two fields: Mirage, arXiv 2405.05751).

Signs are never looked at: relu as "x where x is positive" would hide a wrong weight behind a unit that happens to be off.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from npu_guard.proof import modular
from npu_guard.proof.arithmetic import Arithmetic, Budget
from npu_guard.proof.exact import Exact
from npu_guard.proof.modular import Array
from npu_guard.proof.oracle import Oracle
from npu_guard.proof.tensor import CONSTANT, DRAWN, Degree, Operand, Tensor, Unsupported

LOWEST = -1e30
"""A constant below counts as minus infinity in a mask."""
EXPONENTIALS = "sums of different exponentials vanish at a random point as seldom as other random numbers"
MASK = f"finite constants below {LOWEST:g} are minus infinity"
_TRIES = 200
"""Draws of primes modulo which the roots that are needed exist; without one, a root is a number with no laws."""


@dataclass(frozen=True, slots=True)
class Point:
    """The primes and the secret that both models are evaluated with."""

    primes: tuple[int, int]
    orders: tuple[int, ...]
    """(p - 1) / 2 for each, which are primes, where exponentials and division have their laws; else none."""
    secret: bytes

    @staticmethod
    def draw(seed: bytes, *, exponents: bool, radicands: Collection[Fraction] = ()) -> Point:
        """Primes and secret from a seed that nobody who made the models could choose."""
        rng = np.random.default_rng(np.frombuffer(seed, np.uint32))
        primes: list[int] = []
        orders: list[int] = []
        tries = _TRIES
        while len(primes) < 2:
            p, q = modular.draw_pair(rng) if exponents else (modular.draw_prime(rng), 0)
            moduli = (p, q) if exponents else (p,)
            tries -= 1
            if p in primes or (tries > 0 and not all(_has_root(x, m) for x in radicands for m in moduli)):
                continue
            primes.append(p)
            orders += [q] * exponents
        return Point((primes[0], primes[1]), tuple(orders), rng.bytes(32))


def _has_root(x: Fraction, m: int) -> bool:
    return modular.root(modular.fraction(x, m), m) is not None


class Fields(Arithmetic):
    """See the module. `simple` are constants that are read as other numbers than they are stored."""

    def __init__(self, point: Point, budget: Budget, simple: Mapping[float, Exact] | None = None) -> None:
        super().__init__(budget)
        self.moduli, self.log_moduli = point.primes, point.orders
        self.simple = simple or {}
        self.seen: set[float] = set()
        """Constants that models hold few different ones of."""
        self.atoms = 0
        """Values of functions that were drawn, one for each argument."""
        self.height = 1
        """Bound on the degree of what has to be told from zero."""
        self.undefined = False
        """Whether anything was divided by zero."""
        self._oracle = Oracle(point.secret)
        rng = np.random.default_rng(np.frombuffer(point.secret, np.uint32))
        bases = (pow(int(rng.integers(2, p - 1)), 2, p) for p in point.primes)
        self._powers = [modular.Powers(g, p) for g, p in zip(bases, point.primes, strict=True)] if point.orders else []
        self._every = (*self.moduli, *self.log_moduli)

    # ---- numbers

    def _of(self, values: Sequence[Array], number: Array | None, kind: str = "f") -> Tensor:
        parts = tuple(values[: len(self.moduli)])
        logs = tuple(values[len(self.moduli) :]) if self.log_moduli else None
        return Tensor(parts, logs, None, number, None, CONSTANT, kind)

    def constant(self, array: Array) -> Tensor:
        """Floats as the elements that they are, or as what they are rounded from where that is told."""
        array = np.asarray(array)
        lowest = None
        if array.size and float(array.min()) < LOWEST:
            lowest = array.astype(np.float64) < LOWEST
            if np.isfinite(array[lowest]).any():
                self.assumptions.add(MASK)
        known = array if lowest is None else np.where(lowest, np.zeros((), array.dtype), array)
        if not np.isfinite(known).all():
            raise Unsupported("a constant that is not finite")
        values = modular.dyadic(known, *self._every)
        values = self._adjusted(array, values)
        tensor = self._of(values, array)
        tensor.lowest = lowest
        return tensor

    def _adjusted(self, array: Array, values: list[Array]) -> list[Array]:
        """The elements, but of what the constants that are read otherwise stand for."""
        if not self.simple or not array.size:
            return values
        keys = np.array(sorted(self.simple))
        index = np.searchsorted(keys, array).clip(0, len(keys) - 1)
        hit = keys[index] == array
        if not hit.any():
            return values
        numbers = [self.read(self.simple[key]) for key in keys.tolist()]
        tables = [np.array([int(n[i]) for n in numbers], np.int64) for i in range(len(values))]
        return [np.where(hit, table[index], v) for table, v in zip(tables, values, strict=True)]

    def read(self, exact: Exact) -> list[Array]:
        """Exact numbers, modulo each prime."""
        return [exact.elements(m, lambda name: self._named(name, m)) for m in self._every]  # noqa: B023 - called at once

    def stated(self, exact: Exact, stored: Array) -> Tensor:
        """A constant that a rewrite has stated exactly."""
        return self._of([np.broadcast_to(v, stored.shape) for v in self.read(exact)], stored)

    def _named(self, name: str, m: int) -> int:
        return int(self._oracle.value(f"number {name}", m, [np.zeros((), np.int64)]))

    def exact(self, numbers: Exact) -> Tensor:
        """Their elements; for a root, the one that the primes have, else an element without laws."""
        return self._of(self.read(numbers), numbers.floats())

    def drawn(self, name: str, shape: Sequence[int], kind: str = "f") -> Tensor:
        """An input: random elements, the same ones for the same name."""
        self.budget.spend(0, int(np.prod(shape, dtype=np.int64)))
        index = np.arange(int(np.prod(shape, dtype=np.int64)), dtype=np.int64).reshape(tuple(shape))
        tensor = self._of([self._oracle.value(f"input {name}", m, [index]) for m in self._every], None, kind)
        tensor.degree = DRAWN
        return tensor

    # ---- products

    def product(self, a: Array, b: Array, m: int) -> Array:
        """Matrix product modulo m."""
        return modular.matmul(a, b, m)

    def reciprocal(self, a: Array, m: int) -> Array:
        """1 / a modulo m. A zero is noted: what both models make of it means nothing."""
        self.undefined = self.undefined or not np.all(a)
        return modular.inverse(a, m)

    def invert(self, x: Operand) -> Tensor:
        """1 / x. Where no law of division is needed but that of constants, it is a hash too: so denominators do not pile up."""
        a = self.lift(x)
        if self.log_moduli or a.degree == CONSTANT or a.inverse is not None:
            return super().invert(a)
        found = self.scaled(self.function("one over", self.scaled(a, a.scale, invert=True), odd=True), a.scale, invert=True)
        found.scale = None if a.scale is None else tuple(pow(s, -1, m) for s, m in zip(a.scale, self._every, strict=True))
        return found

    # ---- functions

    def _fresh(self, name: str, keys: Sequence[Array], arguments: Sequence[Tensor]) -> list[Array]:
        """A random value for each argument, modulo each prime."""
        self.nonlinear = True
        degree = max(t.degree.height for t in arguments)
        values = [self._oracle.value(name, m, keys) for m in self._every]
        self.budget.spend(4 * values[0].size, values[0].size)
        self.atoms += values[0].size
        self.height = max(self.height, 2 * degree)
        return values

    def _atoms(self, values: Sequence[Array]) -> Tensor:
        tensor = self._of(values, None)
        tensor.degree = DRAWN
        return tensor

    def _direction(self, x: Tensor) -> tuple[Array, tuple[Array, Array]]:
        """Which of x and -x each element is, and the one that is the smaller one modulo the first prime: equal for both."""
        (a, b), (p, q) = x.parts, self.moduli
        turned = 2 * a > p
        turned |= (a == 0) & (2 * b > q)
        return turned, (np.where(turned, -a % p, a), np.where(turned, -b % q, b))

    def _where(self, x: Tensor, value: int) -> Array:
        return np.asarray((x.parts[0] == value) & (x.parts[1] == value))

    def function(self, name: str, *arguments: Tensor, values: Sequence[tuple[int, Fraction]] = (), odd: bool = False) -> Tensor:
        """A keyed hash of the arguments."""
        self._finite(*arguments)
        self._room(*arguments)
        if not odd:
            fresh = self._fresh(name, [part for t in arguments for part in t.parts], arguments)
            for at, value in values:
                here = self._where(arguments[0], at)
                fresh = [np.where(here, modular.fraction(value, m), v) for v, m in zip(fresh, self._every, strict=True)]
            return self._atoms(fresh)
        (x,) = arguments
        turned, key = self._direction(x)
        fresh, zero = self._fresh(name, key, [x]), self._where(x, 0)
        signed = [np.where(zero, 0, np.where(turned, -v % m, v)) for v, m in zip(fresh, self._every, strict=True)]
        return self._atoms(signed)

    def even(self, name: str, x: Tensor, at_zero: int) -> Tensor:
        """A keyed hash of x or -x."""
        zero = self._where(x, 0)
        return self._atoms([np.where(zero, at_zero, v) for v in self._fresh(name, self._direction(x)[1], [x])])

    def exp(self, x: Tensor) -> Tensor:
        """g^x modulo each p; behind another exponential x has no value modulo q, and an odd hash stands in for it."""
        if not self._powers:
            found = self.function("exp", Tensor(x.parts, x.logs, degree=x.degree), values=((0, Fraction(1)),))
            parts = found.parts
        else:
            self.nonlinear = True
            self.assumptions.add(EXPONENTIALS)
            logs = x.logs if x.logs is not None else self._exponents(x)
            self.budget.spend(4 * x.parts[0].size)
            parts = tuple(power.of(e) for power, e in zip(self._powers, logs, strict=True))
            self.height = max(self.height, 2 * x.degree.height)
        if x.lowest is not None:
            parts = tuple(np.where(x.lowest, 0, v) for v in parts)
        return Tensor(parts, None if self._powers else found.logs, degree=DRAWN)

    def _exponents(self, x: Tensor) -> tuple[Array, ...]:
        turned, key = self._direction(x)
        self.atoms += x.parts[0].size
        zero = self._where(x, 0)
        logs = [self._oracle.value("exponent", m, key) for m in self.log_moduli]
        return tuple(np.where(zero, 0, np.where(turned, -v % m, v)) for v, m in zip(logs, self.log_moduli, strict=True))

    def largest(self, x: Tensor, axes: tuple[int, ...], keep: bool, valid: Array | None = None) -> Tensor:
        """P^-1(sum of P(x)), where P is a random permutation of the pairs of elements."""
        self._finite(x)
        self.nonlinear = True
        a = self.scaled(x, x.scale, invert=True)
        pair, moduli = (a.parts[0], a.parts[1]), (self.moduli[0], self.moduli[1])
        self.budget.spend(16 * a.parts[0].size, a.parts[0].size)
        self.atoms += 2 * a.parts[0].size
        self.height = max(self.height, 2 * x.degree.height)
        mixed = self._oracle.permute("max", pair, moduli)
        if valid is not None:
            mixed = (np.where(valid, mixed[0], 0), np.where(valid, mixed[1], 0))
        sums = [v.sum(axes, keepdims=keep) % m for v, m in zip(mixed, moduli, strict=True)]
        found = self._oracle.restore("max", (sums[0], sums[1]), moduli)
        logs = [self._oracle.value("max", m, found) for m in self.log_moduli]
        result = self.scaled(self._atoms([*found, *logs]), x.scale)
        result.scale = x.scale
        return result

    # ---- what the evaluation is worth

    def bound(self, outputs: Degree) -> float:
        """Probability at most that what differs as a formula came out equal.

        Either two different arguments of functions met, of which there are fewer than atoms^2, or a formula vanished that is not
        zero; each modulo both primes, with degree / p for each.
        """
        height = max(self.height, outputs.height)
        return min(1.0, (self.atoms**2 + 1.0) * height / self.moduli[0] * height / self.moduli[1])
