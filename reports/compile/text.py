"""The rules beside a vendor's compiler, for people."""

from __future__ import annotations

from npu_guard.base.text import printable
from npu_guard.compilers.compare import Comparison, Row
from npu_guard.results.summary import plural

_TITLES = {
    "missed": "missed: these fit by the rules, and the compiler refuses them",
    "false-alarm": "false alarms: the rules refuse these, and the compiler takes them",
    "agreement": "refused by both",
    "undecided": "undecided: the model does not tell the rules",
    "unknown": "unknown: the compiler did not tell",
}
_STATUS = {
    "accepted": "accepted",
    "refused": "refused",
    "failed": "could not run, which is no opinion",
    "not_run": "could not be asked about all of it",
}
SHOWN = 50
"""Operators listed for each outcome; the JSON has all."""


def render(comparison: Comparison, *, color: bool = False) -> str:
    """Readable, without colours; names and messages are other people's text."""
    answer, counts = comparison.answer, comparison.counts()
    head = f"{printable(comparison.model)}: {answer.compiler} for {comparison.profile}: {_STATUS[answer.status]}"
    lines = [f"{head}{f' ({printable(answer.message)})' if answer.message else ''}"]
    total = len(comparison.rows)
    if total and counts["unknown"] == total and answer.status in ("accepted", "refused"):
        lines.append(f"  its log names no operator, so that none of {plural(total, 'operator')} can be compared")
        return "\n".join([*lines, *_elsewhere(comparison), ""])
    if total:
        agreed = counts["agreement"]
        open_points = (
            (counts["missed"] + counts["false-alarm"], "differ on"),
            (counts["undecided"], "undecided by the rules:"),
            (counts["unknown"], "not told by the compiler:"),
        )
        rest = "".join(f"; {words} {number}" for number, words in open_points if number)
        lines.append(
            f"  rules and compiler agree on {agreed} of {plural(total, 'operator')} ({100 * agreed / total:.1f} %){rest}"
        )
    for outcome, title in _TITLES.items():
        rows = [r for r in comparison.rows if r.outcome == outcome and (outcome != "agreement" or r.rules == "refused")]
        if rows:
            lines += ["", f"  {title}", *map(_line, rows[:SHOWN])]
        if len(rows) > SHOWN:
            lines.append(f"    and {len(rows) - SHOWN} more")
    return "\n".join([*lines, *_elsewhere(comparison), ""])


def _elsewhere(comparison: Comparison) -> list[str]:
    found = comparison.elsewhere[:SHOWN]
    title = ["", "  refused by the compiler under a name that the model does not have"] if found else []
    return [*title, *(f"    {printable(entry.name) or '(no name)'}  {printable(entry.message)}" for entry in found)]


def _line(row: Row) -> str:
    rules = f"  rules: {', '.join(row.codes)}" if row.codes else ""
    said = "" if row.outcome == "unknown" and row.compiler == "not_run" and not row.message else row.compiler.replace("_", " ")
    told = (f"  compiler: {said}" if said else "") + (f" ({printable(row.message)})" if row.message else "")
    return f"    {printable(row.location.op_type)}  {printable(row.location.node)}{rules}{told}"
