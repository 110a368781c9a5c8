"""Text for a terminal: findings by module, aligned, one summary line, and what to do next."""

from __future__ import annotations

import collections
from collections.abc import Iterable

from npu_guard.base.text import printable
from npu_guard.results.findings import Finding, ModelReport, Report, Source, Verdict
from npu_guard.results.summary import Group, alike, by_rule, message, outcome, si, word

_STYLE = {"error": "bold red", "warning": "yellow", "note": "cyan", "undecided": "magenta"}
_VERDICT = {
    Verdict.PASS: ("PASS", "bold green"),
    Verdict.FAIL: ("FAIL", "bold red"),
    Verdict.UNDECIDED: ("UNDECIDED", "bold magenta"),
    Verdict.UNREADABLE: ("UNREADABLE", "bold red"),
}
_SHOWN_NODES = 3
_SHOWN_GROUPS = 1000
"""Of a model; nobody reads more, and a log of megabytes helps no one."""


_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "magenta": "35", "cyan": "36"}


class _Page:
    """Lines of styled text. A report can have a hundred thousand of them, so this is no more than it needs to be."""

    def __init__(self, color: bool) -> None:
        self.color = color
        self.lines: list[str] = []

    def print(self, *parts: str) -> None:
        """One line."""
        self.lines.append("".join(parts))

    def style(self, text: str, style: str) -> str:
        """The text with escape sequences around it, where the page has colour."""
        return f"\x1b[{';'.join(_CODES[w] for w in style.split())}m{text}\x1b[0m" if self.color else text


def render(report: Report, *, color: bool = False) -> str:
    """The report; escape sequences only where `color` is set."""
    page = _Page(color)
    for model in report.models:
        _model(page, model)
    if len(report.models) > 1:
        tally = collections.Counter(m.verdict for m in report.models)
        words = ", ".join(f"{n} {v.value}" for v, n in sorted(tally.items(), key=lambda item: item[0].value))
        page.print(f"{len(report.models)} models: {words}")
    return "\n".join([*page.lines, ""])


def _model(page: _Page, model: ModelReport) -> None:
    if model.error is not None:
        page.print(_verdict(page, model.verdict), f"  {printable(model.path)}")
        return
    t = model.totals
    facts = (
        f"opset {model.opset}, {t.nodes} nodes, {si(t.macs)}MAC, {si(t.params)} parameters, peak activations {si(t.peak_bytes)}B"
    )
    page.print(page.style(printable(model.path), "bold"), f"  {model.profile}", page.style(f"  {facts}", "dim"))
    for note in model.notes:
        page.print(page.style(f"  note: {printable(note)}", "dim"))
    shown = [f for f in model.findings if f.suppressed is None]
    room, told = _SHOWN_GROUPS, 0
    for scope, findings in _by_scope(shown):
        if not room:
            break
        page.print()
        page.print(page.style(printable(".".join(scope)) if scope else "(top level)", "bold"))
        for source, groups in _by_line(alike(model, findings)):
            if not room:
                break
            for group in groups[:room]:
                _group(page, group)
                told += len(group.findings)
            room -= min(room, len(groups))
            if source is not None:
                where = f"{printable(source.file)}:{source.line} in {printable(source.function)}"
                page.print(page.style(f"{'':<21}{where}", "cyan"))
    if told < len(shown):
        page.print()
        page.print(page.style(f"... and {len(shown) - told:,} more findings; --format json has them all", "bold"))
    if shown:
        _advice(page, model, shown)
    page.print()
    for crash in model.crashes:
        text = f"internal error in {crash.rule} at {printable(crash.node)}: {printable(crash.error)}; please report it"
        page.print(page.style(text, "bold red"))
    page.print(_verdict(page, model.verdict), f"  {outcome(model)}")


def _by_scope(findings: Iterable[Finding]) -> list[tuple[tuple[str, ...], list[Finding]]]:
    """Findings by module, modules in order of their first finding."""
    groups: dict[tuple[str, ...], list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.place.scope, []).append(finding)
    return list(groups.items())


def _by_line(groups: Iterable[Group]) -> list[tuple[Source | None, list[Group]]]:
    """Groups by the line of Python, lines in order of their first group; it is said once, below all that it made."""
    lines: dict[object, tuple[Source | None, list[Group]]] = {}
    for group in groups:
        source = group.first.source
        lines.setdefault(source and (source.file, source.line), (source, []))[1].append(group)
    return list(lines.values())


def _group(page: _Page, group: Group) -> None:
    first, times, kind = group.first, len(group.findings), word(group.first)
    repeated = page.style(f"  ({times} times)", "dim") if times > 1 else ""
    page.print("  ", page.style(f"{kind:<9}", _STYLE[kind]), f"  {first.rule}  {printable(message(first))}", repeated)
    for finding in group.findings[:_SHOWN_NODES]:
        place = finding.place
        where = f"{printable(place.op_type)} {printable(place.node, 80)}"
        if place.graph:
            where += f" in {printable('/'.join(place.graph), 120)}"
        if finding.tensor is not None and finding.tensor.shape is not None:
            where += f" [{', '.join('?' if d is None else printable(str(d), 40) for d in finding.tensor.shape)}]"
        page.print(page.style(f"{'':<21}{where}", "dim"))
    if times > _SHOWN_NODES:
        page.print(page.style(f"{'':<21}and {times - _SHOWN_NODES} more", "dim"))


def _advice(page: _Page, model: ModelReport, findings: list[Finding]) -> None:
    """One line a rule, the one first that holds back most."""
    page.print()
    page.print(page.style("What to do", "bold"))
    rules = by_rule(model, findings)
    for group in rules:
        advice = group.first.remedy.advice if group.first.remedy is not None else ""
        page.print(f"  {group.first.rule}  {group.first.name}: {advice}")
    page.print(page.style(f"  'npu-guard rules {rules[0].first.rule}' explains a rule with examples.", "dim"))


def _verdict(page: _Page, verdict: Verdict) -> str:
    return page.style(*_VERDICT[verdict])
