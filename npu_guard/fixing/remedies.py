"""What `fix` would do about each finding, for whoever only checks. Reads no weights."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from msgspec.structs import replace

from npu_guard.analysis.analyze import Analysis
from npu_guard.device import Profile
from npu_guard.file.document import Document
from npu_guard.fixing.ceiling import Ceiling, Cost
from npu_guard.fixing.choice import Candidate, choose_within
from npu_guard.fixing.judge import CheckModel, Judge
from npu_guard.fixing.known import Known
from npu_guard.fixing.search import Search
from npu_guard.fixing.severities import fails
from npu_guard.results.findings import Finding, Remedy
from npu_guard.results.prospect import Prospect
from npu_guard.results.summary import is_error, mended_exactly
from npu_guard.rewriting.substitution import EXACT, Match, Substitution

_APPROXIMATE, _WARNINGS = "--allow approximate", "--warnings"
SKETCHES = 100
"""Sketches that a check makes: it answers fast, and names no remedy for blocks beyond those. Small blocks come first, as one
large block may take dozens of forms that follow each other."""


def with_remedies(
    findings: Sequence[Finding], analysis: Analysis, profile: Profile, check: CheckModel, substitutions: Sequence[Substitution],
    known: Known | None = None, ceiling: Ceiling | None = None,
) -> tuple[tuple[Finding, ...], Prospect]:  # fmt: skip
    """The findings, each with the substitution that would remove it, an exact one where there is one; and what `fix` would do.

    `substitutions` are in order of preference; `known` is what a run of `fix` with the same ones has judged already,
    and `ceiling` what the model may cost.
    """
    rank = {s.name: i for i, s in enumerate(substitutions)}
    search = Search(analysis, findings, profile)
    skeleton = analysis.model.skeleton
    document = Document(skeleton.proto, Path(skeleton.path), skeleton.payloads, skeleton.limits)
    judge = Judge(document, search, check, substitutions, known or Known(most=SKETCHES), ceiling=ceiling)
    found = search.all(substitutions)
    judged = {c.match: c for c in judge.candidates(sorted(found, key=lambda match: len(match.nodes)))}
    candidates = [judged[match] for match in found if match in judged and judged[match].mends(warnings=True)]
    best: dict[tuple[str, str], Candidate] = {}

    def first(c: Candidate) -> tuple[bool, float, int, int]:
        return c.match.substitution.exactness != EXACT, c.price, len(c.chain), rank[c.match.substitution.name]

    exact = [c for c in candidates if c.match.substitution.exactness == EXACT]
    together, dear = choose_within(exact, substitutions, (), judge.over, judge.times)
    for candidate in (*together, *sorted((c for c in candidates if c not in dear and not judge.over(c.rise)), key=first)):
        for finding in _gone(candidate):
            best.setdefault((finding.rule, finding.location.output), candidate)

    options: dict[Candidate, str] = {}
    operators: dict[Candidate, tuple[str, ...]] = {}
    for candidate in set(best.values()):
        exactly = candidate.match.substitution.exactness == EXACT
        options[candidate] = _APPROXIMATE if not exactly else "" if candidate.mends(warnings=False) else _WARNINGS
        operators[candidate] = tuple(sorted({node.op_type for node in candidate.match.nodes}))
    shared: dict[tuple[object, ...], Remedy] = {}

    def told(finding: Finding) -> Finding:
        by = best.get((finding.rule, finding.location.output))
        if by is None or not fails(finding):
            return finding
        advice = finding.remedy.advice if finding.remedy is not None else ""
        form = by.match.substitution
        values = form.name, form.exactness, advice, by.chain, options[by], operators[by]
        return replace(finding, remedy=shared.get(values) or shared.setdefault(values, Remedy(*values)))

    remedied = tuple(map(told, findings))
    chosen = {best[f.rule, f.location.output]: None for f in remedied if mended_exactly(f)}
    return remedied, _prospect(remedied, found, chosen, passed_over=judge.known.passed_over)


def _prospect(
    findings: Sequence[Finding], found: Iterable[Match], chosen: Collection[Candidate], *, passed_over: bool
) -> Prospect:
    """What `fix` would do, with forms that were `found` and those `chosen` of them."""
    places = {node.output.name for match in found for node in match.nodes} if passed_over else set()
    untried = sum(is_error(f) and not mended_exactly(f) and f.location.output in places for f in findings)
    if untried or not all(c.outlook is not None and not c.rise.open for c in chosen):
        return Prospect(untried)
    rise = sum((c.rise for c in chosen), Cost())
    return Prospect(untried, rise.macs, rise.bytes)


def _gone(candidate: Candidate) -> list[Finding]:
    """What would no longer be said: of each rule as many findings as there would be fewer."""
    found = list(filter(fails, candidate.before))
    if not candidate.left:  # most forms leave nothing, and a large network has thousands
        return found
    before, left = [f.rule for f in candidate.before], [f.rule for f in candidate.left]
    fewer = {rule: before.count(rule) - left.count(rule) for rule in set(before)}
    kept = []
    for finding in found:
        if fewer[finding.rule] > 0:
            fewer[finding.rule] -= 1
            kept.append(finding)
    return kept
