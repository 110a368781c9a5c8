"""Operators that move elements to other places."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from npu_guard.proof.arithmetic import Arithmetic
from npu_guard.proof.modular import Array
from npu_guard.proof.program import Call
from npu_guard.proof.readings.table import at, axes, ints, reading, scalar
from npu_guard.proof.tensor import Operand, Tensor, Unsupported, join


@reading("Dropout")
def _dropout(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand | list[Operand]:
    training = at(x, 2)
    if call.made > 1 or (training is not None and not (isinstance(training, np.ndarray) and not training.any())):
        raise Unsupported("dropout that drops")
    return x[0]


@reading("Reshape")
def _reshape(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    given = a.lift(x[0])
    shape = ints(x[1]) if len(x) > 1 else list(call.attributes["shape"])
    if not call.attr("allowzero", 0):
        shape = [given.shape[i] if extent == 0 else extent for i, extent in enumerate(shape)]
    return given.map(lambda v: v.reshape(shape))


@reading("Transpose")
def _transpose(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    return a.lift(x[0]).map(lambda v: v.transpose(call.attributes.get("perm")))


@reading("Flatten")
def _flatten(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    given, axis = a.lift(x[0]), call.attr("axis", 1)
    axis = axis + given.ndim if axis < 0 else axis
    head = math.prod(given.shape[:axis])
    return given.map(lambda v: v.reshape(head, math.prod(given.shape[axis:])))


@reading("Squeeze")
def _squeeze(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    chosen = axes(call, x)
    return a.lift(x[0]).map(lambda v: np.squeeze(v, None if chosen is None else tuple(chosen)))


@reading("Unsqueeze")
def _unsqueeze(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    chosen = tuple(axes(call, x) or ())
    return a.lift(x[0]).map(lambda v: np.expand_dims(v, chosen))


@reading("Concat")
def _concat(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    parts = [a.lift(v) for v in x]
    a.budget.spend(0, sum(p.parts[0].size for p in parts))
    return join(parts, lambda arrays: np.concatenate(arrays, call.attributes["axis"]))


@reading("Split")
def _split(a: Arithmetic, call: Call, x: Sequence[Operand]) -> list[Operand]:
    given, axis = a.lift(x[0]), call.attr("axis", 0)
    sizes = ints(x[1]) if len(x) > 1 and x[1] is not None else call.attributes.get("split")
    if sizes is None:
        extent, count = given.shape[axis], call.attr("num_outputs", len(call.outputs))
        each = -(-extent // count)
        sizes = [min(each, extent - i * each) for i in range(count)]
    ends = np.cumsum(sizes).tolist()
    pieces: list[Operand] = []
    for begin, end in zip([0, *ends], ends, strict=False):
        index = tuple(slice(begin, end) if i == axis % given.ndim else slice(None) for i in range(given.ndim))
        pieces.append(given.map(lambda v: v[index]))  # noqa: B023 - called at once
    return pieces


@reading("Slice")
def _slice(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    given = a.lift(x[0])
    if len(x) > 1:
        starts, ends = ints(x[1]), ints(x[2])
    else:
        starts, ends = list(call.attributes["starts"]), list(call.attributes["ends"])
    chosen = axes(call, x, 3) or list(range(len(starts)))
    steps = ints(x[4]) if at(x, 4) is not None else [1] * len(starts)
    index = [slice(None)] * given.ndim
    for start, end, axis, step in zip(starts, ends, chosen, steps, strict=True):
        index[axis % given.ndim] = _range(start, end, step, given.shape[axis])
    where = tuple(index)
    return given.map(lambda v: v[where])


def _range(start: int, end: int, step: int, extent: int) -> slice:
    """ONNX clamps both ends to the extent; to numpy, an end before the first element of a backward slice is None."""
    last = extent if step > 0 else extent - 1
    first, behind = (p + extent if p < 0 else p for p in (start, end))
    first, behind = min(max(first, 0), last), min(max(behind, 0 if step > 0 else -1), last)
    return slice(first, None if behind < 0 else behind, step)


@reading("Gather")
def _gather(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    given, index, axis = a.lift(x[0]), x[1], call.attr("axis", 0)
    if not isinstance(index, np.ndarray):
        return _chosen(a, given, a.lift(index), axis % given.ndim)
    a.budget.spend(0, given.parts[0].size // max(1, given.shape[axis]) * index.size)
    return given.map(lambda v: np.take(v, index, axis))


def _chosen(a: Arithmetic, given: Tensor, index: Tensor, axis: int) -> Tensor:
    """For an index that depends on data, a function of it and of all elements that it may choose from, in their order."""
    own = a.scaled(given, given.scale, invert=True)
    behind = given.ndim - 1 - axis
    places = index.map(lambda v: v.reshape((*v.shape, *[1] * behind)))

    def along(i: int) -> Tensor:
        return own.map(lambda v: v[(slice(None),) * axis + (None,) * index.ndim + (i,)])

    found = a.function("element at", places, *(along(i) for i in range(given.shape[axis])))
    return replace(a.scaled(found, given.scale), scale=given.scale, kind=given.kind)


@reading("GatherElements")
def _gather_elements(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    given, axis = a.lift(x[0]), call.attr("axis", 0)
    if not isinstance(x[1], np.ndarray):
        raise Unsupported("indices that depend on data")
    index = np.where(x[1] < 0, x[1] + given.shape[axis], x[1])
    own = axis % given.ndim
    corner = tuple(slice(None if i == own else extent) for i, extent in enumerate(index.shape))
    return given.map(lambda v: np.take_along_axis(v[corner], index, own))


@reading("GatherND")
def _gather_nd(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    index = x[1]
    if not isinstance(index, np.ndarray) or call.attr("batch_dims", 0):
        raise Unsupported("indices that depend on data, or in batches")
    where = tuple(np.moveaxis(index, -1, 0))
    return a.lift(x[0]).map(lambda v: v[where])


@reading("ScatterND")
def _scatter(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    index = x[1]
    if not isinstance(index, np.ndarray):
        raise Unsupported("indices that depend on data")
    return put(a, call, x, tuple(np.moveaxis(index, -1, 0)))


def put(a: Arithmetic, call: Call, x: Sequence[Operand], where: tuple[Array, ...]) -> Operand:
    """What the third operand has, in the first or added to it, at constant places that are all different."""
    given, new = a.lift(x[0]), a.lift(x[2])
    reduction = call.attr("reduction", "none")
    spots = np.ravel_multi_index(where, given.shape[: len(where)], mode="wrap")
    if reduction not in ("none", "add") or np.unique(spots).size < spots.size:
        raise Unsupported("a reduction, or places that are written twice")

    def replaced(both: list[Array]) -> Array:
        result = both[0].copy()
        result[where] = both[1]
        return result

    if reduction == "none":
        return join([given, new], replaced)

    def alone(v: Array) -> Array:
        result = np.zeros(given.shape, v.dtype)
        result[where] = v
        return result

    return a.add(given, new.map(alone))


@reading("Expand")
def _expand(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    given = a.lift(x[0])
    shape = np.broadcast_shapes(given.shape, tuple(ints(x[1])))
    a.budget.spend(0, math.prod(shape))
    return given.map(lambda v: np.broadcast_to(v, shape))


@reading("Tile")
def _tile(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    given, times = a.lift(x[0]), ints(x[1])
    a.budget.spend(0, given.parts[0].size * math.prod(times))
    return given.map(lambda v: np.tile(v, times))


@reading("Trilu")
def _triangle(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    k = ints(x[1])[0] if at(x, 1) is not None else 0
    cut = np.triu if call.attr("upper", 1) else np.tril
    return a.lift(x[0]).map(lambda v: cut(v, k))


@reading("Pad")
def _pad(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    given, mode = a.lift(x[0]), call.attr("mode", "constant")
    amounts = ints(x[1]) if len(x) > 1 else list(call.attributes["pads"])
    chosen = axes(call, x, 3) or list(range(given.ndim))
    sides = [(0, 0)] * given.ndim
    for i, axis in enumerate(chosen):
        sides[axis % given.ndim] = (amounts[i], amounts[len(amounts) // 2 + i])
    value = scalar(x[2]) if at(x, 2) is not None else float(call.attr("value", 0.0))
    return padded(a, given, sides, value, mode)


def padded(a: Arithmetic, x: Tensor, sides: Sequence[tuple[int, int]], value: float = 0.0, mode: str = "constant") -> Tensor:
    """The tensor with more at its sides, or less where a side is negative."""
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise Unsupported(f"Pad of mode {mode}")
    size = math.prod(extent + max(0, low) + max(0, high) for extent, (low, high) in zip(x.shape, sides, strict=True))
    a.budget.spend(0, size)
    crop = tuple(slice(max(0, -low), extent - max(0, -high)) for extent, (low, high) in zip(x.shape, sides, strict=True))
    wide = [(max(0, low), max(0, high)) for low, high in sides]
    if not any(low or high for low, high in wide):
        return x.map(lambda v: v[crop])
    if mode != "constant":
        return x.map(lambda v: np.pad(v[crop], wide, mode))  # type: ignore[call-overload]
    result = x.map(lambda v: np.pad(v[crop], wide))
    if value == 0:
        return result
    inside = np.pad(np.ones([len(range(*s.indices(e))) for s, e in zip(crop, x.shape, strict=True)], bool), wide)
    return a.choose(inside, result.varying(), a.constant(np.asarray(value, np.float32)))


@reading("DepthToSpace")
def _depth_to_space(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    given, k = a.lift(x[0]), call.attributes["blocksize"]
    n, c, h, w = given.shape
    if call.attr("mode", "DCR") == "DCR":
        inner, order = (n, k, k, c // k**2, h, w), (0, 3, 4, 1, 5, 2)
    else:
        inner, order = (n, c // k**2, k, k, h, w), (0, 1, 4, 2, 5, 3)
    return given.map(lambda v: v.reshape(inner).transpose(order).reshape(n, c // k**2, h * k, w * k))


@reading("SpaceToDepth")
def _space_to_depth(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    given, k = a.lift(x[0]), call.attributes["blocksize"]
    n, c, h, w = given.shape
    inner, order = (n, c, h // k, k, w // k, k), (0, 3, 5, 1, 2, 4)
    return given.map(lambda v: v.reshape(inner).transpose(order).reshape(n, c * k * k, h // k, w // k))
