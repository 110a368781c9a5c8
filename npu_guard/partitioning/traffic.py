"""The bytes that cross between levels, kept up to date while units move from one level to another."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence

from npu_guard.partitioning.units import EITHER, Units

_FEW = 8
"""Readers that are counted anew each time."""


class Traffic:
    """How many units of each level read each value. A tensor counts once for each level that reads it and does not make it.

    `levels` is changed by what moves. Graph inputs and outputs count nothing.
    """

    def __init__(self, units: Units, levels: list[int]) -> None:
        self.units = units
        self.levels = levels
        self._many = {v: _counted(levels, found) for v, found in enumerate(units.readers) if len(found) > _FEW}
        self.size: dict[int, int] = {}
        for level in levels:
            self.size[level] = self.size.get(level, 0) + 1
        self._order = sorted(self.size)

    def _counts(self, value: int) -> dict[int, int]:
        """How many units of each level read a value. What few read is counted when somebody asks, which most never do."""
        counts = self._many.get(value)
        return _counted(self.levels, self.units.readers[value]) if counts is None else counts

    def with_slack(self, parts: Iterable[Sequence[int]]) -> Iterator[Sequence[int]]:
        """The parts without single units that somebody reads before the next level where they could be.

        That is most of them, and asking is cheap. What moves meanwhile is judged as it is by then.
        """
        levels, readers, sides, makes, many = self.levels, self.units.readers, self.units.sides, self.units.makes, self._many
        for part in parts:
            if len(part) == 1:
                unit = part[0]
                level = levels[unit]
                last = level if sides[unit] == EITHER else level + 1
                held = False
                for v in makes[unit]:  # written out: this runs for each unit, some dozens of times for a report
                    if v in many:
                        held = level in many[v] or last in many[v]
                    else:
                        for reader in readers[v]:
                            if levels[reader] <= last:
                                held = True
                                break
                    if held:
                        break
                if not held:
                    yield part
            else:
                yield part

    def borders(self, unit: int, step: int) -> bool:
        """Whether the unit could be one level earlier (-1) or later (1), and that level hands it something or reads it."""
        there = self.levels[unit] + step
        if step < 0:
            return max((self.levels[self.units.producer[v]] for v in self.units.reads[unit]), default=None) == there
        return min((level for v in self.units.makes[unit] for level in self._counts(v)), default=None) == there

    def sink(self, part: Sequence[int]) -> bool:
        """Move a part of one level to the level of its first reader, or of a later one of its side, if that costs no more."""
        units, levels = self.units, self.levels
        here = levels[part[0]]
        if len(part) > 1 and any(levels[u] != here for u in part):
            return False  # some of it has moved already
        first = self._first_reader(part, here)
        if first is None:
            there = self._next(here)
        else:
            there = first if all(units.sides[u] == EITHER for u in part) else first - (first - here) % 2
        if there <= here:
            return False
        gain, move = self.weigh(part, there)
        if gain > 0 or (gain == 0 and self.size[here] == len(part) and there in self.size):
            move()
            return True
        return False

    def _next(self, here: int) -> int:
        """The next level of the same side that has units; `here` where it is the last one."""
        order = self._order
        index = bisect.bisect_right(order, here)
        while index < len(order) and order[index] % 2 != here % 2:
            index += 1
        return order[index] if index < len(order) else here

    def _first_reader(self, part: Sequence[int], here: int) -> int | None:
        """The lowest level that reads what a part of the level `here` makes, at least `here`; None where nothing does."""
        levels, makes, readers = self.levels, self.units.makes, self.units.readers
        own = part if len(part) < 3 else set(part)
        first = None
        for unit in part:
            for v in makes[unit]:
                for reader in readers[v]:
                    level = levels[reader]
                    if level <= here:
                        if reader not in own:
                            return here  # nothing can move, which is the most frequent answer
                    elif first is None or level < first:
                        first = level
        return first

    def weigh(self, part: Sequence[int], there: int) -> tuple[int, Callable[[], None]]:
        """Bytes that no longer cross when units of one level move to another, and the move itself."""
        here, own = self.levels[part[0]], set(part)
        touched = {v: 0 for u in part for v in self.units.makes[u]}
        for u in part:
            for v in self.units.reads[u]:
                touched[v] = touched.get(v, 0) + 1
        gain = sum(self._gain(v, moving, here, there, self.units.producer[v] in own) for v, moving in touched.items())
        return gain, lambda: self._move(part, touched, here, there)

    def _gain(self, value: int, moving: int, here: int, there: int, own: bool) -> int:
        """For one value: `moving` of its readers move, and its producer where it is `own`."""
        counts, producer = self._counts(value), self.levels[self.units.producer[value]]
        before = len(counts) - (producer in counts)
        stays = counts.get(here, 0) > moving
        arrives = there in counts or moving > 0
        after = len(counts) - (here in counts) + stays - (there in counts) + arrives
        made = there if own else producer
        after -= stays if made == here else arrives if made == there else made in counts
        return self.units.bytes[value] * (before - after)

    def _move(self, part: Sequence[int], touched: dict[int, int], here: int, there: int) -> None:
        for u in part:
            self.levels[u] = there
        for value, moving in touched.items():
            counts = self._many.get(value)
            if moving and counts is not None:
                counts[there] = counts.get(there, 0) + moving
                counts[here] -= moving
                if not counts[here]:
                    del counts[here]
        if there not in self.size:
            bisect.insort(self._order, there)
        self.size[there] = self.size.get(there, 0) + len(part)
        self.size[here] -= len(part)
        if not self.size[here]:
            del self.size[here]
            del self._order[bisect.bisect_left(self._order, here)]


def _counted(levels: Sequence[int], readers: Iterable[int]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for reader in readers:
        counts[levels[reader]] = counts.get(levels[reader], 0) + 1
    return counts
