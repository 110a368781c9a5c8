"""One node of the model with its operands as tensors that lie in maps: what the translation of an operator may ask."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from msgspec import Struct

from npu_guard.base.text import short
from npu_guard.checking.context import Context
from npu_guard.graph.graph import Node, Value
from npu_guard.rewriting.maps.algebra import Made, Maps, fixed
from npu_guard.rewriting.maps.program import Operand, Shape, shape_of
from npu_guard.rewriting.maps.tensors import Laid
from npu_guard.rewriting.substitution import Refused
from npu_guard.rewriting.views import Axis


class Step(Struct, frozen=True):
    """One node."""

    node: Node
    ctx: Context
    maps: Maps
    tensors: Mapping[Value, Laid]

    def tensor(self, index: int = 0) -> Laid:
        """An input that is computed. Raises Refused."""
        value = self.node.input(index)
        if value is None:
            raise Refused(f"{self.node.op} lacks input {index}")
        if value not in self.tensors:
            raise Refused(f"operand {short(value.name)!r} of {self.node.op} has no form on maps")
        return self.tensors[value]

    def constant(self, index: int) -> Value | None:
        """An input that is a constant; None where it is left out or computed."""
        value = self.node.input(index)
        return value if value is not None and self.ctx.is_constant(value) else None

    def numbers(self, index: int) -> list[int] | None:
        """A small constant input as integers; None where it is left out. Raises Undecidable, and Refused where it is computed."""
        if self.node.input(index) is None:
            return None
        value = self.constant(index)
        if value is None:
            raise Refused(f"input {index} of {self.node.op} is computed")
        return [int(a) for a in self.ctx.array(value).reshape(-1)]

    def read(self, value: Value) -> Made:
        """The elements of a constant, read when they are written."""
        return lambda build: build.weight(value, self.ctx.analysis.constants.get)

    def scalar(self, value: Value | None) -> float | None:
        """The one number that a small constant is; None for any other operand."""
        if value is None or not self.ctx.is_constant(value) or math.prod(shape_of(value)) != 1:
            return None
        known = self.ctx.analysis.constants.get(value)
        return None if known is None else float(np.asarray(known).reshape(-1)[0])

    def beside(self, x: Laid, value: Value) -> tuple[Laid, Operand]:
        """A constant operand as it lies beside a map, and the map."""
        shape = shape_of(value)
        stored = value.initializer is not None or (value.producer is not None and value.producer.op_type == "Constant")
        if math.prod(shape) == 1 and len(shape) <= 4 and stored:
            return x, value
        return fixed(self.maps, x, shape, self.read(value), value.dtype)

    def axes(self, x: Laid) -> list[int]:
        """Axes of the first input over which the operator runs."""
        return [axis % len(x.axes) for axis in self.ctx.axes(self.node)]

    @property
    def shape(self) -> Shape:
        """Shape of the first output."""
        return shape_of(self.node.output)

    @property
    def attributes(self) -> Mapping[str, object]:
        """The attributes as they are."""
        return {a.name: onnx.helper.get_attribute_value(a) for a in self.node.proto.attribute}


def is_read(values: Sequence[Value | None]) -> bool:
    """Whether somebody reads one of them."""
    return any(v is not None and (v.consumers or v.is_output) for v in values)


def flat(axes: Sequence[Axis]) -> Axis:
    """Factors of several axes in a row."""
    return tuple(a for axis in axes for a in axis)
