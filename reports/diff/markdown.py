"""What a change adds, for a comment: the new findings as `check` shows them, counts before and after, what was fixed."""

from __future__ import annotations

from npu_guard.base.markdown import code_span, plain_text
from npu_guard.checking import registry
from npu_guard.gate.diff import Diff
from npu_guard.project.paths import in_project
from npu_guard.reports.blocks.finding_line import altered_lines, finding_lines
from npu_guard.results.findings import Verdict
from npu_guard.results.share import share_words
from npu_guard.results.summary import count, plural

_LISTED = 50
"""Fixed findings that are named in a comment; the rest is counted."""


def render(diff: Diff, *, color: bool = False) -> str:
    """The page of `check` for what is new, then the comparison."""
    page = registry.renderer("markdown")(diff.report, color=color)
    if diff.head.verdict is Verdict.UNREADABLE:
        return page
    lines = ["", f"**Compared with** {code_span(in_project(diff.base.path))}: {diff.words()}", ""]
    lines += ["| | before | after |", "|---|---:|---:|"]
    before, after = count(diff.base.findings), count((*diff.head.findings, *diff.unchanged))
    for name, old, new in (
        ("errors", before.error, after.error),
        ("warnings", before.warning, after.warning),
        ("undecided", before.undecided, after.undecided),
    ):
        lines.append(f"| {name} | {old:,} | {new:,} |")
    if diff.base.totals.macs and diff.head.totals.macs:
        counts = before.error, after.error
        shares = [share_words(m.totals.npu_macs_percent, n) for m, n in zip((diff.base, diff.head), counts, strict=True)]
        lines.append(f"| MACs that run as they are | {shares[0]} | {shares[1]} |")
    for words, number, told in (
        ("changed", len(diff.altered), altered_lines(diff.altered)),
        ("fixed", len(diff.gone), finding_lines(diff.gone)),
    ):
        if not told:
            continue
        lines += ["", f"<details><summary>{plural(number, 'finding')} {words}</summary>", ""]
        lines += [f"- {plain_text(line)}" for line in told[:_LISTED]]
        if len(told) > _LISTED:
            lines.append(f"- and {len(told) - _LISTED:,} kinds more")
        lines += ["", "</details>"]
    return page + "\n".join(lines) + "\n"
