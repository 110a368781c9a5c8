"""Operators on tokens, translated to operators on the map that the tokens are: one function for each kind of operator.

Each takes a Step and gives a Map for every output that is used. It raises Refused where the operator does what maps cannot.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import onnx
from msgspec import Struct
from msgspec.structs import replace

from npu_guard.base.text import short
from npu_guard.checking.context import Context
from npu_guard.graph.graph import Node, Value
from npu_guard.rewriting.map_writer import Map, Name, Writer, map_parts, static_shape
from npu_guard.rewriting.substitution import Array, Refused
from npu_guard.rewriting.views import BATCH, CHANNELS, COLUMNS, ROWS, Axis, View, atoms, joined, size


class Step(Struct, frozen=True):
    """One node with the maps of its inputs, as far as they are any."""

    node: Node
    ctx: Context
    writer: Writer
    maps: Mapping[Value, Map]

    def map(self, index: int) -> Map:
        """An input that has to be a map. Raises Refused."""
        value = self.node.input(index)
        if value is None:
            raise Refused(f"{self.node.op} lacks input {index}")
        if value not in self.maps:
            what = "is an input of the model" if value.is_input else "is not made from a map"
            raise Refused(f"operand {short(value.name)!r} of {self.node.op} {what}")
        return self.maps[value]

    def constant(self, index: int) -> Value | None:
        """An input that is a constant, None where it is left out or computed."""
        value = self.node.input(index)
        return value if value is not None and self.ctx.is_constant(value) else None

    def axes(self, x: Map) -> list[Axis]:
        """Axes of the first input that the operator runs over."""
        return [x.view.axes[i] for i in self.ctx.axes(self.node)]


def relabel(step: Step) -> list[Map]:
    """Reshape and Transpose: nothing moves."""
    x, node = step.map(0), step.node
    if node.op_type == "Transpose":
        order = node.attr("perm") or tuple(reversed(range(len(x.view.axes))))
        return [replace(x, view=x.view.permuted(order))]
    return [replace(x, view=x.view.reshaped(static_shape(node.output)))]


def elementwise(step: Step) -> list[Map]:
    """One value at a time; constants are laid out anew. Raises Refused."""
    node, w = step.node, step.writer
    places = [i for i, v in enumerate(node.inputs) if v is not None and not step.ctx.is_constant(v)]
    given = [v for v in (node.inputs[i] for i in places) if v is not None]
    scores = [v for v in given if v in step.maps and step.maps[v].is_scores]
    if scores and len(scores) < len(given):
        mask = next(v for v in given if v not in scores)
        raise Refused(f"the mask {short(mask.name)!r} is not constant")
    found = [step.map(i) for i in places]
    view = found[0].view
    for other in found[1:]:
        view = joined(view, other.view)
    parts = len(found[0].parts) if len({len(m.parts) for m in found}) == 1 else 1
    names = {v: w.divided(m, parts) for v, m in zip(given, found, strict=True)}
    if node.op_type == "Pow" and _is_two(step):
        return [map_parts(found[0], lambda name: w.op("Mul", name, name))]
    if node.op_type == "Add" and len(found) == parts == 1 and (total := _biased(step, view, names[given[0]][0])) is not None:
        return [replace(found[0], view=view, parts=(total,))]
    columns: list[Sequence[Name]] = []
    for value in node.inputs:
        columns.append([""] * parts if value is None else names[value] if value in names else laid_out(step, value, view, parts))
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.proto.attribute}
    made = tuple(w.op(node.op_type, *(column[i] for column in columns), **attributes) for i in range(parts))
    spent = max(m.spent for m in found)
    return [Map(view, made, node.output.dtype, spent)]


def _is_two(step: Step) -> bool:
    """Whether a power is a square, which more devices have than powers."""
    exponent = step.constant(1)
    if exponent is None or math.prod(static_shape(exponent)) != 1:
        return False
    return float(step.ctx.array(exponent).reshape(-1)[0]) == 2.0


def laid_out(step: Step, value: Value, view: View, parts: int) -> Sequence[Name]:
    """A constant operand in the order of the map, in as many parts as the map has."""
    plain = value.initializer is not None or (value.producer is not None and value.producer.op_type == "Constant")
    if plain and math.prod(static_shape(value)) == 1 and len(static_shape(value)) <= 4:
        return [value] * parts
    array = view.lay(step.writer.weight(value))
    pieces = np.split(array, parts, axis=CHANNELS) if array.shape[CHANNELS] > 1 else [array] * parts
    return [kept(step.writer, piece) for piece in pieces]


def is_used(values: Iterable[Value | None]) -> bool:
    """Whether somebody reads one of them."""
    return any(v is not None and (v.consumers or v.is_output) for v in values)


def kept(w: Writer, array: Array) -> str:
    """A constant that is there already."""
    return w.constant(lambda: array)


def _biased(step: Step, view: View, name: Name) -> Name | None:
    """Add of a number for each channel to a convolution that is emitted here and read by nobody else."""
    first, second = step.node.inputs
    source, constant = (first, second) if second is not None and step.ctx.is_constant(second) else (second, first)
    assert source is not None
    assert constant is not None
    dims = static_shape(constant)
    if math.prod(dims) == 1 or source.only_consumer is None:
        return None
    array = view.lay(step.writer.weight(constant))
    if array.shape != (1, size(view.channels), 1, 1):
        return None
    return step.writer.biased(name, lambda: array)


def reduction(step: Step) -> list[Map]:
    """Over channels, over all positions, or over neither. Raises Refused."""
    x, node = step.map(0), step.node
    axes = step.ctx.axes(node)
    if not axes:
        raise Refused(f"{node.op} reduces nothing, of which runtimes make different things")
    gone = {atom for i in axes for atom in x.view.axes[i]}
    cut = [bool(gone.intersection(axis)) for axis in x.view.stored]
    over = [i for i in (CHANNELS, ROWS, COLUMNS) if cut[i]]
    left = {a for i in over for a in x.view.stored[i]} - gone
    space = [i for i in (ROWS, COLUMNS) if x.view.stored[i]]
    if cut[BATCH] or left or {*over} & {*space} not in (set(), {*space}):
        raise Refused(f"{node.op} runs over the batch, or over a part of the channels or positions")
    if len(over) > 1 and CHANNELS in over:
        raise Refused(f"{node.op} runs over channels and positions at once")
    kept = bool(node.attr("keepdims", 1))
    remaining = tuple(() if i in axes else a for i, a in enumerate(x.view.axes) if kept or i not in axes)
    view = View(tuple(() if c else a for a, c in zip(x.view.stored, cut, strict=True)), remaining)
    name = step.writer.whole(x)
    if over:
        name = step.writer.reduce(node.op_type, name, (CHANNELS,) if CHANNELS in over else (ROWS, COLUMNS))
    elif node.op_type == "ReduceSumSquare":
        name = step.writer.op("Mul", name, name)
    elif node.op_type in _OF_ONE:
        name = step.writer.op(_OF_ONE[node.op_type], name)
    return [Map(view, (name,), node.output.dtype)]


_OF_ONE = {"ReduceL1": "Abs", "ReduceL2": "Abs", "ReduceLogSum": "Log"}
"""What a reduction over axes of extent 1 makes of each element; the others leave it as it is."""


def batch_normalization(step: Step) -> list[Map]:
    """Over channels, where axis 1 is those. Raises Refused."""
    x, node = step.map(0), step.node
    if len(x.view.axes) < 2 or x.view.axes[1] != x.view.channels or node.attr("training_mode", 0):
        raise Refused("BatchNormalization over positions, or in training")
    statistics = [step.constant(i) for i in range(1, 5)]
    if None in statistics:
        raise Refused("the statistics of BatchNormalization are not constant")
    name = step.writer.op("BatchNormalization", step.writer.whole(x), *statistics, epsilon=node.attr("epsilon", 1e-5))
    return [replace(x, parts=(name,))]


def refused_dropout(step: Step) -> list[Map]:
    """What is left of it at inference never comes here. Raises Refused."""
    raise Refused("Dropout is active")


def normalization(step: Step) -> list[Map]:
    """LayerNormalization over channels, by its definition. Raises Refused."""
    node, w, x = step.node, step.writer, step.map(0)
    if is_used(node.outputs[1:]):
        raise Refused("the mean or deviation of LayerNormalization is read too")
    if atoms(x.view.axes[node.attr("axis", -1) :]) != x.view.channels or not x.view.channels:
        raise Refused("LayerNormalization runs over more or less than the channels")
    name = w.whole(x)
    centred = w.op("Sub", name, w.reduce("ReduceMean", name, (CHANNELS,)))
    variance = w.reduce("ReduceMean", w.op("Mul", centred, centred), (CHANNELS,))
    deviation = w.op("Sqrt", w.op("Add", variance, w.scalar(node.attr("epsilon", 1e-5), x.dtype)))
    name = w.op("Div", centred, deviation)
    for index, op in ((1, "Mul"), (2, "Add")):
        if node.input(index) is not None:
            value = step.constant(index)
            if value is None:
                raise Refused(f"weight {short(str(node.input(index)))!r} of LayerNormalization is not constant")
            name = w.op(op, name, laid_out(step, value, x.view, 1)[0])
    return [replace(x, parts=(name,))]


def gemm(step: Step) -> list[Map]:
    """As MatMul, with a bias. Raises Refused."""
    node = step.node
    value, bias = step.constant(1), step.constant(2)
    if value is None or node.attr("transA", 0):
        raise Refused(f"weight {short(str(node.input(1)))!r} of Gemm is not constant, or its input is transposed")
    if node.input(2) is not None and (bias is None or (math.prod(static_shape(bias)) != static_shape(bias)[-1])):
        raise Refused("the bias of Gemm is not one number for each channel")
    alpha, beta = node.attr("alpha", 1.0), node.attr("beta", 1.0)
    kept = bool(node.attr("transB", 0))

    def spread(outputs: int) -> Array:
        assert bias is not None
        return np.broadcast_to(step.writer.weight(bias).reshape(-1), (outputs,))

    oriented = (lambda a: a) if kept else (lambda a: a.T)
    return [linear(step, step.map(0), -1, value, oriented, None if bias is None else spread, (alpha, beta))]


def linear(
    step: Step, x: Map, axis: int, value: Value, oriented: Callable[[Array], Array], bias: Callable[[int], Array] | None,
    factors: tuple[float, float] = (1.0, 1.0),
) -> Map:  # fmt: skip
    """Weights on the channels: all of them, or those of each head alike. `factors` are those of weights and bias.

    Raises Refused.
    """
    view, w = x.view, step.writer
    summed = view.axes[axis] if len(view.axes) >= -axis else ()
    one = not summed and bool(view.channels)
    if one or len(view.axes) < -axis or summed != view.channels[len(view.channels) - len(summed) :]:
        raise Refused(f"{step.node.op}: weights {list(static_shape(value))} mix positions, or channels in another order")
    outside = view.channels[: len(view.channels) - len(summed)]
    heads, weight = size(outside), oriented(w.weight(value))
    made = View.of_map((1, weight.shape[0], 1, 1)).channels
    inputs: list[Name] = [w.whole(x), w.product(lambda: np.tile(weight, (heads, 1))[:, :, None, None], factors[0])]
    if bias is not None:
        inputs.append(w.product(lambda: np.tile(bias(weight.shape[0]), heads), factors[1]))
    group = {"group": heads} if heads > 1 else {}
    name = w.op("Conv", *inputs, kernel_shape=[1, 1], **group)
    axes = list(view.axes)
    axes[axis] = made
    stored = (view.stored[BATCH], outside + made, *view.stored[ROWS:])
    return Map(View(stored, tuple(axes)), (name,), step.node.output.dtype)
