"""Who says what is replaced next: the device's choice, or a plan (`plan.py`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from npu_guard.fixing.choice import Candidate, choose_within
from npu_guard.fixing.judge import Judge, reason
from npu_guard.fixing.search import refused_match
from npu_guard.results.findings import RefusedMatch
from npu_guard.rewriting.substitution import Match, Substitution

MAX_PASSES = 20
Key = tuple[str, str]
"""A substitution and the first output of its root."""


def key(match: Match) -> Key:
    """What tells a match from others: its substitution, and where it is."""
    return match.substitution.name, match.root.output.name


class Picker(Protocol):
    """Says what to replace next."""

    refused: list[RefusedMatch]
    """What almost was to be replaced, the latest reason last."""

    def pick(self, judge: Judge, number: int, banned: Collection[Key]) -> list[Candidate]:
        """Candidates that do not overlap, for pass `number`; `banned` have failed before. None is the end."""


class Automatic:
    """Whatever has a finding that a form removes, the best candidate for each block; but what is `guilty` stays as it was."""

    def __init__(
        self, substitutions: Sequence[Substitution], prefer: Collection[str] = (),
        guilty: Mapping[Key, RefusedMatch] | None = None, *, warnings: bool = False,
    ) -> None:  # fmt: skip
        """`warnings`: whether those alone are mended, whatever that costs."""
        self._guilty = guilty or {}
        self._warnings = warnings
        self.refused: list[RefusedMatch] = []
        self._substitutions = substitutions
        self._prefer = prefer

    def pick(self, judge: Judge, number: int, banned: Collection[Key]) -> list[Candidate]:
        """The best that do not overlap."""
        matches = [s for s in judge.search.all(self._substitutions) if key(s) not in banned and key(s) not in self._guilty]
        candidates = judge.candidates(matches)
        mending = [c for c in candidates if c.mends(warnings=self._warnings or c.match.substitution.name in self._prefer)]
        worth = set(mending)
        self.refused += (*judge.search.almost, *judge.refused, *map(not_worth_it, (c for c in candidates if c not in worth)))
        self.refused += self._guilty.values()
        if number > MAX_PASSES:
            return []
        chosen, dear = choose_within(mending, self._substitutions, self._prefer, judge.over, judge.times)
        # The cheapest first: what a reader has to allow at the least.
        self.refused += (
            refused_match(c.match, why) for c, why in sorted(dear.items(), key=lambda entry: judge.times(entry[0].rise))
        )
        return chosen


def not_worth_it(candidate: Candidate) -> RefusedMatch:
    """Why a form that fits is not taken."""
    return refused_match(candidate.match, reason(candidate))
