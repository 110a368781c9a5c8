"""Findings that say the same, together, and which are more important than others."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from npu_guard.base.regex import regex
from npu_guard.results.findings import Finding, ModelReport, Outcome
from npu_guard.results.summary import message, plural


class Group(Struct, frozen=True):
    """Findings of one model that say the same of several nodes: one line for people."""

    model: ModelReport
    findings: tuple[Finding, ...]

    @property
    def first(self) -> Finding:
        """The one that stands for all."""
        return self.findings[0]

    @property
    def message(self) -> str:
        """What the rule says of the first one, and of which operators, and how many more it says it of other sizes, or cannot be
        told for another tensor."""
        if not (others := len({f.message for f in self.findings}) - 1):
            return message(self.first)
        if self.first.outcome is Outcome.UNDECIDED:
            return f"{message(self.first)}, and so for {plural(others, 'other')} like it"
        operators = dict.fromkeys(f.location.op_type for f in self.findings if f.message != self.first.message)
        if len({_unnamed(f) for f in self.findings}) == 1:
            return f"{message(self.first)}, and so for {', '.join(operators)}"
        return f"{message(self.first)}, and {others:,} more with other sizes"

    @property
    def share(self) -> float:
        """Share of the model's MACs that the group holds back, 0 to 1; a node counts once."""
        total = self.model.totals.macs
        nodes = {(f.location.graph, f.location.output): f.macs for f in self.findings if f.severity is self.first.severity}
        return sum(nodes.values()) / total if total else 0.0


def alike(model: ModelReport, findings: Iterable[Finding]) -> list[Group]:
    """Findings of one rule with one text at one line of Python go together; the order stays.

    So does what a line does with several operators, such as those that one function is spelled out in; what cannot be told for
    one reason, whichever tensor stands in the way; and what a line does to other sizes in modules whose paths differ in numbers
    alone, such as the stages of a network.
    """
    groups: list[list[Finding]] = []
    known: dict[object, list[Finding]] = {}
    for f in findings:
        text = _QUOTED.sub("", f.message) if f.outcome is Outcome.UNDECIDED else f.message
        line = None if f.source is None else (f.source.file, f.source.line)  # whichever module it ran in
        kind = f.rule, f.severity, f.outcome, line
        keys: list[tuple[object, ...]] = [(kind, text)]
        if line is not None:
            keys.append((kind, _unnamed(f), ""))
            keys.append((kind, _NUMBER.sub("0", f"{'.'.join(f.location.scope)} {text}")))
        group = next((known[key] for key in keys if key in known), None)
        if group is None:
            groups.append(group := [])
        group.append(f)
        for key in keys:
            known.setdefault(key, group)
    return [Group(model, tuple(group)) for group in groups]


def _unnamed(finding: Finding) -> str:
    """The message without the operator that it begins with."""
    return finding.message.removeprefix(finding.location.op_type)


_QUOTED, _NUMBER = regex(r"'[^']*'"), regex(r"\d+")


def ranked(findings: Iterable[Finding]) -> list[Finding]:
    """Findings of one model, the most important first: errors, then the MACs that the node holds back, then graph order."""
    return sorted(findings, key=lambda f: (*_weight(f), -f.macs))


def ranked_findings(models: Iterable[ModelReport]) -> list[Group]:
    """Every finding on its own, the most important first: errors, then the share of MACs held back, then graph order."""
    return _rank(Group(m, (f,)) for m in models for f in m.findings)


def ranked_groups(models: Iterable[ModelReport]) -> list[Group]:
    """What counts (nothing that is suppressed), with findings that say the same together, the most important first."""
    return _rank(group for m in models for group in alike(m, (f for f in m.findings if f.suppressed is None)))


def by_rule(model: ModelReport, findings: Iterable[Finding]) -> list[Group]:
    """One group a rule, led by its most severe finding; the most important rule first."""
    rules: dict[str, list[Finding]] = {}
    for f in sorted(findings, key=lambda f: f.rule):
        rules.setdefault(f.rule, []).append(f)
    return _rank(Group(model, tuple(sorted(found, key=_weight))) for found in rules.values())


def _rank(groups: Iterable[Group]) -> list[Group]:
    return sorted(groups, key=lambda g: (*_weight(g.first), -g.share))


def _weight(finding: Finding) -> tuple[bool, int, bool]:
    return finding.suppressed is not None, -finding.severity.rank, finding.outcome is Outcome.UNDECIDED
