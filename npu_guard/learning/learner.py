"""Learn one operator: turn each knob, find where the compiler refuses, and try what was found against random models."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable

from npu_guard.learning.form import Choice, Form, Model, Point, Range, Value, built
from npu_guard.learning.guess import Guess
from npu_guard.learning.learned import Learned, at_bound
from npu_guard.learning.search import Fits, Search, climb, halve, shrink, together

_SMALL = (1, 2, 3, 5, 7)
"""Numbers at which divisors and odd numbers show."""
_ROUNDS = 8
_TRIES = 3
"""Random models on either side of each limit, in a round."""
_STRAY = 12
"""Random models in a round that ought to fit."""
_MOST_CROSSED = 64
"""Pairs of choices that are tried."""
_CROSSED = 12
"""Of these, how many are tried with extents turned too."""
_DRAWS = 60
_SURPRISES = 8
"""Unexpected answers that are looked into in a round."""
_FLIPPED = 4
"""Refused words of which each other knob is turned."""
_CHOICES = 4
"""Of a knob with many values, how many are tried with each other knob."""


def learn(form: Form, learned: Learned) -> Search[None]:
    """Ask until nothing contradicts what was found, or there is nothing more to ask. Fills `learned` as it goes."""
    yield from _start(form, learned)
    if learned.status == "supported":
        base = _base(form, learned)
        yield from together([_turn(form, learned, base, name) for name in _alone(form)])
        drawing = random.Random(f"{form.op} of a compiler")  # the same questions each time, so that a run can go on
        yield from _pairs(form, learned, base, drawing)
        for _ in range(_ROUNDS):
            learned.explain()
            before = len(learned.seeds)
            surprises = yield from _try(form, learned, base, drawing)
            yield from together([_settle(form, learned, base, point) for point in surprises[:_SURPRISES]])
            learned.settled = not surprises and len(learned.seeds) == before
            if learned.settled:
                break
    learned.explain()
    learned.done = True


def _ask(learned: Learned, points: Iterable[Point]) -> Search[list[Fits]]:
    points = list(points)
    fresh = [point for point in dict.fromkeys(points) if point not in learned.answers]
    answers = (yield fresh) if fresh else []
    learned.answers.update(zip(fresh, answers, strict=True))
    return [learned.answers[point] for point in points]


def _noted(learned: Learned, search: Search[tuple[int, int | None]]) -> Search[tuple[int, int | None]]:
    """A search whose answers are kept."""
    points = next(search, None)
    while points is not None:
        answers = yield from _ask(learned, points)
        try:
            points = search.send(answers)
        except StopIteration as stop:
            result: tuple[int, int | None] = stop.value
            return result
    return 0, None


def _start(form: Form, learned: Learned) -> Search[None]:
    """The base, and where it is refused the same with one choice made otherwise, until one is taken."""
    yield from _ask(learned, [form.base])
    if learned.answers.get(form.base):
        return
    others = [form.turned(form.base, **{n: v}) for n, k in form.knobs.items() if isinstance(k, Choice) for v in k.values[1:]]
    low = [form.turned(form.base, **{n: k.low}) for n, k in form.knobs.items() if isinstance(k, Range) and k.low != k.base]
    yield from _ask(learned, [*others, *low])


def _base(form: Form, learned: Learned) -> Point:
    return next(point for point, fits in learned.answers.items() if fits)


def _alone(form: Form) -> list[tuple[str, ...]]:
    """Knobs to turn: each by itself, and height with width."""
    return [*((name,) for name in form.knobs), *_twins(form)]


def _turn(form: Form, learned: Learned, base: Point, names: tuple[str, ...]) -> Search[None]:
    """Each value of a choice; of a range its ends, by doubling and halving, and a few small numbers."""
    knob = form.knobs[names[0]]
    if isinstance(knob, Choice):
        points = [form.turned(base, **{names[0]: value}) for value in knob.values]
        answers = yield from _ask(learned, points)
        learned.seeds.update((point, None) for point, fits in zip(points, answers, strict=True) if fits is False)
        return

    def at(value: int) -> Point:
        return form.turned(base, **dict.fromkeys(names, value))

    start = int(dict(base)[names[0]])  # type: ignore[arg-type]  # of a range
    small = [at(n) for n in _SMALL if knob.low <= n <= knob.high]
    yield from together(
        [_edge(learned, at, start, end, range(knob.low, knob.high + 1)) for end in (knob.high, knob.low)]
        + [_settle(form, learned, base, point) for point in small]
    )


def _edge(learned: Learned, at: Callable[[int], Point], start: int, end: int, known: range) -> Search[None]:
    """Where refusals begin on the way to an end, and a few numbers around it."""
    asked: dict[Point, None] = {}

    def kept(value: int) -> Point:
        asked[at(value)] = None
        return at(value)

    fits, refused = yield from _noted(learned, climb(kept, start, end))
    if refused is not None:
        step = 1 if refused > fits else -1
        beyond = [value for value in (refused + step, refused + 3 * step, 2 * refused, fits - step) if value in known]
        yield from _ask(learned, [kept(value) for value in beyond])
    learned.seeds.update((point, None) for point in asked if learned.answers.get(point) is False)


def _settle(form: Form, learned: Learned, base: Point, point: Point) -> Search[None]:
    """Ask about a point; of a refused one find out what of it is refused, and where along each knob that begins."""
    (answer,) = yield from _ask(learned, [point])
    if answer is not False:
        return
    learned.seeds[point] = None  # turned back, it may lose what tells conditions apart
    search = shrink(point, base)
    asked = next(search, None)
    while asked is not None:
        answers = yield from _ask(learned, asked)
        try:
            asked = search.send(answers)
        except StopIteration as stop:
            point = stop.value
            break
    learned.seeds[point] = None
    start = dict(base)
    turned = [n for n, v in point if v != start[n] and isinstance(form.knobs[n], Range)]
    yield from together([_narrow(form, learned, point, name, int(start[name])) for name in turned])  # type: ignore[arg-type]


def _narrow(form: Form, learned: Learned, point: Point, name: str, fits: int) -> Search[None]:
    def at(value: int) -> Point:
        return form.turned(point, **{name: value})

    _, refused = yield from _noted(learned, halve(at, fits, int(dict(point)[name])))  # type: ignore[arg-type]
    if refused is not None and learned.answers.get(at(refused)) is False:
        learned.seeds[at(refused)] = None


def _pairs(form: Form, learned: Learned, base: Point, drawing: random.Random) -> Search[None]:
    """The ends of each two knobs together, and of knobs with choices: what fits alone may not fit so."""
    ends = _ends(form, learned, base)
    pairs: list[dict[str, Value]] = [{a: ends[a][1], b: ends[b][1]} for a, b in itertools.combinations(ends, 2)]
    limited = [name for name in ends if any(fits is False for fits in _alone_at(form, learned, base, name).values())]
    pairs += [{name: ends[name][1], other: ends[other][0]} for name in limited for other in ends if other != name]
    choices = {
        name: [v for v in knob.values if v != dict(base)[name]] for name, knob in form.knobs.items() if isinstance(knob, Choice)
    }
    for name, values in choices.items():
        told = {value: learned.answers.get(form.turned(base, **{name: value})) for value in values}
        taken = [value for value, fits in told.items() if fits]
        drawn = drawing.sample(taken, min(len(taken), _CHOICES))
        pairs += [{name: value, other: reach} for value in drawn for other, (_, reach) in ends.items()]
        pairs += [{name: value, "rank": ends["rank"][0]} for value in drawn if "rank" in ends]  # a row is a form of its own
        refused = [value for value, fits in told.items() if fits is False][:_CHOICES]
        pairs += [{name: value, other: 1} for value in refused for other in ends]  # an extent of 1 may exempt
    crossed = [{a: x, b: y} for a, b in itertools.combinations(choices, 2) for x in choices[a] for y in choices[b]]
    pairs += drawing.sample(crossed, min(len(crossed), _MOST_CROSSED))
    for cross in drawing.sample(crossed, min(len(crossed), _CROSSED)):
        other = drawing.choice(sorted(ends))
        pairs += [{**cross, other: ends[other][1]}, *({**cross, **dict.fromkeys(both, 4)} for both in _twins(form))]
    points = [point for pair in pairs if built(form, point := form.turned(base, **pair)) is not None]
    yield from together([_settle(form, learned, base, point) for point in dict.fromkeys(points)])


def _ends(form: Form, learned: Learned, base: Point) -> dict[str, tuple[int, int]]:
    """(smallest, largest) of each range that was taken with all else at the base."""
    found = {}
    for name, knob in form.knobs.items():
        if isinstance(knob, Range):
            taken = [value for value, fits in _alone_at(form, learned, base, name).items() if fits] or [knob.base]
            found[name] = min(taken), max(taken)
    return found


def _alone_at(form: Form, learned: Learned, base: Point, name: str) -> dict[int, Fits]:
    """Answers for a range by its value, with all else at the base."""
    values = ((int(dict(point)[name]), point, fits) for point, fits in learned.answers.items())  # type: ignore[arg-type]
    return {value: fits for value, point, fits in values if point == form.turned(base, **{name: value})}


def _twins(form: Form) -> list[tuple[str, str]]:
    """Height and width of a thing, which a compiler may want equal."""
    return [(name, f"{name[:-1]}w") for name in form.knobs if name.endswith("h") and f"{name[:-1]}w" in form.knobs]


def _try(form: Form, learned: Learned, base: Point, drawing: random.Random) -> Search[list[Point]]:
    """Random models on both sides of each limit and away from all; those that are not as expected."""
    asked: dict[Point, bool] = {}
    for guess in learned.found:
        for wanted in (False, True):
            asked.update(dict.fromkeys(_near(form, learned, base, guess, wanted, drawing), wanted))
        asked.update(dict.fromkeys(_flipped(form, learned, guess), False))
    for _ in range(_STRAY):
        point = _draw(form, base, drawing)
        model = built(form, point)
        if model is not None and not any(g.refuses(model.facts) for g in learned.found):
            asked[point] = True
    fresh = [point for point in asked if point not in learned.answers]
    answers = yield from _ask(learned, fresh)
    told = dict(zip(fresh, answers, strict=True))
    return [point for point, fits in told.items() if fits is not None and fits != asked[point]]


def _near(form: Form, learned: Learned, base: Point, guess: Guess, fits: bool, drawing: random.Random) -> list[Point]:
    """Random models at a limit, or just past it, that keep to all other limits."""
    known = []
    for point, told in learned.answers.items():
        model = built(form, point) if told is not None else None
        if model and guess.applies(model.facts) and (at_bound(guess, model) if fits else guess.refuses(model.facts)):
            known.append(dict(point))
    found: list[Point] = []
    others = [g for g in learned.found if g != guess]
    for _ in range(_DRAWS if known else 0):
        point = _mixed(form, drawing.choice(known), _draw(form, base, drawing), drawing)
        model = built(form, point)
        if model is None or point in learned.answers or not guess.applies(model.facts):
            continue
        if guess.refuses(model.facts) == fits or any(g.refuses(model.facts) for g in others):
            continue
        if not fits or at_bound(guess, model):
            found.append(point)
        if len(found) == _TRIES:
            break
    return found


def _flipped(form: Form, learned: Learned, guess: Guess) -> list[Point]:
    """A refused model with each other choice, and each extent at its least: whether that exempts is the limit's condition.

    Of words one model for each that is refused. What another limit refuses too is asked all the same: one word may exempt from
    both.
    """
    alone: dict[object, Point] = {}
    for seed in learned.seeds:
        model = built(form, seed)
        if model is not None and _refused_by(learned, model) == [guess]:
            alone.setdefault(model.facts[guess.bound.metric] if guess.bound.name == "not_in" else "", seed)
    found: list[Point] = []
    for point in [*alone.values()][:_FLIPPED]:
        changes: list[dict[str, Value]] = [dict.fromkeys(both, 1) for both in _twins(form)]
        for name, knob in form.knobs.items():
            values = knob.values[:_CHOICES] if isinstance(knob, Choice) else (knob.low,)
            changes += [{name: value} for value in values]
        for change in changes:
            model = built(form, form.turned(point, **change))
            if model is not None and guess.refuses(model.facts):
                found.append(form.turned(point, **change))
    return found


def _refused_by(learned: Learned, model: Model) -> list[Guess]:
    return [guess for guess in learned.found if guess.refuses(model.facts)]


def _draw(form: Form, base: Point, drawing: random.Random) -> Point:
    """A point with about half of the knobs somewhere else."""
    values: dict[str, Value] = {}
    for name, knob in form.knobs.items():
        if drawing.random() < 0.5:
            continue
        if isinstance(knob, Choice):
            values[name] = drawing.choice(knob.values)
        else:
            top = min(knob.high, max(8 * knob.base, 8))
            values[name] = drawing.randint(knob.low, max(knob.low, drawing.choice((min(9, top), top))))
    return form.turned(base, **values)


def _mixed(form: Form, known: dict[str, Value], drawn: Point, drawing: random.Random) -> Point:
    """Some knobs of a known point, the others as drawn."""
    kept = {name for name in form.knobs if drawing.random() < 0.6}
    return tuple((name, known[name] if name in kept else value) for name, value in drawn)
