"""Blocks that mix the positions of a map by products of two activations: softmax attention and linear attention.

Only the way of V through the block is followed exactly, from a map [B, C, H, W] to one of the same axes; how the weights of
the positions come about is left to whoever replaces the block and compares.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from npu_guard.analysis.layout import RUNNING
from npu_guard.base.text import short
from npu_guard.checking.context import Context
from npu_guard.graph.graph import Node, Value
from npu_guard.graph.handlers import OfKind
from npu_guard.rewriting.map_writer import static_shape
from npu_guard.rewriting.substitution import Refused, closed
from npu_guard.rewriting.views import CHANNELS, COLUMNS, ROWS, Axis, View, size

KERNEL = 17
"""Taps along each axis where the device sets no lower limit."""
_SCALING = OfKind("unary", "broadcasting")
_ELEMENTWISE = OfKind("unary", "broadcasting", also="Softmax")
_FLOATS = frozenset({1, 10, 11})


class Mixing(Struct, frozen=True):
    """`values` is the map whose positions are mixed, `result` the map that comes out."""

    values: Value
    result: Value
    product: Node
    """The product that applies the weights to V."""
    nodes: tuple[Node, ...]
    """All that nobody needs without the block, projections of Q and K among them."""
    kernel: tuple[int, int]
    """Taps along columns and rows that the device allows and the map has use for."""


def softmax_attention(node: Node, ctx: Context) -> Mixing | None:
    """The block whose second product is this node; None for any other product. Raises Refused."""
    if node.domain or node.graph.parent is not None:
        return None
    if node.op_type == "Attention":
        view, values = _values(node.inputs[2], ctx)
        return _finish(node, [node], replace(view, axes=view.axes), values, ctx)
    for index in (0, 1):
        path = _to_softmax(node.inputs[index], ctx)
        if path is None or ctx.is_constant(node.inputs[1 - index]):
            continue
        view, values = _values(node.inputs[1 - index], ctx)
        return _finish(node, [*path, node], _applied(node, view, 1 - index), values, ctx)
    return None


def linear_attention(node: Node, ctx: Context) -> Mixing | None:
    """The block whose first product, of K and V over positions, is this node; None for any other. Raises Refused."""
    if node.domain or node.graph.parent is not None or any(ctx.is_constant(v) for v in node.inputs):
        return None
    sides = [_source(v, ctx) for v in node.inputs]
    if any(side is None for side in sides):
        return None
    (left, _, _), (right, _, _) = sides[0], sides[1]  # type: ignore[misc]  # none of them is None
    if len(left.axes) != len(right.axes) or left.axes[-1] != left.space or right.axes[-2] != right.space:
        return None
    rows: tuple[Axis, ...] = (*left.axes[:-2], left.axes[-2], right.axes[-1])
    context, path, value = View(rows, rows), [node], node.output
    while (reader := _only_reader(value, ctx)).op_type != "MatMul":
        context = _step(context, reader, value, ctx)
        path.append(reader)
        value = reader.output
    index = 0 if reader.input(0) is not None and ctx.analysis.origin(reader.inputs[0]) is value else 1  # type: ignore[arg-type]
    kept = context.axes[-2] if index == 0 else context.axes[-1]
    view, values, plain = next(side for side in sides if side is not None and kept in (side[0].axes[-1], side[0].axes[-2]))
    if not plain:
        raise Refused("something is done to its values between their projection and the product")
    space = view.space
    outer = view.axes[:-2]
    axes = (*outer, kept, space) if index == 0 else (*outer, space, kept)
    return _finish(reader, [*path, reader], replace(view, axes=axes), values, ctx, normalised=True)


def _applied(node: Node, view: View, index: int) -> View:
    """V after the product with weights of positions: its positions are those of the queries now."""
    over = -2 if index == 1 else -1
    if view.axes[over] != view.space:
        raise Refused("the weights apply to another axis of V than its positions")
    outer = view.axes[:-2]
    axes = (*outer, view.space, view.axes[-1]) if index == 1 else (*outer, view.axes[-2], view.space)
    if tuple(map(size, axes)) != static_shape(node.output):
        raise Refused("its queries lie on another grid than its values")
    return replace(view, axes=axes)


def _finish(node: Node, core: list[Node], view: View, values: Value, ctx: Context, normalised: bool = False) -> Mixing:
    """The way from the product back to a map, and what falls away with the block."""
    value = node.output
    while not view.is_map:
        reader = _only_reader(value, ctx)
        view = _step(view, reader, value, ctx)
        core.append(reader)
        value = reader.output
    if normalised and (division := _division(value, ctx)) is not None:
        core.append(division)
        value = division.output
    closed(core, (value,), ctx)
    shape = static_shape(values)
    if static_shape(value) != shape or values.dtype != value.dtype or value.dtype not in _FLOATS:
        raise Refused("what comes out has another shape or type than V")
    if size(view.stored[CHANNELS]) > (ctx.limit("conv.group_max") or shape[1]):
        raise Refused(f"the device has no depthwise convolution of {shape[1]} channels")
    longest = min(KERNEL, ctx.limit("conv.kernel_max") or KERNEL)
    longest -= 1 - longest % 2
    kernel = min(longest, 2 * shape[ROWS] - 1), min(longest, 2 * shape[COLUMNS] - 1)
    return Mixing(values, value, node, fallen(value, values, ctx), kernel)


def _division(value: Value, ctx: Context) -> Node | None:
    """The division of the whole by the sum of its weights, which depends on the position alone."""
    readers = ctx.analysis.readers(value)
    if len(readers) != 1 or value.is_output or readers[0].op_type != "Div" or readers[0].inputs[1] is None:
        return None
    norm, dividend = readers[0].inputs[1], readers[0].inputs[0]
    same = dividend is not None and ctx.analysis.origin(dividend) is value
    return readers[0] if same and not ctx.is_constant(norm) and static_shape(norm)[1:2] == (1,) else None


def fallen(result: Value, values: Value, ctx: Context) -> tuple[Node, ...]:
    """Nodes that only the result needs, V excepted."""
    fallen = {result.producer}
    for node in reversed(ctx.analysis.model.graph.nodes):
        made = [v for v in node.outputs if v is not None]
        if values in made or any(v.is_output or v in ctx.analysis.static for v in made):
            continue
        readers = [c for v in made for c in v.consumers]
        if readers and fallen.issuperset(readers):
            fallen.add(node)
    return tuple(n for n in ctx.analysis.model.graph.nodes if n in fallen)


def _to_softmax(value: Value | None, ctx: Context) -> list[Node] | None:
    """The way from Softmax to an operand of a product."""
    path: list[Node] = []
    while value is not None and (node := value.producer) is not None and not ctx.is_constant(value):
        path.append(node)
        if node.op_type == "Softmax":
            return path[::-1]
        if node not in ctx.analysis.elided and node.op_type not in RUNNING and node.op_type not in _SCALING:
            return None
        value = next((v for v in node.inputs if v is not None and not ctx.is_constant(v)), None)
    return None


def _values(value: Value | None, ctx: Context) -> tuple[View, Value]:
    found = _source(value, ctx)
    if found is None or not found[2]:
        raise Refused("its values are not a map that is only reshaped and transposed, such as that of a 1x1 convolution")
    return found[0], found[1]


def _source(value: Value | None, ctx: Context) -> tuple[View, Value, bool] | None:
    """The map that a tensor is made from, how it lies in the tensor, and whether nothing but scaling happens to it."""
    path: list[Node] = []
    plain = True
    while value is not None and not ctx.is_constant(value):
        node = value.producer
        if (
            node is None
            or (node.op_type not in RUNNING and node.op_type not in _ELEMENTWISE and node not in ctx.analysis.elided)
            or node.domain
        ):
            break
        # Element-wise operators work on maps and on tokens of several heads; what becomes tokens [B, N, C] next is a map.
        if len(value.shape or ()) == 4 and node.op_type not in RUNNING and path and len(path[-1].output.shape or ()) == 3:
            break
        active = [v for v in node.inputs if v is not None and not ctx.is_constant(v)]
        if len(active) != 1:
            break
        path.append(node)
        value = active[0]
    while path and path[-1].op_type not in RUNNING:  # what happens to the map before it becomes tokens is no part of this
        value = path.pop().output
    if value is None or ctx.is_constant(value) or len(static_shape(value)) != 4:
        return None
    view = View.of_map(static_shape(value))
    source = value
    for node in reversed(path):
        plain = plain and (node.op_type in RUNNING or node in ctx.analysis.elided or _scales(node, ctx))
        view = _step(view, node, value, ctx, anything=True)
        value = node.output
    return view, source, plain


def _only_reader(value: Value, ctx: Context) -> Node:
    readers = ctx.analysis.readers(value)
    if value.is_output:
        raise Refused(f"the inner value {short(value.name)!r} is an output of the model")
    if len(readers) != 1:
        raise Refused(f"the inner value {short(value.name)!r} is read by {len(readers)} operators")
    return readers[0]


def _scales(node: Node, ctx: Context) -> bool:
    """Whether the node multiplies or divides by one number."""
    constants: Iterable[Value] = (v for v in node.inputs if v is not None and ctx.is_constant(v))
    numbers = all(v.shape is not None and set(v.shape) <= {1} for v in constants)
    return node.op_type in ("Mul", "Div") and len(node.inputs) == 2 and numbers and not ctx.is_constant(node.inputs[0])


def _step(view: View, node: Node, value: Value, ctx: Context, anything: bool = False) -> View:
    """The view behind one node that rearranges or scales."""
    if node.op_type == "Transpose":
        return view.permuted(node.attr("perm") or tuple(reversed(range(len(view.axes)))))
    if node.op_type in RUNNING:
        return view.reshaped(static_shape(node.output))
    if (anything or _scales(node, ctx) or node in ctx.analysis.elided) and static_shape(node.output) == static_shape(value):
        return view
    raise Refused(f"{node.op} {short(node.label)!r} reads it before it is a map again")
