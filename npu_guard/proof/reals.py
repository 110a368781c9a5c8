"""The same in float64: what readings of operators are tested with, and how far two models of sums and products are apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from npu_guard.proof.arithmetic import Arithmetic, Budget
from npu_guard.proof.exact import Exact
from npu_guard.proof.modular import Array
from npu_guard.proof.tensor import CONSTANT, DRAWN, Operand, Tensor, Unsupported

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "erf": np.vectorize(math.erf, otypes=[float]), "one over the root": lambda v: 1 / np.sqrt(v), "log": np.log,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "atan": np.arctan, "floor": np.floor, "ceil": np.ceil, "round": np.rint,
    "sign": np.sign, "step": lambda v: (v > 0).astype(float), "power": np.power, "cast to 7": np.trunc,
    "cast to 2": np.trunc, "tanh": np.tanh,
    "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
    "quantize to uint8": lambda v, step, zero: np.clip(np.rint(v / step) + zero, 0, 255),
    "quantize to int8": lambda v, step, zero: np.clip(np.rint(v / step) + zero, -128, 127),
    "element at": lambda i, *v: np.choose(i.astype(int) % len(v), v),
    "ArgMax 0": lambda *v: np.argmax(v, 0), "ArgMin 0": lambda *v: np.argmin(v, 0),
    "ArgMax 1": lambda *v: len(v) - 1 - np.argmax(v[::-1], 0), "ArgMin 1": lambda *v: len(v) - 1 - np.argmin(v[::-1], 0),
}  # fmt: skip


class Reals(Arithmetic):
    """Float64 for real numbers."""

    moduli = (0,)

    def __init__(self, budget: Budget | None = None) -> None:
        super().__init__(budget or Budget(1 << 40))

    def constant(self, array: Array) -> Tensor:
        """Floats."""
        lowest = np.isneginf(array) if array.size and np.isneginf(array).any() else None
        known = np.where(np.isneginf(array), 0, array) if lowest is not None else array
        return Tensor((np.asarray(known, np.float64),), (), lowest, np.asarray(array))

    def exact(self, numbers: Exact) -> Tensor:
        """The floats next to them."""
        return self.constant(numbers.floats())

    def input(self, array: Array, kind: str = "f") -> Tensor:
        """An input."""
        return Tensor((np.asarray(array, np.float64),), (), degree=DRAWN, kind=kind)

    def product(self, a: Array, b: Array, m: int) -> Array:
        """Matrix product."""
        return np.asarray(np.matmul(a, b))

    def reciprocal(self, a: Array, m: int) -> Array:
        """1 / a."""
        return np.asarray(1 / a)

    def function(self, name: str, *arguments: Tensor, values: Sequence[tuple[int, Fraction]] = (), odd: bool = False) -> Tensor:
        """The function of this name."""
        self.nonlinear = True
        if name not in _FUNCTIONS:
            raise Unsupported(f"{name} is not interpreted")
        return self._made(_FUNCTIONS[name](*(t.parts[0] for t in arguments)))

    def even(self, name: str, x: Tensor, at_zero: int) -> Tensor:
        """The absolute value, or equality with zero."""
        self.nonlinear = True
        return self._made(np.abs(x.parts[0]) if name == "absolute" else (x.parts[0] == 0).astype(float))

    def exp(self, x: Tensor) -> Tensor:
        """The exponential function."""
        self.nonlinear = True
        found = np.exp(x.parts[0])
        return self._made(found if x.lowest is None else np.where(x.lowest, 0, found))

    def largest(self, x: Tensor, axes: tuple[int, ...], keep: bool, valid: Array | None = None) -> Tensor:
        """The maximum."""
        self.nonlinear = True
        known = x.parts[0] if valid is None else np.where(valid, x.parts[0], -np.inf)
        return self._made(known.max(axes, keepdims=keep))

    def _made(self, values: Array) -> Tensor:
        return Tensor((np.asarray(values, np.float64),), (), degree=DRAWN)


class Magnitudes(Reals):
    """The size that an output could have if nothing cancelled: what rounding of weights is to be measured against."""

    def constant(self, array: Array) -> Tensor:
        """Their absolute values."""
        return replace(super().constant(np.abs(array)), degree=CONSTANT)

    def negative(self, x: Operand) -> Tensor:
        """Itself."""
        return self.lift(x)
