"""Run a program in an arithmetic. What is known without the inputs, shapes above all, is computed as it is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from npu_guard.analysis.evaluate import OPERATORS
from npu_guard.analysis.size import bound
from npu_guard.base.text import short
from npu_guard.proof.arithmetic import MOST_ELEMENTS, Arithmetic
from npu_guard.proof.fields import Fields
from npu_guard.proof.modular import Array
from npu_guard.proof.program import Call, Program
from npu_guard.proof.readings import (
    activations,
    elementwise,
    layers,
    moves,
    products,
    quantized,
    recurrence,
    resize,
    whole,
    windows,
)
from npu_guard.proof.readings.table import READINGS, ints, reading
from npu_guard.proof.tensor import Operand, Tensor, Unsupported

MODULES = (activations, elementwise, layers, moves, products, quantized, recurrence, resize, whole, windows)
"""Where readings are: importing them fills the table."""
FOLDED: Mapping[str, Callable[..., Any]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Neg": np.negative, "Sqrt": np.sqrt,
    "Reciprocal": np.reciprocal, "Abs": np.abs, "Pow": lambda a, b: np.power(a, b).astype(a.dtype),
}  # fmt: skip
"""Operators on floats that runtimes compute before anything runs. Their results are rounded, as those of a rewrite are that
does the same: exactly computed, they would be another number than the stored one."""
COMPUTED = "constants that the graph computes are the floats that they come out as"
_OWN = frozenset({"Constant", "ConstantOfShape", "Shape", "Size", "Cast", "Identity", "Dropout", "Einsum", "MatMul", "Gemm"})
_FAILURES = (ArithmeticError, LookupError, ValueError, TypeError, AttributeError, AssertionError)


@reading("Constant")
def _constant(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    name, value = next(iter(call.attributes.items()), ("", None))
    if name not in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        raise Unsupported("a constant that is no number")
    if name != "value":
        value = np.asarray(value, np.float32 if "float" in name else np.int64)
    return _known(a, np.asarray(value))


@reading("ConstantOfShape")
def _filled(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    shape, value = ints(x[0]), call.attr("value", np.zeros(1, np.float32))
    a.budget.spend(0, math.prod(shape))
    return _known(a, np.full(shape, value.reshape(-1)[0]))


@reading("Shape")
def _shape(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    assert x[0] is not None
    return np.asarray(x[0].shape[call.attr("start", 0) : call.attributes.get("end")], np.int64)


@reading("Size")
def _size(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    assert x[0] is not None
    return np.asarray(math.prod(x[0].shape), np.int64)


def _known(a: Arithmetic, array: Array) -> Operand:
    return a.constant(array) if array.dtype.kind == "f" else array


def run(a: Arithmetic, program: Program, feeds: Mapping[str, Operand]) -> list[Operand]:
    """The outputs. Raises Unsupported where an operator has no reading here."""
    values: dict[str, Operand] = {"": None}
    for name, array in program.constants.items():
        exact = program.given.get(name)
        values[name] = a.stated(exact, array) if exact is not None and isinstance(a, Fields) else _known(a, array)
    values.update(feeds)
    reads = Counter(name for call in program.calls for name in call.inputs)
    reads.update(program.outputs)
    for call in program.calls:
        if unknown := [name for name in call.inputs if name not in values]:  # what a block asks of a tensor around it: its shape
            raise Unsupported(f"{call.op_type} reads {unknown[0]!r}, of which nothing is known here")
        with np.errstate(all="ignore"):
            outputs = _perform(a, call, [values[name] for name in call.inputs])
        values.update(zip(call.outputs, outputs, strict=False))
        values[""] = None
        for name in call.inputs:
            reads[name] -= 1
            if not reads[name] and name:
                del values[name]
    return [values[name] for name in program.outputs]


def _perform(a: Arithmetic, call: Call, x: Sequence[Operand]) -> list[Operand]:
    """One operator. What it cannot do with its operands is a reason, not a crash: models come from strangers."""
    perform = READINGS.get(call.op_type)
    try:
        if call.domain:
            raise Unsupported(f"the domain {call.domain}")
        known = all(v is None or isinstance(v, np.ndarray) for v in x)
        if known and x and call.op_type not in _OWN:
            return _as_is(a, call, [v for v in x if not isinstance(v, Tensor)])
        if call.op_type in FOLDED and _constants(x):
            a.assumptions.add(COMPUTED)
            return [a.constant(np.asarray(FOLDED[call.op_type](*(v.number for v in x if isinstance(v, Tensor)))))]
        if perform is None:
            raise Unsupported("it has no reading here")
        outputs = perform(a, call, x)
    except Unsupported as error:
        raise Unsupported(f"{short(call.op_type)}: {error.reason}") from None
    except _FAILURES as error:
        raise Unsupported(f"{short(call.op_type)}: it cannot be read ({error})") from None
    return outputs if isinstance(outputs, list) else [outputs]


def _constants(x: Sequence[Operand]) -> bool:
    return bool(x) and all(isinstance(v, Tensor) and v.number is not None and v.lowest is None for v in x)


def _as_is(a: Arithmetic, call: Call, x: Sequence[Array | None]) -> list[Operand]:
    operator: Any = OPERATORS.get(call.op_type)
    if operator is None:
        raise Unsupported("of whole numbers that are known, it has no reading here")
    if bound(call, x) > MOST_ELEMENTS:
        raise Unsupported("its result is too large")
    results = operator(call, *x)
    results = results if isinstance(results, list) else [results]
    return [_known(a, np.asarray(r)) for r in results]
