"""What can be measured at any operator: extents, axes, inputs, attributes. Each function answers or raises Undecidable."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

from npu_guard.analysis.axes import coerced
from npu_guard.analysis.quantized.standing import type_of
from npu_guard.analysis.resize import scales
from npu_guard.base.errors import Undecidable
from npu_guard.device.measure import NOTHING, Measured, channels_in, extents, in_map_order, pads
from npu_guard.device.measure_integers import in_real_numbers
from npu_guard.graph.graph import is_known
from npu_guard.graph.ops import Operator, find_operator
from npu_guard.graph.plain import plain
from npu_guard.graph.plain_names import INTEGERS, PACKED, PLAIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from npu_guard.analysis.facts import Facts
    from npu_guard.graph.graph import Node, Value
    from npu_guard.results.findings import Dim


def batch(node: Node, ctx: Facts) -> Measured:
    """Axis 0 of the first input; the analysis takes one that is left open as 1."""
    return extents(ctx.map_dims(x := ctx.data(node))[:1], x, ctx)


def output_batch(node: Node, ctx: Facts) -> Measured:
    """Axis 0 of the output."""
    return extents(ctx.map_dims(node.output)[:1], node.output, ctx)


def reduce_size(node: Node, ctx: Facts) -> Measured:
    """Extents over which a reduction, normalisation or softmax runs; of a matrix product, the length of its sums."""
    if plain(node) in ("MatMul", "Gemm"):
        return channels_in(node, ctx)
    x = ctx.data(node)
    return extents([ctx.dims(x)[a] for a in _own_axes(node, ctx)], x, ctx)


def axes(node: Node, ctx: Facts) -> Measured:
    """Axes over which the operator works, counted from the front.

    Of Resize, Slice and Pad those that change; of LayerNormalization its axis and all behind it.
    """
    return _among_roles(ctx.data(node), _own_axes(node, ctx), ctx)


def _among_roles(x: Value, axes: Sequence[int], ctx: Facts) -> Measured:
    """Axes of a tensor as axes of the map that it came from."""
    places = sorted(ctx.map_axes(x, range(ctx.rank(x))))
    return Measured(tuple(sorted(ctx.map_axes(x, axes))), rank=len(ctx.map_dims(x)), places=tuple(places))


def _own_axes(node: Node, ctx: Facts) -> tuple[int, ...]:
    """`axes` of the tensor itself."""
    rank = ctx.rank(ctx.data(node))
    if node.op_type in ("Resize", "Upsample"):
        return tuple(i for i, s in enumerate(scales(node, ctx)) if s != 1)
    if node.op_type == "Pad":
        sides = pads(node, ctx).values
        named = node.input(3)
        order = [int(a) % rank for a in ctx.array(named).reshape(-1)] if named is not None else list(range(rank))
        half = len(sides) // 2
        return tuple(sorted(a for a, p, q in zip(order, sides[:half], sides[half:], strict=False) if p or q))
    if node.op_type == "Slice":
        before, after = ctx.shape(ctx.input(node, 0)), ctx.shape(node.output)
        return tuple(i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b)
    if coerced(node):  # an axis of extent 1 that the operator runs over as well changes nothing
        dims, along = ctx.dims(ctx.data(node)), ctx.axes(node)
        return tuple(axis for axis in along if dims[axis] != 1) or along[:1]
    operator = plain(node)
    if operator in _ONE_AXIS:
        found = node.attr("axis", _ONE_AXIS[operator]) % rank if rank else 0
        return tuple(range(found, rank)) if operator == "LayerNormalization" else (found,)
    return ctx.axes(node)


_ONE_AXIS = {
    "Concat": 0, "Split": 0, "Gather": 0, "GatherElements": 0, "ScatterElements": 0, "LayerNormalization": -1, "TopK": -1,
    "QuantizeLinear": 1, "DequantizeLinear": 1, "Softmax": -1, "LogSoftmax": -1, "ArgMax": 0, "ArgMin": 0, "Flatten": 1,
    "LpNormalization": -1,
}  # fmt: skip
"""Operators with one axis, and the default that holds where the schema states none."""


def parts(node: Node, ctx: Facts) -> Measured:
    """Extents of the outputs of Split along its axis."""
    axis = _own_axes(node, ctx)[0]
    return Measured(tuple(ctx.extent(v, axis) for v in node.outputs if v is not None))


def strided_axes(node: Node, ctx: Facts) -> Measured:
    """Axes along which Slice takes steps of 2 or more, counted from the front."""
    x = ctx.data(node)
    rank, steps = ctx.rank(x), node.input(4)
    if steps is None:
        return Measured((), rank=rank)
    sizes = [int(s) for s in ctx.array(steps).reshape(-1)]
    named = node.input(3)
    along = [int(a) % rank for a in ctx.array(named).reshape(-1)] if named is not None else list(range(len(sizes)))
    found = sorted(axis for axis, step in zip(along, sizes, strict=False) if step > 1)
    return _among_roles(x, found, ctx)


def kept(node: Node, ctx: Facts) -> Measured:
    """Extents behind a Slice of the axes that it cuts."""
    before, after = ctx.shape(ctx.data(node)), ctx.shape(node.output)
    return Measured(tuple(b for a, b in zip(before, after, strict=True) if a != b))


def inputs(node: Node, ctx: Facts) -> Measured:
    """Number of inputs that are not left out; of an operator in integer arithmetic, as the plain one counts them."""
    if node.op in INTEGERS:  # scales and zero points say how its operands are held
        return Measured((sum(v is not None and node.operator.role(i) in _OPERANDS for i, v in enumerate(node.inputs)),))
    return Measured((sum(v is not None for v in node.inputs),))


_OPERANDS = ("data", "weight", "bias", "condition")


def outputs(node: Node, ctx: Facts) -> Measured:
    """Number of outputs that somebody reads, the first among them."""
    return Measured((1 + sum(map(ctx.analysis.is_read, node.outputs[1:])),))


def rank(node: Node, ctx: Facts, name: str = "") -> Measured:
    """Rank of each input that is not constant, or of the named one."""
    return Measured(tuple(2 if _is_packed(node, v) else ctx.rank(v) for v in _inputs(node, ctx, name)))


def _is_packed(node: Node, value: Value) -> bool:
    """Whether it is a matrix whose shape does not tell rows and columns."""
    return node.op in PACKED and value is node.role("weight")


def output_rank(node: Node, ctx: Facts) -> Measured:
    """Rank of the output."""
    return Measured((ctx.rank(node.output),))


def nonsingleton_rank(node: Node, ctx: Facts) -> Measured:
    """Number of extents over 1, of each input that is not constant."""
    return Measured(tuple(sum(d != 1 for d in ctx.shape(v)) for v in _inputs(node, ctx, "")))


def extent(node: Node, ctx: Facts, name: str = "") -> Measured:
    """Every extent but the batch of what goes in and comes out, or of the named input (its batch too)."""
    values = _inputs(node, ctx, name)
    if name:
        if values and _is_packed(node, values[0]):
            return Measured((node.attr("K", 0), node.attr("N", 0)))
        return extents([d for v in values for d in ctx.dims(v)], values[0] if values else node.output, ctx)
    values.append(node.output)
    unknown = next((v for v in values if not is_known(ctx.map_dims(v)[1:])), node.output)
    return extents([d for v in values for d in ctx.map_dims(v)[1:]], unknown, ctx)


def elements(node: Node, ctx: Facts, name: str = "") -> Measured:
    """Elements of one sample, of each tensor that goes in or comes out; or all elements of the named input."""
    found = []
    for value in _inputs(node, ctx, name) if name else [*_inputs(node, ctx, ""), node.output]:
        dims = ctx.dims(value) if name else ctx.map_dims(value)[1:]
        found.append(math.prod(known(dims, value, ctx)))
    return Measured(tuple(found))


def known(dims: Sequence[Dim], value: Value, ctx: Facts) -> tuple[int, ...]:
    """A part of a value's shape where it is wholly known. Raises Undecidable."""
    found = tuple(d for d in dims if isinstance(d, int))
    if len(found) != len(dims):
        raise Undecidable(ctx.why(value))
    return found


