"""Where findings stand, for text: lines of Python, or modules; by default what has one cause is at one place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from npu_guard.results.findings import Finding, ModelReport, Outcome, SourceLine
from npu_guard.results.summary import alike, ranked

Scope = tuple[str, ...]
Origin = SourceLine | tuple[Scope, ...]
"""A line of Python, or else a module, or several that have the same findings."""
Place = tuple[Origin, list[Finding]]


def by_origin(findings: Iterable[Finding]) -> list[Place]:
    """Findings by origin, the origin with the most important finding first."""
    places: dict[object, Place] = {}
    for finding in ranked(findings):
        source, scope = finding.source, finding.location.scope
        key: object = (source.file, source.line) if source is not None else scope
        places.setdefault(key, (source if source is not None else (scope,), []))[1].append(finding)
    return list(places.values())


def by_cause(model: ModelReport, findings: Sequence[Finding]) -> list[Place]:
    """The same, with modules that differ in a part of their path alone and have the same findings as one place.

    What cannot be told for one reason is told where it comes first: elsewhere it is a consequence and no other cause.
    """
    settled = {id(f): g.findings[0] for g in alike(model, ranked(findings)) if _open(g.findings[0]) for f in g.findings[1:]}
    places = by_origin([f for f in findings if id(f) not in settled])
    home = {id(f): members for _, members in places for f in members}
    for f in findings:
        if id(f) in settled:
            home[id(settled[id(f)])].append(f)
    return _joined(model, places)


def _open(finding: Finding) -> bool:
    return finding.outcome is Outcome.UNDECIDED and finding.source is None


def _joined(model: ModelReport, places: Iterable[Place]) -> list[Place]:
    found: list[Place] = []
    known: dict[object, list[int]] = {}
    for origin, members in places:
        if isinstance(origin, SourceLine):
            found.append((origin, members))
            continue
        (scope,) = origin
        decided = alike(model, [f for f in members if not _open(f)])
        told = tuple((g.first.rule, g.first.severity, g.message, g.first.location.op_type) for g in decided)
        if not told:
            found.append((origin, members))
            continue
        for at in known.setdefault((told, len(scope)), []):
            other, others = found[at]
            if isinstance(other, tuple) and _one_part_apart((*other, scope)):
                found[at] = (*other, scope), [*others, *members]
                break
        else:
            known[told, len(scope)].append(len(found))
            found.append((origin, members))
    return found


def _one_part_apart(scopes: Sequence[Scope]) -> bool:
    """`stages.0.eca`, `stages.1.eca` and `stages.2.eca`."""
    return len(scopes[0]) > 1 and sum(len(set(parts)) > 1 for parts in zip(*scopes, strict=True)) == 1
