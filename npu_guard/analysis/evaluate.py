"""What operators do to small constants, in numpy. `constants.py` decides which of them are evaluated.

Semantics are those of the ONNX operator documents for the opset range that exporters write (9 and later). A function
raises, or gives None, where the document allows no result; `size.py` tells how large outputs become.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from npu_guard.graph.graph import Node
from npu_guard.graph.handlers import Handlers

MAX_ELEMENTS = 4096
Array = NDArray[Any]

_NUMPY: dict[int, Any] = {
    onnx.TensorProto.FLOAT: np.float32, onnx.TensorProto.DOUBLE: np.float64, onnx.TensorProto.INT64: np.int64,
    onnx.TensorProto.INT32: np.int32, onnx.TensorProto.BOOL: np.bool_, onnx.TensorProto.UINT8: np.uint8,
    onnx.TensorProto.INT8: np.int8, onnx.TensorProto.FLOAT16: np.float16, onnx.TensorProto.UINT16: np.uint16,
    onnx.TensorProto.INT16: np.int16,
}  # fmt: skip


def tensor(proto: onnx.TensorProto) -> Array | None:
    """A small tensor with inline data as an array, else None."""
    if proto.data_location == onnx.TensorProto.EXTERNAL or proto.data_type not in _NUMPY:
        return None
    if math.prod(proto.dims) > MAX_ELEMENTS:
        return None
    try:
        return onnx.numpy_helper.to_array(proto)
    except (ValueError, TypeError):  # fewer values than the shape says
        return None


def _axes(node: Node, given: Array | None, rank: int) -> tuple[int, ...] | None:
    """`axes` as attribute (old opsets) or input, negative ones counted from the end."""
    axes = node.attributes.get("axes") if given is None else given.reshape(-1).tolist()
    return None if axes is None else tuple(int(a) + rank if a < 0 else int(a) for a in axes)


def _slice(node: Node, data: Array, *given: Array | None) -> Array:
    parts: list[Any] = [node.attributes.get(n) for n in ("starts", "ends", "axes", "steps")]
    if given:
        parts = [None if g is None else g.reshape(-1).tolist() for g in (*given, None, None)]
    starts, ends, axes, steps = parts[:4]
    index: list[slice] = [slice(None)] * data.ndim
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis, step = (axes[i] if axes else i), (steps[i] if steps else 1)
        if step < 0 and end >= 2**31 - 1:
            raise ValueError("ONNX Runtime takes this for the other end, its document does not")
        extent = data.shape[axis]
        last = extent if step > 0 else extent - 1
        first, behind = (p + extent if p < 0 else p for p in (start, end))
        first, behind = min(max(first, 0), last), min(max(behind, 0 if step > 0 else -1), last)
        # numpy would count an end of -1, "behind" the first element of a backward slice, from the end
        index[axis] = slice(first, None if behind < 0 else behind, step)
    return data[tuple(index)]


def _squeeze(node: Node, data: Array, axes: Array | None = None) -> Array:
    return np.squeeze(data, _axes(node, axes, data.ndim))


def _unsqueeze(node: Node, data: Array, axes: Array | None = None) -> Array:
    given: Sequence[int] = node.attributes["axes"] if axes is None else axes.reshape(-1).tolist()
    return np.expand_dims(data, tuple(given))


def _reshape(node: Node, data: Array, shape: Array | None = None) -> Array:
    target = list(node.attributes["shape"]) if shape is None else shape.tolist()
    if not node.attr("allowzero", 0):
        target = [data.shape[i] if d == 0 else d for i, d in enumerate(target)]
    return data.reshape(target)


def _range(_: Node, start: Array, limit: Array, delta: Array) -> Array:
    return np.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


def _div(_: Node, a: Array, b: Array) -> Array:
    if not np.issubdtype(a.dtype, np.integer):
        return np.asarray(a / b)
    if not b.all():
        raise ZeroDivisionError
    down = a // b
    return np.asarray(down + ((down * b != a) & ((a < 0) != (b < 0)))).astype(a.dtype)  # ONNX truncates towards zero


def _mod(node: Node, a: Array, b: Array) -> Array:
    if np.issubdtype(a.dtype, np.integer) and not b.all():
        raise ZeroDivisionError
    return np.asarray(np.fmod(a, b) if node.attr("fmod", 0) else np.mod(a, b))


def _cast(node: Node, data: Array) -> Array:
    target = np.dtype(_NUMPY[node.attributes["to"]])
    if target.kind in "iu" and data.dtype.kind == "f" and data.size:
        limits = np.iinfo(target)
        if not (limits.min <= float(data.min()) and float(data.max()) < limits.max + 1):  # also where one is NaN
            raise OverflowError
    return data.astype(target)


def _constant_of_shape(node: Node, shape: Array) -> Array:
    fill = node.attributes.get("value")
    value = np.zeros(1, np.float32) if fill is None else tensor(fill)
    assert value is not None
    return np.full(shape.reshape(-1).tolist(), value.reshape(-1)[0], value.dtype)


def _expand(_: Node, data: Array, shape: Array) -> Array:
    return np.broadcast_to(data, np.broadcast_shapes(data.shape, tuple(shape.tolist())))


def _reduce(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(node: Node, data: Array, axes: Array | None = None) -> Array:
        chosen = _axes(node, axes, data.ndim)
        if not chosen and node.attr("noop_with_empty_axes", 0):
            return data
        return np.asarray(function(data, axis=chosen or None, keepdims=bool(node.attr("keepdims", 1)))).astype(data.dtype)

    return call


def _split(node: Node, data: Array, sizes: Array | None = None) -> list[Array]:
    axis = node.attr("axis", 0)
    parts = node.attributes.get("split") if sizes is None else sizes.tolist()
    extent, count = data.shape[axis], len(node.outputs)
    if parts is None:
        part = -(-extent // count)
        parts = [part] * (count - 1) + [extent - part * (count - 1)]
    if sum(parts) != extent or min(parts) < 0 or len(parts) != count:
        raise ValueError("the parts do not make up the whole")
    return np.split(data, np.cumsum(parts)[:-1].tolist(), axis)


def _elementwise(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda _, *inputs: function(*inputs)


def _variadic(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(_: Node, first: Array, *rest: Array) -> Array:
        for other in rest:
            first = function(first, other)
        return first

    return call


def _pad(node: Node, data: Array, pads: Array | None = None, value: Array | None = None, axes: Array | None = None) -> Array:
    if axes is not None or node.attr("mode", "constant") != "constant":
        raise ValueError("not needed for shapes")
    amounts = list(node.attributes["pads"]) if pads is None else pads.tolist()
    half = len(amounts) // 2
    sides = list(zip(amounts[:half], amounts[half:], strict=True))
    fill = node.attr("value", 0.0) if value is None else value.item()
    return np.pad(data, sides, constant_values=fill)


def _clip(node: Node, data: Array, low: Array | None = None, high: Array | None = None) -> Array:
    bottom = node.attributes.get("min") if low is None else low.item()
    top = node.attributes.get("max") if high is None else high.item()
    return data if bottom is None and top is None else np.clip(data, bottom, top).astype(data.dtype)


def _gather_nd(node: Node, data: Array, index: Array) -> Array:
    if node.attr("batch_dims", 0):
        raise ValueError("not needed for weights")
    return np.asarray(data[tuple(np.moveaxis(index, -1, 0))])


def _unary(node: Node, data: Array, *_: Array | None) -> Array:
    """The operator's own formula, in double precision for floats. Integers that it would turn into floats have no result."""
    from npu_guard.analysis.formula import attribute_names, compiled  # models have few of them, and most have none

    formula = node.operator.formula
    names = {"x": data.astype(np.float64) if data.dtype.kind == "f" else data}
    result = np.asarray(compiled(formula)({**names, **{name: node.attr(name) for name in attribute_names(formula)}}))
    if result.dtype.kind == "b":
        return result
    if (result.dtype.kind == "f") != (data.dtype.kind == "f"):
        raise TypeError(f"{node.op} has no value for {data.dtype}")
    return result.astype(data.dtype)


