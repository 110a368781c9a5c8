"""A run over a fleet of models, for a terminal."""

from __future__ import annotations

from collections import Counter

from npu_guard.base.text import printable
from npu_guard.fleet.report import KINDS, Fleet
from npu_guard.results.summary import plural


def render(fleet: Fleet, *, color: bool = False) -> str:
    """Counts, what changed, the rules that hold most models back, and what could not be read."""
    words = ", ".join(f"{n} {verdict}" for verdict, n in fleet.verdicts.items() if n)
    lines = [f"{plural(len(fleet.rows), 'model')} against {fleet.run.profile}: {words or 'none'}{_now(fleet)}"]
    lines += _since(fleet)
    for rule in fleet.affected()[:20]:
        parts = [plural(rule.errors, "error")] if rule.errors else []
        parts += [f"{rule.warnings:,} warnings and notes"] if rule.warnings else []
        parts += [f"{rule.undecided:,} undecided"] if rule.undecided else []
        models = f"{rule.models:>7,} {'model ' if rule.models == 1 else 'models'}"
        lines.append(f"  {rule.code} {rule.name:<28} {models}  {', '.join(parts)}")
    unreadable = [(name, row) for name, _, row in fleet.rows if row.verdict == "unreadable"]
    lines += [f"  {row.error_kind}: {printable(row.error, 300)}" for _, row in unreadable[:20]]
    if len(unreadable) > 20:
        lines.append(f"  and {len(unreadable) - 20} more that could not be read")
    return "\n".join([*lines, ""])


def _now(fleet: Fleet) -> str:
    tally = fleet.tally
    if tally is None:
        return ""
    now = f"{tally.checked} checked now"
    now += f", {tally.known} known and unchanged" if tally.known else ""
    now += f", {tally.resumed} from the interrupted run" if tally.resumed else ""
    return f" ({now})"


def _since(fleet: Fleet) -> list[str]:
    """What changed since the run before: a line of counts, and the models that became worse."""
    if len(fleet.trend) < 2:
        return []
    counts = Counter(change.kind for change in fleet.changes)
    words = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind])
    lines = [f"since run {fleet.trend[-2].run.id}: {words or 'nothing changed'}"]
    worse = [change for change in fleet.changes if change.kind == "worse"]
    lines += [f"  worse: {printable(change.name, 200)}, {change.before} before, now {change.after}" for change in worse[:10]]
    return [*lines, f"  and {len(worse) - 10} more that became worse"] if len(worse) > 10 else lines
