"""GitHub workflow commands: annotations on the lines of a pull request.

GitHub shows 10 errors, 10 warnings and 10 notices of a step and drops the rest without a word; the most important ones are
written, and one notice with the counts.
"""

from __future__ import annotations

from npu_guard.base.text import printable
from npu_guard.project.next_command import steps_from_root
from npu_guard.project.paths import in_project, where
from npu_guard.results.findings import Report
from npu_guard.results.groups import Group, ranked_groups
from npu_guard.results.summary import count, level, mending, plural

REMEDIES = True
MOST = 10
_LONGEST = 1000


def render(report: Report, *, color: bool = False) -> str:
    """Commands, one a line, the notice last."""
    errors: list[str] = []
    warnings: list[str] = []
    notices: list[str] = []
    for model in report.models:
        file = in_project(model.path)
        if model.error is not None:
            errors.append(_command("error", model.error[1], file=file, title=f"npu-guard: {model.error[0]}"))
        for crash in model.crashes:
            text = f"internal error in {crash.rule} at {printable(crash.node)}: {crash.error}; please report it"
            errors.append(_command("error", text, file=file, title=f"npu-guard: internal error in {crash.rule}"))
    for group in ranked_groups(report.models):
        kind = level(group.first)
        kind = "notice" if kind == "note" else kind
        commands = {"error": errors, "warning": warnings, "notice": notices}[kind]
        commands.append(_annotation(kind, group, report.rule_url(group.first.rule)))
    shown = [*errors[:MOST], *warnings[:MOST], *notices[: MOST - 1]]
    left_out = len(errors) + len(warnings) + len(notices) - len(shown)
    return "".join([*shown, _summary(report, left_out)])


def _annotation(kind: str, group: Group, url: str) -> str:
    f = group.first
    file, line = where(group.model, f)
    times = f" and {plural(len(group.findings) - 1, 'more node')}" if len(group.findings) > 1 else ""
    node = f"{printable(f.location.op_type, 80)} {printable(f.location.node, 200)}{times}"
    more = f"; see {url or f'npu-guard rules {f.rule}'}"
    mended = f"; {told}" if (told := mending(group.findings)) else ""
    place = f"{node} in {printable(in_project(group.model.path))}".strip()
    text = f"{printable(group.message)} ({place}){mended}{more}"
    return _command(kind, text, file=file, line=line, title=f"{f.rule} {f.name}")


def _summary(report: Report, left_out: int) -> str:
    counts = count(f for m in report.models for f in m.findings)
    verdicts = [m.verdict.value for m in report.models]
    words = ", ".join(f"{verdicts.count(v)} {v}" for v in dict.fromkeys(verdicts))
    more = f". Not shown above: {plural(left_out, 'annotation')}; other formats have all" if left_out else ""
    notice = f"{plural(len(report.models), 'model')} ({words}): {counts.words()}{more}"
    steps = [f"{told}: {command}" for m in report.models[:MOST] for told, command in steps_from_root(m)]
    return _command("notice", "; ".join([notice, *steps]), title="npu-guard")


def _command(kind: str, text: str, **properties: str | int) -> str:
    """One workflow command, escaped as the runner unescapes."""
    escaped = [f"{key}={_escape(str(value)).replace(':', '%3A').replace(',', '%2C')}" for key, value in properties.items()]
    return f"::{kind} {','.join(escaped)}::{_escape(text)}\n"


def _escape(text: str) -> str:
    safe = printable(text, _LONGEST)
    return safe.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
