"""Numbers as integers with a scale: of activations from the range that they have, of weights without loss where that can be.

A form moves weights, leaves some out and puts zeros between them, so what it writes lies on the grid that the old weights lay
on. Of the scales that the old ones had, that grid is the one on which every number of a channel is a whole number of steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from msgspec import Struct

from npu_guard.analysis.constants import Array
from npu_guard.analysis.quantized.held import Held, span
from npu_guard.rewriting.integers.scheme import middle

_NEAR = 1e-3
"""Steps by which a number may be beside the grid: what rounding to float32 leaves of 127 steps is a hundredth of it."""
_WIDE: Mapping[int, int] = {onnx.TensorProto.INT8: onnx.TensorProto.INT16, onnx.TensorProto.UINT8: onnx.TensorProto.UINT16}
_PARTS = 256
"""Steps of 16 bits in one of 8."""
_TRIED = 64
"""Scales that are tried for a channel, those first on which its largest number is the most steps."""


class Style(Struct, frozen=True):
    """How a network holds its tensors, as far as its tensors have it in common."""

    activation: int
    """onnx.TensorProto.DataType of the activations."""
    symmetric: bool
    """Whether all zero points of activations are in the middle of their type."""
    weight: int
    channel_operators: frozenset[str]
    """Operators whose weights have a scale for each channel."""
    operators: frozenset[str]
    """Operators that have weights in integers."""
    powers: bool
    """Whether all scales are powers of two."""
    scales: Array
    """Scales of weights, each once, falling."""


def fitting(low: float, high: float, style: Style, *, wide: bool = False) -> Held:
    """How an activation of a range is held in the style of its network, `wide` in 16 bits; 0 is always a step of its own."""
    dtype = _WIDE.get(style.activation, style.activation) if wide else style.activation
    least, most = span(dtype)
    low, high = min(low, 0.0), max(high, 0.0)
    if style.symmetric:
        zero = middle(dtype)
        scale = max(-low, high) / (most - zero)
    else:
        scale = (high - low) / (most - least)
        zero = 0
    scale = scale if scale > 0 and np.isfinite(scale) else 1.0
    if style.powers:
        scale = float(2.0 ** np.ceil(np.log2(scale)))
    if not style.symmetric:
        zero = int(np.clip(np.round(least - low / scale), least, most))
    return Held(dtype, np.asarray(scale, np.float32), zero)


def widened(held: Held) -> Held:
    """The same numbers in 16 bits, each step in 256 parts; what has no such type stays."""
    wide = _WIDE.get(held.dtype)
    if wide is None:
        return held
    zero = (held.zero - span(held.dtype)[0]) * _PARTS + span(wide)[0]
    return Held(wide, np.asarray(np.float32(held.scale) / np.float32(_PARTS)), zero)


def weight_scales(weight: Array, axis: int | None, style: Style) -> Array:
    """A scale for each place along the axis (one without an axis) so that nothing is lost, where there is one; else so that all
    numbers are inside of the type's range."""
    rows = weight.reshape(1, -1) if axis is None else np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    rows = rows.astype(np.float64)
    most = span(style.weight)[1] - middle(style.weight)
    peaks = np.abs(rows).max(axis=1, initial=0.0)
    return np.asarray([_scale(row, peak, most, style) for row, peak in zip(rows, peaks, strict=True)], np.float32)


def _scale(row: Array, peak: float, most: int, style: Style) -> float:
    if not peak > 0:
        return 1.0
    natural = peak / most
    natural = float(2.0 ** np.ceil(np.log2(natural))) if style.powers else natural
    if not _beside(row, natural):
        return natural
    count = peak / style.scales
    near = (count <= most + _NEAR) & (np.abs(count - np.round(count)) < _NEAR)
    for scale in style.scales[near][::-1][:_TRIED].tolist():
        if not _beside(row, scale):
            return float(scale)
    return natural


def _beside(row: Array, scale: float | Array) -> bool:
    """Whether some number is no whole number of steps."""
    steps = row / np.asarray(scale, np.float32).astype(np.float64)
    return bool((np.abs(steps - np.round(steps)) > _NEAR).any())


def on_grid(numbers: Array, scales: Array, axis: int | None) -> bool:
    """Whether all numbers are whole numbers of steps, of their place's scale along the axis."""
    shape = [-1 if i == axis else 1 for i in range(numbers.ndim)]
    return not _beside(numbers.astype(np.float64), scales.reshape(shape if axis is not None else []))


def in_steps(numbers: Array, scales: Array, zero: int, axis: int | None, dtype: int) -> Array:
    """The integers next to numbers."""
    shape = [-1 if i == axis else 1 for i in range(numbers.ndim)]
    each = scales.reshape(shape if axis is not None else [])
    steps = np.round(numbers.astype(np.float64) / each.astype(np.float64)) + zero
    return np.asarray(np.clip(steps, *span(dtype)).astype(onnx.helper.tensor_dtype_to_np_dtype(dtype)))


def style_of(held: Sequence[Held], weights: Sequence[tuple[str, int, Array]]) -> Style:
    """The style of a network with these activations, and with weights of these operators, types and scales."""
    types = [h.dtype for h in held]
    activation = max(sorted(set(types)), key=types.count)
    same = [h for h in held if h.dtype == activation]
    kinds = [dtype for _, dtype, _ in weights if span(dtype)[1]]
    scales = np.unique(np.concatenate([np.ravel(s) for _, _, s in weights] or [np.ones(1)]).astype(np.float64))[::-1]
    every = [*(float(h.scale) for h in same), *scales.tolist()]
    return Style(
        activation,
        all(h.zero == middle(activation) for h in same),
        max(sorted(set(kinds)), key=kinds.count) if kinds else onnx.TensorProto.INT8,
        frozenset(op for op, _, s in weights if s.size > 1),
        frozenset(op for op, _, _ in weights),
        all(s > 0 and np.frexp(s)[0] == 0.5 for s in every),
        scales[scales > 0],
    )