def varies(node: Node, ctx: Facts, name: str) -> Measured:
    """Axes of the first input along which the named one, which is broadcast, has more than one number."""
    whole = ctx.rank(ctx.data(node))
    values = _inputs(node, ctx, name)
    if not values:
        return NOTHING
    dims = known(ctx.dims(values[0]), values[0], ctx)
    found = tuple(whole - len(dims) + axis for axis, extent in enumerate(dims) if extent != 1)
    return Measured(in_map_order(ctx.data(node), found, ctx), rank=whole)


def dtype(node: Node, ctx: Facts, name: str = "") -> Measured:
    """Element types of what goes in and comes out, or of the named input."""
    values = _inputs(node, ctx, name) if name else [*_inputs(node, ctx, ""), node.output]
    found = tuple(ctx.dtype(v) for v in values)
    unknown = [v.name for v, dtype in zip(values, found, strict=True) if dtype is None]
    return Measured(found, f"the element type of {unknown[0]!r} is not known" if unknown else "")


def quantized(node: Node, ctx: Facts, name: str = "") -> Measured:
    """Types in which a compiler computes: before the DequantizeLinear in front of an input and after the QuantizeLinear behind.

    Of the first input and the output, or of the named input. What is not quantized has the type that the graph states; in a
    network that stands for a quantized one, that of the integers that it becomes.
    """
    operand = named_input(node, name) if name else node.input(0)
    values = [] if operand is None else [_before(operand, ctx)]
    values += [] if name else [_behind(node.output, ctx)]
    found = tuple(type_of(v, ctx.analysis) or ctx.dtype(v) for v in values)
    unknown = [v.name for v, dtype in zip(values, found, strict=True) if dtype is None]
    return Measured(found, f"the element type of {unknown[0]!r} is not known" if unknown else "")


