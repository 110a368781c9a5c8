"""The table of readings, and how they get at constant operands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from npu_guard.proof.arithmetic import Arithmetic
from npu_guard.proof.modular import Array
from npu_guard.proof.program import Call
from npu_guard.proof.tensor import Operand, Tensor, Unsupported

Reading = Callable[[Arithmetic, Call, Sequence[Operand]], "Operand | list[Operand]"]
READINGS: dict[str, Reading] = {}
LOWEST = -1e30


def reading(*names: str) -> Callable[[Reading], Reading]:
    """Enter a function as the reading of some operators."""

    def enter(function: Reading) -> Reading:
        READINGS.update(dict.fromkeys(names, function))
        return function

    return enter


def at(x: Sequence[Operand], index: int) -> Operand:
    """An input, None where it is left out."""
    return x[index] if index < len(x) else None


def ints(value: Operand) -> list[int]:
    """Whole numbers that are known. Raises Unsupported."""
    if not isinstance(value, np.ndarray):
        raise Unsupported("shapes, axes or indices that depend on data")
    return [int(i) for i in value.reshape(-1)]


def axes(call: Call, x: Sequence[Operand], index: int = 1) -> list[int] | None:
    """The operator's axes, an attribute or an input by opset; None where it has none."""
    given = at(x, index)
    if given is not None:
        return ints(given)
    listed: Sequence[int] | None = call.attributes.get("axes")
    return None if listed is None else list(listed)


def scalar(value: Operand) -> float:
    """The one number of a constant operand. Raises Unsupported."""
    array: Array | None = value.number if isinstance(value, Tensor) else value
    if array is None or array.size != 1:
        raise Unsupported("a parameter that is not constant")
    return float(array.reshape(-1)[0])


def parameter(a: Arithmetic, call: Call, name: str, default: float) -> Tensor:
    """A float attribute, which is a float32."""
    return a.constant(np.asarray(call.attr(name, default), np.float32))


def column(a: Arithmetic, vector: Operand, ndim: int) -> Tensor:
    """A vector over channels, shaped to go with [N, C, ...]."""
    return a.lift(vector).map(lambda v: v.reshape([-1] + [1] * (ndim - 2)))


def attribute_or(value: Any, default: Any) -> Any:
    """An attribute that may be an empty list."""
    return value if value is not None and len(value) else default