def _mean(_: Node, *operands: Array) -> Array:
    total: Any = sum(x.astype(np.float64) for x in operands)
    return np.asarray(total / len(operands)).astype(_float(operands[0]).dtype)


def _prelu(_: Node, data: Array, slope: Array) -> Array:
    return np.where(data < 0, data * slope, data).astype(data.dtype)


def _shift(node: Node, data: Array, amount: Array) -> Array:
    return np.asarray(np.left_shift(data, amount) if node.attributes["direction"] == "LEFT" else np.right_shift(data, amount))


def _float(data: Array) -> Array:
    """The array, which must be of floats."""
    if data.dtype.kind != "f":
        raise TypeError("runtimes differ where integers are divided")
    return data


def _norm(function: Callable[[Array], Any]) -> Callable[..., Any]:
    """A reduction that sums a function of each element, of floats alone."""
    return lambda x, **how: np.sum(function(_float(x).astype(np.float64)), **how)


def _along(node: Node, data: Array, given: Array) -> Array:
    """Scales or zero points so that they broadcast with data: one for all, for each place of an axis, or for each block."""
    if given.size == 1:
        return given.reshape([1] * data.ndim)
    axis = node.attr("axis", 1)
    if size := node.attributes.get("block_size", 0):
        return np.repeat(given, size, axis)[tuple(map(slice, data.shape))]
    return given.reshape([-1 if i == axis % data.ndim else 1 for i in range(data.ndim)])


