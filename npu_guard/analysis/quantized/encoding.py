"""How a tensor is held as integers, and which operands of an operator in integer arithmetic are held how.

A real number is `scale * (integer - zero point)`. Source: QuantizeLinear and DequantizeLinear in ONNX's operator documents.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct

from npu_guard.graph.ops import find_operator

if TYPE_CHECKING:
    from npu_guard.analysis.constants import Array
    from npu_guard.graph.graph import Node, Value

INT32, UINT4, UINT8 = 6, 21, 2
_DOMAINS = ("", "com.microsoft")


class Encoding(Struct, frozen=True, eq=False):
    """Type, scale and zero point of the integers of one tensor, and the node that states them."""

    dtype: int
    """onnx.TensorProto.DataType of the integers (or the floating-point numbers of 8 bits)."""
    scale: Value | None
    """None where no operand states one: of a ConvInteger, whose result is scaled later."""
    zero: Value | None
    """None stands for 0."""
    axis: int | None
    """Axis along which each place has a scale of its own; None where the tensor has one."""
    block: int
    """Elements that share a scale along the axis, 0 where there are no blocks."""
    node: Node
    dynamic: bool = False
    """Whether the scale is computed at run time."""

    @property
    def granularity(self) -> str:
        """`tensor`, `channel` or `block`: what has a scale of its own."""
        return "block" if self.block else "tensor" if self.axis is None else "channel"


class Operand(Struct, frozen=True, eq=False):
    """One tensor that an operator reads: as the graph has it, and how it is held."""

    value: Value
    """What the operator reads; behind a DequantizeLinear, its result."""
    role: str
    """`data`, `weight` or `bias`."""
    encoding: Encoding | None
    """None where it is in floating point."""


def whole(zero: Array) -> Array:
    """Zero points in a row as int64; in floating point where one of them is no whole number."""
    numbers = zero.reshape(-1).astype(np.float64) if zero.size else np.zeros(1)
    return numbers.astype(np.int64) if np.isfinite(numbers).all() and (numbers == np.rint(numbers)).all() else numbers


def quantizes(node: Node) -> bool:
    """Whether the node makes integers of numbers, by a scale that it is given or by one that it computes."""
    return node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear") and node.domain in _DOMAINS


def dequantizes(node: Node) -> bool:
    """Whether the node makes numbers of integers."""
    return node.op_type == "DequantizeLinear" and node.domain in _DOMAINS


def computes_integers(node: Node) -> bool:
    """Whether the node is an operator in integer arithmetic, such as QLinearConv, MatMulInteger or MatMulNBits."""
    return _computes_integers(node.op_type, node.domain)


def is_about_integers(op_type: str, domain: str) -> bool:
    """Whether a node of the operator quantizes, takes that back, or computes with integers."""
    quantization = op_type in ("QuantizeLinear", "DynamicQuantizeLinear", "DequantizeLinear") and domain in _DOMAINS
    return quantization or _computes_integers(op_type, domain)


@functools.lru_cache(1024)
def _computes_integers(op_type: str, domain: str) -> bool:
    operator = find_operator(op_type, domain)
    roles = {formal.role for formal in operator.inputs}
    return operator.kind != "quantization" and bool(roles & {"scale", "zero_point", "output_scale"})


def stated(node: Node, tensor: Value, *, dynamic: bool) -> Encoding:
    """What a QuantizeLinear or DequantizeLinear says of the integers at its side.

    From opset 13 on there may be an axis and from 21 on blocks; a scale of one element is that of the whole tensor.
    """
    scale, zero = node.input(1), node.input(2)
    whole = scale is None or scale.shape is None or all(extent == 1 for extent in scale.shape)
    rank = len(tensor.shape) if tensor.shape is not None else 0
    axis = None if whole else node.attr("axis", 1)
    if axis is not None and axis < 0 and rank:
        axis += rank
    return Encoding(tensor.dtype, scale, zero, axis, 0 if whole else int(node.attr("block_size", 0) or 0), node, dynamic)


def operands(node: Node) -> list[tuple[Value, str, Encoding | None]]:
    """The tensors that an operator in integer arithmetic reads, each with its role and with its scale and zero point.

    Scales and zero points belong to the tensors in order; where there are fewer of them, to the last ones, as the first are in
    floating point (MatMulNBits, DynamicQuantizeMatMul). Source: docs/ContribOperators.md of onnxruntime.
    """
    operator = node.operator
    by_role: dict[str, list[Value | None]] = {"tensor": [], "scale": [], "zero_point": []}
    roles: list[str] = []
    biases: list[Value] = []
    for index, value in enumerate(node.inputs):
        role = operator.role(index)
        if role in ("data", "weight"):
            by_role["tensor"].append(value)
            roles.append(role)
        elif role in ("scale", "zero_point"):
            by_role[role].append(value)
        elif role == "bias" and value is not None:
            biases.append(value)
    found: list[tuple[Value, str, Encoding | None]] = []
    tensors = by_role["tensor"]
    counts = {name: sum(formal.role == name for formal in operator.inputs) for name in ("scale", "zero_point")}
    formal = sum(f.role in ("data", "weight") for f in operator.inputs)
    for place, value in enumerate(tensors):
        if value is None:
            continue
        scale, has_scale = _at(by_role["scale"], place - max(0, formal - counts["scale"]))
        zero, has_zero = _at(by_role["zero_point"], place - max(0, formal - counts["zero_point"]))
        held = has_scale or has_zero or (counts["scale"] == 0 and place < len(tensors))
        encoding = _held(node, value, roles[place], scale, zero) if held and _is_integer(value) else None
        found.append((value, roles[place], encoding))
    found += [(bias, "bias", Encoding(INT32, None, None, None, 0, node) if _is_integer(bias) else None) for bias in biases]
    return found


def _at(values: list[Value | None], place: int) -> tuple[Value | None, bool]:
    inside = 0 <= place < len(values)
    return (values[place] if inside else None), inside


def is_float(value: Value) -> bool:
    """Whether a tensor has numbers in floating point, or a type that nothing tells."""
    return not value.dtype or not _is_integer(value)


def _is_integer(value: Value) -> bool:
    return value.dtype not in (1, 10, 11, 16)


def _held(node: Node, value: Value, role: str, scale: Value | None, zero: Value | None) -> Encoding:
    if node.op_type in ("MatMulNBits", "GatherBlockQuantized"):
        dtype = UINT4 if node.attr("bits", 4) == 4 else UINT8
        return Encoding(dtype, scale, zero, 1, int(node.attr("block_size", 0) or 0), node)
    whole = all(v is None or v.shape is None or all(extent == 1 for extent in v.shape) for v in (scale, zero))
    axis = None if whole else _channel_axis(node, value) if role == "weight" else 1
    return Encoding(value.dtype, scale, zero, axis, 0, node)


def _channel_axis(node: Node, weight: Value) -> int:
    """The axis of a weight along which its scales run: output channels of a convolution, columns of a product."""
    if node.kind == "convolution":
        return 0
    rank = len(weight.shape) if weight.shape is not None else 2
    return 0 if node.attr("transB", 0) else rank - 1


def result(node: Node) -> Encoding | None:
    """How the result of an operator in integer arithmetic is held; None where that is in floating point.

    The result of ConvInteger and MatMulInteger is a sum in int32, which the operators behind it scale.
    """
    scale, zero = node.role("output_scale"), node.role("output_zero_point")
    if not node.outputs or node.outputs[0] is None or not _is_integer(node.output):
        return None
    return Encoding(node.output.dtype, scale, zero, None, 0, node)
