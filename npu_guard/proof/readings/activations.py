"""Activations: as ONNX defines them by simpler functions (ONNX, operator documents)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from npu_guard.proof.arithmetic import Arithmetic
from npu_guard.proof.exact import CUBIC, ROOT_OF_2_OVER_PI, Exact
from npu_guard.proof.program import Call
from npu_guard.proof.readings.table import READINGS, parameter, reading
from npu_guard.proof.tensor import Operand, Tensor

HALF = Fraction(1, 2)

READINGS["Relu"] = lambda a, call, x: a.relu(x[0])
READINGS["Exp"] = lambda a, call, x: a.exp(a.lift(x[0]))
READINGS["Sigmoid"] = lambda a, call, x: sigmoid(a, a.lift(x[0]))
READINGS["Tanh"] = lambda a, call, x: tanh(a, a.lift(x[0]))


def sigmoid(a: Arithmetic, x: Tensor) -> Tensor:
    """Rational in the exponential where that is interpreted, else a function with its value at 0."""
    return a.sigmoid(x) if a.log_moduli else a.function("sigmoid", x, values=((0, HALF),))


def tanh(a: Arithmetic, x: Tensor) -> Tensor:
    """Likewise; odd."""
    return a.tanh(x) if a.log_moduli else a.function("tanh", x, odd=True)


@reading("LeakyRelu", "PRelu", "ThresholdedRelu")
def _leaky(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    if call.op_type == "ThresholdedRelu":
        step = a.function("step", a.subtract(x[0], parameter(a, call, "alpha", 1.0)), values=((0, Fraction(0)),))
        return a.multiply(x[0], step)
    slope = parameter(a, call, "alpha", 0.01) if call.op_type == "LeakyRelu" else a.lift(x[1])
    above = a.relu(x[0])
    return a.add(above, a.multiply(a.subtract(x[0], above), slope))


@reading("Shrink")
def _shrink(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    """x less the bias above the threshold, x with the bias below the other one, and nothing between."""
    threshold, bias = parameter(a, call, "lambd", 0.5), parameter(a, call, "bias", 0.0)
    beyond = (a.subtract(x[0], threshold), a.subtract(a.subtract(a.number(0), threshold), x[0]))
    above, below = (a.function("step", v, values=((0, Fraction(0)),)) for v in beyond)
    otherwise = a.multiply(a.subtract(a.number(1), below), a.multiply(above, a.subtract(x[0], bias)))  # as ONNX has it
    return a.add(a.multiply(below, a.add(x[0], bias)), otherwise)


@reading("Elu", "Celu", "Selu")
def _elu(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    """gamma (max(x, 0) + alpha (exp(min(x, 0)) - 1)); for Celu of x over alpha."""
    default = 1.67326319217681884765625 if call.op_type == "Selu" else 1.0
    alpha = parameter(a, call, "alpha", default)
    below = a.minimum(x[0], a.number(0))
    curve = a.exp(a.divide(below, alpha) if call.op_type == "Celu" else below)
    result = a.add(a.relu(x[0]), a.multiply(alpha, a.subtract(curve, a.number(1))))
    return a.multiply(parameter(a, call, "gamma", 1.05070102214813232421875), result) if call.op_type == "Selu" else result


@reading("HardSigmoid")
def _hard_sigmoid(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    line = a.add(a.multiply(x[0], parameter(a, call, "alpha", 0.2)), parameter(a, call, "beta", 0.5))
    return a.clip(line, a.number(0), a.number(1))


@reading("HardSwish")
def _hard_swish(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    line = a.add(a.multiply(x[0], a.number(Fraction(1, 6))), a.number(HALF))
    return a.multiply(x[0], a.clip(line, a.number(0), a.number(1)))


@reading("Swish")
def _swish(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    return a.multiply(x[0], sigmoid(a, a.multiply(x[0], parameter(a, call, "alpha", 1.0))))


@reading("Mish")
def _mish(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    """x tanh(log(1 + e^x)) = x ((1 + e^x)^2 - 1) / ((1 + e^x)^2 + 1)."""
    one = a.number(1)
    grown = a.add(one, a.exp(a.lift(x[0])))
    square = a.multiply(grown, grown)
    return a.multiply(x[0], a.divide(a.subtract(square, one), a.add(square, one)))


@reading("Softplus")
def _softplus(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    return a.function("log", a.add(a.number(1), a.exp(a.lift(x[0]))), values=((1, Fraction(0)),))


@reading("Softsign")
def _softsign(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    return a.divide(x[0], a.add(a.number(1), a.absolute(x[0])))


@reading("Gelu")
def _gelu(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    given = a.lift(x[0])
    if call.attr("approximate", "none") == "tanh":
        cube = a.multiply(given, a.multiply(given, given))
        curve = tanh(a, a.multiply(a.exact(ROOT_OF_2_OVER_PI), a.add(given, a.multiply(a.number(CUBIC), cube))))
    else:
        curve = a.function("erf", a.multiply(given, a.exact(Exact.root(HALF))), odd=True)
    return a.multiply(a.multiply(a.number(HALF), given), a.add(a.number(1), curve))


@reading("Softmax", "LogSoftmax")
def _softmax(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    """Along one axis; before opset 13, over all from the axis on."""
    given = a.lift(x[0])
    shape = given.shape
    if call.opset < 13:
        axis = call.attr("axis", 1) % max(1, given.ndim)
        head = int(np.prod(shape[:axis], dtype=np.int64))
        result = softmax(a, given.map(lambda v: v.reshape(head, -1)), 1, log=call.op_type == "LogSoftmax")
        return result.map(lambda v: v.reshape(shape))
    return softmax(a, given, call.attr("axis", -1) % given.ndim, log=call.op_type == "LogSoftmax")


def softmax(a: Arithmetic, x: Tensor, axis: int, *, log: bool = False) -> Tensor:
    """exp(x) over its sum, or the logarithm of that."""
    powers = a.exp(x)
    total = a.total(powers, (axis,), True)
    if log:
        return a.subtract(x, a.function("log", total, values=((1, Fraction(0)),)))
    return a.divide(powers, total)
