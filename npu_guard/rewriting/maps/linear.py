"""A matrix on some axis of a tensor that lies in a map: a convolution whose weights are the matrix, laid out anew."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from npu_guard.rewriting.maps.algebra import Made, Maps, extended, stored
from npu_guard.rewriting.maps.factors import BYTE, CHANNELS, SPACE
from npu_guard.rewriting.maps.program import Constant, Operand
from npu_guard.rewriting.maps.tensors import Laid, Stored, axis_of
from npu_guard.rewriting.maps.written import numpy_type
from npu_guard.rewriting.substitution import Array, Builder, Refused
from npu_guard.rewriting.views import Axis, size


def linear(
    maps: Maps, x: Laid, axis: int, outputs: int, weight: Made, dtype: int, bias: Made | None = None, apart: Axis = ()
) -> Laid:
    """A matrix on one axis: a 1x1 convolution, or one whose stride is its kernel where the axis is blocks of space.

    The weight is [outputs, inputs], with the extents of `apart` in front where there is a matrix for each index of some axes.
    """
    inputs = x.axes[axis]
    if missing := tuple(a for a in (*apart, *inputs) if a not in x.held):
        x = maps.laid(x, extended(x.stored, stored(((), missing, (), ()))))
    made = axis_of(outputs)
    axes = (*x.axes[:axis], made, *x.axes[axis + 1 :])
    kernel = tuple(tuple(a for a in x.stored[i] if a in inputs) for i in SPACE)
    inner = all(x.stored[i][len(x.stored[i]) - len(k) :] == k for i, k in zip(SPACE, kernel, strict=True))
    longest = max(map(size, kernel))
    if any(kernel) and inner and longest <= maps.can.kernel and set(x.stored[CHANNELS]) <= set(inputs) and not apart:
        order = (*x.stored[CHANNELS], *kernel[0], *kernel[1])
        target, outside = x.stored, Axis()
    else:
        target = _in_channels(maps, x, inputs, apart, outputs)
        order = tuple(a for a in target[CHANNELS] if a in inputs)
        outside, kernel = target[CHANNELS][: len(target[CHANNELS]) - len(order)], ((), ())
    x = maps.laid(x, target)
    groups = size(outside)
    shape = groups * outputs, size(order) // (size(kernel[0]) * size(kernel[1])), size(kernel[0]), size(kernel[1])
    places = [len(apart), *(len(apart) + 1 + inputs.index(a) for a in order)]
    front = [apart.index(a) for a in outside if a in apart]

    def weights(build: Builder) -> Array:
        array = weight(build).reshape([*(a.extent for a in apart), outputs, *(a.extent for a in inputs)])
        array = array.transpose([*front, *places])
        array = array.reshape([*(a.extent if a in apart else 1 for a in outside), outputs, size(order)])
        return np.broadcast_to(array, [*(a.extent for a in outside), outputs, size(order)]).reshape(shape)

    def biases(build: Builder) -> Array:
        assert bias is not None
        return np.tile(np.broadcast_to(bias(build).reshape(-1), (outputs,)), groups)

    kind = numpy_type(dtype)
    given: list[Operand] = [x.name, Constant(shape, weights, kind)]
    given += [Constant((groups * outputs,), biases, kind)] if bias is not None else []
    group = {"group": groups} if groups > 1 else {}
    strides: dict[str, Any] = {} if shape[2:] == (1, 1) else {"strides": list(shape[2:])}
    kept = [tuple(a for a in held if a not in inputs) for held in target]
    left = stored((kept[0], (*kept[1], *made), kept[2], kept[3]))
    name = maps.program.op("Conv", tuple(map(size, left)), *given, kernel_shape=list(shape[2:]), **strides, **group)
    return Laid(axes, left, name)


def _in_channels(maps: Maps, x: Laid, inputs: Axis, apart: Axis, outputs: int) -> Stored:
    """The arrangement for a 1x1 convolution over some factors: they are the innermost channels, the others stay or make room."""
    rest = [tuple(a for a in axis if a not in inputs and a not in apart) for axis in x.stored]
    mine = tuple(a for a in x.stored[CHANNELS] if a in inputs)
    order = (*mine, *(a for a in inputs if a not in mine))
    choices = [(rest[0], (*apart, *rest[1], *order), rest[2], rest[3])]
    if rest[CHANNELS]:
        outer = (*apart, *order)
        choices += [(rest[0], outer, (*rest[1], *rest[2]), rest[3]), (rest[0], outer, rest[2], (*rest[1], *rest[3]))]

    def price(target: Stored) -> float:
        groups = size(target[CHANNELS]) // size(order)
        if groups > 1 and not maps.can.grouped:
            return math.inf
        return maps.cost(x, target) + 4 * BYTE * groups * size(order) * outputs

    target = min(map(stored, choices), key=price)
    if math.isinf(price(target)):
        raise Refused("what is summed cannot be brought into the channels")
    return target
