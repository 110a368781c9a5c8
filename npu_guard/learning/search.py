"""Searches that ask several questions at a time: generators that yield points and are sent the answers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

from npu_guard.learning.form import Point

Fits = bool | None
"""Whether the compiler takes a model; None where it does not tell, or where there is no such model."""
_NEARER = 3
T = TypeVar("T")
Search = Generator[Sequence[Point], Sequence[Fits], T]


def together(searches: Sequence[Search[T]]) -> Search[list[T]]:
    """Run searches side by side: what they ask at the same time is one batch."""
    results: dict[int, T] = {}
    waiting: dict[int, Sequence[Point]] = {}

    def step(index: int, answers: Sequence[Fits] | None) -> None:
        try:
            waiting[index] = next(searches[index]) if answers is None else searches[index].send(answers)
        except StopIteration as stop:
            waiting.pop(index, None)
            results[index] = stop.value

    for index in range(len(searches)):
        step(index, None)
    while waiting:
        asked = dict(waiting)
        answers = yield [point for points in asked.values() for point in points]
        start = 0
        for index, points in asked.items():
            step(index, answers[start : start + len(points)])
            start += len(points)
    return [results[index] for index in range(len(searches))]


def climb(at: Callable[[int], Point], base: int, last: int, factor: int = 4) -> Search[tuple[int, int | None]]:
    """(largest that fits, smallest known that does not) from a base that fits, towards `last`, which may be above or below.

    Each step multiplies (or divides) what was reached; then the gap is halved. The second is None where all fits that could be
    asked.
    """
    fits, value = base, base
    while value != last:
        step = value * factor if last > base else value // factor
        value = min(step, last) if last > base else max(step, last)
        (answer,) = yield [at(value)]
        if answer is None:
            return (yield from _short_of(at, fits, value))
        if not answer:
            return (yield from halve(at, fits, value))
        fits = value
    return fits, None


def _short_of(at: Callable[[int], Point], fits: int, unknown: int) -> Search[tuple[int, int | None]]:
    """The same where a step led to a model that is too large: a few numbers short of it, lest what lies there is not known."""
    for _ in range(_NEARER):
        middle = (fits + unknown) // 2
        (answer,) = yield [at(middle)]
        if answer is None:
            unknown = middle
        elif not answer:
            return (yield from halve(at, fits, middle))
        else:
            fits = middle
    return fits, None


def halve(at: Callable[[int], Point], fits: int, refused: int) -> Search[tuple[int, int | None]]:
    """The same for a gap: N and the number beside it, where every question between is answered."""
    while abs(refused - fits) > 1:
        middle = (fits + refused) // 2
        (answer,) = yield [at(middle)]
        if answer is None:
            return fits, refused
        if answer:
            fits = middle
        else:
            refused = middle
    return fits, refused


def shrink(point: Point, base: Point) -> Search[Point]:
    """A refused point with as many knobs as possible turned back to where they start; it is still refused."""
    start = dict(base)
    for name, value in point:
        if value == start[name]:
            continue
        back = tuple((n, start[n] if n == name else v) for n, v in point)
        (answer,) = yield [back]
        if answer is False:
            point = back
    return point
