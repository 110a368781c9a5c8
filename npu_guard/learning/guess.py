"""Limits that explain what a compiler refused and that nothing contradicts which it took."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Facts = Mapping[str, tuple[Any, ...]]
RELATIONS = (("stride", "kernel"), ("pads", "kernel"), ("pads", "extent"))
"""Metrics of which one may bound the other."""
_COST = {
    "max": 0.0, "min": 0.3, "not_in": 0.2, "lacks": 0.1, "is": 0.1, "multiple_of": 0.6, "integer": 0.4, "power_of_two": 0.7,
    "equal": 0.7,
}  # fmt: skip
_GUARD_COST = 1.2
"""Of a limit, in refusals that it must explain beyond a plainer one."""
_DIVISORS = (64, 32, 16, 8, 4, 2)
_FEW = 3
"""Different numbers that a compiler must have taken before a rule on divisors says anything."""


@dataclass(frozen=True)
class Bound:
    """What must hold of a metric: `max`, `min`, `multiple_of`, `integer`, `power_of_two`, `equal`, `is`, `not_in` or `lacks`.

    `lacks` is `not_in` of each number by itself.
    """

    metric: str
    name: str
    value: Any

    def fits(self, facts: Facts) -> bool | None:
        """Whether a model keeps to it; None where it does not have the metric."""
        values = facts.get(self.metric)
        if values is None:
            return None
        if self.name == "not_in":
            return values not in self.value
        if self.name == "lacks":
            return not any(value in self.value for value in values)
        if self.name == "equal":
            return len(set(values)) == 1
        if self.name == "is":
            return values == (self.value,)
        if isinstance(self.value, str):  # another metric
            others = facts.get(self.value)
            return None if others is None else all(v <= o for v, o in zip(values, others * len(values), strict=False))
        return all(_KEEPS[self.name](value, self.value) for value in values)


_KEEPS: Mapping[str, Callable[[Any, Any], bool]] = {
    "max": lambda value, bound: bool(value <= bound),
    "min": lambda value, bound: value >= bound,
    "multiple_of": lambda value, bound: value % bound == 0,
    "integer": lambda value, _: bool(value == int(value)),
    "power_of_two": lambda value, _: value >= 1 and value == int(value) and int(value) & (int(value) - 1) == 0,
}


@dataclass(frozen=True)
class Guess:
    """A limit: where all of `when` hold, the bound must."""

    bound: Bound
    when: tuple[Bound, ...] = ()

    def applies(self, facts: Facts) -> bool:
        """Whether the limit is about a model."""
        return self.bound.metric in facts and all(clause.fits(facts) for clause in self.when)

    def refuses(self, facts: Facts) -> bool:
        """Whether a model is beyond it."""
        return self.applies(facts) and self.bound.fits(facts) is False


def guesses(
    taken: Sequence[Facts], refused: Sequence[Facts], numbers: Sequence[str], kinds: Sequence[str]
) -> tuple[list[Guess], list[int]]:
    """The fewest and plainest limits that explain the refusals, and which of those (by index) none explains."""
    left, found = set(range(len(refused))), list[Guess]()
    for depth in (0, 1, 2, 3):
        while left:
            best, explained = _best(taken, refused, left, numbers, kinds, depth)
            if best is None:
                break
            found.append(best)
            left -= explained
    return found, sorted(left)


def _best(
    taken: Sequence[Facts], refused: Sequence[Facts], left: set[int], numbers: Sequence[str], kinds: Sequence[str], depth: int
) -> tuple[Guess | None, set[int]]:
    best, explained, most = None, set[int](), 0.0
    open_ = [refused[i] for i in left]
    held: dict[Bound, tuple[int, int]] = {}
    seen: set[tuple[int, int]] = set()
    for when in _guards(open_, numbers, kinds, depth):
        both = -1, -1
        for clause in when:
            if clause not in held:
                held[clause] = _where(clause, taken), _where(clause, open_)
            both = both[0] & held[clause][0], both[1] & held[clause][1]
        if both in seen:  # other words for the same models; those before were plainer
            continue
        seen.add(both)
        inside = [facts for i, facts in enumerate(taken) if both[0] >> i & 1]
        beyond = [facts for i, facts in enumerate(open_) if both[1] >> i & 1]
        if not inside or not beyond:
            continue
        for rank, bound in enumerate(_bounds(inside, beyond, numbers, kinds)):
            guess = Guess(bound, when)
            through = {i for i in left if guess.refuses(refused[i])}
            score = len(through) - _COST[bound.name] - _GUARD_COST * len(when) - rank * 0.001 - 0.5 * isinstance(bound.value, str)
            if through and (best is None or score > most):
                best, explained, most = guess, through, score
    return best, explained


def _where(clause: Bound, models: Sequence[Facts]) -> int:
    """A bit for each model that keeps to a clause."""
    return sum(1 << i for i, facts in enumerate(models) if clause.fits(facts))


def _guards(refused: Sequence[Facts], numbers: Sequence[str], kinds: Sequence[str], depth: int) -> Iterator[tuple[Bound, ...]]:
    """Conditions under which some refused model stands; at least so many as `depth` says are tried, and fewer too."""
    yield ()
    if not depth:
        return
    clauses = dict.fromkeys(
        Bound(name, "is", facts[name][0])
        for facts in refused
        for name in kinds
        if name not in _MAY_BE_NONE and len(facts.get(name, ())) == 1
    )
    for name in numbers:
        if name in _SINGLES and any(max(facts.get(name, (0,))) > 1 for facts in refused):
            clauses[Bound(name, "min", 2)] = None
    for form in _FORMS:
        if form.metric in numbers and any(form.fits(facts) for facts in refused):
            clauses[form] = None
    for size in range(1, depth + 1):
        yield from itertools.combinations(clauses, size)


_MAY_BE_NONE = ("strided_axes",)
"""Lists of axes that are empty for most models: a condition on one holds for all of those."""
_SINGLES = (
    "spatial.product",
    "batch", "spatial.h", "spatial.w", "output_spatial.h", "output_spatial.w", "channels_in", "kernel.h", "kernel.w", "stride.h",
    "stride.w", "dilation",
)  # fmt: skip
"""Metrics of which 1 is a form of its own."""


_FORMS = (Bound("rank", "min", 5), Bound("rank", "max", 3), Bound("scale", "min", 1))
"""What is another form of an operator: volumes, rows, and what enlarges."""


def _bounds(taken: Sequence[Facts], refused: Sequence[Facts], numbers: Sequence[str], kinds: Sequence[str]) -> Iterator[Bound]:
    """Bounds that all the taken models keep to and some refused one does not; the plainest first."""
    for name in kinds:
        known = {facts[name] for facts in taken if name in facts}
        wrong = sorted({facts[name] for facts in refused if name in facts} - known, key=repr)
        if not known or not wrong:
            continue
        never = {v for values in wrong for v in values if type(v) is int} - {v for values in known for v in values}
        if never and any(len(values) > 1 for values in known):
            yield Bound(name, "lacks", tuple(sorted(never)))
        if len(wrong) == 1 and all(isinstance(v, bool) for v in wrong[0]) and len(wrong[0]) == 1:
            yield Bound(name, "is", not wrong[0][0])
        else:
            yield Bound(name, "not_in", tuple(wrong))
    for name in numbers:
        values = [v for facts in taken for v in facts.get(name, ())]
        if values:
            yield from _numeric(name, values, [facts[name] for facts in refused if name in facts], taken)
    for name, other in RELATIONS:
        bound = Bound(name, "max", other)
        if name in numbers and other in numbers and all(bound.fits(facts) is not False for facts in taken):
            yield bound


def _numeric(name: str, taken: Sequence[Any], refused: Iterable[tuple[Any, ...]], models: Sequence[Facts]) -> Iterator[Bound]:
    most, least, distinct = max(taken), min(taken), set(taken)
    refused = list(refused)
    if any(max(values) > most for values in refused):
        yield Bound(name, "max", most)
    if any(min(values) < least for values in refused):
        yield Bound(name, "min", least)
    whole = all(v == int(v) for v in distinct)
    if whole and any(v != int(v) for values in refused for v in values):
        yield Bound(name, "integer", True)
    if len(distinct) >= _FEW and whole:
        for divisor in _DIVISORS:
            bound = Bound(name, "multiple_of", divisor)
            if all(v % divisor == 0 for v in distinct) and any(not bound.fits({name: values}) for values in refused):
                yield bound
                break
        bound = Bound(name, "power_of_two", True)
        if all(bound.fits({name: (v,)}) for v in distinct) and any(not bound.fits({name: values}) for values in refused):
            yield bound
    pairs = [facts[name] for facts in models if len(facts.get(name, ())) > 1]
    if pairs and all(len(set(values)) == 1 for values in pairs) and any(len(set(values)) > 1 for values in refused):
        yield Bound(name, "equal", True)
