"""Operators on each element, by broadcasting, on tensors that lie in maps."""

from __future__ import annotations

import math

import numpy as np
from msgspec.structs import replace

from npu_guard.base.text import short
from npu_guard.graph.graph import Node, Value
from npu_guard.rewriting.maps.algebra import Made, both, fixed
from npu_guard.rewriting.maps.choices import chosen
from npu_guard.rewriting.maps.program import Constant, Given, shape_of
from npu_guard.rewriting.maps.softmax import where_it_is_taken
from npu_guard.rewriting.maps.step import Step
from npu_guard.rewriting.maps.tensors import Laid
from npu_guard.rewriting.maps.written import masking, numpy_type
from npu_guard.rewriting.substitution import Array, Builder, Refused
from npu_guard.rewriting.views import size

FOLDED = {"Sum": "Add", "Max": "Max", "Min": "Min"}
"""Operators on any number of operands, as ones on two."""


def unary(step: Step) -> list[Laid]:
    """One operand; others are numbers that stay. Raises Refused."""
    x, node = step.tensor(), step.node
    for value in node.inputs[1:]:
        if value is not None and (not step.ctx.is_constant(value) or math.prod(shape_of(value)) != 1):
            raise Refused(f"{node.op} with {short(value.name)!r}, which is not a number")
    name = step.maps.program.op(
        node.op_type, shape_of(x.name), x.name, *node.inputs[1:], dtype=node.output.dtype, **step.attributes
    )
    return [replace(x, name=name)]


def binary(step: Step) -> list[Laid]:
    """Two operands, one of which may be a constant, or any number of them for a sum or maximum. Raises Refused."""
    node, op_type = step.node, FOLDED.get(step.node.op_type, step.node.op_type)
    if op_type == "Pow" and step.scalar(node.input(1)) == 2.0:
        x = step.tensor()
        return [replace(x, name=step.maps.program.two("Mul", x.name, x.name))]
    operands = [(value, index) for index, value in enumerate(node.inputs) if value is not None]
    if len(operands) != 2 and node.op_type not in FOLDED:
        raise Refused(f"{node.op} of {len(operands)} operands")
    if node.op_type in FOLDED:  # any order will do: constants come last
        operands.sort(key=lambda operand: step.ctx.is_constant(operand[0]))
    dtype = node.output.dtype
    (first, index), *others = operands
    if step.ctx.is_constant(first):
        return [_with_constant(step, op_type, step.tensor(1), first, left=True)]
    x = step.tensor(index)
    for value, index in others:
        if step.ctx.is_constant(value):
            x = _with_constant(step, op_type, x, value, left=False)
        else:
            x = both(step.maps, op_type, x, step.tensor(index), dtype)
    return [x]


def _with_constant(step: Step, op_type: str, x: Laid, value: Value, *, left: bool) -> Laid:
    x, operand = step.beside(x, value)
    program = step.maps.program
    if op_type == "Add" and isinstance(operand, Constant) and (name := _biased(step, x, operand)) is not None:
        return replace(x, name=name)
    assert operand is not None
    shape = np.broadcast_shapes(shape_of(x.name), shape_of(operand))
    pair = (operand, x.name) if left else (x.name, operand)
    return replace(x, name=program.op(op_type, shape, *pair, dtype=step.node.output.dtype))


def _biased(step: Step, x: Laid, operand: Constant) -> Given | None:
    """A number for each channel, added to a convolution that nobody else reads."""
    source = next(v for v in step.node.inputs if v is not None and not step.ctx.is_constant(v))
    channels = size(x.stored[1])
    if operand.shape != (1, channels, 1, 1) or source.only_consumer is None:
        return None
    vector = Constant((channels,), lambda build: operand.make(build).reshape(-1), operand.dtype)
    return step.maps.program.biased(x.name, vector)


def where(step: Step) -> list[Laid]:
    """A choice by a constant mask between a tensor and a constant: the tensor, held to that number where the mask says so.

    `max(min(x, high), low)` with `high = low = c` where c is wanted, and with infinite bounds elsewhere: exact for every x that
    is a number, finite or not, where a product with the mask would make NaN of what is infinite. A choice by a computed
    condition stays one, of maps. Raises Refused.
    """
    node = step.node
    condition, yes, no = (node.input(i) for i in range(3))
    assert condition is not None
    if (x := _not_a_number(step)) is not None:
        return [x]
    if not step.ctx.is_constant(condition):
        return [chosen(step)]
    kept = next((i for i in (1, 2) if step.constant(i) is None), None)
    other = yes if kept == 2 else no
    if kept is None or other is None or not step.ctx.is_constant(other):
        raise Refused("Where chooses between two computed tensors")
    x, dtype = step.tensor(kept), numpy_type(node.output.dtype)
    if not math.isfinite(step.scalar(other) or 0.0):
        x = where_it_is_taken(step, x)
    shape = np.broadcast_shapes(shape_of(condition), shape_of(other))
    mask, number = step.read(condition), step.read(other)

    def bound(infinite: float) -> Made:
        def make(build: Builder) -> Array:
            chosen = np.asarray(mask(build), np.bool_) == (kept == 2)
            return np.broadcast_to(np.where(chosen, number(build), dtype.type(infinite)), shape).astype(dtype)

        return make

    x, high = fixed(step.maps, x, shape, bound(math.inf), node.output.dtype)
    x, low = fixed(step.maps, x, shape, bound(-math.inf), node.output.dtype)
    name = step.maps.program.two("Min", x.name, high)
    return [replace(x, name=step.maps.program.two("Max", name, low))]


