"""The functions of `npu_guard`: the examples of docs/api.md run, and results say what the command line says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

import npu_guard
from npu_guard.base.errors import NotVerified, UsageError

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "samples" / "sample_net.onnx"
WIDE = """<ir_version: 8, opset_import: ["" : 17]>
net (float[1,8,32,32] x) => (float[1,8,32,32] y) <float[8,8,19,19] w> { y = Conv<pads = [9,9,9,9]>(x, w) }"""


@pytest.fixture
def wide() -> onnx.ModelProto:
    """One convolution of 19 x 19, two more than aimotive-aiware takes."""
    proto = onnx.parser.parse_model(WIDE)
    (weight,) = [v for v in proto.graph.value_info if v.name == "w"]
    proto.graph.value_info.remove(weight)
    proto.graph.initializer.append(onnx.helper.make_tensor("w", 1, (8, 8, 19, 19), [i % 7 / 8 - 0.4 for i in range(8 * 8 * 361)]))
    return proto


def test_examples_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One after the other, as a reader would type them."""
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) >= 5
    for example in examples:
        exec(example, names)  # asserts of their own
    assert (tmp_path / "fixed.onnx").stat().st_size > 0
    assert "NPU201" in capsys.readouterr().out


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    driver = "import sys, npu_guard; npu_guard.check; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", driver], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {"onnx", "torch", "numpy", "click", "msgspec", "pandas"}
    with pytest.raises(AttributeError, match="no attribute 'chekc'"):
        _ = npu_guard.chekc  # type: ignore[attr-defined]
    assert {"check", "fix", "verify", "partition", "export"} <= set(dir(npu_guard))


def test_a_report_says_what_the_command_says(root: Path, program: Callable[..., Any]) -> None:
    report = npu_guard.check("samples/sample_net.onnx")
    by_command = json.loads(program(root, "check", "samples/sample_net.onnx", "--format", "json").out)
    assert json.loads(report.render("json"))["models"][0]["findings"] == by_command["models"][0]["findings"]
    assert report.exit_code == 1
    assert len(report.errors) == by_command["models"][0]["summary"]["error"]
    first = report.findings[0]
    assert first.source is not None
    assert f"first {first.source.file}:{first.source.line} ({first.rule})" in report.headline()
    places = [line for line in report.render("text").splitlines() if line.startswith("samples/sample_net.py:")]
    assert places[0].startswith(f"{first.source.file}:{first.source.line} ")
    severities = [f.severity.rank for f in report.findings if f.outcome.value == "fail"]
    assert severities == sorted(severities, reverse=True)
    assert re.fullmatch(r"\d+ errors?, first samples/sample_net\.py:\d+ \(NPU\d+\)(; \d+ \w+(, \d+ \w+)*)?", report.headline())
    with pytest.raises(UsageError, match="no format 'pdf'; there are"):
        report.render("pdf")


def test_a_frame_has_a_row_for_each_finding(root: Path) -> None:
    report = npu_guard.check("samples/sample_net.onnx")
    frame = report.to_frame()
    assert list(frame["rule"]) == [f.rule for f in report.findings]
    assert frame["location"].str.match(r"samples/sample_net\.py:\d+").any()
    measured = [f.evidence.measured for f in report.findings if f.rule == "NPU201" and f.evidence is not None]
    assert frame.loc[frame["rule"] == "NPU201", "measured"].tolist() == measured != []
    assert frame["macs_percent"].between(0, 100).all()
    assert frame["macs"].sum() == sum(f.macs for f in report.findings)
    assert next(iter(frame["shape"])) == (report.findings[0].tensor and report.findings[0].tensor.shape)
    empty = npu_guard.check(onnx.parser.parse_model(WIDE.replace("19,19", "3,3").replace("9,9,9,9", "1,1,1,1"))).to_frame()
    assert list(empty.columns) == list(frame.columns)


