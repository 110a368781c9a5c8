"""The factors of which a rearrangement of a map is a product, and what each costs.

An axis in memory is a row of units, outermost first (mixed radix). A rearrangement moves units between axes, or changes their
order; a repetition adds units. Each factor below is exact, as it only copies numbers:

- dealt: the outermost units of one axis become the outermost of another: Split there, Concat here
- reordered: units of one axis change places: Split in runs, Concat in the new order
- folded: the innermost units of height and width become the innermost of the channels: a depthwise Conv of one-hot weights,
  whose kernel and stride are the block
- unfolded: the reverse: a ConvTranspose of one-hot weights
- mixed: channels change places: a 1x1 Conv with a permutation matrix, in groups where outer units stay
- repeated: a new unit: Concat of equal pieces, or a convolution with ones
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence

from msgspec import Struct

BATCH, CHANNELS, ROWS, COLUMNS = range(4)
SPACE = (ROWS, COLUMNS)
Place = tuple[tuple[int, ...], ...]
"""For each of the four axes the units that make it up, outermost first."""
BYTE = 16
"""Price of a byte that is written, in multiply-accumulates (as `block_check.MACS_PER_BYTE`)."""
PIECE = 1 << 15
"""Price of one more tensor, whatever its size."""
BLOCK = 8
"""Channels that hardware keeps together: fewer take as much room."""
WIDEST = 4096
"""Pieces that one factor may have."""
SPLIT = frozenset({"dealt", "reordered", "repeated"})
"""Factors that are a Split and a Concat."""


class Abilities(Struct, frozen=True):
    """What is known beforehand of what a device takes, so that a search does not offer what is refused anyway."""

    kernel: int = 32
    """Longest kernel and stride of one axis."""
    multiple: int = 1
    """What output channels of convolutions have to be a multiple of."""
    grouped: bool = True
    """Whether convolutions may have groups."""
    transposed: bool = True
    """Whether there are transposed convolutions."""
    unfolded: int = 32
    """Longest kernel and stride of a transposed convolution."""
    convolved: bool = True
    """Whether one-hot convolutions are taken at all, for instance of the data type at hand."""
    rearranged: bool = True
    """Whether a Reshape may merge and split the axes of a map, and a Transpose move them."""


class Factor(Struct, frozen=True):
    """One step: what it is, and the arrangement behind it."""

    kind: str
    after: Place
    price: float
    axis: int = 0
    to: int = 0
    runs: int = 1
    """Pieces of a Split, or groups of a convolution."""
    pieces: int = 1
    """Pieces of the Concat, or how often a convolution with ones repeats."""
    old: tuple[int, ...] = ()
    new: tuple[int, ...] = ()
    """Units that change their order; of one-hot weights, those of the kernel and those of a block of channels."""
    kernel: tuple[int, int] = (1, 1)

    def order(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Where each piece of the Concat is taken from; of one-hot weights, the kernel position of each channel of a block."""
        strides = {u: extent(self.old[i + 1 :], sizes) for i, u in enumerate(self.old)}
        steps = [strides.get(u, 0) for u in self.new]
        numbers = itertools.product(*(range(sizes[u]) for u in self.new))
        return tuple(sum(n * s for n, s in zip(at, steps, strict=True)) for at in numbers)


def extent(units: Sequence[int], sizes: Sequence[int]) -> int:
    """Extent of a row of units."""
    product = 1
    for unit in units:
        product *= sizes[unit]
    return product


def shape(place: Place, sizes: Sequence[int]) -> tuple[int, ...]:
    """Extents of the four axes."""
    batch, channels, rows, columns = place
    return extent(batch, sizes), extent(channels, sizes), extent(rows, sizes), extent(columns, sizes)


