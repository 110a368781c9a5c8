"""Text for a terminal: findings by line of Python, the most important first, a summary line, and what to do next."""

from __future__ import annotations

import collections
from collections.abc import Sequence

from npu_guard.base.text import printable
from npu_guard.project.paths import python_from_here
from npu_guard.project.source_lines import line_text
from npu_guard.reports.blocks.places import Origin, by_cause, by_origin
from npu_guard.reports.blocks.scopes import folded
from npu_guard.results.findings import INPUT, Finding, ModelReport, Report, SourceLine, Verdict
from npu_guard.results.groups import Group, alike, by_rule
from npu_guard.results.next_steps import advised, device_of, next_steps
from npu_guard.results.summary import count, counted, mending, outcome, percent, plural, si, word

_STYLE = {"error": "bold red", "warning": "yellow", "note": "cyan", "undecided": "magenta"}
_VERDICT = {
    Verdict.PASS: ("PASS", "bold green"),
    Verdict.FAIL: ("FAIL", "bold red"),
    Verdict.UNDECIDED: ("UNDECIDED", "bold magenta"),
    Verdict.UNREADABLE: ("UNREADABLE", "bold red"),
}
REMEDIES = True
_SCREEN, _BRIEF, _ADVICE = 32, 12, 10
"""Lines for findings, also in brief, and for what to do, where nobody asked for all: with what is around them, one screen."""
_OPERATORS = 2
"""Of a rule about operators, how many it says what to do about."""
_ALL = 1000
"""Of a model, also where all are asked for: nobody reads more, and a log of megabytes helps no one."""
_SHOWN_NODES = 20
_QUOTED = 12
"""Characters of a line of Python, of which fewer are not shown."""
_WIDTH = 80
_INDENT = 20

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "magenta": "35", "cyan": "36"}


class _Page:
    """Lines of styled text. A report can have a hundred thousand of them, so this is no more than it needs to be."""

    def __init__(self, color: bool, more: str) -> None:
        self.color = color
        self.more = more
        """What shows what is left out."""
        self.lines: list[str] = []

    def print(self, *parts: str) -> None:
        """One line."""
        self.lines.append("".join(parts))

    def style(self, text: str, style: str) -> str:
        """The text with escape sequences around it, where the page has colour."""
        return f"\x1b[{';'.join(_CODES[w] for w in style.split())}m{text}\x1b[0m" if self.color else text


def render(
    report: Report, *, color: bool = False, verbose: bool = False, statistics: bool = False, brief: bool = False,
    more: str = "--verbose",
) -> str:  # fmt: skip
    """The report; escape sequences only where `color` is set.

    `verbose` shows every line of Python and every node; `statistics` shows a table by rule and operator in their place;
    `brief` is for a place among others, such as a failing test. `more` is what shows what is left out.
    """
    page = _Page(color, more)
    for index, model in enumerate(report.models):
        if index:
            page.print()
        _model(page, model, verbose, statistics, brief)
    if len(report.models) > 1:
        tally = collections.Counter(m.verdict for m in report.models)
        words = ", ".join(f"{n} {v.value}" for v, n in sorted(tally.items(), key=lambda item: item[0].value))
        page.print(f"{len(report.models)} models: {words}")
    return "\n".join([*page.lines, ""])


def _model(page: _Page, model: ModelReport, verbose: bool, statistics: bool, brief: bool) -> None:
    if model.error is not None:
        page.print(_verdict(page, model.verdict), f"  {printable(model.path)}")
        return
    t = model.totals
    least = "at least " if t.uncounted else ""
    facts = ", ".join(
        (f"opset {model.opset}", plural(t.nodes, "node"),
         f"{least}{si(t.macs)}MAC" if t.macs or not least else "MACs not known", counted(t.params, "parameter"),
         f"peak activations {least}{si(t.peak_bytes)}B",
         *([] if t.integer_macs_percent is None else [f"{percent(t.integer_macs_percent)} of the MACs in integers"]))
    )  # fmt: skip
    page.print(page.style(printable(model.path), "bold"), f"  {model.profile}", page.style(f"  {facts}", "dim"))
    for note in model.notes:
        page.print(page.style(f"  note: {printable(note)}", "dim"))
    shown = [f for f in model.findings if f.suppressed is None]
    if statistics and shown:
        _statistics(page, shown)
    elif shown:
        short = _findings(page, model, shown, verbose, _BRIEF if brief else _SCREEN)
        if not brief:
            _advice(page, model, shown, verbose, short)
        elif short:
            page.print(page.style(f"  {page.more} shows all.", "bold"))
    if verbose:
        _suppressed(page, model)
    page.print()
    for crash in model.crashes:
        text = f"internal error in {crash.rule} at {printable(crash.node)}: {printable(crash.error)}; please report it"
        page.print(page.style(text, "bold red"))
    page.print(_verdict(page, model.verdict), f"  {outcome(model)}")
    for told, command in next_steps(model, model.path):
        page.print(f"      {told}:")
        page.print(f"      {command}")  # whole, so that it can be copied


