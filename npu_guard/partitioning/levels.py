"""Which piece each unit is in: levels along the graph, odd ones on the host and even ones on the NPU.

The level of a unit is the number of times that the side changes on the way to it, so no edge leads to a lower level: a level
is convex, the pieces have no cycle, and no assignment with these sides has fewer pieces on its longest path. Where a unit
may be in several levels, it moves to where fewer bytes cross; what costs more on the NPU than it saves moves to the host.
Every step is linear in units and edges.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from npu_guard.device.partition import Settings
from npu_guard.partitioning.traffic import Traffic
from npu_guard.partitioning.units import EITHER, HOST, NPU, Units

_FLOATING = -2
_SWEEPS = 2
_ROUNDS = 40
"""Of moving units to the host because they cost too much; more would only be needed by graphs made for it."""


def assign(units: Units, settings: Settings, sides: Sequence[int] | None = None) -> list[int]:
    """Level of each unit: odd ones are the host's."""
    chosen = list(units.sides if sides is None else sides)
    while True:
        levels = _shrink(units, settings, chosen)
        if len(used(levels)) <= settings.max_pieces:
            return levels
        _to_host(units, levels, chosen, settings.max_pieces)


def on_npu(level: int) -> bool:
    """Whether a level is one of the NPU's."""
    return level % 2 == 0


def _shrink(units: Units, settings: Settings, sides: list[int]) -> list[int]:
    """Levels once what is not worth its transfers, or too small, has gone to the host; `sides` is changed."""
    rounds = 0
    while True:
        levels = _levels(units, sides)
        traffic = Traffic(units, levels)
        parts = _sink(units, levels, traffic)
        rounds += 1
        leaving = [
            unit
            for part in parts
            if on_npu(levels[part[0]]) and _leaves(units, settings, part, levels, cheap=rounds <= _ROUNDS)
            for unit in part
        ]
        if not leaving and rounds <= _ROUNDS:
            leaving = _fringe(units, settings, traffic)
        if not leaving:
            return levels
        for unit in leaving:
            sides[unit] = HOST


def _sink(units: Units, levels: Sequence[int], traffic: Traffic) -> list[list[int]]:
    """Move what nobody needs so early to a later level of its side where that makes fewer bytes cross, or one piece less.

    Gives the parts that are there afterwards.
    """
    parts = _parts(units, levels)
    for _ in range(_SWEEPS):
        moved = False
        for part in traffic.with_slack(reversed(parts)):
            moved |= traffic.sink(part)
        # Units alone come next; where nothing has moved, those that are parts by themselves were asked just now.
        alone = range(len(levels)) if moved else sorted(u for part in parts if len(part) > 1 for u in part)
        for part in traffic.with_slack((unit,) for unit in reversed(alone)):
            moved |= traffic.sink(part)
        if not moved:
            break
        parts = _parts(units, levels)
    return parts


def _fringe(units: Units, settings: Settings, traffic: Traffic) -> list[int]:
    """Units at the border of a part for the NPU that the host does for less than the bytes that cross on their account.

    A Where at the entry, say, that makes one tensor of three. `traffic` is changed: what moves lets its neighbour move.
    """
    levels = traffic.levels
    found = []
    for step, order in ((-1, range(len(levels))), (1, reversed(range(len(levels))))):
        for unit in order:
            if on_npu(levels[unit]) and traffic.borders(unit, step):
                gain, move = traffic.weigh((unit,), levels[unit] + step)
                if settings.byte_cost * gain > (settings.host_mac_cost - settings.npu_mac_cost) * units.macs[unit]:
                    move()
                    found.append(unit)
    return found


def _levels(units: Units, sides: Sequence[int]) -> list[int]:
    """The lowest level of each unit. What may run on either side stays with what it reads, else goes with its first reader."""
    levels: list[int] = []
    producer = units.producer
    for reads, side in zip(units.reads, sides, strict=True):
        before = _FLOATING
        for v in reads:  # written out, as in _parts
            level = levels[producer[v]]
            if level > before:  # noqa: PLR1730  # as above
                before = level
        if side == EITHER:
            levels.append(before)
        elif before == _FLOATING:
            levels.append(0 if side == NPU else -1)
        else:
            levels.append(before + (before % 2 != side))
    for unit in reversed([unit for unit, level in enumerate(levels) if level == _FLOATING]):
        readers = (levels[r] for v in units.makes[unit] for r in units.readers[v])
        levels[unit] = min(readers, default=-1)
    return levels


def _parts(units: Units, levels: Sequence[int]) -> list[list[int]]:
    """Units of one level that hang together."""
    # Sets of units by union and find, written out: this runs for each edge, some dozens of times for a report.
    parent = list(range(len(levels)))
    for producer, readers in zip(units.producer, units.readers, strict=True):
        level = levels[producer]
        for reader in readers:
            if levels[reader] == level:
                a, b = producer, reader
                while parent[a] != a:
                    parent[a] = a = parent[parent[a]]
                while parent[b] != b:
                    parent[b] = b = parent[parent[b]]
                if a < b:
                    parent[b] = a
                else:
                    parent[a] = b
    found: dict[int, list[int]] = {}
    for unit in range(len(levels)):
        root = parent[unit] = parent[parent[unit]]  # whose parent is lower, and has its root by now
        if root == unit:
            found[unit] = [unit]
        else:
            found[root].append(unit)
    return list(found.values())


def _leaves(units: Units, settings: Settings, part: Sequence[int], levels: Sequence[int], *, cheap: bool) -> bool:
    """Whether a part for the NPU is too small, or the host does it for less than what it costs to hand it over."""
    macs = units.macs[part[0]] if len(part) == 1 else sum([units.macs[u] for u in part])
    if macs < settings.min_macs:
        return True
    if not cheap:
        return False
    crossed = set()  # a part lies on one side, so what is on the other one is no part of it
    producer, readers = units.producer, units.readers
    for u in part:
        for v in units.reads[u]:
            if levels[producer[v]] % 2:  # not on_npu(), written out as in _parts
                crossed.add(v)
        for v in units.makes[u]:
            for r in readers[v]:
                if levels[r] % 2:
                    crossed.add(v)
                    break
    if not crossed:
        return False  # nothing of the host to merge it with
    crossing = sum([units.bytes[v] for v in crossed])
    saved = settings.byte_cost * crossing + settings.launch_cost
    return saved > (settings.host_mac_cost - settings.npu_mac_cost) * macs


def _to_host(units: Units, levels: Sequence[int], sides: list[int], most: int) -> None:
    """Give levels of the NPU to the host until there are at most so many, and keep those that have most MACs together."""
    order = used(levels)
    macs = {level: 0 for level in order if on_npu(level)}
    for unit, level in enumerate(levels):
        if level in macs:
            macs[level] += units.macs[unit]
    largest = sorted(macs, key=lambda level: (-macs[level], level))
    # Between two levels that stay there is one of the host; before and behind them too, unless they are the ends.
    ends = [end for end in (order[0], order[-1]) if end in macs]
    choices = [[], *([end] for end in ends), ends]
    kept: list[int] = []
    for choice in choices:
        room = (most - 1 + len(choice)) // 2
        if room >= len(choice):
            candidate = [*choice, *(level for level in largest if level not in choice)][:room]
            kept = max(kept, candidate, key=lambda levels: sum(macs[level] for level in levels))
    gone = macs.keys() - set(kept)
    for unit, level in enumerate(levels):
        if level in gone:
            sides[unit] = HOST


def used(levels: Iterable[int]) -> list[int]:
    """Levels with something in them, in order of execution."""
    return sorted(set(levels))
