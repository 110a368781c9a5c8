"""Every rule against its own examples and against what all rules promise. Adding a rule adds no test here."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from npu_guard.analysis.analyze import Analysis
from npu_guard.checking import registry
from npu_guard.checking.context import Context
from npu_guard.checking.engine import Checked, check
from npu_guard.checking.examples import analyze_case, profile_for, run_case
from npu_guard.checking.rule import Case, Rule
from npu_guard.device import LIMITS, Limit, Profile
from npu_guard.device.vocabulary import METRICS
from npu_guard.fixing import catalog
from npu_guard.project.config import Config
from npu_guard.results.findings import Number, Outcome, Severity

RULES = registry.rules()
CASES = [(rule, case) for rule in RULES for case in (*rule.good, *rule.bad)]
SECTIONS = ("What it does", "Why it matters", "What to do")


def _case_id(rule: Rule, case: Case) -> str:
    kind = "good" if case in rule.good else "bad"
    return f"{rule.code}-{kind}{(rule.good if kind == 'good' else rule.bad).index(case)}"


def each_rule() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("rule", RULES, ids=[rule.code for rule in RULES])


def each_case(kind: str) -> pytest.MarkDecorator:
    chosen = [(rule, case) for rule, case in CASES if kind in ("all", "good" if case in rule.good else "bad")]
    return pytest.mark.parametrize(("rule", "case"), chosen, ids=[_case_id(*pair) for pair in chosen])


def measured(checked: Checked, outcome: Outcome) -> list[tuple[str, Number | None]]:
    return [(f.location.output, f.evidence.measured if f.evidence else None) for f in checked.findings if f.outcome is outcome]


_ANALYSES: dict[tuple[str, int], Analysis] = {}


def analysis_of(case: Case, folder: Path) -> Analysis:
    """Analyses are independent of any device, so the tests that vary the device share them."""
    key = (case.graph, case.opset)
    if key not in _ANALYSES:
        _ANALYSES[key] = analyze_case(case, folder)
    return _ANALYSES[key]


OF_SUBSTITUTIONS = {key for s in catalog.substitutions() for e in (s, *s.good, *s.bad) for key in e.limits or ()} - {
    key for rule in RULES for key in rule.limits
}
"""Limits of `fix` alone, such as a budget; the examples of substitutions set them."""


METRIC_CODES = {code for base in METRICS.values() for code in (base.code, *(c for _, c in base.codes))}


def test_there_are_rules() -> None:
    assert len(RULES) == len(list(registry.members("rules")))  # one rule in each file


def test_codes_and_names_are_unique() -> None:
    assert [c for c, n in Counter(r.code for r in RULES).items() if n > 1] == []
    assert [c for c, n in Counter(r.name for r in RULES).items() if n > 1] == []


def test_every_metric_has_a_rule() -> None:
    assert {rule.code for rule in RULES} >= METRIC_CODES


def test_every_limit_has_a_reader() -> None:
    assert set(LIMITS) == {key for rule in RULES for key in rule.limits} | OF_SUBSTITUTIONS


@each_rule()
def test_contract(rule: Rule) -> None:
    assert re.fullmatch(r"NPU\d{3}", rule.code)
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.name)
    assert type(rule).__module__.rpartition(".")[2] == rule.name.replace("-", "_")
    assert type(rule).__name__ == "".join(part.title() for part in rule.name.split("-"))
    assert isinstance(rule.severity, Severity)
    assert bool(rule.ops) is not rule.about_settings
    assert len(set(rule.ops)) == len(rule.ops)
    assert set(rule.limits) <= set(LIMITS)
    assert rule.parametric is (rule.code in METRIC_CODES and not rule.limits)
    assert rule.good
    assert rule.bad


@each_rule()
def test_manual(rule: Rule) -> None:
    lines = rule.manual().splitlines()
    assert lines[0].endswith(".")
    assert lines[1] == ""
    assert [line.strip("*") for line in lines if re.fullmatch(r"\*[^*]+\*", line)] == list(SECTIONS)
    assert all(len(rule.section(title)) > 20 for title in SECTIONS)


@each_case("good")
def test_good(rule: Rule, case: Case, tmp_path: Path) -> None:
    checked = run_case(rule, case, tmp_path)
    assert checked.findings == ()
    assert checked.crashes == ()
    assert checked.not_applicable == ()  # silent because it looked, and not because it had no limit
    assert case.expect == case.undecided == ()


@each_case("bad")
def test_bad(rule: Rule, case: Case, tmp_path: Path) -> None:
    checked = run_case(rule, case, tmp_path)
    assert checked.crashes == ()
    assert case.expect or case.undecided
    assert measured(checked, Outcome.FAIL) == list(case.expect)
    assert [place for place, _ in measured(checked, Outcome.UNDECIDED)] == list(case.undecided)
    profile = profile_for(case)
    for finding in checked.findings:
        assert finding.rule == rule.code
        assert finding.message
        if finding.outcome is Outcome.UNDECIDED:
            assert finding.severity is rule.severity
            continue
        assert finding.severity is (case.severity or rule.severity)
        if finding.evidence is not None:
            keys = {r.key for r in profile.requirements}
            assert finding.evidence.limit in (*rule.limits, *keys)
            plain = None if finding.evidence.limit in keys else profile.limit(finding.evidence.limit)
            assert finding.evidence.allowed == (plain if case.allowed is None else case.allowed)
            assert isinstance(finding.evidence.allowed, (int, str))


@each_case("all")
def test_no_rule_crashes(rule: Rule, case: Case, tmp_path: Path) -> None:
    for profile in (profile_for(case), EVERYTHING):
        assert check(analysis_of(case, tmp_path), profile, RULES, Config()).crashes == ()


@each_rule()
def test_reads_the_limits_that_it_declares(rule: Rule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: set[str] = set()
    plain = Context.limit

    def recording(self: Context, key: str) -> Any:
        asked.add(key)
        return plain(self, key)

    monkeypatch.setattr(Context, "limit", recording)
    for case in (*rule.good, *rule.bad):
        profile = profile_for(case)
        limits = _Recording(profile.limits)
        recorded = Profile(profile.name, profile.title, profile.source, (), limits, profile.operators, {})
        check(analysis_of(case, tmp_path), recorded, [rule], Config())
        assert limits.asked <= set(rule.limits)  # also past the context
    assert asked == set(rule.limits)


class _Recording(dict[str, Limit]):
    """Limits that remember who was asked for."""

    def __init__(self, limits: Any) -> None:
        super().__init__(limits)
        self.asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> Limit:
        self.asked.add(key)
        return super().__getitem__(key)


def _everything() -> Profile:
    """A device with every limit that any example uses."""
    limits: dict[str, Any] = {}
    operators: dict[str, str] = {}
    for _, case in CASES:
        limits |= case.limits
        operators |= case.operators
    profile = profile_for(Case("", limits, operators))
    assert set(profile.limits) == set(LIMITS) - OF_SUBSTITUTIONS
    return profile


EVERYTHING = _everything()
