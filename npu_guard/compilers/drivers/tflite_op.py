"""One ONNX operator on its way to TFLite: 8-bit, channels last.

A four-dimensional `[N, C, H, W]` becomes `[N, H, W, C]`, `[N, C, L]` becomes `[N, L, C]`; matrices stay.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from tflite import SCALE, Tensors  # type: ignore[import-not-found]  # lies beside this script, where it runs


class NotMapped(Exception):
    """There is no TFLite form of this operator here."""


class Op:
    """One node with what is known of its tensors: shapes and types by name, and the values of constants."""

    def __init__(
        self, node: Any, shapes: Any, dtypes: Any, constants: Any, attributes: Any, positive: Collection[str] = ()
    ) -> None:
        self.node, self.shapes, self.dtypes, self.constants, self.attributes = node, shapes, dtypes, constants, attributes
        self.positive = positive
        """Tensors that have no number below 0."""
        self.file = Tensors()

    def name(self, index: int) -> str:
        """Name of an input, empty where it is left out."""
        return self.node.input[index] if index < len(self.node.input) else ""

    def shape(self, name: str) -> list[int]:
        """Extents of a tensor. Raises NotMapped where one is not known."""
        shape = self.constants[name].shape if name in self.constants else self.shapes.get(name)
        if shape is None or any(not isinstance(d, int) or d < 1 for d in shape):
            raise NotMapped(f"the shape of {name} is not static")
        return list(shape)

    def array(self, index: int, default: Any = None) -> Any:
        """Values of a constant input."""
        name = self.name(index)
        if not name and default is not None:
            return default
        if name not in self.constants:
            raise NotMapped(f"input {index} is not constant")
        return self.constants[name]

    def get(self, name: str, default: Any) -> Any:
        """An attribute."""
        return self.attributes.get(name, default)

    def dtype(self, name: str) -> str:
        """The element type after quantization: 8 bits for floats."""
        found = self.dtypes.get(name) or (str(self.constants[name].dtype) if name in self.constants else "float32")
        quantized = {"float32": "int8", "float16": "int8", "int32": "int32", "int64": "int32", "bool": "bool", "int8": "int8"}
        if found not in quantized:
            raise NotMapped(f"{found} has no quantized form here")
        return quantized[found]

    def into(self, index: int = 0, last: bool = True, rank: int = 0) -> int:
        """An input as a tensor of the file, an activation or a constant, with axes of 1 in front up to a rank."""
        name = self.name(index)
        shape = self.shape(name)
        shape = [1] * (rank - len(shape)) + shape
        if name not in self.constants:
            return int(self.file.activation(name, channels_last(shape) if last else shape, self.dtype(name)))
        dtype = self.dtype(name)
        values = np.ones(channels_last(shape) if last else shape)
        return int(self.file.constant(name, values, dtype, SCALE if dtype == "int8" else None))

    def out(self, index: int = 0, last: bool = True, scale: float = SCALE, zero: int = 0) -> int:
        """An output as a tensor of the file."""
        name = self.node.output[index]
        shape = self.shape(name)
        return int(self.file.activation(name, channels_last(shape) if last else shape, self.dtype(name), scale, zero))

    def indices(self, name: str, values: Any) -> int:
        """A constant of whole numbers: axes, sizes, pads."""
        return int(self.file.constant(name, np.asarray(values), "int32", None))


def channels_last(shape: Sequence[Any]) -> list[Any]:
    """A shape, or anything with one entry for each axis, in TFLite's order."""
    return [shape[0], *shape[2:], shape[1]] if len(shape) >= 3 else list(shape)


def axis_last(axis: int, rank: int) -> int:
    """An axis in TFLite's order."""
    axis %= rank
    return axis if rank < 3 or axis == 0 else rank - 1 if axis == 1 else axis - 1
