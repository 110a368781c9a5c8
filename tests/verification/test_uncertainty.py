"""How far a model moves of itself, beside what float64 says of its rounding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx.parser
import pytest

from npu_guard.analysis.analyze import analyze
from npu_guard.file.document import Document
from npu_guard.file.load import load
from npu_guard.verification.compare import run_document
from npu_guard.verification.runtime import Runtime
from npu_guard.verification.uncertainty import measure_noise

HEADER = '<ir_version: 8, opset_import: ["" : 17]>\n'


@pytest.mark.parametrize("mean", ["GlobalAveragePool(x)", "ReduceMean<axes = [2, 3]>(x)"])
def test_a_sum_that_cancels_rounds_as_its_terms(tmp_path: Path, mean: str) -> None:
    """The noise is of the size of the rounding, where one ulp of the result would be thousands of times less."""
    text = f"{HEADER}g (float[1,4,64,64] x) => (float[1,4,1,1] y) {{ a = Add(x, x)  y = {mean.replace('(x)', '(a)')} }}"
    onnx.save(onnx.parser.parse_model(text), tmp_path / "net.onnx")
    skeleton = load(tmp_path / "net.onnx")
    model, analysis = Document.of(skeleton), analyze(skeleton)
    x = np.random.default_rng(0).standard_normal((1, 4, 64, 64)).astype(np.float32) * np.float32(1e5)
    x -= x.mean(axis=(2, 3), keepdims=True)
    with Runtime() as runtime:
        reference = run_document(runtime, model, [{"x": x}])
        noise = measure_noise(runtime, model, [{"x": x}], reference, ["y"], analysis)["y"][0]
    rounding = float(np.abs(reference[0]["y"] - 2 * x.astype(np.float64).mean(axis=(2, 3), keepdims=True)).max())
    assert rounding > 100 * np.spacing(np.abs(reference[0]["y"]).max())
    assert 0.25 * rounding < noise.whole < 16 * rounding
