"""Which operators belong to which change, on the page about a model before and after."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from msgspec.structs import replace

from npu_guard import cli
from npu_guard.gate.diff import compare_reports
from npu_guard.reports.blocks import devices
from npu_guard.reports.blocks.comparison import of_diff
from npu_guard.results.findings import LayerRow, Location, ModelReport, Report, Severity, Verdict


def layer(index: int, op: str, scope: str, channels: int = 8) -> LayerRow:
    path = tuple(scope.split("."))
    return LayerRow(
        index, Location(f"n{index}", op, f"n{index}", path), path, (), (1, channels), "float32", 1, 0, 0, 0, None, "ok"
    )


def changes(base: tuple[LayerRow, ...], head: tuple[LayerRow, ...]) -> tuple[dict[int, int], dict[int, int], tuple[str, ...]]:
    models = [ModelReport(name, "device", Verdict.PASS, layers=rows) for name, rows in (("a.onnx", base), ("b.onnx", head))]
    found = of_diff(compare_reports(models[0], models[1], Report("1", ())))
    return dict(found.changes[0]), dict(found.changes[1]), found.names


def test_operators_that_only_one_side_has_are_numbered_by_module() -> None:
    base = (layer(0, "Conv", "a"), layer(1, "Relu", "a"), layer(2, "Erf", "b.act"), layer(3, "Conv", "c"))
    head = (
        layer(0, "Conv", "a"),
        layer(1, "Relu", "a"),
        layer(2, "Mul", "b.act"),
        layer(3, "Tanh", "b.act"),
        layer(4, "Conv", "c", 16),
    )
    before, after, names = changes(base, head)
    assert before == {2: 1, 3: 2}
    assert after == {2: 1, 3: 1, 4: 2}
    assert names == ("b.act", "c")


def test_the_same_operators_in_another_order_are_no_change() -> None:
    base = (layer(0, "Conv", "a"), layer(1, "Relu", "a"), layer(2, "Relu", "a"))
    head = (layer(0, "Relu", "a"), layer(1, "Conv", "a"), layer(2, "Relu", "a"))
    assert changes(base, head) == ({}, {}, ())
    assert changes(base[:2], base) == ({}, {2: 1}, ("a",))


def test_the_page_names_what_is_compared_before_what_it_is_compared_with() -> None:
    """In the order of the text: `Compared head with base`."""
    models = [ModelReport(name, "device", Verdict.PASS) for name in ("base.onnx", "head.onnx")]
    view = of_diff(compare_reports(models[0], models[1], Report("1", ()))).view
    assert view["lead"] == "head.onnx compared with base.onnx."


def test_diff_writes_the_page(tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(("diff", "samples/sample_net.onnx", "samples/six_problems.onnxtxt", "--format", "html"))
    assert ended.value.code == 1
    text = capsys.readouterr().out
    for words in ("Before: samples/sample_net.onnx", "After: samples/six_problems.onnxtxt", "New findings: ", "Fixed findings: "):
        assert words in text


def test_fix_refuses_a_format_that_it_does_not_have(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(("fix", "a.onnx", "--dry-run", "--report", "sarif:x"))
    assert ended.value.code == 2
    assert "text, html, json" in capsys.readouterr().err


def test_two_devices_have_a_page_of_both(root: Path, tmp_path: Path, program: Callable[..., Any]) -> None:
    page = tmp_path / "both.html"
    done = program(root, "report", "samples/sample_net.onnx", "--profile", "aimotive-aiware,ethos-u85", "-o", page)
    assert (done.code, done.out, done.err) == (1, "", f"npu-guard: wrote {page}\n")
    text = page.read_text(encoding="utf-8")
    assert '<h1 id="comparison-title">Does not run on AImotive aiWare, runs on ' in text
    data = json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.DOTALL)[1])  # type: ignore[index]
    one, two = (model["change"] for model in data["models"])
    assert one == two
    assert {data["changes"][number - 1] for number in one.values()} >= {"context.vertical", "gate"}
    for title in ("Only on AImotive aiWare: 11", "On both: 0"):
        assert title in text
    again = program(root, "report", "nothing.onnx", "--profile", "aimotive-aiware,ethos-u85", "-o", tmp_path / "x.html")
    assert (again.code, again.err, (tmp_path / "x.html").exists()) == (3, "npu-guard: nothing.onnx: no such file\n", False)


def test_what_both_devices_refuse_is_told_in_the_words_of_both(sample: ModuleType) -> None:
    one = sample.REPORT.models[0]
    first, second = one.findings[:2]
    other = (replace(first, severity=Severity.WARNING, message="slow there"), second)
    two = replace(one, profile="other", device=None, findings=other)
    view = devices.of_devices(replace(one, findings=(first, second)), two).view
    both = view["lists"][2]["lines"]
    assert {line["rule"]: line["more"] for line in both} == {first.rule: "warning on other: slow there", second.rule: ""}
