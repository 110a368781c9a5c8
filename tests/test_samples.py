"""The checked-in sample: small, of no particular machine, and what samples/make.py makes."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import onnx
import pytest

from npu_guard.pipeline.check import check_models
from npu_guard.project.config import Config

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "samples" / "sample_net.onnx"
PINNED = (ROOT / "requirements" / "torch.txt").read_text(encoding="utf-8").split("torch==")[-1].strip()


def test_is_small_and_loads_everywhere() -> None:
    assert SAMPLE.stat().st_size < 300_000
    model = onnx.load(SAMPLE)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version <= 10
    assert model.producer_version == PINNED


def test_findings_name_the_line_of_python(root: Path) -> None:
    report = check_models([str(SAMPLE.relative_to(root))], Config()).models[0]
    assert {f.rule for f in report.findings} >= {"NPU101", "NPU102", "NPU104", "NPU201", "NPU302", "NPU401"}
    lines = (root / "samples/sample_net.py").read_text(encoding="utf-8").splitlines()
    written = {"NPU201": "self.vertical(x)", "NPU302": "x.amax(dim=1", "NPU101": "self.act(", "NPU104": "self.head("}
    for finding in report.findings:
        assert finding.source is not None, finding
        assert (finding.source.file, finding.source.function) == ("samples/sample_net.py", "forward")
        assert written.get(finding.rule, "") in lines[finding.source.line - 1]


@pytest.mark.skipif(version("torch").partition("+")[0] != PINNED, reason=f"made with torch {PINNED}")
def test_is_what_the_command_makes(tmp_path: Path) -> None:
    made = tmp_path / "sample.onnx"
    subprocess.run([sys.executable, "-W", "ignore", "samples/make.py", str(made)], cwd=ROOT, check=True, capture_output=True)
    assert made.read_bytes() == SAMPLE.read_bytes(), "run `python samples/make.py` and check in the result"
