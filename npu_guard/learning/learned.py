"""What is known of one operator: answers, limits that explain them, and the models that show each limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from npu_guard.learning.form import Form, Model, Point, built
from npu_guard.learning.guess import Guess, guesses
from npu_guard.learning.search import Fits

_OLD = 3
"""Rounds that a limit must have come out of, where the answers did not settle."""


@dataclass(frozen=True)
class Claim:
    """A limit with the models that show it."""

    guess: Guess
    fits: Model | None
    """The nearest that the compiler takes."""
    refused: Model
    """The nearest that it refuses, for this limit alone."""
    inside: int
    """Models at the limit with other values elsewhere that were taken."""
    outside: int
    """Such models past it that were refused."""
    settled: bool
    """Whether random models brought nothing new in the end, of the operator or, for some rounds, of this limit."""

    @property
    def confirmed(self) -> bool:
        """Whether a second axis was varied on both sides."""
        return self.settled and self.inside > 1 and self.outside > 1


@dataclass
class Learned:
    """What is known of an operator, from what was asked so far."""

    form: Form
    answers: dict[Point, Fits] = field(default_factory=dict)
    seeds: dict[Point, None] = field(default_factory=dict)
    """Refused points from which no knob can be turned back."""
    found: list[Guess] = field(default_factory=list)
    unexplained: list[Point] = field(default_factory=list)
    ages: dict[Guess, int] = field(default_factory=dict)
    """In how many rounds each limit came out."""
    settled: bool = False
    """Whether the last random models were all as expected."""
    done: bool = False

    @property
    def status(self) -> str:
        """`supported`, `refused`, or `unknown` where the compiler answered for none of its models."""
        if any(self.answers.values()):
            return "supported"
        return "refused" if self.answers.get(self.form.base) is False else "unknown"

    def models(self, wanted: bool) -> list[tuple[Point, Model]]:
        """Points that the compiler took, or refused."""
        pairs = ((point, built(self.form, point)) for point, fits in self.answers.items() if fits is wanted)
        return [(point, model) for point, model in pairs if model is not None]

    def explain(self) -> None:
        """Find limits for all answers."""
        taken = [model.facts for _, model in self.models(True)]
        seeds = [(p, m) for p in self.seeds if (m := built(self.form, p)) is not None]
        self.found, left = guesses(taken, [m.facts for _, m in seeds], self.form.numbers, self.form.kinds)
        self.unexplained = [seeds[index][0] for index in left]
        self.ages = {guess: self.ages.get(guess, 0) + 1 for guess in self.found}

    def claims(self) -> list[Claim]:
        """Limits that some refused model shows alone, with their models."""
        taken, refused = self.models(True), self.models(False)
        made = []
        for guess in self.found:
            alone = [
                (p, m)
                for p, m in refused
                if guess.refuses(m.facts) and not any(g.refuses(m.facts) for g in self.found if g != guess)
            ]
            if alone and self._is_settled(guess):
                made.append(self._claim(guess, taken, alone))
        return made

    def _is_settled(self, guess: Guess) -> bool:
        """Another limit of the operator that is still looked for leaves one alone that rounds of random models came out with."""
        return self.settled or self.ages[guess] > _OLD

    def _claim(self, guess: Guess, taken: Sequence[tuple[Point, Model]], alone: Sequence[tuple[Point, Model]]) -> Claim:
        inside = [(p, m) for p, m in taken if guess.applies(m.facts)]
        near = [(p, m) for p, m in inside if at_bound(guess, m)] or inside
        pairs = [(_distance(p, q, self.form), i, j) for i, (p, _) in enumerate(near) for j, (q, _) in enumerate(alone)]
        _, i, j = min(pairs, default=(0.0, -1, 0))
        return Claim(guess, near[i][1] if i >= 0 else None, alone[j][1], len(near), len(alone), self._is_settled(guess))


def at_bound(guess: Guess, model: Model) -> bool:
    """Whether a model is just at a limit, if that can be told."""
    bound, values = guess.bound, model.facts[guess.bound.metric]
    if bound.name == "max" and not isinstance(bound.value, str):
        return bool(max(values) == bound.value)
    return bool(min(values) == bound.value) if bound.name == "min" else True


def _distance(first: Point, second: Point, form: Form) -> float:
    """How far apart two points are: knobs that differ, then by how much."""
    apart = 0.0
    for (_, a), (_, b) in zip(first, second, strict=True):
        if a != b:
            apart += 1 + (min(abs(a - b), 1 << 20) / (1 << 21) if isinstance(a, int) and isinstance(b, int) else 0.25)
    return apart