def _before(value: Value, ctx: Facts) -> Value:
    producer = ctx.analysis.origin(value).producer
    given = producer.input(0) if producer is not None and producer.op_type == "DequantizeLinear" else None
    return value if given is None else given


def _behind(value: Value, ctx: Facts) -> Value:
    only = ctx.analysis.only_reader(value)
    return only.output if only is not None and only.op_type == "QuantizeLinear" else value


def constant(node: Node, ctx: Facts, name: str) -> Measured:
    """Whether the named input is constant."""
    value = named_input(node, name)
    return Measured(() if value is None else (ctx.is_fixed(value),))


def given(node: Node, ctx: Facts, name: str) -> Measured:
    """Whether the named input is there; one without elements says nothing, as of Resize's scales and sizes in opset 11."""
    operand = named_input(node, name)
    return Measured((operand is not None and 0 not in (operand.shape or ()),))


def value(node: Node, ctx: Facts, name: str) -> Measured:
    """The numbers of a small constant input, or of the attribute that it was; where it is left out, ONNX's default.

    Raises Undecidable.
    """
    operand, index = named_input(node, name), node.operator.index(name)
    if operand is not None and not ctx.is_fixed(operand):
        raise Undecidable(f"the input {name!r} is not constant")
    found = _left_out(node, ctx, name) if operand is None else Measured(tuple(ctx.array(operand).reshape(-1).tolist()))
    return found if index is None else in_real_numbers(found, node, ctx, node.operator.role(index))


def _left_out(node: Node, ctx: Facts, name: str) -> Measured:
    """What counts for an input that a node does not have."""
    operator = node.operator
    index = operator.index(name)
    formal = None if index is None else operator.input(index)
    for attribute_name in (name, *(() if formal is None else formal.attributes)):
        found = node.attr(attribute_name)
        if found is not None:
            return Measured(found if isinstance(found, tuple) else (found,))
    if formal is not None and formal.role == "axes" and operator.name in ("Slice", "Pad"):
        count = ctx.rank(ctx.data(node)) if operator.name == "Pad" else len(value(node, ctx, "starts").values)
        return Measured(tuple(range(count)))
    return NOTHING if formal is None or formal.default is None else Measured((formal.default,))


def _inputs(node: Node, ctx: Facts, name: str) -> list[Value]:
    if name:
        found = named_input(node, name)
        return [] if found is None else [found]
    return [v for v in node.inputs if v is not None and not ctx.is_constant(v)]


def named_input(node: Node, name: str) -> Value | None:
    """The input that ONNX calls `name`, None where it is left out; of a QLinearConv, `W` is what a Conv's weight is."""
    index = formal_index(node.operator, name)
    if index is not None or node.op not in PLAIN:
        return None if index is None else node.input(index)
    operator = find_operator(PLAIN[node.op])
    index = operator.index(name)
    if index is None or (role := operator.role(index)) is None:
        return None
    alike = node.operator.indices(role)
    number = operator.indices(role).index(index)
    return node.input(alike[number]) if number < len(alike) else None


def formal_index(operator: Operator, name: str) -> int | None:
    """Index of a named input; of Max, Concat and the like, `data_1` is the second of those that ONNX calls `data_0`."""
    index = operator.index(name)
    if index is not None or not operator.variadic:
        return index
    stem, _, number = name.rpartition("_")
    return int(number) if operator.inputs[-1].name == f"{stem}_0" and number.isdecimal() else None


@functools.cache
def formal_inputs(op: str) -> tuple[str, ...]:
    """Names that ONNX gives to the inputs of an operator, in order; none for an operator that it does not define."""
    return tuple(formal.name for formal in find_operator(op).inputs)
