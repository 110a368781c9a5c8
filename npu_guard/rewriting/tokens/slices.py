"""Slice, Split, Gather and Concat on tokens: pieces of channels, or of rows, that lie together in the map."""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace

from npu_guard.analysis.static import regroups
from npu_guard.base.text import short
from npu_guard.rewriting.map_writer import Map, Name, static_shape
from npu_guard.rewriting.substitution import Refused
from npu_guard.rewriting.tokens.operators import Step
from npu_guard.rewriting.views import BATCH, CHANNELS, Atom, Axis, View, aligned, size


def split(step: Step) -> list[Map]:
    """Equal or unequal pieces along one axis. Raises Refused."""
    x, axis = step.map(0), step.node.attr("axis", 0) % len(step.map(0).view.axes)
    extents = [static_shape(o)[axis] for o in step.node.outputs if o is not None]
    if sum(extents) != x.view.shape[axis]:
        raise Refused("a Split whose outputs are not all used")
    index, inner = _stored(step, x.view, axis)
    if index == CHANNELS:
        names = step.writer.split(step.writer.whole(x), [e * inner for e in extents])
        return [_piece(x, axis, index, e, name) for e, name in zip(extents, names, strict=True)]
    starts = np.cumsum([0, *extents[:-1]])
    return [_cut(step, x, axis, int(s), int(s) + e) for s, e in zip(starts, extents, strict=True)]


def slice_(step: Step) -> list[Map]:
    """Ranges without a stride. Raises Refused."""
    x = step.map(0)
    starts, ends, axes, steps = (_numbers(step, i) for i in range(1, 5))
    if starts is None or ends is None or (steps is not None and set(steps) != {1}):
        raise Refused("a Slice with a stride, or with bounds that are not constant")
    for start, end, axis in zip(starts, ends, axes or range(len(starts)), strict=True):
        first, last, _ = slice(start, end).indices(x.view.shape[axis])
        if (first, last) != (0, x.view.shape[axis]):
            x = _cut(step, x, axis % len(x.view.axes), first, last)
    return [x]


def gather(step: Step) -> list[Map]:
    """One index, as `qkv[0]` is exported, or all in order, as a strided view is. Raises Refused."""
    if regroups(step.node, step.ctx.analysis.constants):
        x = step.map(0)
        return [replace(x, view=x.view.reshaped(static_shape(step.node.output)))]
    x, axis, indices = step.map(0), step.node.attr("axis", 0) % len(step.map(0).view.axes), step.constant(1)
    if indices is None or np.size(step.ctx.array(indices)) != 1:
        raise Refused("Gather of several positions or channels, or of computed ones")
    index = int(step.ctx.array(indices).reshape(-1)[0]) % x.view.shape[axis]
    x = _cut(step, x, axis, index, index + 1)
    axes = x.view.axes if static_shape(indices) else (*x.view.axes[:axis], *x.view.axes[axis + 1 :])
    return [replace(x, view=replace(x.view, axes=axes))]


def concat(step: Step) -> list[Map]:
    """Along channels, or along whole rows or columns. Raises Refused."""
    node = step.node
    maps = [step.maps[v] for v in node.inputs if v is not None and v in step.maps]
    axis = node.attr("axis", 0) % len(maps[0].view.axes)
    if any(set(m.view.axes[axis]) - set(m.view.channels) for m in maps) or len(maps) < len(node.inputs):
        other = next((v for v in node.inputs if v is not None and static_shape(v)[axis] == 1), None)
        what = f"{short(other.name)!r}, such as a class token," if other is not None else "other positions"
        raise Refused(f"Concat joins {what} to the positions of a map")
    view = maps[0].view
    for m in maps:
        pairs = [(i, i) for i in range(len(view.axes)) if i != axis]
        view, other_view = aligned(view, m.view, pairs)
        rest = [i for i in range(len(view.stored)) if i != CHANNELS]
        if m.view.channels != m.view.axes[axis] or any(view.stored[i] != other_view.stored[i] for i in rest):
            raise Refused("Concat of maps that hold their channels or positions in different orders")
    made = (Atom(sum(m.channels for m in maps)),)
    axes, stored = list(view.axes), list(view.stored)
    axes[axis] = stored[CHANNELS] = made
    name = step.writer.concat([step.writer.whole(m) for m in maps])
    return [Map(View(tuple(stored), tuple(axes)), (name,), node.output.dtype)]


def _numbers(step: Step, index: int) -> list[int] | None:
    value = step.constant(index)
    return None if value is None else [int(a) for a in step.ctx.array(value).reshape(-1)]


def _stored(step: Step, view: View, axis: int) -> tuple[int, int]:
    """The map's axis that a piece of this axis is cut from, and how much of it belongs to one index."""
    factors = view.axes[axis]
    for index, whole in enumerate(view.stored):
        if factors and whole[: len(factors)] == factors and index != BATCH:
            return index, size(whole[len(factors) :])
    raise Refused(f"{step.node.op} takes a part of the positions (such as a class token), or of heads that do not lie together")


def _cut(step: Step, x: Map, axis: int, start: int, end: int) -> Map:
    index, inner = _stored(step, x.view, axis)
    name = step.writer.slice(step.writer.whole(x), (index,), (start * inner,), (end * inner,))
    return _piece(x, axis, index, end - start, name)


def _piece(x: Map, axis: int, index: int, extent: int, name: Name) -> Map:
    factors = x.view.axes[axis]
    made: Axis = (Atom(extent),) if extent > 1 else ()
    axes, stored = list(x.view.axes), list(x.view.stored)
    axes[axis], stored[index] = made, made + stored[index][len(factors) :]
    return Map(View(tuple(stored), tuple(axes)), (name,), x.dtype)
