"""JUnit XML: what a CI's list of tests shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import ModuleType
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from npu_guard.checking import registry
from npu_guard.results.findings import Report

RAW = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


_OUTCOME = {"type", "message"}
SCHEMA = {
    "testsuites": {"name", "tests", "failures", "errors"},
    "testsuite": {"name", "tests", "failures", "errors", "skipped", "file"},
    "testcase": {"name", "classname"},
    "failure": _OUTCOME, "error": _OUTCOME, "skipped": _OUTCOME, "system-out": set(),
}  # fmt: skip
"""Elements and attributes, out of those that junit-10.xsd of Jenkins' xUnit plugin allows: it refuses a file with others."""


def read(text: str) -> ET.Element:
    top = ET.fromstring(text.encode())
    for element in top.iter():
        assert element.attrib.keys() <= SCHEMA[element.tag]
        for value in (*element.attrib.values(), *(element.text or "").split("\n")):
            assert not RAW.search(value)
    for suite in (top, *top):
        assert int(suite.get("tests", "")) == len(suite.findall(".//testcase"))
        for kind, tag in (("failures", "failure"), ("errors", "error"), *([("skipped", "skipped")] if suite is not top else [])):
            assert int(suite.get(kind, "")) == len(suite.findall(f".//{tag}"))
    assert all(len(case) <= 1 for case in top.iter("testcase"))
    return top


def render(report: Report) -> ET.Element:
    return read(registry.renderer("junit")(report, color=False))


def outcomes(report: Report) -> dict[str, str]:
    """Outcome of each case of the first model by the first word of its name."""
    suite = render(report)[0]
    return {case.get("name", "").split()[0]: case[0].tag if len(case) else "passed" for case in suite}


def test_golden(compare: Callable[[str, str], str]) -> None:
    read(compare("junit", "junit.xml"))


@pytest.mark.usefixtures("root")
def test_a_case_for_each_rule(sample: ModuleType) -> None:
    expected = {
        "readable": "passed",
        "NPU103": "failure",
        "NPU104": "system-out",  # a note makes nothing fail
        "NPU201": "failure",
        "NPU202": "skipped",  # not applicable
        "NPU301": "error",  # undecided
        "NPU302": "passed",
        "NPU401": "system-out",
        "NPU501": "error",  # crashed
    }
    assert outcomes(sample.REPORT) == expected
    assert outcomes(replace(sample.REPORT, fail_on="never")) == expected  # changes the exit code, not the verdict
    assert outcomes(replace(sample.REPORT, fail_on="warning")) == expected | {"NPU401": "failure"}
    assert outcomes(replace(sample.REPORT, allow_undecided=True)) == expected | {"NPU301": "skipped"}


@pytest.mark.usefixtures("root")
def test_what_a_failure_says(sample: ModuleType) -> None:
    top = render(sample.REPORT)
    failure = top.find(".//testcase[@name='NPU201 kernel-size']/failure")
    assert failure is not None
    assert failure.get("message") == "kernel 19x1 is longer than 17, and 2 more places"
    lines = (failure.text or "").split("\n")
    assert lines[0] == "error: kernel 19x1 is longer than 17: Conv node_conv2d_4 at nets/context.py:55"
    assert lines[-1].endswith("(suppressed: the stem is replaced in #17)")
    unreadable = top[2][0][0]
    assert (unreadable.tag, unreadable.get("type")) == ("error", "not-onnx")


@pytest.mark.usefixtures("root")
def test_suppressed_is_skipped_with_its_reason(sample: ModuleType) -> None:
    model = sample.REPORT.models[0]
    accepted = replace(model, findings=tuple(replace(f, suppressed="accepted for now") for f in model.findings))
    skipped = render(replace(sample.REPORT, models=(accepted,))).find(".//testcase[@name='NPU201 kernel-size']/skipped")
    assert skipped is not None
    assert skipped.get("message") == "suppressed: accepted for now"


@pytest.mark.usefixtures("root")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_hostile_text(data: st.DataObject, any_report: st.SearchStrategy[Report]) -> None:
    render(data.draw(any_report))
