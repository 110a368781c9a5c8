"""Learn operators one after another, a few side by side to keep the compiler busy, as far as the budget goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from npu_guard.learning.form import Form, Point, built
from npu_guard.learning.learned import Learned
from npu_guard.learning.learner import learn
from npu_guard.learning.oracle import Oracle, OutOfBudget
from npu_guard.learning.search import Fits

Progress = Callable[[int, int], None]
"""Called with the number of operators that are done, and of compilations."""


_ABREAST = 4
"""Operators that are learned at a time for each compiler: their questions are one batch."""


@dataclass(frozen=True)
class Session:
    """What a run came to."""

    operators: tuple[Learned, ...]
    stopped: str
    """Why it ended before everything was asked; empty where it did not."""


def run(forms: Sequence[Form], oracle: Oracle, progress: Progress) -> Session:
    """Ask in rounds: each operator says what it wants to know next, and all of that is one batch for the compiler.

    The next operator is begun when one before it is done: what a budget pays for is learned to the end.
    """
    found = [Learned(form) for form in forms]
    searches = [learn(learned.form, learned) for learned in found]
    waiting: dict[int, Sequence[Point]] = {}
    told: dict[int, Sequence[Fits] | None] = {}
    begun = 0
    stopped = ""

    def go_on(index: int, answers: Sequence[Fits] | None) -> None:
        try:
            waiting[index] = next(searches[index]) if answers is None else searches[index].send(answers)
        except StopIteration:
            waiting.pop(index, None)

    try:
        while True:
            for index, answers in told.items():
                go_on(index, answers)
            while begun < len(found) and len(waiting) < _ABREAST * oracle.jobs:
                go_on(begun, None)
                begun += 1
            progress(sum(learned.done for learned in found), oracle.asked)
            if not waiting:
                break
            told = _answers(found, waiting, oracle)
    except OutOfBudget:
        stopped = f"the budget of {oracle.budget} compilations is spent"
    except KeyboardInterrupt:
        stopped = "it was interrupted"
    for learned in found:
        if not learned.done:
            learned.explain()
    return Session(tuple(found), stopped)


def _answers(found: Sequence[Learned], waiting: dict[int, Sequence[Point]], oracle: Oracle) -> dict[int, Sequence[Fits] | None]:
    models = {index: [built(found[index].form, point) for point in points] for index, points in waiting.items()}
    answers = oracle.ask([model for group in models.values() for model in group])
    told: dict[int, Sequence[Fits] | None] = {}
    start = 0
    for index, group in models.items():
        told[index] = answers[start : start + len(group)]
        start += len(group)
    return told
