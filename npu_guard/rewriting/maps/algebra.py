"""Operators on tensors that lie in maps: each says which arrangements would do, and takes the one that costs least to reach."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from npu_guard.rewriting.maps.factors import BATCH, CHANNELS, COLUMNS, ROWS, SPACE, Abilities
from npu_guard.rewriting.maps.program import Constant, Given, Program, Shape, shape_of
from npu_guard.rewriting.maps.tensors import Laid, Stored, aligned, axis_of, cost, laid
from npu_guard.rewriting.maps.written import numpy_type, ones, pointwise
from npu_guard.rewriting.substitution import Array, Builder, Refused
from npu_guard.rewriting.views import Atom, Axis, atoms, size

Made = Callable[[Builder], Array]


class Maps(Struct, frozen=True):
    """Where nodes go, and what the device is known to take."""

    program: Program
    can: Abilities
    reduced: tuple[tuple[int, ...], ...] | None = None
    """Sets of axes over which reductions may run; None for any."""
    widest: int | None = None
    """Channels over which a reduction may run."""
    lacking: frozenset[str] = frozenset()
    """Reductions that the device has not, LogSoftmax and Min."""

    def laid(self, x: Laid, target: Stored) -> Laid:
        """The tensor in another arrangement."""
        return laid(self.program, x, target, self.can)

    def cost(self, x: Laid, target: Stored) -> float:
        """What that costs."""
        return cost(x, target, self.can)


def stored(axes: Iterable[Axis]) -> Stored:
    """An arrangement of four axes."""
    b, c, h, w = axes
    return b, c, h, w


def restricted(x: Laid, target: Stored) -> Stored:
    """The part of an arrangement that a tensor needs to broadcast against it: an axis as a whole or not at all."""
    return stored(axis if x.held.intersection(axis) else () for axis in target)


def extended(base: Stored, other: Stored) -> Stored:
    """An arrangement with the factors of another one that it lacks, on the axes that they have there."""
    have = frozenset(atoms(base))
    made = []
    for mine, theirs in zip(base, other, strict=True):
        extra = tuple(a for a in theirs if a not in have)
        common = tuple(a for a in theirs if a in mine)
        merged = tuple(a for a in theirs if a in mine or a in extra)
        made.append(merged if common == mine else (*mine, *extra))
    return stored(made)


def joined(x: Laid, y: Laid) -> tuple[Laid, Laid]:
    """Two tensors of one rank with the same factors where an axis of both has some. Raises Refused."""
    rank = max(len(x.axes), len(y.axes))
    x, y = (replace(t, axes=((),) * (rank - len(t.axes)) + t.axes) for t in (x, y))
    return aligned(x, y, [(i, i) for i in range(rank) if x.axes[i] and y.axes[i]])


def meeting(maps: Maps, x: Laid, y: Laid) -> tuple[Laid, Laid, Stored]:
    """Two tensors in arrangements that broadcast against each other, and the arrangement of the result."""
    targets = extended(x.stored, y.stored), extended(y.stored, x.stored)
    prices = [maps.cost(x, restricted(x, t)) + maps.cost(y, restricted(y, t)) for t in targets]
    target = targets[int(prices[1] < prices[0])]
    return maps.laid(x, restricted(x, target)), maps.laid(y, restricted(y, target)), target


def both(maps: Maps, op_type: str, x: Laid, y: Laid, dtype: int | None = None) -> Laid:
    """An element-wise operator on two tensors."""
    x, y = joined(x, y)
    axes = tuple(a or b for a, b in zip(x.axes, y.axes, strict=True))
    x, y, target = meeting(maps, x, y)
    return Laid(axes, target, maps.program.two(op_type, x.name, y.name, dtype))


def spread(maps: Maps, x: Laid, shape: Shape) -> Laid:
    """The tensor with axes over which it is constant, as Expand makes them. Raises Refused."""
    axes = ((),) * (len(shape) - len(x.axes)) + x.axes
    made = []
    for axis, extent in zip(axes, shape, strict=True):
        if axis and extent not in (1, size(axis)):
            raise Refused(f"{list(x.shape)} does not spread over {list(shape)}")
        made.append(axis or axis_of(extent))
    return replace(x, axes=tuple(made))


def constant_shape(x: Laid, shape: Shape) -> Shape:
    """Extents of a constant that broadcasts against a tensor, one for each of its axes. Raises Refused."""
    if len(shape) > len(x.axes):
        raise Refused("a constant has more axes than what it is combined with")
    return (1,) * (len(x.axes) - len(shape)) + tuple(shape)


def fixed(maps: Maps, x: Laid, shape: Shape, make: Made, dtype: int) -> tuple[Laid, Constant]:
    """A constant in the order of a map, and the map, which is spread out where the constant has more extents. Raises Refused."""
    rank = max(len(x.axes), len(shape))
    x = replace(x, axes=((),) * (rank - len(x.axes)) + x.axes)
    extents = (1,) * (rank - len(shape)) + tuple(shape)
    x = spread(maps, x, np.broadcast_shapes(x.shape, extents))
    used: set[Atom] = set()
    for extent, axis in zip(extents, x.axes, strict=True):
        if extent not in (1, size(axis)):
            raise Refused("a constant does not go with what it is combined with")
        used.update(axis if extent > 1 else ())
    if new := used - x.held:  # factors that only the constant has: a new axis of the map, or the tensor repeated
        order = tuple(a for a in atoms(x.axes) if a in new)
        free = [i for i in (COLUMNS, ROWS, CHANNELS) if not x.stored[i]]
        at = free[0] if free else COLUMNS
        target = stored(order if i == at and free else (*axis, *order) if i == at else axis for i, axis in enumerate(x.stored))
        # A free axis broadcasts; on an axis in use, the tensor is repeated.
        x = replace(x, stored=target) if free else maps.laid(x, target)
    given = [a for a in atoms(x.axes) if a in used]
    covered = [axis if used.intersection(axis) else () for axis in x.stored]
    inside = list(atoms(covered))

    def laid_out(build: Builder) -> Array:
        array = make(build).reshape([a.extent for a in given])
        array = array.transpose([given.index(a) for a in inside if a in used])
        array = array.reshape([a.extent if a in used else 1 for a in inside])
        return np.broadcast_to(array, [a.extent for a in inside]).reshape([size(axis) for axis in covered])

    return x, Constant(tuple(size(axis) for axis in covered), laid_out, numpy_type(dtype))


def halved(maps: Maps, op_type: str, x: Given, runs: int, axis: int) -> Given:
    """The sum (or maximum) of equal runs along an axis: one half onto the other, until one run is left."""
    program, odd = maps.program, []
    while runs > 1:
        half, rest = divmod(runs, 2)
        run = shape_of(x)[axis] // runs
        first, second, *left = program.split(x, axis, [half * run] * 2 + [run] * rest)
        x, runs = program.two(op_type, first, second), half
        odd += left
    for other in odd:
        x = program.two(op_type, x, other)
    return x


COMBINED = {"ReduceSum": "Add", "ReduceMean": "Add", "ReduceMax": "Max", "ReduceMin": "Min", "ReduceProd": "Mul"}
"""How parts of a reduction are put together."""


def reduced(maps: Maps, op_type: str, x: Laid, gone: frozenset[Atom]) -> Laid:
    """A sum, mean, maximum or minimum over factors of any axes."""
    if op_type == "ReduceMin" and "ReduceMin" in maps.lacking and ("ReduceMax" not in maps.lacking or "Min" in maps.lacking):
        x = reduced(maps, "ReduceMax", replace(x, name=maps.program.one("Neg", x.name)), gone)
        return replace(x, name=maps.program.one("Neg", x.name))
    program, count = maps.program, math.prod(a.extent for a in gone)
    divide = 1.0 if op_type != "ReduceMean" else float(count)
    unheld = math.prod(a.extent for a in gone - x.held) if op_type in ("ReduceSum", "ReduceMean") else 1
    for axis in (CHANNELS, ROWS, COLUMNS, BATCH):
        x, divided = _over(maps, op_type, x, axis, gone)
        divide /= divided
    axes = tuple(tuple(a for a in axis if a not in gone) for axis in x.axes)
    factor = unheld / divide
    name = x.name if factor == 1 else program.two("Mul", x.name, program.number(factor, x.name))
    return replace(x, axes=axes, name=name)


def _over(maps: Maps, op_type: str, x: Laid, axis: int, gone: frozenset[Atom]) -> tuple[Laid, float]:
    """Reduced over what goes of one axis of the map (of both axes of space where both go), and by what it was divided."""
    units = x.stored[axis]
    out = tuple(a for a in units if a in gone)
    if not out:
        return x, 1
    kept = tuple(a for a in units if a not in gone)
    mean = op_type in ("ReduceMean", "ReduceSum")
    native = op_type != "ReduceProd" and (mean or op_type not in maps.lacking)
    if native and axis in SPACE and not kept and not any(a for a in x.stored[COLUMNS if axis == ROWS else ROWS] if a not in gone):
        # More devices have the mean over all of space than the sum.
        made = maps.program.reduce("ReduceMean" if mean else op_type, x.name, (ROWS, COLUMNS))
        left = stored(() if i in SPACE else a for i, a in enumerate(x.stored))
        return replace(x, stored=left, name=made), size((*x.stored[ROWS], *x.stored[COLUMNS])) if mean else 1
    left = stored(kept if i == axis else a for i, a in enumerate(x.stored))
    count = size(out)
    if native and not kept and (maps.reduced is None or (axis,) in maps.reduced):
        if op_type == "ReduceSum" and op_type in maps.lacking:  # as many times the mean
            op_type = "ReduceMean"
        return replace(x, stored=left, name=_narrow(maps, op_type, x.name, axis)), count if op_type == "ReduceMean" else 1
    if mean and axis == CHANNELS and units == (*kept, *out) and _summable(maps, size(kept)):
        divided = count if op_type == "ReduceMean" else 1
        weight = ones(maps.program, (size(kept), count, 1, 1), x.name.dtype, 1 / divided)
        return replace(x, stored=left, name=pointwise(maps.program, x.name, weight, size(kept))), divided
    if op_type != "ReduceProd" and axis in SPACE and units == (*kept, *out) and count <= maps.can.kernel:
        return replace(x, stored=left, name=_pooled(maps, op_type, x.name, axis, count)), count if mean else 1
    outermost = stored((*out, *kept) if i == axis else a for i, a in enumerate(x.stored))
    x = maps.laid(x, outermost)
    return replace(x, stored=left, name=halved(maps, COMBINED[op_type], x.name, count, axis)), 1


def _summable(maps: Maps, outputs: int) -> bool:
    return maps.can.convolved and (maps.can.grouped or outputs == 1) and (outputs == 1 or outputs % maps.can.multiple == 0)


def _narrow(maps: Maps, op_type: str, x: Given, axis: int) -> Given:
    """A reduction over one whole axis, its channels halved first where they are more than the device takes."""
    channels, dtype = shape_of(x)[axis], x.dtype
    if axis != CHANNELS or maps.widest is None or channels <= maps.widest:
        return maps.program.reduce(op_type, x, (axis,))
    runs = next((n for n in range(2, channels + 1) if channels % n == 0 and channels // n <= maps.widest), channels)
    x = halved(maps, COMBINED[op_type], x, runs, axis)
    if runs < channels:
        x = maps.program.reduce(op_type, x, (axis,))
    if op_type == "ReduceMean":  # of a sum of `runs` parts
        x = maps.program.two("Mul", x, maps.program.number(1.0 / runs, x))
    assert x.dtype == dtype
    return x


def _pooled(maps: Maps, op_type: str, x: Given, axis: int, count: int) -> Given:
    """The mean or maximum of each `count` neighbours along an axis of space."""
    shape, kernel = list(shape_of(x)), [count, 1] if axis == ROWS else [1, count]
    shape[axis] //= count
    if op_type == "ReduceMin":
        return maps.program.one("Neg", _pooled(maps, "ReduceMax", maps.program.one("Neg", x), axis, count))
    op = "MaxPool" if op_type == "ReduceMax" else "AveragePool"
    return maps.program.op(op, shape, x, kernel_shape=kernel, strides=kernel)


def orders(blocks: Sequence[Axis]) -> Iterable[tuple[Axis, ...]]:
    """All orders of blocks that are not empty."""
    return itertools.permutations([b for b in blocks if b])
