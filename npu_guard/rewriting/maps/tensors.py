"""Tensors of the model as maps in memory: which factors of their axes lie where. A Reshape or a Transpose moves nothing.

`axes` are those of the tensor that the model has, `stored` the four of the map that holds its numbers. A factor that is in
`axes` and not in `stored` is one over which the tensor is constant, as an Expand leaves it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from npu_guard.rewriting.maps.factors import BATCH, CHANNELS, COLUMNS, ROWS, Abilities, Place
from npu_guard.rewriting.maps.program import Given, Program, Shape, shape_of
from npu_guard.rewriting.maps.route import estimate, route
from npu_guard.rewriting.maps.written import written
from npu_guard.rewriting.substitution import Refused
from npu_guard.rewriting.views import Atom, Axis, atoms, cut_alike, size

Stored = tuple[Axis, Axis, Axis, Axis]
EMPTY: Stored = ((), (), (), ())


class Laid(Struct, frozen=True):
    """A tensor of the model, and the map that holds it."""

    axes: tuple[Axis, ...]
    stored: Stored
    name: Given
    """The map: a tensor of rank 4."""

    @property
    def shape(self) -> Shape:
        """Shape of the tensor that the model has."""
        return tuple(map(size, self.axes))

    @property
    def held(self) -> frozenset[Atom]:
        """Factors that are in memory."""
        return frozenset(atoms(self.stored))

    @property
    def is_map(self) -> bool:
        """Whether the tensor is the map itself."""
        return self.axes == self.stored

    def renamed(self, names: Mapping[Atom, Axis]) -> Laid:
        """Factors replaced by others."""

        def new(axis: Axis) -> Axis:
            return tuple(b for a in axis for b in names.get(a, (a,)))

        b, c, h, w = map(new, self.stored)
        return replace(self, axes=tuple(map(new, self.axes)), stored=(b, c, h, w))

    def split(self, atom: Atom, outer: int) -> Laid:
        """One factor taken apart, the outer part first. Raises Refused."""
        if atom.extent % outer:
            raise Refused(f"an axis of {atom.extent} is regrouped in parts of {outer}")
        return self.renamed({atom: axis_of(outer) + axis_of(atom.extent // outer)})

    def permuted(self, order: Sequence[int]) -> Laid:
        """As a Transpose leaves it."""
        return replace(self, axes=tuple(self.axes[i] for i in order))

    def reshaped(self, shape: Sequence[int]) -> Laid | None:
        """As a Reshape leaves it; None where an axis would have to be cut within a factor."""
        x, done, counts = self, 0, []
        for extent in shape:
            start = done
            while (have := size(atoms(x.axes)[start:done])) != extent:
                flat = atoms(x.axes)
                part = math.gcd(extent // have, flat[done].extent) if done < len(flat) and extent % have == 0 else 1
                if part == 1:
                    return None
                if part != flat[done].extent:
                    x = x.split(flat[done], part)
                done += 1
            counts.append(done - start)
        flat, at = atoms(x.axes), np.cumsum([0, *counts])
        return replace(x, axes=tuple(flat[a:b] for a, b in itertools.pairwise(at)))


def axis_of(extent: int) -> Axis:
    """A new axis of one factor."""
    return (Atom(extent),) if extent != 1 else ()


def as_map(value: Given) -> Laid:
    """A map [B, C, H, W] as itself."""
    b, c, h, w = map(axis_of, shape_of(value))
    return Laid((b, c, h, w), (b, c, h, w), value)


def aligned(x: Laid, y: Laid, pairs: Iterable[tuple[int, int]]) -> tuple[Laid, Laid]:
    """Both with the same factors on axes that run along each other; they have no others in common. Raises Refused."""
    x, y, same = cut_alike(x, y.renamed({a: (Atom(a.extent),) for a in {*atoms(y.axes), *y.held}}), pairs)
    return x, y.renamed({b: (a,) for b, a in same.items()})


def numbered(source: Stored, target: Stored) -> tuple[Place, Place, tuple[int, ...]]:
    """Both arrangements in units: factors that stay neighbours in their order are one unit."""
    units: dict[Atom, int] = {}
    sizes: list[int] = []
    follows = {b: a for axis in source for a, b in itertools.pairwise(axis)}
    held = frozenset(atoms(source))
    for axis in target:
        last: Atom | None = None
        for atom in axis:
            joined = last is not None and (follows.get(atom) is last if atom in held else last not in held)
            if joined and last is not None:
                units[atom] = units[last]
                sizes[-1] *= atom.extent
            else:
                units[atom] = len(sizes)
                sizes.append(atom.extent)
            last = atom
    # A unit of the target is whole in the source, as each of its factors follows the one before it there.
    places = [
        tuple(tuple(k for k, _ in itertools.groupby(units[a] for a in axis)) for axis in stored) for stored in (source, target)
    ]
    return places[0], places[1], tuple(sizes)


def way(x: Laid, target: Stored) -> tuple[Place, Place, tuple[int, ...]]:
    """The task of bringing a tensor into another arrangement, in units. No factor of it may be lost."""
    if missing := x.held - frozenset(atoms(target)):
        raise LookupError(f"{missing} would be lost")
    return numbered(x.stored, target)


def cost(x: Laid, target: Stored, can: Abilities) -> float:
    """What `laid` costs, roughly."""
    return 0.0 if x.stored == target else estimate(*way(x, target), can)


def laid(program: Program, x: Laid, target: Stored, can: Abilities) -> Laid:
    """The tensor in another arrangement, which may hold factors over which it is constant. Raises Refused."""
    if x.stored == target:
        return x
    source, wanted, sizes = way(x, target)
    found = route(source, wanted, sizes, can)
    if found is None:
        raise Refused(f"no rearrangement is known from {list(shape_of(x.name))} as {list(x.shape)} to {list(map(size, target))}")
    return replace(x, stored=target, name=written(program, x.name, found, sizes))


def whole(x: Laid) -> Stored | None:
    """The arrangement in which the tensor is a map of its own, where it has four axes."""
    if len(x.axes) != 4:
        return None
    b, c, h, w = x.axes
    return b, c, h, w


def moved_to(x: Laid, places: Mapping[Atom, int]) -> Stored:
    """The arrangement with some factors moved, in the order that they have in `places`, to the inner end of other axes."""
    kept = [tuple(a for a in axis if a not in places) for axis in x.stored]
    for atom, to in places.items():
        kept[to] = (*kept[to], atom)
    return kept[BATCH], kept[CHANNELS], kept[ROWS], kept[COLUMNS]
