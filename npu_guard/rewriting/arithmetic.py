"""Formulas in place of an operator that a device lacks, written with operators that it has."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import onnx

from npu_guard.graph.graph import Node, Value
from npu_guard.proof.exact import Exact
from npu_guard.rewriting.substitution import Builder, Refused

if TYPE_CHECKING:
    from npu_guard.checking.context import Context

FLOATS = frozenset({1, 10, 11})
"""float32, float16, double: what ONNX Runtime computes with, so that a formula can be proven."""
MIN_OPSET = 8
"""From here on all operators on two tensors broadcast."""


def writable(node: Node) -> None:
    """Raises Refused where no formula can be proven to give what the node gives, whatever the device."""
    if node.output.dtype not in FLOATS:
        raise Refused("its elements are neither float32, float16 nor double")
    if node.graph.model.opsets.get("", 1) < MIN_OPSET:
        raise Refused(f"opset {node.graph.model.opsets.get('', 1)} is older than {MIN_OPSET}")


def number_of(value: Value, ctx: Context) -> float | None:
    """The number that a constant of one element is, None for other values."""
    array = ctx.analysis.constants.get(value)
    return float(array.reshape(())) if array is not None and array.size == 1 else None


class Formula:
    """Emits a formula; numbers become constants of the type at hand. What no float is, is written as a fraction or `Exact`."""

    def __init__(self, build: Builder, like: Value) -> None:
        self.build = build
        self.dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(like.dtype))
        self._numbers: dict[float | Fraction | str, str] = {}

    def __call__(self, op_type: str, *operands: str | Value | float | Fraction | Exact) -> str:
        """An operator on values, names and numbers."""
        return self.build.op(op_type, *(v if isinstance(v, (str, Value)) else self._number(v) for v in operands))

    def clip(self, x: str, low: float, high: float) -> str:
        """x, but at least `low` and at most `high`."""
        if self.build.opset < 11:
            return self.build.op("Clip", x, min=float(low), max=float(high))
        return self("Clip", x, low, high)

    def relu_of_negative(self, x: Value, scale: float | Fraction = 1.0) -> str:
        """max(-scale x, 0)."""
        return self("Relu", self("Mul", x, -scale))

    def _number(self, value: float | Fraction | Exact) -> str:
        key = str(value) if isinstance(value, Exact) else value
        if key not in self._numbers:
            if isinstance(value, (int, float)):
                self._numbers[key] = self.build.constant(np.asarray(value, self.dtype), "number")
            else:
                self._numbers[key] = self.build.rounded(Exact.of(value), self.dtype, "number")
        return self._numbers[key]
