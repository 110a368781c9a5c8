"""A line for each finding, as compilers write them: `file:line: error NPU105 message`. Editors and grep take it.

Files are as one reaches them from the current folder. A finding without a line of Python stands at the model's file, and so does
one of a model from elsewhere whose Python is not in this project. Findings that say the same of one line of Python are one line.
"""

from __future__ import annotations

from npu_guard.base.text import printable
from npu_guard.project.paths import model_from_here, where, where_from_here
from npu_guard.results.findings import Finding, ModelReport, Report
from npu_guard.results.groups import Group, alike
from npu_guard.results.summary import outcome, word


def render(report: Report, *, color: bool = False) -> str:
    """The lines, those of a model in the order of files and lines, its verdict last."""
    lines: list[str] = []
    for model in report.models:
        name = printable(model_from_here(model.path))
        if model.error is not None:
            lines.append(f"{name}: {model.verdict.value}: {printable(model.error[1], 1000)}")
            continue
        counting = [f for f in model.findings if f.suppressed is None]
        groups = sorted(alike(model, counting), key=lambda g: _order(model, g.first))
        lines += [_line(model, group) for group in groups]
        lines += [f"{name}: internal error in {c.rule} at {printable(c.node)}: {printable(c.error)}" for c in model.crashes]
        lines.append(f"{name}: {model.verdict.value}: {outcome(model)}")
    return "\n".join([*lines, ""])


def _order(model: ModelReport, finding: Finding) -> tuple[bool, str, int]:
    """Lines of Python first; the order of findings at one place stays that of the graph."""
    return finding.source is None, *where(model, finding)


def _line(model: ModelReport, group: Group) -> str:
    first = group.first
    place = where_from_here(model, first)
    at = printable(model_from_here(model.path)) if place is None else f"{printable(place[0])}:{place[1]}"
    module = f" in {printable('.'.join(first.location.scope))}" if first.location.scope else ""
    source = f", {printable(first.source.file)}:{first.source.line}" if first.source is not None and place is None else ""
    more = f" and {len(group.findings) - 1} more" if len(group.findings) > 1 else ""
    node = f"{printable(first.location.op_type)} {printable(first.location.node, 80)}{module}{more}{source}"
    told = f"{at}: {word(first)} {first.rule} {printable(group.message)}"
    return f"{told} ({node})" if first.location.op_type else told  # what is about the settings has no node