def _dequantized(node: Node, data: Array, scale: Array, zero: Array | None = None) -> Array:
    steps = data.astype(np.int32) if zero is None else data.astype(np.int32) - _along(node, data, zero.astype(np.int32))
    return np.asarray(steps.astype(_float(scale).dtype) * _along(node, data, scale))


def _quantized(node: Node, data: Array, scale: Array, zero: Array) -> Array:
    info = np.iinfo(zero.dtype)
    steps = np.rint(data / _along(node, data, scale)) + _along(node, data, zero)
    return np.asarray(np.clip(steps, info.min, info.max).astype(zero.dtype))


OPERATORS: Handlers[Callable[..., Any]] = Handlers(
    {"unary": _unary},
    {
        "Add": _elementwise(np.add), "Sub": _elementwise(np.subtract), "Mul": _elementwise(np.multiply), "Div": _div,
        "Mod": _mod, "Pow": lambda _, a, b: np.power(a, b).astype(a.dtype), "Clip": _clip, "Cast": _cast,
        "Min": _variadic(np.minimum), "Max": _variadic(np.maximum), "Sum": _variadic(np.add), "Mean": _mean, "PRelu": _prelu,
        "And": _elementwise(np.logical_and), "Or": _elementwise(np.logical_or), "Xor": _elementwise(np.logical_xor),
        "BitwiseAnd": _elementwise(np.bitwise_and), "BitwiseOr": _elementwise(np.bitwise_or),
        "BitwiseXor": _elementwise(np.bitwise_xor), "BitShift": _shift, "Equal": _elementwise(np.equal),
        "Less": _elementwise(np.less), "Greater": _elementwise(np.greater), "LessOrEqual": _elementwise(np.less_equal),
        "GreaterOrEqual": _elementwise(np.greater_equal), "Where": _elementwise(np.where), "Identity": _elementwise(lambda x: x),
        "Concat": lambda node, *x: np.concatenate(x, node.attributes["axis"]),
        "Gather": lambda node, data, index: np.take(data, index, node.attr("axis", 0)),
        "GatherND": _gather_nd, "Slice": _slice, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze, "Reshape": _reshape,
        "Split": _split, "Transpose": lambda node, data: np.transpose(data, node.attributes.get("perm")),
        "Flatten": lambda node, x: x.reshape(int(np.prod(x.shape[: node.attr("axis", 1)])), -1),
        "Range": _range, "ConstantOfShape": _constant_of_shape, "Expand": _expand, "Pad": _pad,
        "Tile": lambda _, x, repeats: np.tile(x, repeats.tolist()),
        "ReduceProd": _reduce(np.prod), "ReduceSum": _reduce(np.sum), "ReduceMax": _reduce(np.max), "ReduceMin": _reduce(np.min),
        "ReduceMean": _reduce(lambda x, **how: np.mean(_float(x).astype(np.float64), **how)), "ReduceL1": _reduce(_norm(np.abs)),
        "ReduceL2": _reduce(lambda x, **how: np.sqrt(_norm(np.square)(x, **how))), "ReduceSumSquare": _reduce(_norm(np.square)),
        "Size": lambda _, x: np.asarray(x.size, np.int64), "Shape": lambda node, x: shape_slice(node, x.shape),
        "NonZero": lambda _, x: np.asarray(np.nonzero(x), np.int64),
        "DequantizeLinear": _dequantized, "QuantizeLinear": _quantized,
    },
    {
        "CastLike BitCast": "no exporter writes them in front of shapes or weights",
        "ArgMax ArgMin ReduceLogSum ReduceLogSumExp": "no exporter writes them in front of shapes or weights",
        "CenterCropPad Col2Im DepthToSpace SpaceToDepth GatherElements ReverseSequence Scatter ScatterElements ScatterND"
        " TensorScatter Trilu": "they move maps and tokens, and are not in front of shapes or weights",
        "Dropout": "at inference it is skipped, and in training it is random",
    },
    covers=("broadcasting", "reduction", "view", "identity", "data mover", "query"),
)  # fmt: skip


def shape_slice(node: Node, dims: Sequence[int]) -> Array:
    """What a Shape node gives for a tensor of these extents."""
    return np.asarray(dims[node.attr("start", 0) : node.attributes.get("end")], np.int64)
