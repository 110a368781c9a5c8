"""docs/agreement.md: how far profiles and compilers agree, with every disagreement and its reason."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import boundary
import judge
import page_networks
import recorded

from npu_guard.base.text import printable
from npu_guard.checking import registry
from npu_guard.compilers.builtin import BUILTINS
from npu_guard.compilers.compare import outcome


@dataclass(frozen=True)
class Line:
    """One case under one profile."""

    answered: recorded.Answered
    opinion: judge.Opinion
    outcome: str
    reason: str


def lines() -> Mapping[str, Sequence[Line]]:
    """Recorded answers beside the rules' words of today, by profile. Each case is analysed once for all profiles."""
    known = recorded.reasons()
    answers = {name: found for name in recorded.TARGETS if (found := recorded.read(name))}
    wanted: dict[tuple[str, int], list[str]] = collections.defaultdict(list)
    cases = {}
    for name, found in answers.items():
        for a in found.values():
            wanted[a.case.text, a.case.opset].append(name)
            cases[a.case.text, a.case.opset] = a.case
    profiles = {name: registry.profile(name) for name in answers}
    words = {key: judge.opinions(judge.analysis_of(cases[key]), [profiles[n] for n in names]) for key, names in wanted.items()}
    return {
        name: [_line(name, a, words[a.case.text, a.case.opset][name], known) for a in found.values()]
        for name, found in answers.items()
    }


def _line(name: str, answered: recorded.Answered, opinion: judge.Opinion, known: Sequence[recorded.Reason]) -> Line:
    found = outcome(opinion.word, answered.word)
    differs = found in ("missed", "false-alarm", "undecided")
    return Line(answered, opinion, found, recorded.reason_for(name, answered.case.key, known) if differs else "")


@dataclass(frozen=True)
class Counts:
    """Cases by outcome. What the compiler did not answer is left out of the share, what the rules left open is not."""

    agreement: int
    missed: int
    false_alarms: int
    undecided: int
    unknown: int

    @property
    def told(self) -> int:
        return self.agreement + self.missed + self.false_alarms + self.undecided

    @property
    def share(self) -> float:
        return 100 * self.agreement / self.told if self.told else 0.0


def counts(found: Sequence[Line]) -> Counts:
    tally = collections.Counter(line.outcome for line in found)
    return Counts(*(tally[name] for name in ("agreement", "missed", "false-alarm", "undecided", "unknown")))


NO_ANSWER = """Cases without an answer are those that could not be put to a compiler, such as operators without a TFLite form
for Vela, and those at which it died. They count neither for nor against. `ethos-u55-legacy` is compared with the legacy core of
Vela 5.2.0, which was the default up to 4.5."""
HEAD = """# Agreement with the vendors' compilers

A profile is worth as much as it agrees with the compiler that has the last word. Whole networks first: how many pass or fail
with the rules as with the compiler, then their operators one by one. A network passes with the rules if it has no error; it
passes with the compiler if no operator falls back to the CPU."""

SINGLE = """Then models of one operator each, at each limit and one step past it. An operator *fits* if it runs on the NPU,
also where the compiler splits it up; what falls back to the CPU is refused. A finding refuses if its severity is error.
*Missed*: the profile says that it fits, and the compiler refuses. *False alarm*: the reverse."""

ORIGIN = """This page is generated: `make study` installs the compilers into environments of their own and asks them what
they were not asked before; the answers are in `bench/study/recorded/`, reasons for disagreements in
`bench/study/reasons.toml`. A test compares the profiles with the recorded answers on single operators, without the
compilers; what the rules say of networks is as of the last `bench/study/run.py --judge`. The compilers' licences are yours
to accept; none is a dependency of npu-guard."""


def text(found: Mapping[str, Sequence[Line]]) -> str:
    """The page."""
    parts = [
        HEAD,
        *page_networks.verdicts(_table),
        SINGLE,
        "",
        *_table(
            ("profile", "compiler", "cases", "agreement", "missed", "false alarms", "undecided", "no answer"), _summary(found)
        ),
    ]
    parts += ["", NO_ANSWER, "", ORIGIN]
    for name, mine in found.items():
        parts += ["", f"## {name}", "", *_profile(name, mine)]
    return "\n".join([*parts, "", *page_networks.each(_table, _cell)]).rstrip() + "\n"


def _summary(found: Mapping[str, Sequence[Line]]) -> list[tuple[object, ...]]:
    rows = []
    for name, mine in found.items():
        c = counts(mine)
        compiler = BUILTINS[recorded.TARGETS[name]].requirements[-1]
        title = next((r for step in (BUILTINS[recorded.TARGETS[name]].requirements) for r in step if "==" in r), compiler[0])
        rows.append(
            (
                f"[{name}](#{name})",
                title.replace("==", " "),
                c.told,
                f"{c.share:.1f} %",
                c.missed,
                c.false_alarms,
                c.undecided,
                c.unknown,
            )
        )
    return rows


def _profile(name: str, mine: Sequence[Line]) -> list[str]:
    families: dict[str, list[Line]] = collections.defaultdict(list)
    for line in mine:
        families[line.answered.case.family].append(line)
    rows: list[tuple[object, ...]] = []
    for family, members in families.items():
        c = counts(members)
        rows.append(
            (
                family,
                c.told,
                f"{c.share:.0f} %" if c.told else "",
                c.missed or "",
                c.false_alarms or "",
                c.undecided or "",
                c.unknown or "",
            )
        )
    parts = _table(("cases", "answered", "agreement", "missed", "false alarms", "undecided", "no answer"), rows)
    parts += ["", *_table(("rule", "cases that it refuses", "refused by the compiler too"), _rules(mine))]
    unswept = boundary.unswept(registry.profile(name), families)
    if unswept:
        parts += ["", f"Limits that no case reaches yet: {', '.join(unswept)}."]
    for kind, title in (("missed", "Missed"), ("false-alarm", "False alarms"), ("undecided", "Undecided")):
        differing = [line for line in mine if line.outcome == kind]
        if differing:
            parts += [
                "",
                f"### {title}: {name}",
                "",
                *_table(("case", "rules", "compiler", "reason"), map(_differing, differing)),
            ]
    silent = [line for line in mine if line.outcome == "unknown" and line.answered.word == "failed"]
    if silent:
        parts += ["", f"### The compiler did not survive: {name}", ""]
        parts += _table(("case", "what it said"), [(line.answered.case.key, _cell(line.answered.message)) for line in silent])
    return parts


def _rules(mine: Sequence[Line]) -> list[tuple[object, ...]]:
    """How often each rule was right when it refused. A case may be refused by several."""
    told = [line for line in mine if line.opinion.word == "refused" and line.outcome != "unknown"]
    fired = collections.Counter(code for line in told for code in line.opinion.codes)
    right = collections.Counter(code for line in told for code in line.opinion.codes if line.outcome == "agreement")
    return [(code, fired[code], right[code]) for code in sorted(fired)]


def _differing(line: Line) -> tuple[object, ...]:
    rules = ", ".join(line.opinion.codes) or line.opinion.word
    said = line.answered.word + (f": {line.answered.message}" if line.answered.message else "")
    return line.answered.case.key, rules, _cell(said), line.reason or "**unexplained**"


def _cell(text: str) -> str:
    """A compiler's words in a table: on one line, without markup."""
    return printable(" ".join(text.split()), 160).replace("|", "\\|").replace("`", "'")


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return [*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)]
