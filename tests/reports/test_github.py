"""Workflow commands: read back as the runner reads them."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from npu_guard.checking import registry
from npu_guard.results.findings import Report, Severity, Verdict

RAW = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def read(text: str) -> list[tuple[str, dict[str, str], str]]:
    """Commands as the runner sees them: a line is `::name key=value,key=value::data`, then percent signs are undone."""
    commands = []
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        assert not RAW.search(line)
        assert not re.search(r"##\w*\[", line)  # commands of older runners and of Azure
        match = re.fullmatch(r"::(\w+) (.*?)::(.*)", line)
        assert match is not None, line
        name, properties, data = match.groups()
        pairs = dict(pair.split("=", 1) for pair in properties.split(","))
        commands.append((name, {k: undo(v) for k, v in pairs.items()}, undo(data)))
    return commands


def undo(text: str) -> str:
    for code, character in (("%3A", ":"), ("%2C", ","), ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
        text = text.replace(code, character)
    return text


def render(report: Report) -> list[tuple[str, dict[str, str], str]]:
    return read(registry.renderer("github")(report, color=False))


def test_golden(compare: Callable[[str, str], str]) -> None:
    read(compare("github", "github.txt"))


@pytest.mark.usefixtures("root")
def test_annotations(sample: ModuleType) -> None:
    commands = render(sample.REPORT)
    assert [name for name, _, _ in commands] == ["error"] * 5 + ["warning"] * 2 + ["notice"] * 2
    assert commands[3] == (
        "error",
        {"file": "nets/context.py", "line": "55", "title": "NPU201 kernel-size"},
        "kernel 19x1 is longer than 17 (Conv node_conv2d_4 and 1 more node in exports/net one.onnx); all fixable; "
        "see npu-guard rules NPU201",
    )
    undecided = commands[5]
    assert undecided[1] == {"file": "exports/net one.onnx", "line": "1", "title": "NPU301 reduce-axis"}
    assert undecided[2].startswith("cannot tell: the axes are not constant")
    counts = "3 models (1 fail, 1 pass, 1 unreadable): 4 errors, 1 warning, 1 note, 1 undecided, 1 suppressed"
    steps = "4 errors, at least 3 fixed exactly by: npu-guard fix 'exports/net one.onnx' -o 'exports/net one.fixed.onnx'"
    assert commands[-1] == ("notice", {"title": "npu-guard"}, f"{counts}; {steps} --profile aimotive-aiware")


def test_notes_are_shown_and_those_left_out_are_counted(sample: ModuleType) -> None:
    """An unused suppression is a note: counted, and to be seen as one."""
    report = sample.many(12)
    findings = tuple(replace(f, severity=Severity.NOTE, rule="NPU901", remedy=None) for f in report.models[0].findings)
    for number, left in ((1, ""), (9, ""), (12, "Not shown above: 3 annotations")):
        model = replace(report.models[0], findings=findings[:number], verdict=Verdict.PASS)
        *notes, last = render(replace(report, models=(model,)))
        assert [name for name, _, _ in notes] == ["notice"] * min(number, 9)
        assert all(properties["title"].startswith("NPU901") for _, properties, _ in notes)
        assert (left in last[2], "Not shown" in last[2]) == (True, bool(left))


def test_no_more_than_github_shows(sample: ModuleType) -> None:
    commands = render(sample.many(25))
    assert [name for name, _, _ in commands] == ["error"] * 10 + ["notice"]
    assert commands[0][1]["line"] == "25"  # most MACs first
    left_out = "1 model (1 fail): 25 errors. Not shown above: 15 annotations; other formats have all; "
    assert commands[-1][2].startswith(f"{left_out}25 errors, all fixed exactly by: npu-guard fix ")


@pytest.mark.usefixtures("root")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_hostile_text(data: st.DataObject, any_report: st.SearchStrategy[Report]) -> None:
    commands = render(data.draw(any_report))
    assert len(commands) <= 30
    for name, properties, _ in commands[:-1]:
        assert name in ("error", "warning", "notice")
        assert set(properties) <= {"file", "line", "title"}
    assert commands[-1][0] == "notice"
