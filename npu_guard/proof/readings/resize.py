"""Resize and Upsample: a matrix of fractions for each axis (formulas: ONNX, operator Resize)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from npu_guard.proof.arithmetic import Arithmetic
from npu_guard.proof.exact import Exact
from npu_guard.proof.program import Call
from npu_guard.proof.readings.table import at, ints, reading
from npu_guard.proof.tensor import Operand, Tensor, Unsupported

HALF = Fraction(1, 2)
Row = dict[int, Fraction]


def _numbers(value: Operand) -> list[Fraction]:
    array = value.number if isinstance(value, Tensor) else value
    if array is None:
        raise Unsupported("scales that depend on data")
    return [Fraction(float(v)) for v in array.reshape(-1)]


@reading("Upsample")
def _upsample(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    given = a.lift(x[0])
    scales = _numbers(x[1]) if len(x) > 1 else [Fraction(float(np.float32(v))) for v in call.attributes["scales"]]
    sizes = [math.floor(s * e) for s, e in zip(scales, given.shape, strict=True)]
    return _resampled(a, given, sizes, scales, _tap(call, "asymmetric", "floor"))


@reading("Resize")
def _resize(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    given = a.lift(x[0])
    if call.attr("antialias", 0) or call.attr("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Unsupported("this form of Resize")
    if call.opset < 11:
        scale_input, size_input, transform, rounding = at(x, 1), None, "asymmetric", "floor"
    else:
        scale_input, size_input = at(x, 2), at(x, 3)
        transform = call.attr("coordinate_transformation_mode", "half_pixel")
        rounding = call.attr("nearest_mode", "round_prefer_floor")
    sizes, scales = list(given.shape), [Fraction(1)] * given.ndim
    axes = call.attributes.get("axes") or range(given.ndim)
    if size_input is not None:
        for axis, size in zip(axes, ints(size_input), strict=True):
            sizes[axis], scales[axis] = size, Fraction(size, given.shape[axis])
    else:
        for axis, scale in zip(axes, _numbers(scale_input), strict=True):
            sizes[axis], scales[axis] = math.floor(scale * given.shape[axis]), scale
    return _resampled(a, given, sizes, scales, _tap(call, transform, rounding))


Tap = Callable[[int, int, int, Fraction], Row]
"""Of an output's index, both extents and the scale: what of the input it is made of."""


def _tap(call: Call, transform: str, rounding: str) -> Tap:
    place = _TRANSFORMS.get(transform)
    if place is None:
        raise Unsupported(f"Resize with coordinates of {transform}")
    mode, exclude = call.attr("mode", "nearest"), bool(call.attr("exclude_outside", 0))
    cubic = Fraction(float(np.float32(call.attr("cubic_coeff_a", -0.75))))
    if mode == "nearest":
        nearest = _ROUNDINGS[rounding]
        return lambda i, extent, out, scale: {_inside(nearest(place(i, extent, out, scale)), extent): Fraction(1)}
    kernel = _linear if mode == "linear" else lambda d: _cubic(d, cubic)
    reach = 1 if mode == "linear" else 2
    return lambda i, extent, out, scale: _row(place(i, extent, out, scale), extent, kernel, reach, exclude)


_ROUNDINGS: dict[str, Callable[[Fraction], int]] = {
    "floor": math.floor,
    "ceil": math.ceil,
    "round_prefer_floor": lambda at: math.ceil(at - HALF),
    "round_prefer_ceil": lambda at: math.floor(at + HALF),
}


def _centre(i: int, scale: Fraction) -> Fraction:
    return (i + HALF) / scale - HALF


_TRANSFORMS: dict[str, Callable[[int, int, int, Fraction], Fraction]] = {
    "asymmetric": lambda i, extent, out, scale: i / scale,
    "half_pixel": lambda i, extent, out, scale: _centre(i, scale),
    "pytorch_half_pixel": lambda i, extent, out, scale: _centre(i, scale) if out > 1 else Fraction(0),
    "tf_half_pixel_for_nn": lambda i, extent, out, scale: (i + HALF) / scale,
    "align_corners": lambda i, extent, out, scale: Fraction(i * (extent - 1), out - 1) if out > 1 else Fraction(0),
    "half_pixel_symmetric": lambda i, extent, out, scale: (
        Fraction(extent, 2) * (1 - Fraction(out) / (scale * extent)) + _centre(i, scale)
    ),
}


def _linear(distance: Fraction) -> Fraction:
    return max(Fraction(0), 1 - abs(distance))


def _cubic(distance: Fraction, a: Fraction) -> Fraction:
    """Keys 1981."""
    d = abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else Fraction(0)


def _inside(index: int, extent: int) -> int:
    return min(max(index, 0), extent - 1)


def _row(place: Fraction, extent: int, kernel: Callable[[Fraction], Fraction], reach: int, exclude: bool) -> Row:
    low = math.floor(place)
    taps = {j: kernel(place - j) for j in range(low - reach + 1, low + reach + 1)}
    if exclude:
        taps = {j: w for j, w in taps.items() if 0 <= j < extent}
        whole = sum(taps.values())
        taps = {j: w / whole for j, w in taps.items()}
    row: Row = {}
    for j, w in taps.items():
        row[_inside(j, extent)] = row.get(_inside(j, extent), Fraction(0)) + w
    return row


def _resampled(a: Arithmetic, x: Tensor, sizes: Sequence[int], scales: Sequence[Fraction], tap: Tap) -> Tensor:
    for axis, (out, scale) in enumerate(zip(sizes, scales, strict=True)):
        extent = x.shape[axis]
        if extent == out and scale == 1:
            continue
        a.budget.spend(out * extent, out * extent)
        rows = [tap(i, extent, out, scale) for i in range(out)]
        if all(len(row) == 1 for row in rows):
            index = [next(iter(row)) for row in rows]
            a.budget.spend(0, x.parts[0].size // max(1, extent) * out)
            x = x.map(lambda v: np.take(v, index, axis))  # noqa: B023 - called at once
            continue
        matrix = np.zeros((extent, out), object)
        matrix[:] = Fraction(0)
        for i, row in enumerate(rows):
            for j, weight in row.items():
                matrix[j, i] = weight
        moved = x.map(lambda v: np.moveaxis(v, axis, -1))  # noqa: B023
        x = a.matmul(moved, a.exact(Exact.of(matrix))).map(lambda v: np.moveaxis(v, -1, axis))  # noqa: B023
    return x