def _not_a_number(step: Step) -> Laid | None:
    """`Where(IsNaN(p), 0, p)` behind a softmax of scores and a constant mask, as exporters write attention with a mask.

    A row that the mask forbids wholly is NaN in the softmax and 0 behind the Where. The mask is added as a large negative number
    instead, whose softmax is a number, and what is allowed nowhere is multiplied by 0.
    """
    node = step.node
    asked = node.inputs[0].producer if node.inputs[0] is not None else None
    if asked is None or asked.op_type != "IsNaN" or step.scalar(node.input(1)) != 0.0 or node.input(2) is not asked.inputs[0]:
        return None
    attention = node.input(2)
    maker = attention.producer if attention is not None else None
    if attention is None or maker is None or maker.op_type != "Softmax" or maker.inputs[0] is None:
        raise Refused("Where asks whether something is not a number")
    adder = maker.inputs[0].producer
    mask = masks(step, adder)
    x = step.tensor(2)
    if mask is None:
        return x  # the softmax of numbers is a number
    shape, read = shape_of(mask), step.read(mask)
    axis = maker.attr("axis", -1) % len(x.axes) - len(x.axes)
    if -axis > len(shape):
        return x

    def allowed(build: Builder) -> Array:
        return np.asarray(read(build).max(axis=axis, keepdims=True) > -np.inf, numpy_type(node.output.dtype))

    dims = list(shape)
    dims[axis] = 1
    x, factor = fixed(step.maps, x, tuple(dims), allowed, node.output.dtype)
    return replace(x, name=step.maps.program.two("Mul", x.name, factor))


def masks(step: Step, adder: Node | None) -> Value | None:
    """The constant that an Add puts on computed scores."""
    if adder is None or adder.op_type != "Add":
        return None
    return next((v for v in adder.inputs if v is not None and step.ctx.is_constant(v) and math.prod(shape_of(v)) > 1), None)


def masked(step: Step) -> list[Laid]:
    """Add; a mask that a NaN is looked for behind is at least a large negative number."""
    mask = masks(step, step.node)
    reader = step.ctx.analysis.readers(step.node.output)
    softmax = reader[0] if len(reader) == 1 and reader[0].op_type == "Softmax" else None
    if mask is None or softmax is None or not any(r.op_type == "IsNaN" for r in softmax.output.consumers):
        return binary(step)
    x = step.tensor(next(i for i, v in enumerate(step.node.inputs) if v is not mask))
    kind, read = numpy_type(mask.dtype), step.read(mask)

    def floored(build: Builder) -> Array:
        return np.asarray(np.maximum(read(build), masking(kind)), kind)

    x, operand = fixed(step.maps, x, shape_of(mask), floored, mask.dtype)
    return [replace(x, name=step.maps.program.two("Add", x.name, operand))]


def asks_nan(step: Step) -> list[Laid]:
    """IsNaN behind a softmax, which the Where that reads it answers. Raises Refused."""
    readers = step.node.output.consumers
    if step.node.output.is_output or any(r.op_type != "Where" or r.inputs[0] is not step.node.output for r in readers):
        raise Refused("IsNaN is read by what is no choice")
    return [step.tensor()]


def batch_normalization(step: Step) -> list[Laid]:
    """A factor and a summand for each channel. Raises Refused."""
    x, node = step.tensor(), step.node
    values = [step.constant(i) for i in range(1, 5)]
    if None in values or node.attr("training_mode", 0) or len(x.axes) < 2:
        raise Refused("BatchNormalization in training, or with computed statistics")
    scale, bias, mean, variance = (step.read(v) for v in values if v is not None)
    epsilon = node.attr("epsilon", 1e-5)
    shape = (x.shape[1], *(1,) * (len(x.axes) - 2))
    kind = numpy_type(node.output.dtype)

    def factor(build: Builder) -> Array:
        return np.asarray(scale(build) / np.sqrt(variance(build).astype(np.float64) + epsilon), kind)

    def summand(build: Builder) -> Array:
        factors = scale(build) / np.sqrt(variance(build).astype(np.float64) + epsilon)
        return np.asarray(bias(build) - mean(build) * factors, kind)

    for op_type, make in (("Mul", factor), ("Add", summand)):
        x, operand = fixed(step.maps, x, shape, make, node.output.dtype)
        x = replace(x, name=step.maps.program.two(op_type, x.name, operand))
    return [x]
