"""Where the lowering begins and ends: tensors of the model that are no maps, brought into one, and back again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from npu_guard.base.text import short
from npu_guard.checking.context import Context
from npu_guard.graph.graph import Value
from npu_guard.rewriting.maps.algebra import Maps, stored
from npu_guard.rewriting.maps.program import Given, Program, shape_of
from npu_guard.rewriting.maps.tensors import Laid, Stored, as_map, axis_of, whole
from npu_guard.rewriting.substitution import Refused
from npu_guard.rewriting.views import Axis, Moves, atoms, moves, size

FLOATS = frozenset({1, 10, 11, 16})


class Tensors(Mapping[Value, Laid]):
    """What a value is: found in a region, or a map, or brought into one."""

    def __init__(self, ctx: Context, maps: Maps) -> None:
        self.ctx = ctx
        self.inner: dict[Value, Laid] = {}
        self.entries: dict[Value, Laid] = {}
        self._maps = maps

    def __getitem__(self, value: Value) -> Laid:
        source = self.ctx.analysis.origin(value)
        for held in (value, source):
            if held in self.inner:
                return self.inner[held]
        if source not in self.entries:
            self.entries[source] = self._entry(source)
        return self.entries[source]

    def __contains__(self, value: object) -> bool:
        try:
            self[value]  # type: ignore[index]
        except KeyError:
            return False
        return True

    def __iter__(self) -> Iterator[Value]:
        return iter(self.inner)

    def __len__(self) -> int:
        return len(self.inner)

    def _entry(self, value: Value) -> Laid:
        if self.ctx.is_constant(value) or value.initializer is not None or value.graph.parent is not None:
            raise KeyError(value)
        if value.dtype not in FLOATS:
            raise Refused(f"{short(value.name)!r} is not of floating point")
        shape = shape_of(value)
        if len(shape) == 4:
            return as_map(value)
        axes = tuple(map(axis_of, shape))
        if len(shape) < 2 or len(shape) > 6:
            raise Refused(f"{short(value.name)!r} has {len(shape)} axes")
        if not self._maps.can.rearranged and (kept := in_order(axes)):
            place = kept[0]
        elif len(shape) == 3:  # tokens [B, N, C]
            place = stored((axes[0], axes[2], (), axes[1]))
        elif len(shape) == 2:
            place = stored((axes[0], axes[1], (), ()))
        else:
            place = stored((axes[0], atoms(axes[1:-2]), axes[-2], axes[-1]))
        return Laid(axes, place, _moved(self._maps.program, value, moves(axes, place), tuple(map(size, place))))


def written_back(maps: Maps, x: Laid) -> Given:
    """A tensor in the form that the model has it in."""
    target = whole(x)
    if target is not None:
        return maps.laid(x, target).name
    choices = [] if maps.can.rearranged else in_order(x.axes)
    kept = min(choices, key=lambda c: maps.cost(x, c), default=None)
    if kept is None or math.isinf(maps.cost(x, kept)):  # too long to be moved piece by piece: one rearrangement stays
        kept = _held(x)
    x = maps.laid(x, kept)
    return _moved(maps.program, x.name, moves(x.stored, x.axes), x.shape)


def in_order(axes: Sequence[Axis]) -> list[Stored]:
    """Arrangements of which axes of extent 1 make a tensor of two or three axes, the usual one first.

    Tokens [B, N, C] are [B, N, 1, C]; [N, C] are one batch of tokens [1, N, 1, C], or N vectors [N, C, 1, 1].
    """
    if len(axes) == 3:
        return [stored((axes[0], axes[1], (), axes[2]))]
    if len(axes) != 2:
        return []
    vectors, tokens = stored((axes[0], axes[1], (), ())), stored(((), axes[0], (), axes[1]))
    return [tokens, vectors] if axes[0] and axes[1] else [vectors]


def _held(x: Laid) -> Stored:
    """An arrangement that holds all factors, those over which it is constant too."""
    missing = tuple(a for a in atoms(x.axes) if a not in x.held)
    b, c, h, w = x.stored
    return stored((b, (*c, *missing), h, w))


def _moved(program: Program, name: Given, how: Moves, shape: tuple[int, ...]) -> Given:
    """What has to stay of the model's own rearrangements."""
    if how.split is not None:
        name = program.op("Reshape", tuple(_sizes(how.split, shape_of(name))), name, program.ints(*how.split))
    if how.order is not None:
        name = program.op("Transpose", [shape_of(name)[i] for i in how.order], name, perm=list(how.order))
    return program.op("Reshape", shape, name, program.ints(*how.merge)) if how.merge is not None else name


def _sizes(asked: tuple[int, ...], before: tuple[int, ...]) -> Iterator[int]:
    """The shape that a Reshape gives whose first axis is copied or follows from the others."""
    total, rest = 1, 1
    for n in before:
        total *= n
    for n in asked[1:]:
        rest *= n
    yield from (total // rest, *asked[1:])
