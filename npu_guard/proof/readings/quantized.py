"""Operators in integer arithmetic: as the plain ones between what dequantizes and quantizes (ONNX, operator documents)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from npu_guard.proof.arithmetic import Arithmetic
from npu_guard.proof.program import Call
from npu_guard.proof.readings.table import READINGS, at, column, reading
from npu_guard.proof.tensor import Operand, Tensor, Unsupported


def _real(a: Arithmetic, x: Operand, step: Operand, zero: Operand, call: Call, axis: int = 1) -> Tensor:
    """The numbers that integers stand for."""
    dequantize = replace(call, op_type="DequantizeLinear", attributes={"axis": axis})
    return a.lift(_one(READINGS["DequantizeLinear"](a, dequantize, [x, step, zero])))


def _one(result: Operand | list[Operand]) -> Operand:
    return result[0] if isinstance(result, list) else result


def _quantized(a: Arithmetic, y: Operand, step: Operand, zero: Operand, call: Call) -> Operand:
    return _one(READINGS["QuantizeLinear"](a, replace(call, op_type="QuantizeLinear", attributes={}), [y, step, zero]))


@reading("QLinearConv")
def _convolution(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    """Of integers less their zero points; the bias is in steps of both scales."""
    given, weight = _real(a, x[0], x[1], x[2], call), _real(a, x[3], x[4], x[5], call, axis=0)
    y = a.lift(_one(READINGS["Conv"](a, replace(call, op_type="Conv"), [given, weight])))
    if (bias := at(x, 8)) is not None:
        step = a.multiply(a.lift(x[1]).map(lambda v: v.reshape(-1)), a.lift(x[4]).map(lambda v: v.reshape(-1)))
        y = a.add(y, column(a, a.multiply(bias, step), y.ndim))
    return _quantized(a, y, x[6], x[7], call)


@reading("QLinearMatMul")
def _product(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    if any(a.lift(v).parts[0].size > 1 for v in (x[1], x[4], x[6])):
        raise Unsupported("a scale for each row or column")
    left, right = _real(a, x[0], x[1], x[2], call), _real(a, x[3], x[4], x[5], call)
    y = _one(READINGS["MatMul"](a, replace(call, op_type="MatMul", attributes={}), [left, right]))
    return _quantized(a, y, x[6], x[7], call)


@reading("ConvInteger", "MatMulInteger")
def _integers(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    """Sums of products of integers less their zero points."""
    sides = []
    for i in (0, 1):
        side, zero = a.lift(x[i]), at(x, 2 + i)
        if zero is not None:
            behind = side.ndim - 1 if call.op_type == "ConvInteger" else 0  # one for each filter, or each column
            side = a.subtract(side, _offset(a, zero, behind, several=i == 1))
        sides.append(side)
    name = call.op_type.removesuffix("Integer")
    return replace(a.lift(_one(READINGS[name](a, replace(call, op_type=name), sides))), kind="i")


def _offset(a: Arithmetic, zero: Operand, behind: int, *, several: bool) -> Tensor:
    offset = a.lift(zero)
    if offset.parts[0].size == 1:
        return offset.map(lambda v: v.reshape(()))
    if not several or offset.ndim > 1:
        raise Unsupported("a zero point for each row")
    return offset.map(lambda v: v.reshape([-1, *[1] * behind]))
