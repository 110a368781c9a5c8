"""The six problems planted in samples/six_problems.onnxtxt, each found once, at its node, with its numbers.

The expectation is written from the rule table of the design, not from what the tool printed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from npu_guard.pipeline.check import check_models
from npu_guard.project.config import Config
from npu_guard.results.findings import ModelReport, Outcome, Verdict

EXPECTED = [
    # rule, severity, node's output, limit, measured, allowed; None where the rule has no number to compare
    ("NPU201", "error", "large", "conv.kernel_max", 19, 17),
    ("NPU401", "error", "many", "channels.multiple_of", 513, 8),
    ("NPU302", "error", "peak", "reduce.max_channels", 513, 256),
    # Self-attention: the map becomes tokens, tokens are multiplied with tokens twice, and become a map again.
    ("NPU102", "error", "tokens", None, None, None),
    ("NPU102", "error", "turned", None, None, None),
    ("NPU103", "error", "scores", None, None, None),
    ("NPU103", "error", "mixed", None, None, None),
    ("NPU102", "error", "attended", None, None, None),
    ("NPU101", "warning", "bent", None, None, None),
    ("NPU101", "error", "where", None, None, None),
]


@pytest.fixture
def report(root: Path) -> ModelReport:
    return check_models(["samples/six_problems.onnxtxt"], Config()).models[0]


def test_exactly_these_findings(report: ModelReport) -> None:
    found = []
    for f in report.findings:
        numbers = (f.evidence.limit, f.evidence.measured, f.evidence.allowed) if f.evidence is not None else (None, None, None)
        found.append((f.rule, f.severity.value, f.location.output, *numbers))
    assert found == EXPECTED


def test_nothing_is_left_open(report: ModelReport) -> None:
    assert report.verdict is Verdict.FAIL
    assert {f.outcome for f in report.findings} == {Outcome.FAIL}
    assert not report.crashes


def test_the_numbers_are_in_the_messages(report: ModelReport) -> None:
    messages = {f.location.output: f.message for f in report.findings}
    for output, words in {
        "large": ("19", "17"),
        "many": ("513", "8"),
        "peak": ("513", "256"),
        "bent": ("not documented",),
    }.items():
        assert all(word in messages[output] for word in words), messages[output]
