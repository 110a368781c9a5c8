"""Weights behind a DequantizeLinear: forms move their integers, and the scales and zero points move along."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx

from npu_guard.base.text import short
from npu_guard.graph.graph import Value
from npu_guard.rewriting.substitution import Array, Builder, Refused

_KNOWN = 4096
"""Scales and zero points of which a model without its weights still has the values."""
_FEW = 1 << 22
"""Elements of a weight of which it takes no time to say from which channel each one is."""


def is_dequantized(value: Value) -> bool:
    """Whether stored integers and scales make the weight."""
    node = value.producer
    if node is None or node.op_type != "DequantizeLinear" or node.domain or node.attr("block_size", 0):
        return False
    return all(v is None or (v.initializer is not None and not v.is_input) for v in node.inputs)


def relaid(build: Builder, value: Value, shape: Sequence[int], move: Callable[[Array], Array]) -> str:
    """A weight whose elements `move` puts elsewhere, leaves out, or fills with zeros, and does nothing else with.

    Where a DequantizeLinear makes the weight, its integers are moved instead, and its scales with them. Raises Refused.
    """
    if is_dequantized(value):
        return _moved(build, value, shape, move)
    return build.later(shape, lambda: move(build.weight(value)), onnx.helper.tensor_dtype_to_np_dtype(value.dtype))


def _moved(build: Builder, value: Value, shape: Sequence[int], move: Callable[[Array], Array]) -> str:
    """The weight with its elements moved, still made by a DequantizeLinear.

    A tensor of numbers 1, 2, ... is moved in its place: it tells where each integer goes, and what is 0 there is filled with the
    zero point. Raises Refused where elements of different scales would come to share one.
    """
    node = value.producer
    assert node is not None
    integers, scale, zero = node.input(0), node.input(1), node.input(2)
    assert integers is not None
    assert scale is not None
    extents = [d for d in value.shape or () if isinstance(d, int)]
    apart = math.prod(d for d in scale.shape or () if isinstance(d, int)) > 1
    axis = node.attr("axis", 1)
    axis += len(extents) if axis < 0 else 0
    if apart and (not 0 <= axis < len(extents) or list(scale.shape or ()) != [extents[axis]]):
        raise Refused(f"{short(value.name)!r} has not one scale for each place along an axis of it")

    def numbers() -> Array:
        return move(np.arange(1, 1 + math.prod(extents)).reshape(extents))

    def channels() -> Array:
        """For each place along the axis, the old one that its elements are from; 0 where there are none. Raises Refused."""
        at = np.moveaxis(numbers(), axis, 0).reshape(shape[axis], -1)
        old = np.where(at > 0, (at - 1) // math.prod(extents[axis + 1 :]) % extents[axis], -1)
        first = old.max(axis=1)
        if ((old != first[:, None]) & (old >= 0)).any():
            raise Refused(f"channels of {short(value.name)!r} with different scales would be one")
        return np.asarray(np.maximum(first, 0))

    def placed() -> Array:
        at, array = numbers(), build.weight(integers)
        fill: Array = np.zeros((), array.dtype)
        if zero is not None:
            fill = build.weight(zero)
            if apart:
                fill = fill[channels()].reshape([-1 if i == axis else 1 for i in range(len(shape))])
        return np.where(at > 0, array.reshape(-1)[np.maximum(at, 1) - 1], fill).astype(array.dtype)

    def along(vector: Value) -> str:
        if max(shape[axis], extents[axis]) <= _KNOWN and math.prod(extents) <= _FEW:
            return build.constant(build.weight(vector)[channels()])  # rules ask a sketch for them too
        dtype = onnx.helper.tensor_dtype_to_np_dtype(vector.dtype)
        return build.later((shape[axis],), lambda: build.weight(vector)[channels()], dtype)

    made = build.later(shape, placed, onnx.helper.tensor_dtype_to_np_dtype(integers.dtype))
    ends = [v if v is None or not apart else along(v) for v in (scale, zero)]
    while ends and ends[-1] is None:
        ends.pop()
    return build.op("DequantizeLinear", made, *ends, **({"axis": axis} if apart else {}))
