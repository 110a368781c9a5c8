"""Feature maps seen as tokens: a Reshape or Transpose only relabels the axes of a map that stays [B, C, H, W].

A view says which parts of the map's batch, channels, rows and columns make up each axis of the tensor that the model
has there. Nothing here knows operators, names or weights.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Protocol, Self, TypeVar

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from npu_guard.rewriting.substitution import Array, Refused

BATCH, CHANNELS, ROWS, COLUMNS = range(4)


class Atom:
    """A factor of an axis that nothing has split yet. Two atoms of one extent are still two."""

    __slots__ = ("extent",)

    def __init__(self, extent: int) -> None:
        self.extent = extent

    def __repr__(self) -> str:
        return f"{self.extent}@{id(self) % 997}"


Axis = tuple[Atom, ...]
"""Factors of an axis, outermost first; none for an extent of 1."""


def size(axis: Iterable[Atom]) -> int:
    """Extent of an axis."""
    return math.prod(atom.extent for atom in axis)


def atoms(axes: Iterable[Axis]) -> Axis:
    """Factors of several axes in a row."""
    return tuple(atom for axis in axes for atom in axis)


def _axis(extent: int) -> Axis:
    return (Atom(extent),) if extent != 1 else ()


class View(Struct, frozen=True):
    """`stored` are the four axes of the map in memory, `axes` those of the tensor that it stands for."""

    stored: tuple[Axis, ...]
    axes: tuple[Axis, ...]

    @staticmethod
    def of_map(shape: Sequence[int]) -> View:
        """A map as itself."""
        stored = tuple(_axis(extent) for extent in shape)
        return View(stored, stored)

    @staticmethod
    def of_tokens(shape: Sequence[int]) -> View:
        """Tokens [B, N, C] as a map of one column; no operator on tokens asks which grid it is."""
        batch, count, channels = shape
        stored = tuple(_axis(extent) for extent in (batch, channels, count, 1))
        return View(stored, (stored[BATCH], stored[ROWS] + stored[COLUMNS], stored[CHANNELS]))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor that the model has."""
        return tuple(map(size, self.axes))

    @property
    def is_map(self) -> bool:
        """Whether the tensor is the map itself."""
        return self.axes == self.stored

    @property
    def space(self) -> Axis:
        """Factors of all positions."""
        return self.stored[ROWS] + self.stored[COLUMNS]

    @property
    def channels(self) -> Axis:
        """Factors of the channels, in the order of memory."""
        return self.stored[CHANNELS]

    def fresh(self) -> View:
        """The same with factors of its own."""
        return self.renamed({atom: Atom(atom.extent) for atom in atoms(self.stored)})

    def renamed(self, names: dict[Atom, Atom]) -> View:
        """Factors replaced by others of the same extent."""
        return View(*(tuple(tuple(names.get(a, a) for a in axis) for axis in part) for part in (self.stored, self.axes)))

    def split(self, atom: Atom, outer: int) -> View:
        """One factor taken apart, the outer part first. Raises Refused."""
        if atom.extent % outer:
            raise Refused(f"an axis of {atom.extent} is regrouped in parts of {outer}")
        parts = _axis(outer) + _axis(atom.extent // outer)
        split = (
            tuple(tuple(new for a in axis for new in (parts if a is atom else (a,))) for axis in part)
            for part in (self.stored, self.axes)
        )
        return View(*split)

    def permuted(self, order: Sequence[int]) -> View:
        """As a Transpose leaves it."""
        return replace(self, axes=tuple(self.axes[i] for i in order))

    def reshaped(self, shape: Sequence[int]) -> View:
        """As a Reshape leaves it. Raises Refused where an axis would have to be cut within a factor."""
        view, done = self, 0
        counts = []
        for extent in shape:
            start = done
            while (have := size(atoms(view.axes)[start:done])) != extent:
                flat = atoms(view.axes)
                part = math.gcd(extent // have, flat[done].extent) if done < len(flat) and extent % have == 0 else 1
                if part == 1:
                    raise Refused(f"a reshape from {list(self.shape)} to {list(shape)} regroups axes")
                if part != flat[done].extent:
                    view = view.split(flat[done], part)
                done += 1
            counts.append(done - start)
        flat, at = atoms(view.axes), np.cumsum([0, *counts])
        return replace(view, axes=tuple(flat[a:b] for a, b in itertools.pairwise(at)))

    def grouped(self, index: int, extents: Sequence[int]) -> View:
        """Factors of one stored axis split so that runs of them have these extents."""
        flat = View(self.stored, (self.stored[index],)).reshaped(extents)
        by_old = list(zip(self.stored[index], _runs(flat.stored[index], self.stored[index]), strict=True))
        view = self
        for old, new in by_old:
            view = View(*(tuple(_swap(axis, old, new) for axis in part) for part in (view.stored, view.axes)))
        return view

    def lay(self, constant: Array) -> Array:
        """A constant that broadcasts against the tensor, as one that broadcasts against the map. Raises Refused."""
        axes = self.axes
        extents = [1] * (len(axes) - constant.ndim) + list(constant.shape[max(0, constant.ndim - len(axes)) :])
        if constant.size != math.prod(extents):
            raise Refused("a constant has more axes than what it is combined with")
        used: set[Atom] = set()
        for extent, axis in zip(extents, axes, strict=True):
            if extent not in (1, size(axis)):
                raise Refused("a constant spreads a map over new positions or channels")
            used.update(axis if extent > 1 else ())
        order = [a for a in atoms(self.stored) if a in used]
        given = [a for a in atoms(axes) if a in used]
        array = constant.reshape([a.extent for a in given]).transpose([given.index(a) for a in order])
        # A stored axis is covered wholly or not at all, so a constant for each head is repeated over its channels.
        covered = [axis if used.intersection(axis) else () for axis in self.stored]
        array = array.reshape([a.extent if a in used else 1 for a in atoms(covered)])
        return np.broadcast_to(array, [a.extent for a in atoms(covered)]).reshape([size(axis) for axis in covered])


def _swap(axis: Axis, old: Atom, new: Axis) -> Axis:
    return tuple(b for a in axis for b in (new if a is old else (a,)))


def _runs(parts: Axis, wholes: Axis) -> Iterable[Axis]:
    """The parts that each whole has been split into."""
    at = 0
    for whole in wholes:
        start = at
        while size(parts[start:at]) < whole.extent:
            at += 1
        yield parts[start:at]


def aligned(x: View, y: View, pairs: Sequence[tuple[int, int]]) -> tuple[View, View]:
    """Both views with equal factors on axes that run along each other; `y` has no others in common with `x`. Raises Refused."""
    x, y, same = cut_alike(x, y.fresh(), pairs)
    return x, y.renamed(same)


class Factored(Protocol):
    """Anything with axes of factors that can be taken apart."""

    @property
    def axes(self) -> Sequence[Axis]:
        """The factors of each axis, the outermost first."""

    def split(self, atom: Atom, outer: int) -> Self:
        """One factor taken apart, the outer part first. Raises Refused."""


F = TypeVar("F", bound=Factored)


def cut_alike(x: F, y: F, pairs: Iterable[tuple[int, int]]) -> tuple[F, F, dict[Atom, Atom]]:
    """Both with factors of equal extents on axes that run along each other, and for each such factor of `y` that of `x`.

    Raises Refused where the extents do not go together.
    """
    same: dict[Atom, Atom] = {}
    for i, j in pairs:
        at = 0
        while at < min(len(x.axes[i]), len(y.axes[j])):
            a, b = x.axes[i][at], y.axes[j][at]
            if a.extent > b.extent:
                x = x.split(a, b.extent)
            elif b.extent > a.extent:
                y = y.split(b, a.extent)
            else:
                at += 1
        if len(x.axes[i]) != len(y.axes[j]):
            raise Refused(f"axes of {size(x.axes[i])} and {size(y.axes[j])} do not go together")
        same.update(zip(y.axes[j], x.axes[i], strict=True))
    return x, y, same


def joined(x: View, y: View) -> View:
    """What an element-wise operator on two views gives, by broadcasting in the order of the map. Raises Refused."""
    rank = max(len(x.axes), len(y.axes))
    x, y = (replace(v, axes=((),) * (rank - len(v.axes)) + v.axes) for v in (x, y))
    x, y = aligned(x, y, [(i, i) for i in range(rank) if x.axes[i] and y.axes[i]])
    stored = []
    for a, b in zip(x.stored, y.stored, strict=True):
        if a and b and a != b:
            raise Refused("two operands hold their channels or positions in different orders")
        stored.append(a or b)
    if len(set(atoms(stored))) != len(atoms(stored)):
        raise Refused("what is channels in one operand is positions in the other")
    return View(tuple(stored), tuple(a or b for a, b in zip(x.axes, y.axes, strict=True)))


class Moves(Struct, frozen=True):
    """A rearrangement as Reshape, Transpose, Reshape; None where that step does nothing.

    Both shapes begin with a 0 or -1, as Reshape has them, so that they hold for every batch where that is left open.
    """

    split: tuple[int, ...] | None
    order: tuple[int, ...] | None
    merge: tuple[int, ...] | None
    steps: int
    """How many of them do more than put in or take out axes of extent 1."""


def moves(before: Sequence[Axis], after: Sequence[Axis]) -> Moves:
    """How to bring a tensor with axes `before`, the batch first, into axes `after`, which have the same factors."""
    source, target = atoms(before), atoms(after)
    blocks: list[Axis] = [] if before and before[0] else [()]  # a batch of 1 stays in front, as it may be another one later
    for atom in source:  # factors that stay neighbours move as one
        last = blocks[-1][-1] if blocks and blocks[-1] else None
        together = last is not None and target.index(atom) == target.index(last) + 1
        blocks[-1:] = [(*blocks[-1], atom)] if together else [*blocks[-1:], (atom,)]
    placed = sorted(range(len(blocks)), key=lambda i: target.index(blocks[i][0]) if blocks[i] else -1)
    start, end = tuple(map(size, before)), tuple(map(size, after))
    if placed == sorted(placed):
        return _counted(start, None, None, end)
    if [axis for axis in before if axis] == [block for block in blocks if block]:  # axes of extent 1 stay where they are
        used = [i for i, axis in enumerate(before) if axis]
        order = list(range(len(before)))
        for index, block in zip(used, [i for i in placed if blocks[i]], strict=True):
            order[index] = before.index(blocks[block])
        return _counted(start, None, tuple(order), end)
    return _counted(start, tuple(map(size, blocks)), tuple(placed), end)


def _counted(start: tuple[int, ...], split: tuple[int, ...] | None, order: tuple[int, ...] | None, end: tuple[int, ...]) -> Moves:
    whole = start if split is None else split
    moved = whole if order is None else tuple(whole[i] for i in order)
    steps = (_large(whole) != _large(start)) + (order is not None) + (_large(moved) != _large(end))
    return Moves(
        None if split is None else _any_batch(start, split), order, _any_batch(moved, end) if moved != end else None, steps
    )


def _large(shape: Sequence[int]) -> list[int]:
    return [extent for extent in shape if extent != 1]


def _any_batch(before: Sequence[int], after: Sequence[int]) -> tuple[int, ...]:
    """The shape to ask of a Reshape: its first axis, which the batch is in, is copied or follows from the others."""
    return (0 if tuple(before[:1]) == tuple(after[:1]) else -1, *after[1:]) if after else ()
