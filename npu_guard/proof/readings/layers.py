"""Normalization and attention, by the formulas of their documents."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from npu_guard.proof.arithmetic import Arithmetic
from npu_guard.proof.exact import Exact
from npu_guard.proof.program import Call
from npu_guard.proof.readings.activations import softmax
from npu_guard.proof.readings.elementwise import power
from npu_guard.proof.readings.products import spatial
from npu_guard.proof.readings.table import at, column, parameter, reading
from npu_guard.proof.tensor import Operand, Tensor, Unsupported


def normalized(a: Arithmetic, x: Tensor, axes: tuple[int, ...], epsilon: Tensor) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon)."""
    centred = a.subtract(x, a.mean(x, axes, True))
    variance = a.mean(a.multiply(centred, centred), axes, True)
    return a.divide(centred, a.root(a.add(variance, epsilon)))


@reading("LayerNormalization", "RMSNormalization")
def _layer(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    if call.made > 1:
        raise Unsupported("statistics of a normalization")
    given, epsilon = a.lift(x[0]), parameter(a, call, "epsilon", 1e-5)
    axes = tuple(range(call.attr("axis", -1) % given.ndim, given.ndim))
    if call.op_type == "LayerNormalization":
        result = normalized(a, given, axes, epsilon)
    else:
        result = a.divide(given, a.root(a.add(a.mean(a.multiply(given, given), axes, True), epsilon)))
    result = a.multiply(result, x[1])
    return result if at(x, 2) is None else a.add(result, x[2])


@reading("InstanceNormalization")
def _instance(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    given = a.lift(x[0])
    result = normalized(a, given, spatial(given), parameter(a, call, "epsilon", 1e-5))
    return a.add(a.multiply(result, column(a, x[1], given.ndim)), column(a, x[2], given.ndim))


@reading("GroupNormalization")
def _group(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    """Statistics over each group; scale and bias for each channel since opset 21, for each group before."""
    given, groups = a.lift(x[0]), call.attributes["num_groups"]
    shape = given.shape
    parts = given.map(lambda v: v.reshape(shape[0], groups, -1))
    result = normalized(a, parts, (2,), parameter(a, call, "epsilon", 1e-5))
    if call.opset < 21:
        result = a.add(a.multiply(result, column(a, x[1], 3)), column(a, x[2], 3))
        return result.map(lambda v: v.reshape(shape))
    result = result.map(lambda v: v.reshape(shape))
    return a.add(a.multiply(result, column(a, x[1], len(shape))), column(a, x[2], len(shape)))


@reading("BatchNormalization")
def _batch(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    if call.made > 1 or call.attr("training_mode", 0):
        raise Unsupported("normalization that trains")
    given = a.lift(x[0])
    scale, bias, mean, variance = (column(a, v, given.ndim) for v in x[1:5])
    deviation = a.root(a.add(variance, parameter(a, call, "epsilon", 1e-5)))
    return a.add(a.multiply(a.divide(a.subtract(given, mean), deviation), scale), bias)


@reading("MeanVarianceNormalization")
def _mean_variance(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    """Without scale and bias; ONNX adds 1e-9 to the deviation, not to the variance."""
    given = a.lift(x[0])
    axes = tuple(axis % given.ndim for axis in call.attr("axes", (0, 2, 3)))
    centred = a.subtract(given, a.mean(given, axes, True))
    deviation = a.root(a.mean(a.multiply(centred, centred), axes, True))
    return a.divide(centred, a.add(deviation, a.constant(np.asarray(1e-9, np.float32))))


@reading("LpNormalization")
def _norm(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    """Over the sum of absolute values along an axis, or the root of the sum of squares."""
    given = a.lift(x[0])
    axes = (call.attr("axis", -1) % given.ndim,)
    if call.attr("p", 2) == 1:
        return a.divide(given, a.total(a.absolute(given), axes, True))
    return a.divide(given, a.root(a.total(a.multiply(given, given), axes, True)))


@reading("LRN")
def _response(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    """x / (bias + alpha / size * sum of squares of the channels around)^beta."""
    given, size = a.lift(x[0]), call.attributes["size"]
    channels = given.shape[1]
    away = np.subtract.outer(np.arange(channels), np.arange(channels))
    near = ((-((size - 1) // 2) <= -away) & (-away <= size // 2)).astype(np.float32)
    rows = a.multiply(given, given).map(lambda v: v.reshape(v.shape[0], channels, -1))
    sums = a.matmul(a.constant(near), rows).map(lambda v: v.reshape(given.shape))
    part = a.multiply(parameter(a, call, "alpha", 1e-4), a.number(Fraction(1, size)))
    base = a.add(parameter(a, call, "bias", 1.0), a.multiply(sums, part))
    return a.divide(given, power(a, base, parameter(a, call, "beta", 0.75)))


@reading("Attention")
def _attention(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    """softmax(scale Q K^T + mask) V over [batch, heads, tokens, depth]; of rank 3, heads lie in the last axis."""
    query, key, value = (a.lift(v) for v in x[:3])
    flat = query.ndim == 3
    if flat:
        heads = call.attributes["q_num_heads"], call.attributes["kv_num_heads"], call.attributes["kv_num_heads"]
        query, key, value = (_heads(t, h) for t, h in zip((query, key, value), heads, strict=True))
    if query.shape[1] != key.shape[1] or call.made > 1 or call.attr("softcap", 0.0) or any(v is not None for v in x[4:]):
        raise Unsupported("this form of Attention")
    scale = a.exact(Exact.root(Fraction(1, query.shape[-1])))
    if call.attr("scale", 0.0):
        scale = parameter(a, call, "scale", 0.0)
    scores = a.multiply(a.matmul(query, key.map(lambda v: v.swapaxes(-1, -2))), scale)
    mask = at(x, 3)
    if isinstance(mask, np.ndarray):
        mask = a.constant(np.where(mask, 0.0, -np.inf))
    if mask is not None and mask.kind == "b":
        raise Unsupported("a mask of truth values that depend on data")
    scores = scores if mask is None else a.add(scores, mask)
    if call.attr("is_causal", 0):
        scores = a.add(scores, a.constant(np.where(np.tri(scores.shape[-2], scores.shape[-1]) > 0, 0.0, -np.inf)))
    result = a.matmul(softmax(a, scores, 3), value)
    if not flat:
        return result
    return result.map(lambda v: v.swapaxes(1, 2).reshape(v.shape[0], v.shape[2], -1))


def _heads(x: Tensor, heads: int) -> Tensor:
    return x.map(lambda v: v.reshape(v.shape[0], v.shape[1], heads, -1).swapaxes(1, 2))
