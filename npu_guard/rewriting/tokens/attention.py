"""MatMul, Softmax and the fused Attention operator on tokens, as `operators.py` has the operators that are not attention."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from msgspec.structs import replace

from npu_guard.analysis.layout import RUNNING
from npu_guard.base.text import short
from npu_guard.rewriting.map_writer import Map, map_parts, static_shape
from npu_guard.rewriting.position_maps import product
from npu_guard.rewriting.substitution import Array, Refused
from npu_guard.rewriting.tokens.operators import Step, is_used, kept, linear
from npu_guard.rewriting.views import CHANNELS, Axis, View, size


def matmul(step: Step) -> list[Map]:
    """Weights are a 1x1 convolution; two maps are attention. Raises Refused."""
    left, right = step.constant(0), step.constant(1)
    if left is None and right is None:
        for value in step.node.inputs:
            if value is not None and value.is_input and value not in step.maps:
                raise Refused(f"weight {short(value.name)!r} is an input of the model")
        return [product(step.writer, step.map(0), step.map(1), _asks_softmax(step))]
    x, value = (step.map(0), right) if right is not None else (step.map(1), left)
    assert value is not None
    if len(static_shape(value)) != 2:
        raise Refused(f"weights of shape {list(static_shape(value))} differ from batch to batch or are a vector")
    axis = -1 if right is not None else -2
    transposed = right is None  # weights from the left are [out, in]
    return [linear(step, x, axis, value, lambda a: a if transposed else a.T, None)]


def _are_last(axis: Axis, channels: Axis) -> bool:
    """Whether the factors of an axis are the last ones of the channels, in whatever order: each head has a run of them."""
    return set(axis) == set(channels[len(channels) - len(axis) :])


def softmax(step: Step) -> list[Map]:
    """Over all channels, or over those of each head. Raises Refused."""
    x, w = step.map(0), step.writer
    axes = step.axes(x)
    channels = x.view.channels
    if len(axes) != 1 or not (axes[0] or x.is_scores) or not _are_last(axes[0], channels):
        raise Refused("softmax runs over positions, which are no channels")
    parts = size(channels) // size(axes[0])
    names = tuple(w.op(step.node.op_type, name, axis=CHANNELS) for name in w.divided(x, parts))
    return [replace(x, parts=names)]


def _asks_softmax(step: Step) -> Callable[[View], bool]:
    """Whether the softmax that follows a product finds what it runs over in the channels."""

    def ask(view: View) -> bool:
        readers = step.ctx.analysis.readers(step.node.output)
        while len(readers) == 1:
            node = readers[0]
            if node.op_type == "Softmax":
                return _are_last(view.axes[step.ctx.axes(node)[0]], view.channels)
            if node.op_type == "Transpose" and node.attributes.get("perm"):
                view = view.permuted(node.attributes["perm"])
            elif node.op_type in RUNNING:
                view = view.reshaped(static_shape(node.output))
            elif node.kind != "broadcasting":
                return True
            readers = step.ctx.analysis.readers(node.output)
        return True

    return ask


def attention(step: Step) -> list[Map]:
    """The fused operator: scores, scale, mask, softmax, values. Raises Refused."""
    node, w = step.node, step.writer
    if any(node.input(i) is not None for i in (4, 5, 6)) or is_used(node.outputs[1:]):
        raise Refused("Attention keeps keys and values of earlier calls, or gives its scores away")
    if node.attr("softcap", 0.0) or node.attr("softmax_precision") is not None:
        raise Refused("Attention with softcap or softmax_precision")
    q, k, v = (step.map(i) for i in range(3))
    if len(q.view.axes) == 3:
        heads, others = node.attr("q_num_heads"), node.attr("kv_num_heads")
        q, k, v = (_headed(m, n) for m, n in ((q, heads), (k, others), (v, others)))
    if q.view.shape[1] != k.view.shape[1]:
        raise Refused("Attention whose queries and keys have different numbers of heads")
    scale = node.attr("scale")
    number = w.scalar(scale, q.dtype) if scale else w.reciprocal_root(q.view.shape[-1], q.dtype)
    q = map_parts(q, lambda name: w.op("Mul", name, number))
    scores = product(w, q, replace(k, view=k.view.permuted((0, 1, 3, 2))), lambda view: True)
    scores = _masked(step, scores)
    scores = replace(scores, parts=tuple(w.op("Softmax", name, axis=CHANNELS) for name in w.divided(scores, q.view.shape[1])))
    mixed = product(w, scores, v, lambda view: True)
    if len(static_shape(node.output)) == 3:
        mixed = replace(mixed, view=mixed.view.permuted((0, 2, 1, 3)).reshaped(static_shape(node.output)))
    return [mixed]


def _headed(x: Map, heads: int) -> Map:
    batch, count, channels = x.view.shape
    return replace(x, view=x.view.reshaped((batch, count, heads, channels // heads)).permuted((0, 2, 1, 3)))


def _masked(step: Step, scores: Map) -> Map:
    """Scores with what may not be looked at far below the others."""
    node, w = step.node, step.writer
    dtype = onnx.helper.tensor_dtype_to_np_dtype(scores.dtype)
    rows, columns = scores.view.shape[-2:]
    mask: Array | None = None
    if node.input(3) is not None:
        value = step.constant(3)
        if value is None:
            raise Refused(f"the mask {short(str(node.input(3)))!r} is not constant")
        given = w.weight(value)
        mask = np.where(given, 0.0, -np.inf) if given.dtype == np.bool_ else given
    if node.attr("is_causal", 0):
        causal = np.where(np.tri(rows, columns, dtype=np.bool_), 0.0, -np.inf)
        mask = causal if mask is None else mask + causal
    if mask is None:
        return scores
    if dtype.kind != "f":  # bfloat16 is no type of numpy's own
        raise Refused(f"a mask of type {dtype}")
    lowest = np.finfo(dtype).min / 4  # as good as minus infinity to softmax, and no danger to arithmetic
    laid = scores.view.lay(np.maximum(mask, lowest).astype(dtype))
    parts = np.split(laid, len(scores.parts), axis=CHANNELS) if laid.shape[CHANNELS] > 1 else [laid] * len(scores.parts)
    names = tuple(w.op("Add", name, kept(w, piece)) for name, piece in zip(scores.parts, parts, strict=True))
    return replace(scores, parts=names)
