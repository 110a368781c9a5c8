"""How bad it is: findings counted by severity, for comparing a block or a model with what takes its place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from npu_guard.results.findings import Finding, Outcome, Severity


class Tally(NamedTuple):
    """Errors count before warnings, however many. What the graph does not tell counts as if it were wrong."""

    errors: int = 0
    warnings: int = 0


def counts(finding: Finding) -> bool:
    """Whether it is an error or a warning that nobody has suppressed."""
    return finding.suppressed is None and finding.severity in (Severity.ERROR, Severity.WARNING)


def fails(finding: Finding) -> bool:
    """Whether it is one that a rule is sure of."""
    return counts(finding) and finding.outcome is Outcome.FAIL


def tally(findings: Iterable[Finding]) -> Tally:
    """Errors and warnings among the findings."""
    severities = [f.severity for f in findings if counts(f)]
    return Tally(severities.count(Severity.ERROR), severities.count(Severity.WARNING))
