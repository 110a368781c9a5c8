"""What `fix` and `verify` say, as text and as JSON version 1."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

from msgspec.structs import asdict

from npu_guard.base.text import printable
from npu_guard.checking import registry
from npu_guard.fixing.driver import FixReport
from npu_guard.fixing.plan import describe_step
from npu_guard.results import summary
from npu_guard.results.findings import Applied, ModelReport, Outcome, Report, Severity, Verification
from npu_guard.verification.bisect import Bisection
from npu_guard.verification.int8 import Int8, int8_json
from npu_guard.verification.report import proof_text, verification_json


def fix_json(report: FixReport, integers: Int8 | None = None) -> str:
    """The document of `check` for the fixed model, with what was done to it."""
    render = registry.renderer("json")
    document = json.loads(render(Report(_version(), (report.after,)), color=False))
    before = json.loads(render(Report(_version(), (report.before,)), color=False))["models"][0]
    document["models"][0] |= {
        "sha256": before["sha256"],
        "before": before["summary"],
        "applied": [_applied(a) for a in report.applied],
        "refused": [{"substitution": r.substitution, "node": r.node, "reason": r.reason} for r in report.refused],
        "crashes": [{"rule": c.rule, "node": c.node, "error": c.error} for c in report.after.crashes],
        "verification": verification_json(report.verification) | ({} if integers is None else {"int8": int8_json(integers)}),
    }
    return json.dumps(document, indent=2, ensure_ascii=True) + "\n"


def _version() -> str:
    import npu_guard

    return npu_guard.__version__


def _applied(a: Applied) -> dict[str, Any]:
    return {
        "substitution": a.substitution, "exactness": a.exactness, "rules": list(a.rules), "nodes_before": list(a.nodes_before),
        "nodes_after": list(a.nodes_after), "verification": verification_json(a.verification),
        "note": a.note, "pass": a.number, "node": a.node, "at": a.at, "others": list(a.others), "chain": list(a.chain),
        "source": None if a.source is None else asdict(a.source),
        "before": asdict(a.before), "after": asdict(a.after),
    }  # fmt: skip


def fix_text(report: FixReport, written: Path | None, *, dry: bool = False) -> str:
    """Before and after, what was replaced, what was not and why, and how far the results are apart.

    A dry run tells of each block what a plan has.
    """
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
    return "\n".join(lines) + "\n"


def _replaced(report: FixReport) -> list[str]:
    if not report.applied:
        return ["Nothing to replace."]
    lines = ["Replaced"]
    for a in report.applied:
        nodes = f"{len(a.nodes_before)} -> {len(a.nodes_after)} nodes"
        label = f"{a.verification.proof.label}; " if a.verification.proof is not None else ""
        lines.append(f"  {a.substitution:<32} {printable(a.node, 60)}  {nodes}, {label}{_error(a.verification)}")
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
            lines.append(f"    {a.substitution}: {_error(a.verification)}")
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


def _error(v: Verification) -> str:
    if v.verdict == "not_run":
        return f"not verified ({printable(v.reason, 120)})"
    worst = min(v.outputs, key=lambda o: o.snr_db)
    return f"{v.verdict}, error {worst.max_abs:.2g}, {worst.snr_db:.0f} dB"


def verification_text(v: Verification) -> str:
    """One paragraph: the verdict, then a line for each output."""
    if v.verdict == "not_run":
        return f"NOT VERIFIED: {printable(v.reason)}"
    lines = [f"{_error(v)}, on {v.inputs} ({v.backend})"]
    lines += [f"  {printable(v.reason, 400)}"] if v.reason else []
    lines += [f"  {printable(proof_text(v.proof), 600)}"] if v.proof is not None else []
    for o in v.outputs:
        measures = f"relative {o.max_rel:.2g}, cosine {o.cosine:.6f}, {o.snr_db:.0f} dB{'' if o.ok else '  <- differs'}"
        lines.append(f"  {printable(o.name, 60)}: tolerance {o.atol:.2g}, needed {o.max_abs:.2g}, {measures}")
    return "\n".join(lines)


def bisection_text(found: Bisection) -> str:
    """The tensor at which two models part, or why none is named."""
    if found.name is None:
        return f"First divergence: not found ({printable(found.reason)})"
    return f"First divergence: {printable(found.name, 200)}"
