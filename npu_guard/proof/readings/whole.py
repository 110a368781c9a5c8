"""Operators of which no law is used but that they are functions: each value of all that it may depend on, and of its place.

What it depends on is taken as one random linear combination, which differs where any element does, but for a chance that the
degree of what is drawn tells like any other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx

from npu_guard.proof.arithmetic import Arithmetic
from npu_guard.proof.fields import Fields
from npu_guard.proof.program import Call
from npu_guard.proof.readings.moves import put
from npu_guard.proof.readings.table import at, ints, reading
from npu_guard.proof.tensor import Operand, Tensor, Unsupported


def sketch(a: Arithmetic, x: Operand, axes: Sequence[int] | None = None) -> Tensor:
    """A random linear combination over these axes, or all; they stay, of extent 1."""
    if not isinstance(a, Fields):
        raise Unsupported("only its arguments are looked at, not its value")
    given = a.lift(x)
    over = tuple(range(given.ndim) if axes is None else sorted(axes))
    extents = [given.shape[i] for i in over]
    factors = a.drawn(f"factors of a sketch {extents}", extents)
    placed = factors.map(lambda v: v.reshape([given.shape[i] if i in over else 1 for i in range(given.ndim)]))
    total = a.total(a.multiply(given.varying(), placed), over, True)
    return replace(total, scale=None)


def _named(call: Call) -> str:
    """The operator with all its attributes, and the version that says what is meant by those that are left out."""
    version = onnx.defs.get_schema(call.op_type, call.opset, call.domain).since_version
    return f"{call.op_type} {version} {sorted((k, str(v)) for k, v in call.attributes.items())}"


def _places(a: Arithmetic, shape: Sequence[int]) -> Tensor:
    return a.lift(np.arange(math.prod(shape), dtype=np.int64).reshape(tuple(shape)))


def _all_of(a: Arithmetic, call: Call, x: Sequence[Operand], shape: Sequence[int]) -> Tensor:
    """A function of every element of all operands."""
    known = [(i, v) for i, v in enumerate(x) if v is not None]
    extents = [(i, a.lift(v).shape) for i, v in known]
    digests = [sketch(a, v).map(lambda t: t.reshape(())) for _, v in known]
    return a.function(f"{_named(call)} of {extents}", _places(a, shape), *digests)


@reading("TopK")
def _largest(a: Arithmetic, call: Call, x: Sequence[Operand]) -> list[Operand]:
    """Values and their places along an axis: functions of all elements along it, and of the rank."""
    given, count = a.lift(x[0]), ints(x[1])[0] if len(x) > 1 else call.attributes["k"]
    axis = call.attr("axis", -1) % given.ndim
    if not 0 <= count <= given.shape[axis]:
        raise Unsupported("more elements than there are")
    ranks = a.lift(np.arange(count).reshape([-1 if i == axis else 1 for i in range(given.ndim)]))
    kind = f"{call.attr('largest', 1)} {call.attr('sorted', 1)} of {given.shape[axis]}"
    seen = sketch(a, given, [axis])
    values, places = (a.function(f"{what} {kind}", ranks, seen) for what in ("ranked", "place of the ranked"))
    return [replace(values, kind=given.kind), replace(places, kind="i")]


@reading("Hardmax")
def _hardmax(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    """1 at the largest element along an axis; before opset 13, of all from the axis on."""
    given = a.lift(x[0])
    shape, axis = given.shape, call.attr("axis", -1 if call.opset >= 13 else 1) % max(1, given.ndim)
    if call.opset < 13:
        head = math.prod(shape[:axis])
        given, axis = given.map(lambda v: v.reshape(head, -1)), 1
    places = _places(a, [given.shape[i] if i == axis else 1 for i in range(given.ndim)])
    return a.function("hardmax", places, sketch(a, given, [axis])).map(lambda v: v.reshape(shape))


@reading("GridSample")
def _sampled(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    """Each value is a function of its channel's map and of the point in it."""
    given, grid = a.lift(x[0]), a.lift(x[1])
    rank = given.ndim - 2
    extents = given.shape[2:]
    seen = sketch(a, given, range(2, given.ndim))
    points = [grid.map(lambda v: v[:, None, ..., i]) for i in range(rank)]  # noqa: B023 - called at once
    return a.function(f"{_named(call)} of {extents}", seen, *points)


@reading("RoiAlign")
def _regions(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    """Each value is a function of its channel in all images, of its region and of its place in that."""
    given, regions, images = (a.lift(v) for v in x[:3])
    height, width = call.attr("output_height", 1), call.attr("output_width", 1)
    seen = sketch(a, given, [0, 2, 3])
    sides = [regions.map(lambda v: v[:, i, None, None, None]) for i in range(4)]  # noqa: B023 - called at once
    which = images.map(lambda v: v[:, None, None, None])
    return a.function(f"{_named(call)} of {given.shape}", _places(a, (1, 1, height, width)), seen, which, *sides)


@reading("DeformConv")
def _deformed(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    weight, offset = a.lift(x[1]), a.lift(x[2])
    return _all_of(a, call, x, (offset.shape[0], weight.shape[0], *offset.shape[2:]))


@reading("ScatterElements", "Scatter")
def _scattered(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    """Along one axis, at indices that may depend on data: a function of all that lies along it, and of the place."""
    given = a.lift(x[0])
    axis = call.attr("axis", 0) % given.ndim
    if isinstance(x[1], np.ndarray):
        return put(a, call, x, tuple(x[1] if i == axis else np.indices(x[1].shape)[i] for i in range(given.ndim)))
    index, updates = a.lift(x[1]), a.lift(x[2])
    if any(index.shape[i] != given.shape[i] for i in range(given.ndim) if i != axis):
        return replace(_all_of(a, call, x, given.shape), kind=given.kind)
    places = _places(a, [given.shape[i] if i == axis else 1 for i in range(given.ndim)])
    seen = [sketch(a, v, [axis]) for v in (given, index, updates)]
    name = f"scatter {call.attr('reduction', 'none')} of {index.shape[axis]} in {given.shape[axis]}"
    return replace(a.function(name, places, *seen), kind=given.kind)


@reading("OneHot")
def _one_hot(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    """off + (on - off) f(index, place): no law of f is used, as an index may count from the end."""
    index, count, values = a.lift(x[0]), ints(x[1])[0], at(x, 2)
    axis = call.attr("axis", -1)
    axis = axis + index.ndim + 1 if axis < 0 else axis
    places = a.lift(np.arange(count).reshape([-1 if i == axis else 1 for i in range(index.ndim + 1)]))
    hit = a.function(f"one of {count}", places, index.map(lambda v: np.expand_dims(v, axis)))
    if values is None:
        raise Unsupported("an input is left out")
    off, on = (a.lift(values).map(lambda v: v[i]) for i in (0, 1))  # noqa: B023 - called at once
    return a.add(off, a.multiply(a.subtract(on, off), hit))
