"""What a run of `fix` comes to: errors by rule and module, what is left and why, and which step makes a cost jump."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from npu_guard.fixing.severities import fails
from npu_guard.results.findings import Applied, Finding, ModelReport, RefusedMatch, Severity

JUMP = 2.0
"""A cost that becomes so many times as large is named, with the step that adds most of it."""
SMALL = 10_000
"""MACs, parameters or bytes by which a cost may rise without being named: what is tiny doubles at once."""
NO_FORM = "no form is known for it"


class Remaining(Struct, frozen=True):
    """An error that is left, and why no form removed it."""

    finding: Finding
    reason: str
    """The form that came closest with what kept it, or that there is none."""


class Jump(Struct, frozen=True):
    """A cost that is a multiple of what it was, and the step that adds most of it."""

    cost: str
    before: int
    after: int
    step: Applied | None


def remaining(after: ModelReport, refused: Sequence[RefusedMatch]) -> list[Remaining]:
    """Errors of the fixed model in the order of the graph, each with its reason."""
    why: dict[str, list[str]] = {}
    for refusal in refused:
        for output in refusal.at:
            why.setdefault(output, []).append(f"{refusal.substitution}: {refusal.reason}")
    return [
        Remaining(f, _closest(why.get(f.location.output, ())))
        for f in after.findings
        if fails(f) and f.severity is Severity.ERROR
    ]


def _closest(reasons: Sequence[str]) -> str:
    """What the reader can do most about: a limit of his own; a rollback is a bug or a limit of ours, the rest is of the model."""
    own = [r for r in reasons if "--max-cost" in r and "rolled back" not in r]
    return own[0] if own else min(reasons, key=lambda r: ("rolled back" in r, "would refuse" in r, len(r)), default=NO_FORM)


def concerning(refused: Sequence[RefusedMatch], after: ModelReport) -> tuple[RefusedMatch, ...]:
    """Refusals at nodes at which something is still wrong; those of a plan's steps and of whole runs stay as they are."""
    wrong = {f.location.output for f in after.findings if fails(f)}
    return tuple(dict.fromkeys(r for r in refused if not r.at or not wrong.isdisjoint(r.at)))


def by_rule(before: ModelReport, after: ModelReport) -> dict[str, tuple[int, int]]:
    """Errors and warnings before and after, by the code of the rule."""
    return _compared(before, after, lambda f: f.rule)


def by_module(before: ModelReport, after: ModelReport) -> dict[str, tuple[int, int]]:
    """Errors and warnings before and after, by the module of the network that they are in."""
    return _compared(before, after, lambda f: f.source.module if f.source is not None else "/".join(f.location.scope))


def _compared(before: ModelReport, after: ModelReport, key: Callable[[Finding], str]) -> dict[str, tuple[int, int]]:
    counts = [Counter(map(key, filter(fails, model.findings))) for model in (before, after)]
    return {name: (counts[0][name], counts[1][name]) for name in sorted(counts[0] | counts[1])}


def jumps(before: ModelReport, after: ModelReport, applied: Iterable[Applied]) -> list[Jump]:
    """Costs that have doubled at least, the one first that rose most. No one step makes the peak."""
    steps = list(applied)
    found = []
    for cost in ("macs", "params", "activation_bytes", "peak_bytes"):
        old, new = getattr(before.totals, cost), getattr(after.totals, cost)
        if new >= JUMP * old and new - old > SMALL:

            def added(step: Applied, cost: str = cost) -> int:
                return int(getattr(step.after, cost) - getattr(step.before, cost))

            step = None if cost == "peak_bytes" else max(steps, key=added, default=None)
            found.append(Jump(cost.replace("_", " "), old, new, step))
    return sorted(found, key=lambda j: -j.after / j.before if j.before else -math.inf)
