"""What is wrong with a node, in words: what failed of a limit, in the limit's own unit."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from npu_guard.device.metric import Metric, number
from npu_guard.device.predicate import EXCEEDED, Clause, Judged

Asked = Sequence[tuple[Clause, Judged]]
"""The clauses of one form that a limit allows, each with the answer."""


def one_of(allowed: Any) -> str:
    """`1 or 2`."""
    return " or ".join(map(number, allowed)) if isinstance(allowed, tuple) else number(allowed)


def shown_of(metric: Metric, judged: Judged) -> str:
    """The numbers that break the bound; where they are read together, all."""
    return metric.show(judged.measured.values if metric.whole else tuple(dict.fromkeys(judged.wrong)))


def told(metric: Metric, judged: Judged) -> str:
    """`kernel 19x1 is more than 17`."""
    bound, allowed = judged.bound, judged.from_front
    if not bound:
        return f"there is no {metric.noun}"
    if bound == "is" and isinstance(allowed, bool):
        return metric.denial(allowed)
    subject = f"{metric.noun_of(len(set(judged.wrong)))} {shown_of(metric, judged)} is {EXCEEDED[bound]}"
    return subject if bound == "not_in" or isinstance(allowed, bool) else f"{subject} {one_of(allowed)}"


def failing(asked: Sequence[Asked]) -> tuple[str, Hashable]:
    """What keeps a node from all forms that a limit allows, and what that is about.

    What fails in each of them is the culprit; where nothing does, it is what fails in the forms that come nearest.
    """
    wrong = [[(c, j) for c, j in form if j.fits is False] for form in asked]
    everywhere = [c.metric for c, _ in wrong[0] if all(any(d.metric == c.metric for d, _ in form) for form in wrong)]
    if everywhere:
        culprits = [(c, j) for form in wrong for c, j in form if c.metric == everywhere[0]]
        return _together(culprits), about_of(culprits)
    least = min(map(len, wrong))
    first = next(i for i, form in enumerate(wrong) if len(form) == least)
    kept = [c for c, j in asked[first] if j.fits]
    where = f", where {' and '.join(c.words() for c in kept)}" if kept else ""
    if least > 1:
        return " and ".join(told(c.metric, j) for c, j in wrong[first]) + where, None
    alike = [
        bad[0]
        for form, bad in zip(asked, wrong, strict=True)
        if len(bad) == 1 and bad[0][0].metric == wrong[first][0][0].metric and [c for c, j in form if j.fits] == kept
    ]
    return _together(alike) + where, None


def about_of(culprits: Asked) -> Hashable:
    """The same for limits that allow the same values of the same metric; None where a limit is no list of values."""
    if not _is_list(culprits):
        return None
    metric, judged = culprits[0][0].metric, culprits[0][1]
    return metric.text, judged.wrong, frozenset(v for _, j in culprits for v in _values(j.allowed))


def _values(allowed: Any) -> tuple[Any, ...]:
    return allowed if isinstance(allowed, tuple) else (allowed,)


def _is_list(culprits: Asked) -> bool:
    """Whether the forms together allow a list of values; of several numbers, each form has a say of its own."""
    single = all(v == j.measured.values[0] for _, j in culprits for v in j.measured.values)
    return single and all(j.bound in ("in", "is") and not isinstance(j.allowed, bool) for _, j in culprits)


def _together(culprits: Asked) -> str:
    """Bounds of several forms on one metric as one."""
    metric, judged = culprits[0][0].metric, culprits[0][1]
    clauses = list(dict.fromkeys(c for c, _ in culprits))
    if len(clauses) == 1:
        return told(metric, judged)
    if _is_list(culprits):
        values = dict.fromkeys(v for _, j in culprits for v in _values(j.from_front))
        return f"{metric.noun_of(len(set(judged.wrong)))} {shown_of(metric, judged)} is not {one_of(tuple(values))}"
    shown = metric.show(judged.measured.values)
    return f"{metric.noun_of(len(judged.measured.values))} {shown} fits none of: {'; or '.join(c.words() for c in clauses)}"
