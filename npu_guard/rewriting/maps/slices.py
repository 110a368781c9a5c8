"""Parts of axes, and axes put together: Slice, Split, Gather and GatherND with constant indices, Concat, Pad."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace

from npu_guard.graph.graph import Node, Value
from npu_guard.rewriting.arithmetic import FLOATS
from npu_guard.rewriting.maps.algebra import Made, Maps, fixed, stored
from npu_guard.rewriting.maps.factors import BATCH, CHANNELS, COLUMNS, PIECE, ROWS
from npu_guard.rewriting.maps.program import Given, shape_of
from npu_guard.rewriting.maps.regroup import reshaped
from npu_guard.rewriting.maps.runs import LEAST, in_runs, turned, with_axis
from npu_guard.rewriting.maps.step import Step
from npu_guard.rewriting.maps.tensors import Laid, Stored, aligned, axis_of
from npu_guard.rewriting.maps.written import numpy_type
from npu_guard.rewriting.substitution import Array, Builder, Refused
from npu_guard.rewriting.views import Axis, size

RUNS = 512
"""Runs of indices that one Gather may have."""


def slice_(step: Step) -> list[Laid]:
    """Ranges, also with a stride."""
    x, node = step.tensor(), step.node
    if step.node.graph.model.opsets.get("", 1) < 10:
        starts, ends, axes, steps = (list(node.attr(n) or ()) for n in ("starts", "ends", "axes", "steps"))
    else:
        starts, ends, axes, steps = (step.numbers(i) or [] for i in range(1, 5))
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = (axes[i] if axes else i) % len(x.axes)
        first, last, by = slice(start, end, steps[i] if steps else 1).indices(x.shape[axis])
        x = selected(step.maps, x, axis, range(first, last, by))
    return [x]


def split(step: Step) -> list[Laid]:
    """Pieces along one axis. Raises Refused."""
    x, node = step.tensor(), step.node
    axis = node.attr("axis", 0) % len(x.axes)
    at, made = 0, []
    for output in node.outputs:
        if output is None:
            raise Refused("a Split whose outputs are not all used")
        extent = shape_of(output)[axis]
        made.append(selected(step.maps, x, axis, range(at, at + extent)))
        at += extent
    return made


def gather(step: Step) -> list[Laid]:
    """Constant indices. Raises Refused."""
    x, node = step.tensor(), step.node
    axis, value = node.attr("axis", 0) % len(x.axes), step.constant(1)
    if value is None:
        raise Refused("Gather at computed indices")
    indices = np.asarray(step.ctx.array(value))
    x = selected(step.maps, x, axis, [int(i) % x.shape[axis] for i in indices.reshape(-1)])
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    found = x.reshaped(shape)
    if found is None:
        raise Refused("Gather whose indices have several axes")
    return [found]


def gather_nd(step: Step) -> list[Laid]:
    """Constant indices into the first axes; those of a grid are places of one axis each. Raises Refused."""
    x, value = step.tensor(), step.constant(1)
    if value is None:
        raise Refused("GatherND at computed indices")
    if step.node.attr("batch_dims", 0):
        raise Refused("GatherND for each batch apart")
    indices = np.asarray(step.ctx.array(value))
    count = indices.shape[-1]
    extents = x.shape[:count]
    indices = (indices.reshape(-1, count) % extents).reshape(indices.shape)
    if (grid := _grid(indices)) is not None:
        for axis, places in enumerate(grid):
            x = selected(step.maps, x, axis, places)
        return [x]
    flat = np.ravel_multi_index(tuple(np.moveaxis(indices, -1, 0)), extents)
    x = reshaped(step.maps, x, (math.prod(extents), *x.shape[count:]))
    x = selected(step.maps, x, 0, [int(i) for i in flat.reshape(-1)])
    return [reshaped(step.maps, x, step.shape)]


def _grid(indices: Array) -> list[list[int]] | None:
    """Of indices [n0, n1, ..., k] that are all combinations of places of k axes, these places; None of others."""
    count = indices.shape[-1]
    if indices.ndim != count + 1 or 0 in indices.shape:
        return None
    places = []
    for axis in range(count):
        along = np.moveaxis(indices[..., axis], axis, 0)
        first = along.reshape(along.shape[0], -1)[:, :1]
        if (along.reshape(along.shape[0], -1) != first).any():
            return None
        places.append([int(i) for i in first[:, 0]])
    return places


def selected(maps: Maps, x: Laid, axis: int, indices: Sequence[int]) -> Laid:
    """The tensor at some places of one axis. Raises Refused."""
    extent = x.shape[axis]
    if list(indices) == list(range(extent)):
        return x
    if not indices:
        raise Refused("a part of a tensor that is empty")
    if not x.held.intersection(x.axes[axis]):
        return replace(x, axes=with_axis(x.axes, axis, axis_of(len(indices))))
    if (strided := _strided(maps, x, axis, indices)) is not None:
        return strided
    x, at = outermost(maps, x, axis)
    inner = size(x.stored[at][len(x.axes[axis]) :])
    runs = in_runs(indices, LEAST if x.name.dtype in FLOATS else math.inf)
    if len(runs) > RUNS:
        raise Refused(f"a selection of {len(runs)} separate runs")
    pieces = []
    for run in runs:
        first, last = min(run), max(run)
        piece = maps.program.cut(x.name, at, first * inner, (last + 1) * inner)
        pieces.append(turned(maps, x, axis, at, piece, len(run)) if run[0] > run[-1] else piece)
    name = maps.program.concat(pieces, at)
    made = axis_of(len(indices))
    left = stored((*made, *a[len(x.axes[axis]) :]) if i == at else a for i, a in enumerate(x.stored))
    return Laid(with_axis(x.axes, axis, made), left, name)


def _strided(maps: Maps, x: Laid, axis: int, indices: Sequence[int]) -> Laid | None:
    """Every n-th place: the n places are an axis of their own, of which one is taken."""
    step = indices[1] - indices[0] if len(indices) > 1 else 0
    extent = x.shape[axis]
    if step < 2 or extent % step or list(indices) != list(range(indices[0], extent, step)) or indices[0] >= step:
        return None
    shape = (*x.shape[:axis], extent // step, step, *x.shape[axis + 1 :])
    apart = x.reshaped(shape)
    if apart is None:
        return None
    taken = selected(maps, apart, axis + 1, [indices[0]])
    return replace(taken, axes=(*taken.axes[: axis + 1], *taken.axes[axis + 2 :]))


def outermost(maps: Maps, x: Laid, axis: int) -> tuple[Laid, int]:
    """The tensor with all of one axis outermost in an axis of the map, and which that is."""
    units = x.axes[axis]
    rest = [tuple(a for a in held if a not in units) for held in x.stored]
    choices = [stored((*units, *held) if i == at else held for i, held in enumerate(rest)) for at in range(4)]
    at = min((CHANNELS, ROWS, COLUMNS, BATCH), key=lambda i: maps.cost(x, choices[i]))
    return maps.laid(x, choices[at]), at


def concat(step: Step) -> list[Laid]:
    """Tensors, and constants at either end, along one axis. Raises Refused."""
    node, values = step.node, [v for v in step.node.inputs if v is not None]
    axis = node.attr("axis", 0) % len(step.shape)
    computed = [i for i, v in enumerate(node.inputs) if v is not None and not step.ctx.is_constant(v)]
    tensors = {i: step.tensor(i) for i in computed}
    base = max(computed, key=lambda i: math.prod(tensors[i].shape))
    x = tensors[base]
    for i in computed:
        if i != base:
            x, tensors[i] = aligned(x, tensors[i], [(a, a) for a in range(len(x.axes)) if a != axis])
    for i in computed:  # once more: the base is split by now as every other one wants it
        if i != base:
            x, tensors[i] = aligned(x, tensors[i], [(a, a) for a in range(len(x.axes)) if a != axis])
    tensors[base] = x
    others = tuple(a for i, held in enumerate(x.axes) if i != axis for a in held)
    at, places = _place(step.maps, tensors, axis, others)
    parts: list[tuple[int, Value | Laid]] = [(shape_of(v)[axis], tensors.get(i, v)) for i, v in enumerate(values)]
    first, last = min(computed), max(computed)
    if any(isinstance(v, Value) for _, v in parts[first : last + 1]):
        raise Refused("Concat of a constant between computed tensors")
    inner = size(places[base][at][len(x.axes[axis]) :])
    laid = [step.maps.laid(t, places[i]).name for i, t in tensors.items()]
    name = step.maps.program.concat(laid, at)
    made = axis_of(sum(n for n, _ in parts))
    left = stored((*made, *held[len(x.axes[axis]) :]) if i == at else held for i, held in enumerate(places[base]))
    joined = Laid(with_axis(x.axes, axis, made), left, name)
    if len(computed) == len(values):
        return [joined]
    front, back = (sum(n for n, _ in parts[:first]), sum(n for n, _ in parts[last + 1 :]))
    name = padded(step, name, {at: (front * inner, back * inner)}, 0.0)
    joined = replace(joined, name=name)
    joined, operand = fixed(step.maps, joined, step.shape, _ends(step, parts, axis), node.output.dtype)
    return [replace(joined, name=step.maps.program.two("Add", joined.name, operand))]


def _place(maps: Maps, tensors: dict[int, Laid], axis: int, others: Axis) -> tuple[int, dict[int, Stored]]:
    """The axis of the map along which the tensors are joined, and the arrangement of each."""
    best: tuple[int, dict[int, Stored]] = (COLUMNS, {})
    lowest = math.inf
    for have in dict.fromkeys(_beside(t, axis, others) for t in tensors.values()):  # most are arranged alike
        for at in (CHANNELS, ROWS, COLUMNS, BATCH):
            places = {
                i: stored((*t.axes[axis], *held) if n == at else held for n, held in enumerate(have)) for i, t in tensors.items()
            }
            price = sum(maps.cost(t, places[i]) for i, t in tensors.items()) + (PIECE if at == BATCH else 0)
            if price < lowest:
                best, lowest = (at, places), price
    if math.isinf(lowest):
        raise Refused("Concat of tensors that cannot be brought into one order")
    return best


def _beside(x: Laid, axis: int, others: Axis) -> tuple[Axis, ...]:
    """How a tensor lies in the map without one of its axes, and with those of others that it does not hold."""
    units = x.axes[axis]
    have = [tuple(a for a in held if a not in units) for held in x.stored]
    have[COLUMNS] = (*have[COLUMNS], *(a for a in others if a not in x.held))
    return tuple(have)


def _ends(step: Step, parts: Sequence[tuple[int, Value | Laid]], axis: int) -> Made:
    """Constants where they stand in the result, and zeros in place of what is computed."""
    reads = [step.read(v) if isinstance(v, Value) else None for _, v in parts]
    shape, kind = step.shape, numpy_type(step.node.output.dtype)

    def make(build: Builder) -> Array:
        whole = np.zeros(shape, kind)
        at = 0
        for (extent, _), read in zip(parts, reads, strict=True):
            if read is not None:
                place = [slice(None)] * len(shape)
                place[axis] = slice(at, at + extent)
                whole[tuple(place)] = read(build)
            at += extent
        return whole

    return make


def padded(step: Step, x: Given, amounts: dict[int, tuple[int, int]], value: float) -> Given:
    """A map with constant margins."""
    program, shape = step.maps.program, list(shape_of(x))
    for at, (front, back) in amounts.items():
        shape[at] += front + back
    pads = [amounts.get(i, (0, 0))[end] for end in (0, 1) for i in range(4)]
    if program.opset < 11:
        return program.op("Pad", shape, x, mode="constant", pads=pads, value=value)
    given = () if value == 0 else (program.number(value, x),)
    return program.op("Pad", shape, x, program.ints(*pads), *given, mode="constant")


def pad_mode(node: Node) -> str:
    """What a Pad puts into the margins."""
    return str(node.attr("mode", "constant"))


def pad(step: Step) -> list[Laid]:
    """Constant margins, also negative ones, and margins that repeat what is inside. Raises Refused."""
    x, node = step.tensor(), step.node
    mode = pad_mode(node)
    if step.node.graph.model.opsets.get("", 1) < 11:
        pads, value, axes = list(node.attr("pads")), float(node.attr("value", 0.0)), None
    else:
        pads, axes = step.numbers(1) or [], step.numbers(3)
        number = 0.0 if node.input(2) is None else step.scalar(node.input(2))
        if number is None:
            raise Refused("Pad with a computed value")
        value = number
    where = [a % len(x.axes) for a in axes] if axes is not None else list(range(len(x.axes)))
    for i, axis in enumerate(where):
        front, back = pads[i], pads[i + len(where)]
        if mode != "constant":
            x = selected(step.maps, x, axis, _margins(mode, front, x.shape[axis], back))
            continue
        if front < 0 or back < 0:
            x = selected(step.maps, x, axis, range(max(0, -front), x.shape[axis] - max(0, -back)))
        front, back = max(0, front), max(0, back)
        if front or back:
            if not x.axes[axis] or not x.held.issuperset(x.axes[axis]):
                x = _held(step.maps, x, axis)
            x, at = outermost(step.maps, x, axis)
            units = x.axes[axis]
            inner = size(x.stored[at][len(units) :])
            made = axis_of(size(units) + front + back)
            name = padded(step, x.name, {at: (front * inner, back * inner)}, value)
            left = stored((*made, *held[len(units) :]) if n == at else held for n, held in enumerate(x.stored))
            x = Laid(with_axis(x.axes, axis, made), left, name)
    return [x]


def _margins(mode: str, front: int, extent: int, back: int) -> list[int]:
    """Where each place of an axis with margins comes from. Raises Refused."""
    farthest = {"reflect": extent - 1, "wrap": extent, "edge": max(front, back)}.get(mode, -1)
    if min(front, back) < 0 or max(front, back) > farthest:
        raise Refused(f"Pad by {mode!r} of {extent} with {front} in front and {back} behind")
    places = range(-front, extent + back)
    if mode == "edge":
        return [min(max(i, 0), extent - 1) for i in places]
    if mode == "wrap":
        return [i % extent for i in places]
    return [extent - 1 - abs(extent - 1 - abs(i)) for i in places]


def _held(maps: Maps, x: Laid, axis: int) -> Laid:
    """The tensor with an axis over which it is constant written out."""
    missing = tuple(a for a in x.axes[axis] if a not in x.held)
    if not missing:
        return x
    return maps.laid(x, stored((*missing, *held) if i == COLUMNS else held for i, held in enumerate(x.stored)))
