"""A rearrangement of a map [B, C, H, W] as a product of factors that a device has, the cheapest that a search finds."""

from __future__ import annotations

import functools
import heapq
import itertools
import math

from npu_guard.rewriting.maps.factors import (
    BATCH,
    BYTE,
    CHANNELS,
    COLUMNS,
    ROWS,
    WIDEST,
    Abilities,
    Factor,
    Place,
    dealt,
    extent,
    factors,
    repeated,
)  # fmt: skip

STATES = 200
"""Arrangements that one search looks at, and then again in more of a hurry."""
GLIMPSES = 30
"""Arrangements that an estimate looks at."""


@functools.lru_cache(maxsize=4096)
def route(source: Place, target: Place, sizes: tuple[int, ...], can: Abilities) -> tuple[Factor, ...] | None:
    """Factors that lead from one arrangement to another, the cheapest that a search finds; None where there is none.

    `target` has all units of `source`, and others, over which the numbers are repeated.
    """
    for weight in (1, 12):
        found = _search(source, target, sizes, can, weight, STATES)
        if found is not None:
            return found
    return by_hand(source, target, sizes)


@functools.lru_cache(maxsize=1 << 14)
def estimate(source: Place, target: Place, sizes: tuple[int, ...], can: Abilities) -> float:
    """What a route costs, roughly, as a hasty search finds it, or none."""
    found = _search(source, target, sizes, can, 8, GLIMPSES) or by_hand(source, target, sizes)
    return math.inf if found is None else sum(f.price for f in found)


def _search(
    source: Place, target: Place, sizes: tuple[int, ...], can: Abilities, weight: int, states: int
) -> tuple[Factor, ...] | None:
    """A*; with a weight above 1 it is sooner there, and perhaps not by the cheapest way."""
    least = weight * BYTE * 4 * extent([u for units in source for u in units], sizes)
    wanted = {pair for axis, units in enumerate(target) for pair in itertools.pairwise((-1 - axis, *units))}

    def ahead(place: Place) -> float:  # a factor puts three units at most behind the one that they belong to
        right = 0
        for axis, units in enumerate(place):
            last = -1 - axis
            for unit in units:
                right += (last, unit) in wanted
                last = unit
        return -(-(len(wanted) - right) // 3) * least

    best: dict[Place, float] = {source: 0.0}
    came: dict[Place, tuple[Place, Factor]] = {}
    queue = [(ahead(source), 0, source)]
    number = itertools.count(1)
    done: set[Place] = set()
    while queue and len(done) < states:
        _, _, place = heapq.heappop(queue)
        if place == target:
            found: list[Factor] = []
            while place != source:
                place, factor = came[place]
                found.append(factor)
            return tuple(reversed(found))
        if place in done:
            continue
        done.add(place)
        for factor in factors(place, target, sizes, can):
            total = best[place] + factor.price
            if total < best.get(factor.after, math.inf):
                best[factor.after] = total
                came[factor.after] = place, factor
                heapq.heappush(queue, (total + ahead(factor.after), next(number), factor.after))
    return None


def by_hand(source: Place, target: Place, sizes: tuple[int, ...]) -> tuple[Factor, ...] | None:
    """A way that is always there, and long: each axis is a stack of units, outermost on top, and one unit moves at a time.

    All units go onto the columns; then each stack is built from its innermost unit, which is dug out from wherever it is.
    """
    if max(sizes) > WIDEST:
        return None
    axes = [a for a in (CHANNELS, ROWS, COLUMNS, BATCH) if a != BATCH or source[BATCH] != target[BATCH]]
    place, made = source, []

    def move(axis: int, to: int) -> None:
        nonlocal place
        made.append(dealt(place, sizes, axis, to, 1))
        place = made[-1].after

    def put(unit: int, to: int, heap: int, aside: int) -> None:
        nonlocal place
        if unit not in place[heap]:
            made.append(repeated(place, sizes, to, unit))
            place = made[-1].after
            return
        above = place[heap].index(unit)
        for _ in range(above):
            move(heap, aside)
        move(heap, to)
        for _ in range(above):
            move(aside, heap)

    for axis in axes:
        while axis != COLUMNS and place[axis]:
            move(axis, COLUMNS)
    for axis in [a for a in (BATCH, CHANNELS, ROWS) if a in axes]:
        for unit in reversed(target[axis]):
            put(unit, axis, COLUMNS, ROWS if axis != ROWS else CHANNELS)
    for _ in range(len(place[COLUMNS])):
        move(COLUMNS, CHANNELS)
    for unit in reversed(target[COLUMNS]):
        put(unit, COLUMNS, CHANNELS, ROWS)
    assert place == target
    return tuple(made)
