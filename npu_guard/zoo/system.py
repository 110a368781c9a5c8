"""The contract of a zoo system: one file in `models/`, its name is the file's name.

A system module has a docstring (first line: short description), `ID` (its row in the seed table), `build(size)`
-> eval-mode torch module with seeded weights, `inputs(size)` -> dict of example tensors by input name, in
the order of `forward`, `EXPECTED`, findings by profile, and `FIXED`, what exact substitutions leave of them, by profile.
Both hold for both sizes; where a substitution gives up at full size, `FIXED_FULL` says what is left there. `SIMPLIFIED` are
findings that there are on top where onnxsim has spelled an operator differently.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from npu_guard.results.findings import Evidence, Finding, Number

Key = tuple[str, str, Number | None, Number | None]
"""Rule, severity, measured, allowed."""


@dataclass(frozen=True, slots=True)
class Expect:
    """`count` findings that an engineer who knows the device expects, in terms that no exporter's spelling changes.

    `scope` is the dotted module path (or a prefix of it) in which the operator was written, "" for the root.
    """

    rule: str
    severity: str
    measured: Number | None = None
    allowed: Number | None = None
    scope: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True)
class Fixed:
    """The expected result of `fix` without approximations: findings that are left, and the substitutions that apply."""

    findings: tuple[Expect, ...] = ()
    substitutions: tuple[str, ...] = ()


def counted(findings: Iterable[Finding]) -> Counter[Key]:
    """Findings in the terms of `Expect`, without their places."""
    return Counter((f.rule, f.severity.value, *_numbers(f.evidence)) for f in findings)


def wanted(expected: Iterable[Expect]) -> Counter[Key]:
    """What `counted` should give."""
    total: Counter[Key] = Counter()
    for e in expected:
        total[e.rule, e.severity, e.measured, e.allowed] += e.count
    return total


def _numbers(evidence: Evidence | None) -> tuple[Number | None, Number | None]:
    return (None, None) if evidence is None else (evidence.measured, evidence.allowed)
