"""What becomes of the operators of a model on the device, summed up by type, as hardware engineers read it."""

from __future__ import annotations

import collections
from collections.abc import Mapping

from msgspec import Struct

from npu_guard.results.findings import INPUT, Finding, LayerRow, ModelReport, Outcome, Severity
from npu_guard.results.summary import message

FATES = ("fits", "split", "slow", "warning", "undecided", "host", "refused")
"""What becomes of a node, from the best to the worst. `warning` is what the documents leave open."""
_OF_CONSEQUENCE = {"compile-error": "refused", "host": "host", "decomposed": "split", "slow": "slow"}


class OperatorRow(Struct, frozen=True):
    """All nodes of one operator type that the device has to run."""

    op_type: str
    count: int
    macs: int | None
    """None where those of some node are not known."""
    fates: Mapping[str, int]
    """How many of the nodes have each of `FATES`; those that none has are left out."""
    reason: str
    """What most of the worst ones have in common, with its rule; empty where all fit."""
    others: int
    """Different findings at these nodes besides that one."""
    example: LayerRow
    """One of the worst nodes."""

    @property
    def worst(self) -> str:
        """The worst of its fates."""
        return max(self.fates, key=FATES.index)


def fate(finding: Finding) -> str:
    """What becomes of a node that has this finding alone, one of `FATES`."""
    if finding.outcome is Outcome.UNDECIDED:
        return "undecided"
    told = _OF_CONSEQUENCE.get(finding.consequence, "")
    if finding.severity is Severity.ERROR:
        return told or "refused"
    if told in ("slow", "split"):
        return told
    return "warning" if finding.severity is Severity.WARNING else "fits"


def by_operator(model: ModelReport) -> list[OperatorRow]:
    """A row for each operator type: the worst first, then those with most MACs. Suppressed findings do not count.

    Empty where the report has no layers. An input of the graph has a row only where there is a finding at one.
    """
    findings: dict[tuple[tuple[str, ...], str], list[Finding]] = {}
    for finding in model.findings:
        if finding.suppressed is None:
            findings.setdefault((finding.location.graph, finding.location.output), []).append(finding)
    types: dict[str, list[tuple[LayerRow, list[Finding]]]] = {}
    for layer in model.layers:
        told = findings.get((layer.location.graph, layer.location.output), [])
        if layer.verdict != "folded" and (told or layer.location.op_type != INPUT):
            types.setdefault(layer.location.op_type, []).append((layer, told))
    rows = [_row(op_type, nodes) for op_type, nodes in types.items()]
    return sorted(rows, key=lambda row: (-FATES.index(row.worst), -(row.macs or 0), row.op_type))


def _row(op_type: str, nodes: list[tuple[LayerRow, list[Finding]]]) -> OperatorRow:
    fates = [max(map(fate, told), key=FATES.index, default="fits") for _, told in nodes]
    worst = max(fates, key=FATES.index)
    reasons: collections.Counter[str] = collections.Counter()
    told_of_worst: collections.Counter[str] = collections.Counter()
    for _, told in nodes:
        for finding in told:
            text = f"{finding.rule}: {message(finding)}"
            reasons[text] += 1
            if fate(finding) == worst:
                told_of_worst[text] += 1
    macs = [layer.macs for layer, _ in nodes]
    return OperatorRow(
        op_type=op_type,
        count=len(nodes),
        macs=None if None in macs else sum(m or 0 for m in macs),
        fates={name: fates.count(name) for name in FATES if name in fates},
        reason=told_of_worst.most_common(1)[0][0] if told_of_worst else "",
        others=max(0, len(reasons) - 1),
        example=nodes[fates.index(worst)][0],
    )
