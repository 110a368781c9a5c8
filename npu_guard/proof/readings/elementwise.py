"""Arithmetic, comparisons and casts, element by element."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import onnx

from npu_guard.proof.arithmetic import Arithmetic
from npu_guard.proof.program import Call
from npu_guard.proof.readings.table import LOWEST, READINGS, at, parameter, reading, scalar
from npu_guard.proof.tensor import Operand, Tensor, Unsupported

MOST_POWER = 64
DOUBLE = "numbers of float64 that are cast to float32 are floats already"
_T = onnx.TensorProto


def _whole(x: Operand) -> bool:
    return isinstance(x, np.ndarray) or (x is not None and x.kind == "i")


READINGS["Add"] = lambda a, call, x: a.add(x[0], x[1])
READINGS["Sub"] = lambda a, call, x: a.subtract(x[0], x[1])
READINGS["Mul"] = lambda a, call, x: a.multiply(x[0], x[1])
READINGS["Neg"] = lambda a, call, x: a.negative(x[0])
READINGS["Reciprocal"] = lambda a, call, x: a.invert(x[0])
READINGS["Identity"] = lambda a, call, x: x[0]
READINGS["Abs"] = lambda a, call, x: a.absolute(x[0])


@reading("Div")
def _divide(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    if _whole(x[0]) and _whole(x[1]):  # of whole numbers, the quotient is cut
        return replace(a.function("whole quotient", a.lift(x[0]), a.lift(x[1])), kind="i")
    return a.divide(x[0], x[1])


@reading("Mod")
def _modulo(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    return replace(a.function(f"remainder {call.attr('fmod', 0)}", a.lift(x[0]), a.lift(x[1])), kind=a.lift(x[0]).kind)


READINGS["Sqrt"] = lambda a, call, x: a.root(x[0])
_KNOWN = {"Log": ((1, Fraction(0)),), "Floor": ((0, Fraction(0)),), "Ceil": ((0, Fraction(0)),), "Cos": ((0, Fraction(1)),)}
_ODD = ("Sin", "Tan", "Asin", "Atan", "Sinh", "Asinh", "Atanh", "Erf", "Round", "Sign")


@reading("Log", "Floor", "Ceil", "Cos", "Acos", "Cosh", "Acosh", *_ODD)
def _function(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    name, given = call.op_type.lower(), a.lift(x[0])
    return a.function(name, given, odd=True) if call.op_type in _ODD else a.function(
        name, given, values=_KNOWN.get(call.op_type, ())
    )  # fmt: skip


@reading("Pow")
def _power(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    return power(a, a.lift(x[0]), x[1])


def power(a: Arithmetic, base: Tensor, exponent: Operand) -> Tensor:
    """A product for a small whole number, roots for a half, else a function of both."""
    try:
        e = scalar(exponent)
    except Unsupported:
        return a.function("power", base, a.lift(exponent))
    if e in (0.5, -0.5):
        found = a.root(base)
        return found if e > 0 else a.invert(found)
    if e != int(e) or abs(e) > MOST_POWER:
        return a.function("power", base, a.lift(exponent))
    if e == 0:
        return a.add(a.multiply(base, a.number(0)), a.number(1))
    result = base
    for _ in range(int(abs(e)) - 1):
        result = a.multiply(result, base)
    return result if e > 0 else a.invert(result)


@reading("Sum", "Max", "Min", "Mean")
def _several(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    join = {"Sum": a.add, "Mean": a.add, "Max": a.maximum, "Min": a.minimum}[call.op_type]
    result = a.lift(x[0])
    for other in x[1:]:
        result = join(result, other)
    return a.multiply(result, a.number(Fraction(1, len(x)))) if call.op_type == "Mean" else result


@reading("Clip")
def _clip(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    sides: list[Tensor | None] = []
    for index, name, far in ((1, "min", -1), (2, "max", 1)):
        given = at(x, index)
        side = a.lift(given) if given is not None else None
        if side is None and name in call.attributes:
            side = parameter(a, call, name, 0.0)
        if side is not None and side.number is not None and far * scalar(side) > -LOWEST:
            side = None  # no float is beyond it
        sides.append(side)
    return a.clip(x[0], *sides)


def _above(a: Arithmetic, left: Operand, right: Operand) -> Tensor:
    """1 where left > right: a function of the difference."""
    return replace(a.function("step", a.subtract(left, right), values=((0, Fraction(0)),)), kind="b")


@reading("Greater", "Less", "GreaterOrEqual", "LessOrEqual")
def _compare(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    left, right = x if call.op_type.startswith("Greater") else (x[1], x[0])
    if call.op_type.endswith("OrEqual"):
        return replace(a.subtract(a.number(1), _above(a, right, left)), kind="b")
    return _above(a, left, right)


@reading("Equal")
def _equal(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    """What differs as a formula may be equal for some inputs, so it is not false but unknown."""
    return replace(a.even("equal", a.subtract(x[0], x[1]), 1), kind="b")


@reading("Not")
def _not(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    return replace(a.subtract(a.number(1), x[0]), kind="b")


@reading("And", "Or", "Xor")
def _logic(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    both = a.multiply(x[0], x[1])
    if call.op_type == "And":
        return replace(both, kind="b")
    twice = both if call.op_type == "Or" else a.add(both, both)
    return replace(a.subtract(a.add(x[0], x[1]), twice), kind="b")


@reading("Where")
def _where(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    return a.choose(x[0], x[1], x[2])


@reading("IsNaN", "IsInf")
def _finite(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    """Real numbers are neither."""
    return np.zeros(a.lift(x[0]).shape, bool)


@reading("Cast", "CastLike")
def _cast(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    if "to" not in call.attributes:
        raise Unsupported("a type that another tensor gives")
    to, value = call.attributes["to"], x[0]
    target = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(to))
    if isinstance(value, np.ndarray):
        return a.constant(value.astype(target)) if target.kind == "f" else value.astype(target)
    given = a.lift(value)
    if target.kind == "b":
        return given if given.kind == "b" else replace(a.subtract(a.number(1), a.even("equal", given, 1)), kind="b")
    if target.kind in "iu":
        exact = given.kind == "b" or (given.kind == "i" and to == _T.INT64)
        return replace(given if exact else a.function(f"cast to {to}", given), kind="i")
    if given.number is not None and target.kind == "f":
        return a.constant(given.number.astype(target))
    if to not in (_T.FLOAT, _T.DOUBLE) or (to == _T.FLOAT and a.double and given.kind == "f"):
        return a.function(f"cast to {to}", given)  # rounded, and both models have to round the same number
    if to == _T.DOUBLE:
        a.assumptions.add(DOUBLE)
    return replace(given, kind="f")


@reading("QuantizeLinear")
def _quantize(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    """A function of the number, the step and the zero point."""
    given = a.lift(x[0])
    step, zero = _along(a, call, x, given.ndim)
    offset = a.number(0) if zero is None else zero
    return replace(a.function(f"quantize to {_kind(call, x)}", given, step, offset), kind="i")


def _kind(call: Call, x: Sequence[Operand]) -> str:
    zero = at(x, 2)
    return str(zero.dtype) if isinstance(zero, np.ndarray) else str(call.attr("output_dtype", 0))


@reading("DequantizeLinear")
def _dequantize(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    given = a.lift(x[0])
    step, zero = _along(a, call, x, given.ndim)
    return replace(a.multiply(given if zero is None else a.subtract(given, zero), step), kind="f")


def _along(a: Arithmetic, call: Call, x: Sequence[Operand], ndim: int) -> tuple[Tensor, Tensor | None]:
    """Step and zero point, shaped to go along the axis that they are for."""
    if call.attr("block_size", 0):
        raise Unsupported("quantization in blocks")
    axis = call.attr("axis", 1)

    def shaped(value: Operand) -> Tensor:
        tensor = a.lift(value)
        if tensor.ndim != 1 or tensor.shape[0] == 1:
            return tensor.map(lambda v: v.reshape(()))
        return tensor.map(lambda v: v.reshape([-1 if i == axis % ndim else 1 for i in range(ndim)]))

    return shaped(x[1]), None if at(x, 2) is None else shaped(x[2])
