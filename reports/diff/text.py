"""What a change adds, for people: the new findings as `check` shows them, and what was fixed."""

from __future__ import annotations

from npu_guard.base.text import printable
from npu_guard.checking import registry
from npu_guard.gate.diff import Diff
from npu_guard.reports.blocks.finding_line import altered_lines, finding_lines
from npu_guard.results.findings import Verdict


def render(diff: Diff, *, color: bool = False) -> str:
    """What changed in a line, the page of `check` for what is new, then what is fixed."""
    page = registry.renderer("text")(diff.report, color=color)
    if diff.head.verdict is Verdict.UNREADABLE:
        return page
    told = f"Compared with {printable(diff.base.path)}: {diff.words()}\n\n"
    lines = [f"  changed  {line}" for line in altered_lines(diff.altered)]
    lines += [f"  fixed  {line}" for line in finding_lines(diff.gone)]
    return told + page + "".join(f"{line}\n" for line in lines)
