"""A comment for a pull request, in GitHub's and GitLab's Markdown.

Names and messages are data: they are written so that they cannot leave their cell, nor become markup, a link, a mention
or a reference. A comment holds 65,536 characters; what does not fit into 60,000 is counted in the last line.
"""

from __future__ import annotations

import html

from npu_guard.base.markdown import code_span, plain_text
from npu_guard.base.text import printable
from npu_guard.checking import registry
from npu_guard.project.next_command import device_from_root, steps_from_root
from npu_guard.project.paths import in_project, where
from npu_guard.results.findings import ModelReport, Report, Verdict
from npu_guard.results.groups import Group, ranked_groups
from npu_guard.results.next_steps import filled_in
from npu_guard.results.share import share_words
from npu_guard.results.summary import count, mending, outcome, percent, plural, word

REMEDIES = True
MARKER = "<!-- npu-guard -->"
"""First line, by which a job finds its own comment to update it."""
MOST = 60_000
_RESERVE = 400
_OPEN = 20
"""So many of a model's findings are in sight; the rest is folded, by module."""
_WORST = (Verdict.UNREADABLE, Verdict.FAIL, Verdict.UNDECIDED, Verdict.PASS)
_HEAD = "| | rule | problem | node | source | share of MACs |\n|---|---|---|---|---|---:|\n"


def render(report: Report, *, color: bool = False) -> str:
    """The comment: verdicts, counts, then each model's findings, the most important first."""
    manual = _rules(report)
    page = _Page(MOST - _RESERVE - len(manual))
    worst = min((m.verdict for m in report.models), key=_WORST.index, default=Verdict.PASS)
    page.add(f"{MARKER}\n## npu-guard: {worst.value.upper()}\n\n")
    page.add("| model | device | verdict | errors | warnings | notes | undecided | suppressed | MACs that run as they are |\n")
    page.add("|---|---|---|---:|---:|---:|---:|---:|---:|\n")
    models_left_out = sum(not page.add(_counts(model)) for model in report.models)
    left_out = sum(_model(page, model) for model in report.models)
    page.always(manual)
    if models_left_out or left_out:
        cut = ", ".join(plural(n, what) for n, what in ((models_left_out, "model"), (left_out, "finding")) if n)
        page.always(f"\nCut to what a comment holds: {cut} not shown. `npu-guard check` in a terminal shows everything.\n")
    return page.text()


class _Page:
    """Text up to a size; a piece that does not fit is not written at all."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.parts: list[str] = []

    def add(self, piece: str, reserve: int = 0) -> bool:
        """Write a piece if it fits and leaves `reserve` characters."""
        fits = len(piece) + reserve <= self.room
        if fits:
            self.always(piece)
        return fits

    def always(self, piece: str) -> None:
        """Write a piece whatever the size, for what closes an open one."""
        self.parts.append(piece)
        self.room -= len(piece)

    def text(self) -> str:
        """All that was written."""
        return "".join(self.parts)


def _counts(model: ModelReport) -> str:
    c = count(model.findings)
    share = share_words(model.totals.npu_macs_percent, c.error) if model.totals.macs else ""
    numbers = f"{c.error} | {c.warning} | {c.note} | {c.undecided} | {c.suppressed} | {share}"
    if model.error is not None:
        numbers = " | ".join([""] * 6)
    return f"| {code_span(in_project(model.path))} | {plain_text(model.profile)} | {model.verdict.value} | {numbers} |\n"


def _model(page: _Page, model: ModelReport) -> int:
    """A model's section. Returns how many findings did not fit."""
    groups = ranked_groups([model])
    said = model.error[1] if model.error is not None else outcome(model)
    lines = [f"\n**{model.verdict.value.upper()}** {code_span(in_project(model.path))}: {plain_text(said)}\n"]
    lines += [f"\n{plain_text(told)}: {code_span(command)}\n" for told, command in steps_from_root(model)]
    lines += [f"\nNote: {plain_text(note)}\n" for note in model.notes]
    for c in model.crashes:
        lines.append(
            f"\nInternal error in {plain_text(c.rule)} at {code_span(c.node)}: {plain_text(c.error)}; please report it.\n"
        )
    if not all(page.add(line) for line in lines) or not groups:
        return sum(len(group.findings) for group in groups)
    left_out = _table(page, groups[:_OPEN])
    modules: dict[tuple[str, ...], list[Group]] = {}
    for group in groups[_OPEN:]:
        modules.setdefault(group.first.location.scope, []).append(group)
    for scope, found in modules.items():
        name = f"<code>{html.escape(printable('.'.join(scope), 200))}</code>" if scope else "top level"
        number = plural(sum(len(group.findings) for group in found), "more finding")
        closing = "\n</details>\n"
        if page.add(f"\n<details><summary>{name}: {number}</summary>\n", len(_HEAD) + len(closing) + 500):
            page.room -= len(closing)
            left_out += _table(page, found)
            page.room += len(closing)
            page.always(closing)
        else:
            left_out += sum(len(group.findings) for group in found)
    return left_out


def _table(page: _Page, groups: list[Group]) -> int:
    """Rows as long as they fit. Returns how many findings did not."""
    rows = [_row(group) for group in groups]
    started = page.add(f"\n{_HEAD}", len(rows[0]))
    return sum(len(group.findings) for group, row in zip(groups, rows, strict=True) if not (started and page.add(row)))


def _row(group: Group) -> str:
    f = group.first
    file, line = where(group.model, f)
    more = f" and {len(group.findings) - 1} more" if len(group.findings) > 1 else ""
    source = code_span(f"{file}:{line}") if f.source is not None else ""
    share = percent(100 * group.share) if group.model.totals.macs else ""
    node = f"{plain_text(f.location.op_type, 80)} {code_span(f.location.node)}{more}"
    mended = mending(group.findings)
    told = plain_text("; ".join(filter(None, (group.message, mended))))
    return f"| {word(f)} | {plain_text(f.rule)} {plain_text(f.name)} | {told} | {node} | {source} | {share} |\n"


def _rules(report: Report) -> str:
    """What each rule that spoke asks for, folded, and the page of the manual that says more."""
    spoke = {f.rule for m in report.models for f in m.findings if f.suppressed is None}
    found = [rule for rule in registry.rules() if rule.code in spoke]
    pages = {r.code: f"[manual]({url})" if (url := report.rule_url(r.code)) else f"`npu-guard rules {r.code}`" for r in found}
    devices = {device_from_root(m) for m in report.models}
    device = devices.pop() if len(devices) == 1 else "NAME"
    advice = {r.code: filled_in(r.section("What to do"), device) for r in found}
    entries = [f"- **{r.code} {r.name}** ({pages[r.code]}): {r.summary()} {advice[r.code]}\n" for r in found]
    return f"\n<details><summary>What the rules ask for</summary>\n\n{''.join(entries)}\n</details>\n" if entries else ""
