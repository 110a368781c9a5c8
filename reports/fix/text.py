"""What `fix` did, for people: before and after, what was replaced, what was not and why."""

from __future__ import annotations

from itertools import groupby

from npu_guard.base.text import printable
from npu_guard.fixing.driver import FixReport
from npu_guard.fixing.plan import describe_step
from npu_guard.fixing.report import FixResult
from npu_guard.reports.blocks.verification import int8_text, verification_text, worst_difference
from npu_guard.results import summary
from npu_guard.results.findings import ModelReport, Outcome, Severity


def render(result: FixResult, *, color: bool = False) -> str:
    """Before and after, what was replaced, what was not and why, and how far the results are apart.

    A dry run tells of each block what a plan has.
    """
    report, written, dry = result.report, result.written, result.dry
    lines = [f"{printable(report.before.path)}  {report.before.profile}", ""]
    lines += _planned(report) if dry else _replaced(report)
    if report.refused:
        lines += ["", "Almost matched" if dry else "Not replaced"]
        lines += [f"  {r.substitution:<32} {printable(r.node, 60)}: {printable(r.reason)}" for r in report.refused]
    if report.after.crashes:
        lines += ["", "Crashed (bugs in npu-guard, please report them)"]
        lines += [f"  {c.rule:<32} {printable(c.node, 60)}: {printable(c.error)}" for c in report.after.crashes]
    lines += ["", f"{'':<22}{'before':>14}  {'after':>14}"]
    lines += [f"  {name:<20}{a:>14}  {b:>14}" for name, a, b in _table(report.before, report.after)]
    if report.applied:
        lines += ["", f"Whole model: {verification_text(report.verification)}"]
    if written is not None:
        lines += [
            "",
            f"Wrote {printable(str(written))}. Next: npu-guard verify {printable(report.before.path)} {printable(str(written))}",
        ]
    if result.int8 is not None:
        lines += ["", int8_text(result.int8)]
    return "\n".join(lines) + "\n"


def _replaced(report: FixReport) -> list[str]:
    if not report.applied:
        return ["Nothing to replace."]
    lines = ["Replaced"]
    for a in report.applied:
        nodes = f"{len(a.nodes_before)} -> {len(a.nodes_after)} nodes"
        label = f"{a.verification.proof.label}; " if a.verification.proof is not None else ""
        lines.append(f"  {a.substitution:<32} {printable(a.node, 60)}  {nodes}, {label}{worst_difference(a.verification)}")
        if a.exactness != "exact":
            lines.append(f"  {'':<32} approximate: {printable(a.note, 200) + '; ' if a.note else ''}needs fine-tuning")
    return lines


def _planned(report: FixReport) -> list[str]:
    if not report.applied:
        return ["Nothing to replace."]
    lines = ["Plan"]
    for number, steps in groupby(report.applied, key=lambda a: a.number):
        lines.append(f"  pass {number}")
        for a in steps:
            lines.append(f"    {a.substitution}: {worst_difference(a.verification)}")
            lines += [f"      {printable(line, 600)}" for line in describe_step(a)]
    return lines


def _table(before: ModelReport, after: ModelReport) -> list[tuple[str, str, str]]:
    def count(model: ModelReport, severity: Severity) -> str:
        return str(sum(f.severity is severity and f.suppressed is None and f.outcome is Outcome.FAIL for f in model.findings))

    rows = [(f"{s.value}s", count(before, s), count(after, s)) for s in (Severity.ERROR, Severity.WARNING)]
    open_before, open_after = (summary.count(model.findings).undecided for model in (before, after))
    if open_before or open_after:
        rows.append(("undecided", str(open_before), str(open_after)))
    for name in ("nodes", "macs", "params", "activation_bytes", "peak_bytes"):
        rows.append((name.replace("_", " "), f"{getattr(before.totals, name):,}", f"{getattr(after.totals, name):,}"))
    return rows
