"""All edits of a pass in one model: those that make it valid and leave less wrong than before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from npu_guard.analysis.analyze import Analysis
from npu_guard.base.errors import ModelError
from npu_guard.checking.engine import Checked
from npu_guard.file.document import Document
from npu_guard.fixing.ceiling import Ceiling, cost_of
from npu_guard.fixing.severities import counts, tally
from npu_guard.graph.graph import Node
from npu_guard.results.findings import Finding
from npu_guard.rewriting.edit import Edit, replace_matches
from npu_guard.rewriting.substitution import Match

MAX_TRIED = 64
"""Times that some of the edits are tried together without those that do harm."""
Look = Callable[[Document], tuple[Analysis, Checked]]


@dataclass(slots=True)
class Merged:
    """A model with edits, and the matches that are not in it."""

    document: Document
    analysis: Analysis
    checked: Checked
    kept: list[Edit] = field(default_factory=list)
    refused: list[tuple[Match, str]] = field(default_factory=list)
    left: dict[Match, list[Finding]] = field(default_factory=dict)
    """What is wrong with the new nodes of each match that is kept."""


def merge(
    document: Document, analysis: Analysis, checked: Checked, edits: Sequence[Edit], look: Look, ceiling: Ceiling | None = None
) -> Merged:
    """The model with as many of the edits as make a valid one together that has fewer findings, each of them.

    `look` analyses and checks a document; it raises ModelError where it is none. `ceiling` is what the model may cost.
    """
    nodes = analysis.model.graph.nodes
    before = Wrong(analysis, checked)
    result = Merged(document, analysis, checked)
    groups = [list(edits)] if edits else []
    tried = 0
    while groups:
        group = groups.pop()
        try:
            edited = replace_matches(document, nodes, [*result.kept, *group])
            now = Wrong(*look(edited))
        except ModelError as error:
            tried += 1
            if len(group) == 1 or tried > MAX_TRIED:
                result.refused += ((e.match, f"rolled back: the result is not valid ({error})") for e in group)
            else:  # halves find the culprit without taking its neighbours along
                groups += [group[len(group) // 2 :], group[: len(group) // 2]]
            continue
        left = {e.match: now.after(e, before) for e in (*result.kept, *group)}
        bad = [e for e in group if tally(left[e.match]) >= tally(before.at(e.match.nodes))]
        if bad:
            tried += 1
            result.refused += ((e.match, f"rolled back: in the model, {_worst(left[e.match])}") for e in bad)
            if rest := [e for e in group if e not in bad]:
                groups.append(rest)
        elif why := _not_worth_it(now, result.checked, ceiling):
            tried += 1
            if len(group) == 1 or tried > MAX_TRIED:
                result.refused += ((e.match, f"rolled back: {why}") for e in group)
            else:
                groups += [group[len(group) // 2 :], group[: len(group) // 2]]
        else:
            result.kept += group
            result.document, result.analysis, result.checked, result.left = edited, now.analysis, now.checked, left
    return result


def _not_worth_it(now: Wrong, before: Checked, ceiling: Ceiling | None) -> str:
    """Why a valid model does not take the place of the one before; empty where it does."""
    if now.tally >= tally(before.findings):
        return "with it, the model has as many findings as without"
    return ceiling.reason(cost_of(now.analysis)) if ceiling is not None else ""


def _worst(findings: Sequence[Finding]) -> str:
    worst = max(findings, key=lambda f: f.severity.rank)
    return f"{worst.rule} is at {worst.location.op_type} then ({worst.message})"


class Wrong:
    """What is wrong with a model, by place."""

    def __init__(self, analysis: Analysis, checked: Checked) -> None:
        self.analysis, self.checked = analysis, checked
        self.tally = tally(checked.findings)
        self._at: dict[str, list[Finding]] = {}
        for finding in filter(counts, checked.findings):
            self._at.setdefault(finding.location.output, []).append(finding)

    def at(self, nodes: Iterable[Node]) -> list[Finding]:
        """What is wrong with the nodes."""
        return [f for n in nodes if n.outputs for f in self._at.get(n.output.name, ())]

    def after(self, made: Edit, before: Wrong) -> list[Finding]:
        """What is wrong with the new nodes of an edit, and with their neighbours where it was not wrong before."""
        values = self.analysis.model.graph.values
        new = {v.producer: None for n in made.builder.nodes for o in n.output if (v := values.get(o)) is not None}
        own = {n: None for n in new if n is not None}
        near = {n: None for node in own for v in node.outputs if v is not None for n in v.consumers}
        near |= {v.producer: None for node in own for v in node.inputs if v is not None and v.producer is not None}
        found = self.at(own)
        for node in near:
            if node not in own and node.outputs:
                known = {f.rule for f in before._at.get(node.output.name, ())}
                found += (f for f in self._at.get(node.output.name, ()) if f.rule not in known)
        return found
