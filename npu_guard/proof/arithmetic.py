"""The arithmetic in which both models are evaluated: what readings of operators are written in.

`Fields` does it exactly, with functions that have some laws of the real ones and no others; `Reals` does it in float64, and is
what readings are tested with. Elementwise, a law that is used here is a law of the real numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from npu_guard.proof.exact import Exact
from npu_guard.proof.modular import Array
from npu_guard.proof.tensor import CONSTANT, Operand, Tensor, Unsupported, join

Binary = Callable[[Array, Array, int], Array]
MOST_ELEMENTS = 1 << 23
"""Of one tensor: what is larger is not evaluated."""
USED_UP = "it takes more multiplications than are granted"


class Budget:
    """Multiplications that an evaluation may still take."""

    def __init__(self, macs: int) -> None:
        self.left = macs

    def spend(self, macs: int, elements: int = 0) -> None:
        """Raise Unsupported where it is used up, before anything is computed."""
        self.left -= macs
        if self.left < 0 or elements > MOST_ELEMENTS:
            raise Unsupported(USED_UP)


class Arithmetic:
    """Tensors and what can be done with them. Methods without a body are those that differ."""

    moduli: tuple[int, ...]
    """Of the parts; 0 for none."""
    log_moduli: tuple[int, ...] = ()

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.assumptions: set[str] = set()
        self.nonlinear = False
        """Whether any function was met that is no rational one."""
        self.double = False
        """Whether the model takes numbers of float64."""

    # ---- what differs

    def constant(self, array: Array) -> Tensor:
        """Floats that are part of a model."""
        raise NotImplementedError

    def exact(self, numbers: Exact) -> Tensor:
        """Numbers that no float may be: fractions, roots, named ones."""
        raise NotImplementedError

    def product(self, a: Array, b: Array, m: int) -> Array:
        """Matrix product of arrays."""
        raise NotImplementedError

    def reciprocal(self, a: Array, m: int) -> Array:
        """1 / a, element by element."""
        raise NotImplementedError

    def function(self, name: str, *arguments: Tensor, values: Sequence[tuple[int, Fraction]] = (), odd: bool = False) -> Tensor:
        """A function of which no law is used but its values at some whole numbers, and whether it is odd (of one argument)."""
        raise NotImplementedError

    def even(self, name: str, x: Tensor, at_zero: int) -> Tensor:
        """An even function with a known value at zero: absolute value, equality with zero."""
        raise NotImplementedError

    def exp(self, x: Tensor) -> Tensor:
        """The exponential function; 0 where the argument is minus infinity."""
        raise NotImplementedError

    def largest(self, x: Tensor, axes: tuple[int, ...], keep: bool, valid: Array | None = None) -> Tensor:
        """The maximum over axes, of what is `valid`: an associative and commutative function."""
        raise NotImplementedError

    # ---- rational functions

    def number(self, x: Fraction | int) -> Tensor:
        """A rational number."""
        return self.exact(Exact.of(x))

    def lift(self, x: Operand) -> Tensor:
        """Whole numbers and truth values as elements too."""
        if isinstance(x, Tensor):
            return x
        if x is None:
            raise Unsupported("an input is left out")
        return replace(self.constant(x.astype(np.float64)), kind="i" if x.dtype.kind in "iu" else x.dtype.kind)

    def _room(self, *tensors: Tensor) -> None:
        size = 1
        for extent in np.broadcast_shapes(*(t.shape for t in tensors)):
            size *= int(extent)
        self.budget.spend(size, size)

    def _linear(self, a: Tensor, b: Tensor, op: Binary) -> tuple[tuple[Array, ...], tuple[Array, ...] | None]:
        self._room(a, b)
        parts = tuple(op(x, y, m) for x, y, m in zip(a.parts, b.parts, self.moduli, strict=True))
        if a.logs is None or b.logs is None:
            return parts, None
        return parts, tuple(op(x, y, m) for x, y, m in zip(a.logs, b.logs, self.log_moduli, strict=True))

    def add(self, left: Operand, right: Operand) -> Tensor:
        """Sum."""
        a, b = self.lift(left), self.lift(right)
        parts, logs = self._linear(a, b, lambda x, y, m: (x + y) % m if m else x + y)
        lowest = None
        if a.lowest is not None or b.lowest is not None:
            none = np.zeros((), bool)
            masks = (none if t.lowest is None else t.lowest for t in (a, b))
            lowest = np.broadcast_to(np.logical_or(*masks), parts[0].shape)
        # x / 6 + 1 / 2 is a sixth of x + 3
        scale = b.scale if a.degree == CONSTANT else a.scale if b.degree == CONSTANT or a.scale == b.scale else None
        return Tensor(parts, logs, lowest, None, scale, a.degree + b.degree, _kind(a, b))

    def negative(self, x: Operand) -> Tensor:
        """Minus x."""
        a = self.lift(x)
        self._finite(a)
        flip = lambda v, m: -v % m if m else -v
        return replace(
            a,
            parts=tuple(map(flip, a.parts, self.moduli)),
            logs=None if a.logs is None else tuple(map(flip, a.logs, self.log_moduli)),
            lowest=None, number=None if a.number is None else -a.number, inverse=None,
        )  # fmt: skip

    def subtract(self, left: Operand, right: Operand) -> Tensor:
        """Difference."""
        return self.add(left, self.negative(right))

    def multiply(self, left: Operand, right: Operand) -> Tensor:
        """Product."""
        a, b = self.lift(left), self.lift(right)
        parts, logs = self._linear(a, b, lambda x, y, m: x * y % m if m else x * y)
        lowest = None
        for x, y in ((a, b), (b, a)):
            if x.lowest is not None and x.lowest.any():
                if y.number is None or not (y.number > 0).all():
                    raise Unsupported("minus infinity times something unknown")
                lowest = np.broadcast_to(x.lowest, parts[0].shape)
        scale = self._scales(self._factor(a), self._factor(b))
        return Tensor(parts, logs, lowest, None, scale, a.degree * b.degree, _kind(a, b))

    def invert(self, x: Operand) -> Tensor:
        """1 / x."""
        a = self.lift(x)
        self._finite(a)
        if a.inverse is not None:
            return a.inverse
        parts = tuple(map(self.reciprocal, a.parts, self.moduli))
        logs = None if a.logs is None else tuple(map(self.reciprocal, a.logs, self.log_moduli))
        factor = self._factor(a)
        scale = None if factor is None else self._each(factor, lambda v, m: self.reciprocal(np.asarray(v), m).item())
        return Tensor(parts, logs, None, None, scale, a.degree.inverse, a.kind)

    def divide(self, left: Operand, right: Operand) -> Tensor:
        """Quotient."""
        a, b = self.lift(left), self.lift(right)
        inverse = self.invert(b)
        if b.number is not None and b.number.size == 1 and b.number.item() > 0:
            inverse.number = 1 / b.number  # for its sign
        return self.multiply(a, inverse)

    def total(self, x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
        """Sum over axes."""
        self._finite(x)
        terms = int(np.prod([x.shape[a] for a in axes]))
        self.budget.spend(x.parts[0].size)
        add = lambda v, m: v.sum(axes, keepdims=keep) % m if m else v.sum(axes, keepdims=keep)
        logs = None if x.logs is None else tuple(map(add, x.logs, self.log_moduli))
        return Tensor(tuple(map(add, x.parts, self.moduli)), logs, None, None, x.scale, x.degree.total(terms), x.kind)

    def mean(self, x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
        """Mean over axes."""
        terms = int(np.prod([x.shape[a] for a in axes]))
        return self.multiply(self.total(x, axes, keep), self.number(Fraction(1, max(1, terms))))

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Matrix product over the last two axes, the others broadcast."""
        self._finite(a, b)
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        out = int(np.prod(batch, dtype=np.int64)) * a.shape[-2] * b.shape[-1]
        self.budget.spend(out * a.shape[-1], out)
        parts = tuple(map(self.product, a.parts, b.parts, self.moduli))
        logs = None
        if a.logs is not None and b.logs is not None:
            logs = tuple(map(self.product, a.logs, b.logs, self.log_moduli))
        degree = (a.degree * b.degree).total(a.shape[-1])
        scale = b.scale if a.degree == CONSTANT else a.scale if b.degree == CONSTANT else self._scales(a.scale, b.scale)
        return Tensor(parts, logs, None, None, scale, degree)

    def _finite(self, *tensors: Tensor) -> None:
        if any(t.lowest is not None and t.lowest.any() for t in tensors):
            raise Unsupported("arithmetic with minus infinity")

    def _factor(self, x: Tensor) -> tuple[int, ...] | None:
        """A positive number that can be taken out of it: of one constant, its absolute value."""
        if x.degree != CONSTANT:
            return x.scale
        if x.number is None or x.number.size != 1 or not x.number.any():
            return x.scale
        values = [v.reshape(-1)[0].item() for v in (*x.parts, *(x.logs or ()))]
        sign = -1 if x.number.item() < 0 else 1
        factor = self._each(tuple(values), lambda v, m: sign * v % m if m else sign * v)
        return factor if x.logs is not None or not self.log_moduli else None

    def _scales(self, a: tuple[int, ...] | None, b: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if a is None or b is None:
            return b if a is None else a
        moduli = (*self.moduli, *self.log_moduli)
        return tuple(x * y % m if m else x * y for x, y, m in zip(a, b, moduli, strict=True))

    def _each(self, scale: tuple[int, ...], op: Callable[[int, int], int]) -> tuple[int, ...]:
        return tuple(map(op, scale, (*self.moduli, *self.log_moduli)))

    def scaled(self, x: Tensor, by: tuple[int, ...] | None, *, invert: bool = False) -> Tensor:
        """x times a positive number in parts and logs, or over it."""
        if by is None:
            return x
        if invert:
            by = self._each(by, lambda v, m: self.reciprocal(np.asarray(v), m).item())
        n = len(self.moduli)
        times = lambda v, s, m: v * s % m if m else v * s
        logs = None if x.logs is None else tuple(map(times, x.logs, by[n:], self.log_moduli))
        return replace(x, parts=tuple(map(times, x.parts, by[:n], self.moduli)), logs=logs, number=None, inverse=None)

    # ---- functions that follow from others

    def absolute(self, x: Operand) -> Tensor:
        """|x| = s |x / s| for the positive number s that x is known to hold."""
        a = self.lift(x)
        self._finite(a)
        even = self.even("absolute", self.scaled(a, a.scale, invert=True), 0)
        return replace(self.scaled(even, a.scale), scale=a.scale, kind=a.kind)

    def root(self, x: Operand) -> Tensor:
        """The square root, of which no law is used. Its reciprocal is what is drawn: normalizations divide by it."""
        inverse = self.function("one over the root", self.lift(x), values=((0, Fraction(0)), (1, Fraction(1))))
        return replace(self.invert(inverse), inverse=inverse)

    def relu(self, x: Operand) -> Tensor:
        """The larger of x and 0: (x + |x|) / 2."""
        a = self.lift(x)
        return replace(self.multiply(self.add(a, self.absolute(a)), self.number(Fraction(1, 2))), scale=a.scale)

    def maximum(self, left: Operand, right: Operand) -> Tensor:
        """The larger one, against a constant by a relu; two of the same size but for the sign are an absolute value.

        Beside minus infinity it is the other one.
        """
        a, b = self.lift(left), self.lift(right)
        shape = np.broadcast_shapes(a.shape, b.shape)
        for one, other in ((a, b), (b, a)):
            if one.lowest is not None and one.lowest.all():
                return other.map(lambda v: np.broadcast_to(v, shape))
        self._finite(a, b)
        if a.number is not None:
            a, b = b, a
        if b.number is not None:
            return self.add(b, self.relu(self.subtract(a, b)))
        if a.shape == b.shape and not any(p.any() for p in self.add(a, b).parts):
            return self.absolute(a)
        self._room(a, b)
        both = join([t.map(lambda v: np.broadcast_to(v, shape)) for t in (a, b)], np.stack)
        return self.largest(both, (0,), False)

    def minimum(self, left: Operand, right: Operand) -> Tensor:
        """The smaller one."""
        return self.negative(self.maximum(self.negative(left), self.negative(right)))

    def clip(self, x: Operand, low: Tensor | None, high: Tensor | None) -> Tensor:
        """The smaller of `high` and the larger of x and `low`, as ONNX has it where they cross."""
        a = self.lift(x)
        a = a if low is None else self.maximum(a, low)
        return a if high is None else self.minimum(a, high)

    def sigmoid(self, x: Operand) -> Tensor:
        """1 / (1 + exp(-x))."""
        return self.invert(self.add(self.number(1), self.exp(self.negative(x))))

    def tanh(self, x: Operand) -> Tensor:
        """(exp(2 x) - 1) / (exp(2 x) + 1)."""
        e = self.exp(self.add(x, x))
        return self.divide(self.subtract(e, self.number(1)), self.add(e, self.number(1)))

    def choose(self, truth: Operand, yes: Operand, no: Operand) -> Tensor:
        """b u + (1 - b) v, for a truth value b; at once where it is known."""
        a, b = self.lift(yes), self.lift(no)
        if isinstance(truth, np.ndarray):
            self._room(a, b, self.lift(truth))
            shape = np.broadcast_shapes(truth.shape, a.shape, b.shape)
            both = [t.map(lambda v: np.broadcast_to(v, shape)) for t in (a, b)]
            return join(both, lambda ab: np.where(truth, *ab))
        chosen = self.lift(truth)
        result = self.add(self.multiply(chosen, a), self.multiply(self.subtract(self.number(1), chosen), b))
        return replace(result, kind=a.kind)


def _kind(a: Tensor, b: Tensor) -> str:
    return "f" if "f" in (a.kind, b.kind) else a.kind
