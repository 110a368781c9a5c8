"""What a change makes of a model: findings that are new, fixed and unchanged, and how that reads."""

from __future__ import annotations

import json
import re
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from npu_guard.base.text import printable
from npu_guard.checking import registry
from npu_guard.project.paths import in_project
from npu_guard.results import fingerprint
from npu_guard.results.findings import Finding, ModelReport, Report, Verdict
from npu_guard.results.summary import count, message, percent, plural

VERSION = 1
_LISTED = 50
"""Fixed findings that are named in a comment; the rest is counted."""


class Diff(Struct, frozen=True):
    """One model before and after. `head.findings` are the new ones alone, and `head.verdict` is about them."""

    version: str
    base: ModelReport
    head: ModelReport
    fixed: tuple[Finding, ...]
    unchanged: tuple[Finding, ...]
    """As they are in the head."""
    fail_on: str
    allow_undecided: bool

    @property
    def report(self) -> Report:
        """What is new, as every format shows it."""
        return Report(self.version, (self.head,), self.fail_on, self.allow_undecided)

    def words(self) -> str:
        """`2 new, 1 fixed, 9 unchanged`."""
        return f"{len(self.head.findings)} new, {len(self.fixed)} fixed, {len(self.unchanged)} unchanged"


def compare_reports(base: ModelReport, head: ModelReport, settings: Report) -> Diff:
    """Pair the findings of two models; `settings` says what counts. The verdict of `head` is left to the caller."""
    pairs = fingerprint.pair([fingerprint.mark(f) for f in base.findings], [fingerprint.mark(f) for f in head.findings])
    known, still = {j for _, j in pairs}, {i for i, _ in pairs}
    new = tuple(f for j, f in enumerate(head.findings) if j not in known)
    ran = set(head.asked) or {f.rule for f in base.findings}
    fixed = tuple(f for i, f in enumerate(base.findings) if i not in still and f.rule in ran)
    unchanged = tuple(head.findings[j] for _, j in sorted(pairs, key=lambda p: p[1]))
    return Diff(settings.version, base, replace(head, findings=new), fixed, unchanged, settings.fail_on, settings.allow_undecided)


def render_diff(diff: Diff, form: str, *, color: bool = False) -> str:
    """A diff in an output format: `text`, `markdown` and `json` compare, the others show what is new."""
    if form == "json":
        return _json(diff)
    page = registry.renderer(form)(diff.report, color=color)
    readable = diff.head.verdict is not Verdict.UNREADABLE
    if form == "text" and readable:
        return page + _text(diff)
    if form == "markdown" and readable:
        return page + _markdown(diff)
    return page


def _text(diff: Diff) -> str:
    lines = [f"Compared with {printable(diff.base.path)}: {diff.words()}"]
    lines += [f"  fixed  {_line(f)}" for f in diff.fixed]
    return "\n".join(lines) + "\n"


def _line(finding: Finding) -> str:
    module = ".".join(finding.location.scope) or "top level"
    return f"{finding.rule}  {printable(message(finding))} ({printable(finding.location.op_type)} in {printable(module)})"


def _markdown(diff: Diff) -> str:
    lines = ["", f"**Compared with** {_code(in_project(diff.base.path))}: {diff.words()}", ""]
    lines += ["| | before | after |", "|---|---:|---:|"]
    before, after = count(diff.base.findings), count((*diff.head.findings, *diff.unchanged))
    for name, old, new in (
        ("errors", before.error, after.error),
        ("warnings", before.warning, after.warning),
        ("undecided", before.undecided, after.undecided),
    ):
        lines.append(f"| {name} | {old:,} | {new:,} |")
    if diff.base.totals.macs and diff.head.totals.macs:
        shares = [percent(m.totals.npu_macs_percent) for m in (diff.base, diff.head)]
        lines.append(f"| MACs that run as they are | {shares[0]} | {shares[1]} |")
    if diff.fixed:
        lines += ["", f"<details><summary>{plural(len(diff.fixed), 'finding')} fixed</summary>", ""]
        lines += [f"- {_code(_line(f))}" for f in diff.fixed[:_LISTED]]
        if len(diff.fixed) > _LISTED:
            lines.append(f"- and {len(diff.fixed) - _LISTED:,} more")
        lines += ["", "</details>"]
    return "\n".join(lines) + "\n"


def _code(text: str) -> str:
    """A name or a message in a code span, which it cannot leave."""
    return f"`{re.sub('`', chr(39), printable(text, 300))}`"


def _json(diff: Diff) -> str:
    """Version 1: the findings are those of the report's own JSON."""
    document = _document(diff.report)
    head = document["models"][0]
    new, fixed, unchanged = head["findings"], _findings(diff, diff.fixed), _findings(diff, diff.unchanged)
    data = {
        "schema_version": VERSION,
        "tool": document["tool"],
        "profile": diff.head.profile,
        "base": {"path": diff.base.path, "sha256": diff.base.sha256},
        "head": {"path": head["path"], "sha256": head["sha256"]},
        "verdict": diff.head.verdict.value,
        "summary": {"new": len(new), "fixed": len(fixed), "unchanged": len(unchanged)},
        "new": new,
        "fixed": fixed,
        "unchanged": unchanged,
    }
    return json.dumps(data, indent=2) + "\n"


def _findings(diff: Diff, findings: tuple[Finding, ...]) -> Any:
    return _document(replace(diff.report, models=(replace(diff.head, findings=findings),)))["models"][0]["findings"]


def _document(report: Report) -> Any:
    return json.loads(registry.renderer("json")(report, color=False))
