"""What a change adds to a folder of models, for people: new findings as `check` shows them, then a line for each model."""

from __future__ import annotations

from npu_guard.base.text import printable
from npu_guard.checking import registry
from npu_guard.gate.diff_folders import FolderDiff
from npu_guard.reports.blocks.finding_line import altered_lines, finding_lines
from npu_guard.results.summary import plural


def render(diff: FolderDiff, *, color: bool = False) -> str:
    """The pages of `check` for models with something new, then the comparison."""
    changed = diff.changed
    lines = [registry.renderer("text")(changed, color=color)] if changed.models else []
    lines.append(f"Compared {printable(diff.head)} with {printable(diff.base)}: {diff.words()}")
    rows = diff.rows()
    width = max((len(printable(name)) for name, _ in rows), default=0)
    for name, told in rows:
        lines.append(f"  {printable(name):<{width}}  {told}")
        if name in diff.models:
            lines += [f"    changed  {line}" for line in altered_lines(diff.models[name].altered)]
            lines += [f"    fixed  {line}" for line in finding_lines(diff.models[name].gone)]
    same = len(diff.models) + len(diff.removed) - len(rows)
    if same or not rows:
        lines.append(f"  {plural(same, 'model')} as before")
    return "\n".join(lines) + "\n"