def _findings(page: _Page, model: ModelReport, findings: Sequence[Finding], verbose: bool, room: int) -> bool:
    """Findings by line of Python; those without one by module. Returns whether some are only counted."""
    blocks = by_origin(findings) if verbose else by_cause(model, findings)
    groups = [alike(model, members) for _, members in blocks[:_ALL]]
    told = [len(g) for g in groups] if verbose else _fitting([len(g) for g in groups], room)
    for (origin, members), found, most in zip(blocks, groups, told, strict=False):
        page.print()
        page.print(*_title(page, origin, members))
        for group in found[:most]:
            _group(page, group, origin, verbose)
        if most < len(found):
            rest = sum(len(group.findings) for group in found[most:])
            page.print(page.style(f"  ... and {plural(rest, 'finding')} more here", "bold"))
    if left := [f for _, members in blocks[len(told) :] for f in members]:
        how = "; --format json has them" if verbose else ""
        page.print()
        words = f"... and {plural(len(blocks) - len(told), 'place')} more, with {count(left).words()}{how}"
        page.print(page.style(words, "bold"))
    return bool(left) or any(most < len(found) for found, most in zip(groups, told, strict=False))


def _fitting(sentences: Sequence[int], room: int) -> list[int]:
    """How many sentences are told at each place: one at as many places as fit, then more of them, a round after another.

    Each takes two lines; so does what stands above them, and one that there are more.
    """
    told = list[int]()
    for index, have in enumerate(sentences):
        room -= 4 + (have > 1)
        if room < 0 and told and (have > 1 or index + 1 < len(sentences)):  # to say that one is left out is hardly shorter
            break
        told.append(1)
    room = max(room, 0)
    while True:
        before = room
        for index, have in enumerate(sentences[: len(told)]):
            lines = 2 - (told[index] + 1 == have)
            if told[index] < have and lines <= room:
                told[index] += 1
                room -= lines
        if room == before:
            return told


def _title(page: _Page, origin: Origin, findings: Sequence[Finding]) -> tuple[str, ...]:
    """`depthnet/blocks.py:19  y = self.conv(y)`, or the path of the module."""
    if not isinstance(origin, SourceLine):
        kinds = {f.location.op_type for f in findings}
        nowhere = "(settings)" if kinds == {""} else "(graph inputs)" if kinds == {INPUT} else "(no module)"
        return (page.style(printable(folded(origin, nowhere)), "bold"),)
    text, place = line_text(origin), f"{printable(python_from_here(origin.file))}:{origin.line}"
    room = max(_WIDTH - len("  …") - len(place), 0)
    quoted = page.style(f"  {printable(text, room)}", "dim") if text is not None else f"  in {printable(origin.function)}"
    if text is not None and room < min(len(text), _QUOTED):
        quoted = ""  # three letters tell nothing, and a second line breaks the page
    return page.style(place, "bold cyan"), quoted


def _group(page: _Page, group: Group, origin: Origin, verbose: bool) -> None:
    """`error    NPU201  kernel 19x1 is longer than 17`, and below it where in the model."""
    first, kind = group.first, word(group.first)
    page.print("  ", page.style(f"{kind:<9}", _STYLE[kind]), f" {first.rule}  {printable(group.message)}")
    if verbose:
        for finding in group.findings[:_SHOWN_NODES]:
            where = "; ".join(filter(None, (_node(finding) + _module([finding], origin), mending([finding]))))
            page.print(page.style(f"{'':<{_INDENT}}{where}", "dim"))
        if len(group.findings) > _SHOWN_NODES:
            page.print(page.style(f"{'':<{_INDENT}}and {len(group.findings) - _SHOWN_NODES} more", "dim"))
        return
    times = f", {len(group.findings)} times" if len(group.findings) > 1 else ""
    node = _node(first) if not times else printable(", ".join(dict.fromkeys(f.location.op_type for f in group.findings)))
    where = "; ".join(filter(None, (f"{node}{_module(group.findings, origin)}{times}".strip(), mending(group.findings))))
    if where:  # what is about the settings is nowhere
        page.print(page.style(f"{'':<{_INDENT}}{where}", "dim"))


def _node(finding: Finding) -> str:
    """The operator, with its shape where the message tells of none."""
    location = finding.location
    where = f"{printable(location.op_type)} {printable(location.node, 80)}"
    if location.graph:
        where += f" in {printable('/'.join(location.graph), 120)}"
    if finding.tensor is not None and finding.tensor.shape is not None and "[" not in finding.message:
        where += f" [{', '.join('?' if d is None else printable(str(d), 40) for d in finding.tensor.shape)}]"
    return where


