"""What a change adds to a folder of models, for a comment: new findings as `check` shows them, then a row for each model."""

from __future__ import annotations

from npu_guard.base.markdown import code_span, plain_text
from npu_guard.checking import registry
from npu_guard.gate.diff_folders import FolderDiff
from npu_guard.project.paths import in_project
from npu_guard.results.summary import plural

_LISTED = 50
"""Models that are named in a comment; the rest is counted."""


def render(diff: FolderDiff, *, color: bool = False) -> str:
    """The page of `check` for models with something new, then the comparison."""
    page = registry.renderer("markdown")(diff.changed, color=color)
    rows = diff.rows()
    lines = ["", f"**Compared with** {code_span(in_project(diff.base))}: {diff.words()}", ""]
    if rows:
        lines += ["| model | |", "|---|---|", *(f"| {code_span(name)} | {plain_text(told)} |" for name, told in rows[:_LISTED])]
    if len(rows) > _LISTED:
        lines += ["", f"and {plural(len(rows) - _LISTED, 'model')} more"]
    same = len(diff.models) + len(diff.removed) - len(rows)
    if same:
        lines += ["", f"{plural(same, 'model')} as before"]
    return page + "\n".join(lines) + "\n"
