"""Where findings stand, for text: lines of Python, or modules; by default what has one cause is at one place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from npu_guard.results.findings import Finding, ModelReport, Outcome, SourceLine
from npu_guard.results.groups import alike, ranked

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
    found: list[tuple[SourceLine | list[Scope], list[Finding]]] = []
    apart: dict[int, int | None] = {}
    """By its index in `found`, the part of their paths in which modules at one place differ; None while it is only one."""
    known: dict[object, list[int]] = {}
    for origin, members in places:
        if isinstance(origin, SourceLine):
            found.append((origin, members))
            continue
        (scope,) = origin
        decided = alike(model, [f for f in members if not _open(f)])
        told = tuple((g.first.rule, g.first.severity, g.message, g.first.location.op_type) for g in decided)
        keys = {p: (told, p, _without(scope, p)) for p in range(len(scope))} if told and len(scope) > 1 else {}
        fitting = ((at, part) for part, key in keys.items() for at in known.get(key, ()) if apart[at] in (None, part))
        if (first := min(fitting, default=None)) is not None:
            at, apart[at] = first
            where, others = found[at]
            if not isinstance(where, SourceLine):
                where.append(scope)
            others += members
            continue
        apart[len(found)] = None
        for key in keys.values():
            known.setdefault(key, []).append(len(found))
        found.append(([scope], list(members)))
    return [(where if isinstance(where, SourceLine) else tuple(where), members) for where, members in found]


def _without(scope: Scope, part: int) -> Scope:
    """`stages.0.eca` and `stages.1.eca` are the same without their part 1."""
    return (*scope[:part], "", *scope[part + 1 :])
