"""The factors of a rearrangement as nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from npu_guard.rewriting.maps.factors import CHANNELS, COLUMNS, ROWS, Factor
from npu_guard.rewriting.maps.program import Constant, Given, Program, shape_of
from npu_guard.rewriting.one_hot import one_hot_weights
from npu_guard.rewriting.substitution import Array


def written(program: Program, x: Given, factors: Sequence[Factor], sizes: Sequence[int]) -> Given:
    """A tensor with the factors applied to it, one behind the other."""
    for factor in factors:
        x = _WRITERS[factor.kind](program, x, factor, sizes)
    return x


def _pieces(program: Program, x: Given, factor: Factor, sizes: Sequence[int]) -> Given:
    extent = shape_of(x)[factor.axis]
    parts = program.split(x, factor.axis, [extent // factor.runs] * factor.runs)
    return program.concat([parts[i] for i in factor.order(sizes)], factor.to)


def _folded(program: Program, x: Given, factor: Factor, sizes: Sequence[int]) -> Given:
    batch, channels, rows, columns = shape_of(x)
    high, wide = factor.kernel
    shape = batch, channels * high * wide, rows // high, columns // wide
    weight = one_hot(program, channels, factor.order(sizes), factor.kernel, x.dtype)
    group = {"group": channels} if channels > 1 else {}
    return program.op("Conv", shape, x, weight, kernel_shape=[high, wide], strides=[high, wide], **group)


def _unfolded(program: Program, x: Given, factor: Factor, sizes: Sequence[int]) -> Given:
    batch, channels, rows, columns = shape_of(x)
    high, wide = factor.kernel
    shape = batch, channels // (high * wide), rows * high, columns * wide
    weight = one_hot(program, factor.runs, factor.order(sizes), factor.kernel, x.dtype)
    group = {"group": factor.runs} if factor.runs > 1 else {}
    return program.op("ConvTranspose", shape, x, weight, kernel_shape=[high, wide], strides=[high, wide], **group)


def _mixed(program: Program, x: Given, factor: Factor, sizes: Sequence[int]) -> Given:
    order, groups, dtype = factor.order(sizes), factor.runs, numpy_type(x.dtype)
    inner = len(order)

    def make() -> Array:
        return np.tile(np.eye(inner, dtype=dtype)[list(order)], (groups, 1))[:, :, None, None]

    weight = program.constant(("permutation", groups, order, x.dtype), (groups * inner, inner, 1, 1), make, dtype)
    return pointwise(program, x, weight, groups)


def _spread(program: Program, x: Given, factor: Factor, sizes: Sequence[int]) -> Given:
    channels = shape_of(x)[CHANNELS]
    return pointwise(program, x, ones(program, (channels * factor.pieces, 1, 1, 1), x.dtype), channels)


def _grown(program: Program, x: Given, factor: Factor, sizes: Sequence[int]) -> Given:
    shape, (high, wide) = list(shape_of(x)), factor.kernel
    channels = shape[CHANNELS]
    shape[ROWS] *= high
    shape[COLUMNS] *= wide
    group = {"group": channels} if channels > 1 else {}
    weight = ones(program, (channels, 1, high, wide), x.dtype)
    return program.op("ConvTranspose", shape, x, weight, kernel_shape=[high, wide], strides=[high, wide], **group)


_WRITERS = {
    **dict.fromkeys(("dealt", "reordered", "repeated"), _pieces),
    "folded": _folded, "unfolded": _unfolded, "mixed": _mixed, "spread": _spread, "grown": _grown,
}  # fmt: skip


def pointwise(program: Program, x: Given, weight: Constant, groups: int, bias: Constant | None = None) -> Given:
    """A 1x1 convolution; in a single group where there is one channel for it."""
    batch, _, rows, columns = shape_of(x)
    group = {"group": groups} if groups > 1 else {}
    inputs = (x, weight) if bias is None else (x, weight, bias)
    return program.op("Conv", (batch, weight.shape[0], rows, columns), *inputs, kernel_shape=[1, 1], **group)


def one_hot(program: Program, groups: int, order: Sequence[int], kernel: tuple[int, int], dtype: int) -> Constant:
    """Depthwise weights, each of which picks one position of the kernel: those in the order for each group."""
    kind = numpy_type(dtype)
    key = "one-hot", groups, tuple(order), kernel, dtype
    shape = (groups * len(order), 1, *kernel)
    return program.constant(key, shape, lambda: one_hot_weights(groups, order, kernel, kind), kind)


def ones(program: Program, shape: Sequence[int], dtype: int, value: float = 1.0) -> Constant:
    """Weights that are all the same number."""
    kind = numpy_type(dtype)
    return program.constant(("ones", tuple(shape), dtype, value), shape, lambda: np.full(shape, value, kind), kind)


def numpy_type(dtype: int) -> np.dtype[Any]:
    """numpy's type for one of ONNX's."""
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(dtype))


def masking(kind: np.dtype[Any]) -> float:
    """A number of a type that is as good as minus infinity to softmax, and no danger to arithmetic."""
    return float(np.finfo(kind if kind.kind == "f" else np.float32).min) / 4  # bfloat16, no type of numpy's, has float32's range
