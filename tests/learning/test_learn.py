"""A compiler whose limits are known: they are learned with their exact bounds, and nothing that it does not have."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from npu_guard.compilers.settings import CompilerSettings
from npu_guard.learning.form import Model, built
from npu_guard.learning.forms import FORMS
from npu_guard.learning.guess import Bound, Guess
from npu_guard.learning.learned import Learned
from npu_guard.learning.learner import _draw
from npu_guard.learning.oracle import Oracle, OutOfBudget, Said
from npu_guard.learning.search import Search, climb
from npu_guard.learning.session import run


@dataclass
class Known(Oracle):
    """A compiler with these limits."""

    limits: Sequence[Guess] = field(default=(), kw_only=True)
    silent: str = field(default="", kw_only=True)
    """A metric; where it is over 100, the compiler ends without an answer."""

    def _compile(self, models: Sequence[Model]) -> dict[str, Said]:
        return {m.key: self._word(m) for m in models}

    def _word(self, model: Model) -> Said:
        if self.silent and max(model.facts[self.silent]) > 100:
            return Said("failed", "died of signal 11")
        return Said("host" if any(limit.refuses(model.facts) for limit in self.limits) else "npu")


def learned_from(op: str, folder: Path, *limits: Guess, budget: int = 2000, silent: str = "") -> Learned:
    oracle = Known("known", CompilerSettings(), "chip", folder / "answers", budget, limits=limits, silent=silent)
    (found,) = run([FORMS[op]], oracle, lambda done, asked: None).operators
    return found


CASES = {
    "a bound on one axis and one on the product": (
        "MaxPool", Guess(Bound("kernel.h", "max", 37)), Guess(Bound("kernel.product", "max", 900)),
    ),
    "a bound under a condition": ("AveragePool", Guess(Bound("kernel", "max", 8), (Bound("padded", "is", True),))),
    "words, and a number of operands": (
        "Concat", Guess(Bound("axes", "not_in", ((0,),))), Guess(Bound("inputs", "max", 6)),
    ),
    "divisors": ("Relu", Guess(Bound("channels_in", "multiple_of", 4))),
    "volumes, a second result and a word": (
        "MaxPool", Guess(Bound("rank", "max", 4)), Guess(Bound("outputs", "max", 1)),
        Guess(Bound("attr.auto_pad", "not_in", (("SAME_UPPER",),))),
    ),
    "element types": ("Abs", Guess(Bound("dtype.X", "not_in", (("float64",), ("int8",))))),
    "axes, one by one": ("Resize", Guess(Bound("axes", "lacks", (0, 1)))),
    "whole numbers under a condition": (
        "Resize", Guess(Bound("scale", "integer", True), (Bound("attr.mode", "is", "linear"), Bound("scale", "min", 1))),
    ),
    "what volumes alone have": ("Pad", Guess(Bound("pads", "max", 2), (Bound("rank", "min", 5),))),
    "both axes alike, in steps": (
        "Resize",
        Guess(Bound("scale", "power_of_two", True)), Guess(Bound("scale", "equal", True)), Guess(Bound("scale", "max", 8)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_limits_of_a_known_compiler_are_found(name: str, tmp_path: Path) -> None:
    op, *limits = CASES[name]
    learned = learned_from(op, tmp_path, *limits)
    claims = learned.claims()
    assert {c.guess for c in claims} >= {limit for limit in limits if limit.bound.name in ("max", "not_in", "multiple_of")}
    assert not learned.unexplained
    drawing = random.Random("points that were not asked")
    points = [_draw(learned.form, learned.form.base, drawing) for _ in range(60)]
    models = [m for p in points if p not in learned.answers and (m := built(learned.form, p))]
    wrong = [m for m in models if any(g.refuses(m.facts) for g in limits) != any(c.guess.refuses(m.facts) for c in claims)]
    assert len(models) > 30
    assert len(wrong) <= 1


def test_operators_are_learned_one_after_another(tmp_path: Path) -> None:
    """A budget for half of them leaves the first ones done and the last one unasked."""
    forms = [form for form in FORMS.values() if "dtype" in str(form.kinds)]
    oracle = Known("known", CompilerSettings(), "chip", tmp_path / "answers", 40 * len(forms))
    operators = run(forms, oracle, lambda done, asked: None).operators
    assert operators[0].done
    assert not operators[-1].answers


def test_a_compiler_without_limits_gets_none(tmp_path: Path) -> None:
    learned = learned_from("Sigmoid", tmp_path)
    assert (learned.status, learned.claims(), learned.settled) == ("supported", [], True)


def test_what_the_compiler_does_not_tell_stays_unset(tmp_path: Path) -> None:
    learned = learned_from("Sigmoid", tmp_path, Guess(Bound("spatial.h", "max", 5000)), silent="spatial.h")
    assert (learned.status, learned.claims()) == ("supported", [])


def test_a_limit_that_one_axis_alone_shows_is_not_confirmed(tmp_path: Path) -> None:
    learned = learned_from("Sigmoid", tmp_path, Guess(Bound("spatial.h", "max", 77)), budget=40)
    assert not learned.done
    assert not any(claim.confirmed for claim in learned.claims())


def test_a_limit_that_many_rounds_came_out_with_needs_no_others_to_be_settled(tmp_path: Path) -> None:
    limit = Guess(Bound("spatial.h", "max", 77))
    learned = learned_from("Sigmoid", tmp_path, limit)
    assert [(claim.guess, claim.confirmed) for claim in learned.claims()] == [(limit, True)]
    learned.settled = False  # as another limit leaves it that was not found before the budget was spent
    assert not learned.claims()
    while len(learned.claims()) == 0:
        learned.explain()
    assert learned.ages[limit] == 4
    assert [(claim.guess, claim.confirmed) for claim in learned.claims()] == [(limit, True)]


def test_answers_are_kept_and_not_asked_again(tmp_path: Path) -> None:
    limits = (Guess(Bound("spatial.h", "max", 77)),)
    first = Known("known", CompilerSettings(), "chip", tmp_path / "answers", 30, limits=limits)
    assert run([FORMS["Sigmoid"]], first, lambda done, asked: None).stopped
    (tmp_path / "answers").write_text((tmp_path / "answers").read_text() + '{"model": "half a li')
    second = Known("known", CompilerSettings(), "chip", tmp_path / "answers", 2000, limits=limits)
    assert len(second.known) == first.asked == 30
    whole = run([FORMS["Sigmoid"]], second, lambda done, asked: None)
    assert not whole.stopped
    assert [c.guess for c in whole.operators[0].claims()] == list(limits)
    other = Known("known", CompilerSettings(), "another chip", tmp_path / "answers", 1, limits=limits)
    assert not other.known
    model = built(FORMS["Sigmoid"], FORMS["Sigmoid"].base)
    assert other.ask([model]) == [True]
    with pytest.raises(OutOfBudget):
        other.ask([built(FORMS["Relu"], FORMS["Relu"].base)])


@pytest.mark.parametrize("edge", [9, 64, 1000])
def test_a_search_ends_at_the_number_and_the_next(edge: int) -> None:
    def at(value: int) -> tuple[tuple[str, int], ...]:
        return (("n", value),)

    def answered(search: Search[tuple[int, int | None]]) -> tuple[int, int | None]:
        points = next(search)
        while True:
            try:
                points = search.send([dict(p)["n"] <= edge for p in points])  # type: ignore[operator]
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]

    assert answered(climb(at, 8, 4096)) == (edge, edge + 1)


@dataclass
class Pairs(Known):
    """A compiler that takes a few pairs of two words for volumes, and any for maps."""

    pairs: frozenset[tuple[str, str]] = field(default=frozenset(), kw_only=True)

    def _word(self, model: Model) -> Said:
        facts = model.facts
        words = (facts["attr.nearest_mode"][0], facts["attr.coordinate_transformation_mode"][0])
        taken = facts["rank"][0] == 4 or facts["attr.mode"][0] != "nearest" or words in self.pairs
        return Said("npu" if taken else "host")


def test_a_word_that_two_limits_would_refuse_may_be_taken(tmp_path: Path) -> None:
    """Over volumes and rows, `align_corners` goes with one rounding and that one with nothing else."""
    taken = frozenset({("floor", "half_pixel"), ("floor", "asymmetric"), ("round_prefer_ceil", "align_corners")})
    oracle = Pairs("known", CompilerSettings(), "chip", tmp_path / "answers", 3000, pairs=taken)
    (learned,) = run([FORMS["Resize"]], oracle, lambda done, asked: None).operators
    claims = [c.guess for c in learned.claims() if c.confirmed]
    form = learned.form
    for rank in (3, 5):
        for nearest in ("floor", "round_prefer_floor", "round_prefer_ceil", "ceil"):
            for transform in ("half_pixel", "asymmetric", "align_corners"):
                model = built(form, form.turned(form.base, rank=rank, nearest_mode=nearest, transform=transform))
                assert model is not None
                refused = any(g.refuses(model.facts) for g in claims)
                assert not refused or (nearest, transform) not in taken, (rank, nearest, transform)
    assert claims
