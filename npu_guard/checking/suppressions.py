"""Rules about the settings: suppressions that accept no finding of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from npu_guard.checking import registry
from npu_guard.checking.rule import Rule
from npu_guard.project.config import Config, Suppression
from npu_guard.results.findings import Finding, Location, Outcome, Remedy, Report
from npu_guard.results.fingerprint import with_fingerprints

NOWHERE = Location("", "", "")
"""The place of a finding about the settings: it has no node."""


def unused_suppressions(entries: Sequence[Suppression], findings: Iterable[Finding], asked: Iterable[Rule]) -> list[Suppression]:
    """Suppressions that cover none of the findings, though their rule is among those that were asked."""
    candidates = [e for e in entries if any(e.concerns(rule.code, rule.name) for rule in asked)]
    known = list(findings)
    return [e for e in candidates if not any(e.covers(f.rule, f.name, f.location) for f in known)]


def settings_findings(
    config: Config, unused: Sequence[Suppression], found: Sequence[Finding], rules: Iterable[Rule]
) -> tuple[Finding, ...]:
    """What the rules about settings say, as findings without a node."""
    return with_fingerprints(
        Finding(
            rule=rule.code,
            name=rule.name,
            severity=config.severity.get(rule.code, rule.severity),
            outcome=Outcome.FAIL,
            location=NOWHERE,
            message=draft.message,
            remedy=Remedy(None, None, rule.section("What to do")),
        )
        for rule in rules
        if rule.about_settings and config.selects(rule.code, rule.name)
        for draft in rule.check_settings(unused, found)
    )


def unused_in(report: Report, config: Config) -> list[Suppression]:
    """Suppressions that accept nothing in a run; none where a model could not be read, or a rule crashed, as nobody can tell."""
    if not config.suppress or any(m.error is not None or m.crashes for m in report.models):
        return []
    asked = {code for model in report.models for code in model.asked}
    rules = [rule for rule in registry.rules() if rule.code in asked]
    return unused_suppressions(config.suppress, (f for model in report.models for f in model.findings), rules)


def with_settings_findings(report: Report, config: Config) -> Report:
    """The report with what the rules say of the settings, which stands at the first model."""
    if not (unused := unused_in(report, config)):
        return report
    found = [f for model in report.models for f in model.findings]
    if not (findings := settings_findings(config, unused, found, registry.rules())):
        return report
    first, *others = report.models
    return replace(report, models=(replace(first, findings=(*first.findings, *findings)), *others))
