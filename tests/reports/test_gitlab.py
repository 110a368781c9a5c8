"""GitLab code quality: the fields that GitLab asks for, and fingerprints that are unique."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from npu_guard.checking import registry
from npu_guard.results.findings import Report

RAW = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def read(text: str) -> list[dict[str, Any]]:
    issues: list[dict[str, Any]] = json.loads(text)
    for issue in issues:
        assert set(issue) == {"description", "check_name", "fingerprint", "severity", "location"}
        assert issue["severity"] in ("blocker", "critical", "major", "minor", "info")
        assert issue["location"]["lines"]["begin"] >= 1
        path = issue["location"]["path"]
        assert path
        assert not path.startswith("/")
        assert ".." not in path.split("/")
        for value in (issue["description"], issue["check_name"], path):
            assert not RAW.search(value)
    assert len({issue["fingerprint"] for issue in issues}) == len(issues)
    return issues


def render(report: Report) -> list[dict[str, Any]]:
    return read(registry.renderer("gitlab")(report, color=False))


def test_golden(compare: Callable[[str, str], str]) -> None:
    read(compare("gitlab", "gitlab.json"))


@pytest.mark.usefixtures("root")
def test_issues(sample: ModuleType) -> None:
    issues = render(sample.REPORT)
    assert [i["severity"] for i in issues] == ["blocker"] * 2 + ["critical"] * 4 + ["major", "minor", "info"]
    assert [i["check_name"] for i in issues[:3]] == ["internal-error", "unreadable-model", "spatial-matmul"]
    assert issues[3]["description"] == "NPU201: kernel 19x1 is longer than 17 (Conv node_conv2d_4)"
    assert issues[3]["location"] == {"path": "nets/context.py", "lines": {"begin": 55}}
    assert not [i for i in issues if "31x31" in i["description"]]  # suppressed


@pytest.mark.usefixtures("root")
def test_fingerprints_hold_when_something_else_changes(sample: ModuleType) -> None:
    model = sample.REPORT.models[0]
    before = {i["description"]: i["fingerprint"] for i in render(Report("1", (model,)))}
    fewer = replace(model, findings=model.findings[1:], crashes=())
    after = {i["description"]: i["fingerprint"] for i in render(Report("2", (fewer,)))}
    assert after.items() <= before.items()
    twice = render(Report("1", (model, replace(model, path="exports/other.onnx"), model)))
    assert len(twice) == 3 * len(before)  # and read() has seen that all differ


@pytest.mark.usefixtures("root")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_hostile_text(data: st.DataObject, any_report: st.SearchStrategy[Report]) -> None:
    render(data.draw(any_report))