@functools.lru_cache(maxsize=1 << 14)
def volume(place: Place, sizes: tuple[int, ...]) -> int:
    """Bytes of an arrangement in float32, its channels in whole blocks."""
    batch, channels, rows, columns = shape(place, sizes)
    return 4 * batch * -(-channels // BLOCK) * BLOCK * rows * columns


def factors(place: Place, target: Place, sizes: tuple[int, ...], can: Abilities) -> Iterator[Factor]:
    """Every factor that could come next."""
    axes = [a for a in range(4) if a != BATCH or place[BATCH] != target[BATCH]]
    if len(axes) == 3 and not place[COLUMNS] and not target[COLUMNS] and place[ROWS] and target[ROWS]:
        axes.remove(COLUMNS)
    for factor in itertools.chain(
        _dealt(place, sizes, axes), _reordered(place, sizes, axes), _repeated(place, target, sizes, axes, can),
        _folded(place, sizes, can), _unfolded(place, sizes, can), _mixed(place, target, sizes, can),
    ):  # fmt: skip
        if factor.kind not in SPLIT or max(factor.runs, factor.pieces) <= WIDEST:
            yield factor


def _put(place: Place, axis: int, units: tuple[int, ...]) -> Place:
    return (*place[:axis], units, *place[axis + 1 :])


def _moved(before: Place, after: Place, sizes: tuple[int, ...], pieces: int) -> float:
    """Price of a Split and a Concat."""
    return BYTE * (volume(before, sizes) + volume(after, sizes)) / 2 + PIECE * (1 + pieces)


def dealt(place: Place, sizes: tuple[int, ...], axis: int, to: int, count: int) -> Factor:
    """The outermost units of one axis as the outermost of another."""
    lead, rest = place[axis][:count], place[axis][count:]
    after = _put(_put(place, axis, rest), to, lead + place[to])
    runs = extent(lead, sizes)
    return Factor("dealt", after, _moved(place, after, sizes, runs), axis, to, runs, runs, lead, lead)


def repeated(place: Place, sizes: tuple[int, ...], axis: int, unit: int, at: int = 0) -> Factor:
    """A new unit on an axis, behind some of its units."""
    units, times = place[axis], sizes[unit]
    runs = extent(units[:at], sizes)
    after = _put(place, axis, (*units[:at], unit, *units[at:]))
    paid = BYTE * (volume(after, sizes) + (volume(place, sizes) if at else 0)) / 2 + PIECE * (1 + runs)
    return Factor("repeated", after, paid, axis, axis, runs, runs * times, units[:at], (*units[:at], unit))


def _dealt(place: Place, sizes: tuple[int, ...], axes: Sequence[int]) -> Iterator[Factor]:
    for axis, to in itertools.permutations(axes, 2):
        for count in range(1, len(place[axis]) + 1):
            yield dealt(place, sizes, axis, to, count)


def _reordered(place: Place, sizes: tuple[int, ...], axes: Sequence[int]) -> Iterator[Factor]:
    for axis in axes:
        units = place[axis]
        for first, last in itertools.combinations(range(len(units)), 2):
            for order in _exchanges(first, last):
                run = units[: last + 1]
                new = tuple(run[i] for i in (*range(first), *order))
                after = _put(place, axis, new + units[last + 1 :])
                pieces = extent(run, sizes)
                if pieces <= WIDEST:
                    yield Factor("reordered", after, _moved(place, after, sizes, pieces), axis, axis, pieces, pieces, run, new)


def _exchanges(first: int, last: int) -> Iterator[tuple[int, ...]]:
    """The last unit to the front, and the first to the end."""
    yield (last, *range(first, last))
    if last > first + 1:
        yield (*range(first + 1, last + 1), first)


def _repeated(place: Place, target: Place, sizes: tuple[int, ...], axes: Sequence[int], can: Abilities) -> Iterator[Factor]:
    have = {u for units in place for u in units}
    for axis, wanted in enumerate(target):
        for unit in wanted:
            if unit in have or axis not in axes:
                continue
            units, times = place[axis], sizes[unit]
            for at in range(len(units) + 1):
                if extent(units[:at], sizes) * times > WIDEST:
                    break
                yield repeated(place, sizes, axis, unit, at)
            after = _put(place, axis, (*units, unit))
            elements = math.prod(shape(after, sizes))
            paid = BYTE * volume(after, sizes) + elements + PIECE
            channels = extent(after[CHANNELS], sizes)
            if axis == CHANNELS and can.convolved and (can.grouped or extent(units, sizes) == 1) and channels % can.multiple == 0:
                yield Factor("spread", after, paid, axis, axis, extent(units, sizes), times)
            single = channels == 1 or can.grouped
            if (
                axis in SPACE
                and can.convolved
                and can.transposed
                and single
                and times <= can.unfolded
                and channels % can.multiple == 0
            ):
                kernel = (times, 1) if axis == ROWS else (1, times)
                yield Factor("grown", after, paid, axis, axis, channels, kernel=kernel)


def _folded(place: Place, sizes: tuple[int, ...], can: Abilities) -> Iterator[Factor]:
    _, channels, rows, columns = place
    groups = extent(channels, sizes)
    if not can.convolved or not (can.grouped or groups == 1):
        return
    for i, j in itertools.product(range(len(rows) + 1), range(len(columns) + 1)):
        high, wide = rows[len(rows) - i :], columns[len(columns) - j :]
        kernel = extent(high, sizes), extent(wide, sizes)
        if max(kernel) > can.kernel or not i + j or groups * math.prod(kernel) % can.multiple:
            continue
        for new in {high + wide, wide + high}:
            after = place[BATCH], channels + new, rows[: len(rows) - i], columns[: len(columns) - j]
            macs = math.prod(shape(after, sizes)) * math.prod(kernel)
            paid = BYTE * volume(after, sizes) + macs + PIECE
            yield Factor("folded", after, paid, runs=groups, old=high + wide, new=new, kernel=kernel)


def _unfolded(place: Place, sizes: tuple[int, ...], can: Abilities) -> Iterator[Factor]:
    batch, channels, rows, columns = place
    if not can.transposed or not can.convolved:
        return
    for count in range(1, len(channels) + 1):
        kept, block = channels[: len(channels) - count], channels[len(channels) - count :]
        groups = extent(kept, sizes)
        if groups % can.multiple or count > 4 or not (can.grouped or groups == 1):
            continue
        for sides in itertools.product(SPACE, repeat=count):
            high = tuple(u for u, s in zip(block, sides, strict=True) if s == ROWS)
            wide = tuple(u for u, s in zip(block, sides, strict=True) if s == COLUMNS)
            kernel = extent(high, sizes), extent(wide, sizes)
            if max(kernel) > can.unfolded:
                continue
            for tall, broad in {(h, w) for h in (high, high[::-1]) for w in (wide, wide[::-1])}:
                after = batch, kept, rows + tall, columns + broad
                macs = math.prod(shape(place, sizes)) * math.prod(kernel)
                paid = BYTE * volume(after, sizes) + macs + PIECE
                yield Factor("unfolded", after, paid, runs=groups, old=tall + broad, new=block, kernel=kernel)


def _mixed(place: Place, target: Place, sizes: tuple[int, ...], can: Abilities) -> Iterator[Factor]:
    channels = place[CHANNELS]
    total = extent(channels, sizes)
    if not can.convolved or len(channels) < 2 or total % can.multiple:
        return
    wanted = [u for u in target[CHANNELS] if u in channels]
    orders = {(*(u for u in channels if u not in wanted), *wanted), (*wanted, *(u for u in channels if u not in wanted))}
    for i, j in itertools.combinations(range(len(channels)), 2):
        orders.add((*channels[:i], channels[j], *channels[i:j], *channels[j + 1 :]))
    for order in orders:
        if order == channels:
            continue
        same = next(i for i, (a, b) in enumerate(zip(channels, order, strict=True)) if a != b)
        groups = extent(channels[:same], sizes) if can.grouped else 1
        if groups == 1:
            same = 0
        inner = total // groups
        after = _put(place, CHANNELS, order)
        if inner > WIDEST or inner * total > 1 << 22:
            continue
        macs = math.prod(shape(place, sizes)) * inner
        paid = BYTE * volume(after, sizes) + macs + PIECE + 4 * inner * total
        yield Factor("mixed", after, paid, CHANNELS, CHANNELS, groups, inner, channels[same:], order[same:])
