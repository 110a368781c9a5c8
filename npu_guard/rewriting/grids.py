"""Constant indices that are all combinations of places of some axes: what they read or write is a box of the tensor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npu_guard.checking.context import Context
from npu_guard.graph.graph import Node, Value
from npu_guard.rewriting.node_numbers import numbers
from npu_guard.rewriting.substitution import Array, Refused

Places = tuple[tuple[int, ...], ...]
"""For each axis of a tensor, the places that are meant, in order."""
_UNKNOWN = "its shapes are not known; fix them with --input-shape"
_NO_GRID = "its indices are no combinations of places of each axis"


def whole(extent: int) -> tuple[int, ...]:
    """All places of an axis."""
    return tuple(range(extent))


def of_tuples(data: Value, indices: Value, ctx: Context) -> Places:
    """Places that the indices of GatherND and ScatterND stand for, [..., axes]. Raises Refused."""
    shape, given = numbers(data), numbers(indices)
    if shape is None or given is None:
        raise Refused(_UNKNOWN)
    columns = _columns(indices, given, ctx)
    along = [_line(column, given[:-1]) for column in columns]
    order = [axis for axis, _ in along if axis is not None]
    if order != sorted(set(order)) or any(n > 1 and i not in order for i, n in enumerate(given[:-1])):
        raise Refused(_NO_GRID)
    places = [_inside(line, shape[i]) for i, (_, line) in enumerate(along)]
    return (*places, *map(whole, shape[len(places) :]))


def of_elements(node: Node, data: Value, indices: Value, ctx: Context) -> Places:
    """Places that the indices of GatherElements and ScatterElements stand for, along `axis`. Raises Refused."""
    shape, given = numbers(data), numbers(indices)
    if shape is None or given is None:
        raise Refused(_UNKNOWN)
    axis = node.attr("axis", 0) % len(shape)
    at, line = _line(_spread(indices, ctx), given)
    if at not in (None, axis):
        raise Refused(_NO_GRID)
    line = np.broadcast_to(line, (given[axis],)) if line.size == 1 else line
    return tuple(_inside(line, n) if i == axis else whole(given[i]) for i, n in enumerate(shape))


def runs(places: Sequence[int]) -> list[tuple[int, int]]:
    """Places as ranges, from and up to."""
    found: list[tuple[int, int]] = []
    for place in places:
        start = found.pop()[0] if found and found[-1][1] == place else place
        found.append((start, place + 1))
    return found


def _inside(line: Array, extent: int) -> tuple[int, ...]:
    places = [int(i) for i in line.reshape(-1)]
    if any(not -extent <= i < extent for i in places):
        raise Refused("its indices lie outside of the tensor")
    return tuple(i % extent for i in places)


def _line(column: Array, shape: Sequence[int]) -> tuple[int | None, Array]:
    """The one axis along which a column of indices varies (None for a single place), and its numbers there. Raises Refused."""
    column = column.reshape((*[1] * (len(shape) - column.ndim), *column.shape))
    varies = [i for i in range(column.ndim) if (column != np.take(column, [0], i)).any()]
    if len(varies) > 1:
        raise Refused(_NO_GRID)
    axis = varies[0] if varies else None
    return axis, column[tuple(slice(None) if i == axis else 0 for i in range(column.ndim))]


def _columns(indices: Value, given: Sequence[int], ctx: Context) -> list[Array]:
    """The indices into each axis, as small as they are stated: exporters spread them to all elements and put them together."""
    node, last = indices.producer, len(given) - 1
    joined = node is not None and node.op_type == "Concat" and node.attr("axis") % len(given) == last
    if joined and node is not None and len(node.inputs) == given[last] and ctx.analysis.constants.get(indices) is None:
        return [_spread(v, ctx)[..., 0] for v in node.inputs if v is not None]
    array = _spread(indices, ctx)
    return [array[..., i] for i in range(given[-1])]


def _spread(value: Value, ctx: Context) -> Array:
    """A constant, its axes of one number each where it is spread along them. Raises Refused."""
    known = ctx.analysis.constants.get(value)
    if known is not None:
        return known
    node = value.producer
    if node is None or node.input(0) is None or value.shape is None or node.op_type not in ("Expand", "Unsqueeze", "Identity"):
        raise Refused("its indices are computed")
    array, rank = _spread(node.inputs[0], ctx), len(value.shape)  # type: ignore[arg-type]
    if node.op_type == "Unsqueeze":
        axes = node.attr("axes") if node.input(1) is None else ctx.array(ctx.input(node, 1)).reshape(-1)
        return np.expand_dims(array, tuple(int(a) % rank for a in axes))
    return array.reshape((*[1] * (rank - array.ndim), *array.shape))