def test_a_notebook_shows_names_as_text(wide: onnx.ModelProto) -> None:
    wide.graph.node[0].name = "<script>alert(1)</script>"
    page = npu_guard.check(wide)._repr_html_()
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    assert "error NPU201" in page, "what, and why in the next cell, before where"
    assert page.index("error NPU201") < page.index("kernel 19x19") < page.rindex("&lt;script&gt;")


def test_verdicts(tmp_path: Path, wide: onnx.ModelProto) -> None:
    assert npu_guard.check(tmp_path / "missing.onnx").verdict == "unreadable"
    missing = npu_guard.check(tmp_path / "missing.onnx")
    assert "no such file" in missing.headline()
    assert str(missing).startswith("UNREADABLE  ")
    assert "no such file" in str(missing)
    accepted = npu_guard.check(wide, ignore=["NPU201"])
    assert (accepted.verdict, accepted.exit_code, accepted.headline()) == ("pass", 0, "no findings")


def test_a_fixed_model_lives_as_long_as_its_value(wide: onnx.ModelProto) -> None:
    before = wide.SerializeToString()
    fixed = npu_guard.fix(wide)
    assert [a.substitution for a in fixed.applied] == ["large-kernel-to-phases"]
    assert fixed.verified
    assert npu_guard.check(fixed.load()).errors == ()
    assert npu_guard.verify(wide, fixed.path).verdict == "equal"
    assert wide.SerializeToString() == before
    path = fixed.path
    del fixed
    assert not path.exists()


def test_the_input_is_never_overwritten(tmp_path: Path, wide: onnx.ModelProto) -> None:
    onnx.save(wide, tmp_path / "net.onnx")
    with pytest.raises(UsageError, match="is the input itself"):
        npu_guard.fix(tmp_path / "net.onnx", tmp_path / "net.onnx")
    with pytest.raises(UsageError, match="no substitution 'wider'"):
        npu_guard.fix(wide, prefer=["wider"])


def test_pieces_are_written_once_they_are_verified(tmp_path: Path, wide: onnx.ModelProto) -> None:
    report = npu_guard.partition(wide, tmp_path / "pieces")
    assert report.written == str(tmp_path / "pieces")
    assert report.verification is not None
    assert report.verification.verdict == "equal"
    assert [p.side for p in report.partition.pieces] == ["host"]
    assert list((tmp_path / "pieces").glob("*.onnx"))


def test_results_print_as_the_commands_do(wide: onnx.ModelProto) -> None:
    same = npu_guard.verify(wide, wide)
    assert str(same).startswith("equal: identical, bit for bit")
    assert repr(same).startswith("<Verified equal: identical, bit for bit")
    cut = npu_guard.partition(wide)
    assert str(cut).splitlines()[0] == "net  aimotive-aiware"
    assert repr(cut).startswith("<Partition net on aimotive-aiware: 0 pieces on the NPU, 1 piece on the host")


def test_what_loses_too_much_is_not_written(wide: onnx.ModelProto, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).standard_normal((4, 1, 8, 32, 32), dtype=np.float32))
    made = npu_guard.quantize(wide, calibration=tmp_path / "x.npz")
    assert made.report.verdict.value == "fail", "a kernel of 19 x 19 stays one in integers"
    assert {n.op_type for n in made.load().graph.node} == {"Conv", "QuantizeLinear", "DequantizeLinear"}
    with pytest.raises(NotVerified, match="minimum_snr wants 200; nothing was written"):
        npu_guard.quantize(wide, tmp_path / "int8.onnx", calibration=tmp_path / "x.npz", minimum_snr=200)
    assert not (tmp_path / "int8.onnx").exists()


def test_a_finding_is_a_line(wide: onnx.ModelProto) -> None:
    first = npu_guard.check(wide).findings[0]
    assert repr(first).startswith("<Finding error NPU201, Conv ")
    assert repr(first).endswith(f": {first.message}>")
