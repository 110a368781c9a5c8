"""Products of two activations, summed over any factors: MatMul, Einsum and Gemm of tensors that lie in maps.

Every factor of either operand has a place in the product, `P = X' * Y'`, where X' and Y' are the operands in the arrangement
of P, repeated over the factors that they lack or broadcast where they lack a whole axis. The sum over some factors of P is the
result. What stands in space stays there, what is left goes into channels; of the ways to do that, the cheapest is taken:

- scores Q K of attention: positions of Q in space, those of K in channels
- their application to V: positions of Q in space, those of V in channels beside its own channels, and the sum over the former
- attention between channels, or linear attention: positions stay in space and are summed there
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from npu_guard.rewriting.maps.algebra import Maps, extended, orders, reduced, restricted, stored
from npu_guard.rewriting.maps.factors import BATCH, BYTE, CHANNELS, PIECE, SPACE, volume
from npu_guard.rewriting.maps.program import Given, bytes_of
from npu_guard.rewriting.maps.tensors import Laid, Stored, numbered
from npu_guard.rewriting.substitution import Refused
from npu_guard.rewriting.views import Atom, Axis, atoms, size

PIECE_BYTES = 32 << 20
"""Wished size of a product; it is made in pieces along its channels until they fit."""
CANDIDATES = 24
"""Arrangements of a product that are looked at."""
PIECES = 64
"""Pieces of one product."""


def contracted(maps: Maps, x: Laid, y: Laid, summed: frozenset[Atom], axes: tuple[Axis, ...]) -> Laid:
    """The sum over some factors of a product; `axes` are those of the result."""
    x, y = (_without(maps, a, summed - frozenset(atoms(b.axes))) for a, b in ((x, y), (y, x)))
    summed = summed & frozenset(atoms(x.axes)) & frozenset(atoms(y.axes))
    unheld = math.prod(a.extent for a in summed - x.held - y.held)
    summed &= x.held | y.held
    target = _cheapest(maps, x, y, summed)
    x, y = (maps.laid(t, restricted(t, target)) for t in (x, y))
    made = _in_pieces(maps, x, y, target, summed)
    name = made.name
    if unheld != 1:
        name = maps.program.two("Mul", name, maps.program.number(float(unheld), name))
    return replace(made, axes=axes, name=name)


def _without(maps: Maps, x: Laid, gone: frozenset[Atom]) -> Laid:
    """Summed over what the other operand does not have."""
    gone &= frozenset(atoms(x.axes))
    return reduced(maps, "ReduceSum", x, gone) if gone else x


def _arrangements(x: Laid, y: Laid, summed: frozenset[Atom]) -> Iterator[Stored]:
    """Candidates for the product: the space of either operand, or of both, and the rest in channels, in blocks of any order."""
    every = x.held | y.held
    spaces: list[tuple[Axis, Axis]] = []
    for one, two in ((x, y), (y, x)):
        rows, columns = one.stored[SPACE[0]], one.stored[SPACE[1]]
        spaces.append((rows, columns))
        shared = tuple(a for a in (*rows, *columns) if a in two.held)
        own = tuple(a for a in (*rows, *columns) if a not in two.held)
        spaces.append((shared, own))
        unsummed = tuple(a for a in (*rows, *columns) if a not in summed)
        spaces.append(((), unsummed))
    spaces += [((), ()), (extended(x.stored, y.stored)[SPACE[0]], extended(x.stored, y.stored)[SPACE[1]])]
    batch = extended(x.stored, y.stored)[BATCH]
    for rows, columns in dict.fromkeys(spaces):
        left = every - {*rows, *columns, *batch}
        if len({*rows, *columns}) < len(rows) + len(columns):
            continue
        sequence = [a for t in (x, y) for axis in (t.stored[CHANNELS], *t.stored[2:], t.stored[BATCH]) for a in axis]
        order = tuple(a for a in dict.fromkeys(sequence) if a in left)
        common = tuple(a for a in order if a in x.held and a in y.held and a not in summed)
        inner = tuple(a for a in order if a in summed)
        own = tuple(a for a in order if a not in common and a not in inner)
        for blocks in orders((common, inner, own)):
            yield stored((batch, tuple(a for block in blocks for a in block), rows, columns))


def _cheapest(maps: Maps, x: Laid, y: Laid, summed: frozenset[Atom]) -> Stored:
    """The arrangement of the product that costs least; no route is searched where the product itself costs more already."""
    known = sorted(((_price(maps, t, summed), i, t) for i, t in enumerate(_arrangements(x, y, summed))))
    best, lowest = None, math.inf
    for least, _, target in known[:CANDIDATES]:
        if least < lowest:
            price = least + maps.cost(x, restricted(x, target)) + maps.cost(y, restricted(y, target))
            if price < lowest:
                best, lowest = target, price
    return known[0][2] if best is None else best  # the hasty search finds no way, a longer one may


def _price(maps: Maps, target: Stored, summed: frozenset[Atom]) -> float:
    """What the product and its sum cost, once the operands are there."""
    place, _, sizes = numbered(target, target)
    whole = volume(place, sizes)
    total = BYTE * whole + whole / 4
    channels, out = target[CHANNELS], tuple(a for a in target[CHANNELS] if a in summed)
    if out and len(out) < len(channels):
        kept = size(channels) // size(out)
        aligned = kept % maps.can.multiple == 0 and maps.can.grouped and maps.can.convolved
        if channels[: len(out)] == out:
            total += BYTE * whole + PIECE * 3 * math.log2(size(out))
        elif channels[len(channels) - len(out) :] == out and aligned:
            total += whole / 4
        else:
            total += 2 * BYTE * whole + PIECE * (2 * size(channels) // size(out) + size(channels))
    pieces = -(-whole // PIECE_BYTES)
    return total + PIECE * pieces * 8


def _in_pieces(maps: Maps, x: Laid, y: Laid, target: Stored, summed: frozenset[Atom]) -> Laid:
    """The product and its sum, the outermost channels one after the other where all at once is too large."""
    whole = bytes_of([size(axis) for axis in target])
    lead = target[CHANNELS][:1]
    runs = 1
    if whole > PIECE_BYTES and lead:
        runs = next(
            (n for n in range(2, lead[0].extent + 1) if lead[0].extent % n == 0 and whole // n <= PIECE_BYTES), lead[0].extent
        )
    if runs == 1:
        name = maps.program.two("Mul", x.name, y.name)
        return reduced(maps, "ReduceSum", Laid((), target, name), summed)
    if runs > PIECES:
        raise Refused(f"a product of {whole >> 20} MiB, more than {PIECES} pieces of {PIECE_BYTES >> 20} MiB")
    part = Atom(lead[0].extent // runs)
    inner = (part,) if part.extent > 1 else ()
    names = {lead[0]: inner}
    smaller = stored(tuple(b for a in axis for b in names.get(a, (a,))) for axis in target)
    gone = frozenset(b for a in summed for b in names.get(a, (a,)))
    pieces = [_pieces(maps, t, lead[0], runs, smaller) for t in (x, y)]
    made = [_in_pieces(maps, a, b, smaller, gone) for a, b in zip(*pieces, strict=True)]
    if lead[0] in summed:
        total: Given = made[0].name
        for other in made[1:]:
            total = maps.program.two("Add", total, other.name)
        return replace(made[0], name=total)
    place = stored(tuple(lead[0] if a is part else a for a in axis) for axis in made[0].stored)
    if part.extent == 1:
        place = stored(((*lead, *axis) if i == CHANNELS else axis) for i, axis in enumerate(place))
    return replace(made[0], stored=place, name=maps.program.concat([m.name for m in made], CHANNELS))


def _pieces(maps: Maps, x: Laid, lead: Atom, runs: int, smaller: Stored) -> Sequence[Laid]:
    """The parts of an operand for each run of the outermost channels; itself where it does not have them."""
    if lead not in x.stored[CHANNELS]:
        return [x] * runs
    extent = size(x.stored[CHANNELS])
    parts = maps.program.split(x.name, CHANNELS, [extent // runs] * runs)
    where = stored(smaller[i] if axis else () for i, axis in enumerate(x.stored))
    return [replace(x, stored=where, name=p) for p in parts]
