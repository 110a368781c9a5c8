"""The share of the MACs of which the device's documents say that it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from npu_guard.checking import registry
from npu_guard.pipeline.check import check_model
from npu_guard.project.config import Config
from npu_guard.results.documented import documented_percent
from npu_guard.results.summary import outcome

MODEL = """<ir_version: 9, opset_import: ["" : 17]>
g (float[1,8,8,8] x) => (y) <int64[4] a = {{16, 8, 1, 1}}, int64[2] b = {{8, 8}}> {{
    w = ConstantOfShape(a)
    m = ConstantOfShape(b)
    c = Conv(x, w)
    {tail}
}}"""
CASES = [
    ("y = Relu(c)", 100.0, "0 errors; 100.0 % of the MACs run as they are"),  # both are in the list
    (  # 8 * 16 * 64 MACs each, and the list has no MatMul
        "y = MatMul(c, m)",
        50.0,
        "0 errors, 1 warning (1 operator not documented); 100.0 % of the MACs run as they are, 50.0 % by the device's documents",
    ),
]


@pytest.mark.parametrize(("tail", "share", "words"), CASES)
def test_documented_share(tail: str, share: float, words: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnxtxt"
    path.write_text(MODEL.format(tail=tail), encoding="utf-8")
    report = check_model(str(path), registry.profile("amd-dpu:DPUCZDX8G"), Config())
    assert report.totals.npu_macs_percent == 100.0
    assert documented_percent(report) == share
    assert outcome(report) == words