def _module(findings: Sequence[Finding], origin: Origin) -> str:
    """` in encoder.stages.*.eca`: the modules of several findings, folded; nothing where the title says it."""
    scopes = list(dict.fromkeys(f.location.scope for f in findings))
    if scopes == [()] or (not isinstance(origin, SourceLine) and set(scopes) <= set(origin)):
        return ""
    return f" in {printable(folded(scopes, '(no module)'))}"


def _suppressed(page: _Page, model: ModelReport) -> None:
    """What does not count, and why: each reason with its findings."""
    reasons: dict[str, list[Finding]] = {}
    for finding in model.findings:
        if finding.suppressed is not None:
            reasons.setdefault(finding.suppressed, []).append(finding)
    for reason, findings in reasons.items():
        page.print()
        page.print(page.style(f"Suppressed: {printable(reason, 200)}", "bold"))
        groups = alike(model, findings)
        for group in groups[:_ALL]:
            first, times = group.first, f", {len(group.findings)} times" if len(group.findings) > 1 else ""
            page.print(f"  {word(first):<9} {first.rule}  {printable(group.message)}")
            page.print(page.style(f"{'':<{_INDENT}}{_node(first)}{times}", "dim"))
        if len(groups) > _ALL:
            page.print(f"  ... and {len(groups) - _ALL:,} more; --format json has them")


def _statistics(page: _Page, findings: Sequence[Finding]) -> None:
    """How many findings of each rule, at which operators."""
    rows: dict[tuple[str, str, str], collections.Counter[str]] = {}
    for f in findings:
        rows.setdefault((f.rule, f.name, word(f)), collections.Counter())[f.location.op_type] += 1
    page.print()
    for (rule, name, kind), operators in sorted(rows.items(), key=lambda row: (-row[1].total(), row[0])):
        told = ", ".join(f"{printable(op)} {n}" for op, n in sorted(operators.items(), key=lambda item: (-item[1], item[0])))
        page.print(f"{operators.total():>7,}  ", page.style(f"{kind:<9}", _STYLE[kind]), f" {rule}  {name}  ({told})")


def _advice(page: _Page, model: ModelReport, findings: Sequence[Finding], verbose: bool, short: bool) -> None:
    """A paragraph for each rule, the one first that holds back most; with `verbose`, what to write in PyTorch as well.

    `short` is whether something above is only counted: the last line says once how to see it.
    """
    page.print()
    page.print(page.style("What to do", "bold"))
    rules = by_rule(model, findings)
    end, written = len(page.lines) + _ADVICE, set[str]()
    for index, group in enumerate(rules):
        if not verbose and len(page.lines) >= end and index + 1 < len(rules):
            names = ", ".join(g.first.rule for g in rules[index:])
            page.print(page.style(f"  ... and for {names}", "bold"))
            short = True
            break
        advice = advised(group.findings, device_of(model), None if verbose else _OPERATORS)
        told = f"{group.first.rule}  {group.first.name}: {advice}"
        page.lines += _wrapped(told)
        page.lines += _pytorch(group.findings, written) if verbose else []
    if short and not verbose:
        page.print(page.style(f"  {page.more} shows all.", "bold"))
    page.print(page.style(f"  'npu-guard rules {rules[0].first.rule}' explains a rule with examples.", "dim"))


def _pytorch(findings: Sequence[Finding], written: set[str]) -> list[str]:
    """What to write instead, for the operators at hand; what another rule has `written` already is not repeated."""
    import textwrap

    from npu_guard.checking.pairs import at_finding

    shown = []
    for pair in dict.fromkeys(map(at_finding, findings)):
        if pair is not None and pair.name not in written:
            written.add(pair.name)
            title = textwrap.wrap(pair.title, _WIDTH - 11, initial_indent="# ", subsequent_indent="# ")
            shown += ["", *(f"         {line}".rstrip() for line in (*title, *pair.after.splitlines())), ""]
    return shown


def _wrapped(text: str) -> list[str]:
    """The words in lines of a terminal's width, those behind the first one indented."""
    lines, rest, indent = [], " ".join(text.split()), "  "
    while len(rest) > (room := _WIDTH - len(indent)):
        end = rest.rfind(" ", 0, room + 1)
        if end < 0:
            end = rest.find(" ", room) % (len(rest) + 1)  # a word that is wider than the terminal stays whole
        lines.append(indent + rest[:end])
        rest, indent = rest[end + 1 :], " " * 9
    return [*lines, indent + rest] if rest or not lines else lines


def _verdict(page: _Page, verdict: Verdict) -> str:
    return page.style(*_VERDICT[verdict])
