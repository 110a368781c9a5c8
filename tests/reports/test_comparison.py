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
from npu_guard.reports.blocks import devices, overview
from npu_guard.reports.blocks.comparison import of_diff
from npu_guard.results import runs
from npu_guard.results.findings import LayerRow, Location, ModelReport, Report, Severity, Verdict
from npu_guard.results.pieces import BreakerRow


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
    assert view["lead"].startswith("head.onnx compared with base.onnx.")


def test_diff_writes_the_page(tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(("diff", "samples/sample_net.onnx", "samples/six_problems.onnxtxt", "--format", "html"))
    assert ended.value.code == 1
    text = capsys.readouterr().out
    for words in ("Before: samples/sample_net.onnx", "After: samples/six_problems.onnxtxt", "New findings: ", "Fixed findings: "):
        assert words in text


def test_each_model_of_the_page_has_the_verdict_of_check_and_the_comparison_its_own(
    root: Path, tmp_path: Path, program: Callable[..., Any]
) -> None:
    """Nothing is new and the exit code is 0, and yet the model does not run; nor does one of which a baseline is left."""
    model, kept = "samples/sample_net.onnx", tmp_path / "known.json"
    program(root, "check", model, "--write-baseline", kept)
    for base in (model, kept):
        done = program(root, "diff", base, model, "--format", "html")
        assert done.code == 0
        assert done.out.count("This model does not run on ") == 2
        assert "known to keep it off" not in done.out
        assert "Nothing new or changed counts as a failure." in done.out
    changed = program(root, "diff", "samples/six_problems.onnxtxt", model, "--format", "html")
    assert "What is new or changed counts as a failure." in changed.out


def test_what_goes_to_the_host_does_not_keep_a_model_off(sample: ModuleType) -> None:
    model = sample.REPORT.models[0]
    error = replace(next(f for f in model.findings if f.severity is Severity.ERROR), consequence="host")
    warning = replace(error, severity=Severity.WARNING, consequence="")
    elsewhere = replace(error, location=replace(error.location, output="elsewhere"))
    host = replace(model, findings=(error, replace(error, rule="NPU102"), elsewhere, warning), verdict=Verdict.FAIL)
    assert runs.headline(host, "D") == "This model runs on D with 2 operators on the host"
    assert runs.runs(host, "D") == "runs on D with 2 operators on the host"
    assert overview.title_of(host.findings) == "What goes to the host, and what else the rules found"
    for consequence in ("compile-error", ""):  # one that nobody runs, or of which nobody says that the host does
        mixed = replace(host, findings=(error, replace(elsewhere, consequence=consequence)))
        assert runs.headline(mixed, "D") == "This model does not run on D as it is"
        assert runs.runs(mixed, "D") == "does not run on D"
    warned = replace(host, findings=(replace(warning, consequence="host"),))  # fails by --fail-on warning
    assert runs.on_host(warned) == 0


def test_the_fixed_model_has_the_name_of_its_file(tmp_path: Path, root: Path, program: Callable[..., Any]) -> None:
    page, model = tmp_path / "fix.html", "samples/six_problems.onnxtxt"
    program(root, "fix", model, "-o", tmp_path / "mended.onnx", "--report", f"html:{page}")
    text = page.read_text(encoding="utf-8")
    assert f"Before: {model}" in text
    assert "After: mended.onnx" in text
    program(root, "fix", model, "--dry-run", "--report", f"html:{page}")  # where nothing is written there is no other name
    assert f"After: {model}" in page.read_text(encoding="utf-8")


def test_a_module_that_breaks_the_graph_has_the_line_of_any_operator_in_it(sample: ModuleType) -> None:
    model = sample.REPORT.models[0]
    finding = next(f for f in model.findings if f.source is not None and f.location.scope)
    at = BreakerRow("1 Conv", "joins 2 pieces", finding.location.scope, "another output")
    line = overview.breaker(replace(model, findings=(finding,)), at, str)["line"]
    assert line.endswith(f":{finding.source.line}")
    for scope in (("elsewhere",), ()):
        assert overview.breaker(replace(model, findings=(finding,)), replace(at, scope=scope), str)["line"] == ""


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
