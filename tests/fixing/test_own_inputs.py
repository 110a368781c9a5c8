"""A block that no input of the model brings to anything finite is verified on inputs of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from npu_guard.checking import registry
from npu_guard.file.save import save_document
from npu_guard.fixing import catalog
from npu_guard.fixing.block_check import BlockCheck
from npu_guard.pipeline.fix import fix_model
from npu_guard.project.config import Config
from npu_guard.results.findings import Severity

DEVICE = "qualcomm-htp"
RANGE = """g (float[1,4,3] x, float low, float high) => (float[1,4,3] y, float[1,4,3] z) <float[3] f = {4321.0, 5432.0, 6543.0},
    float none = {-inf}> { a = GreaterOrEqual(f, low)  b = LessOrEqual(f, high)  m = And(a, b)  w = Where(m, x, none)
    d = Cast<to = 11>(w)  s = Softmax(d)  y = Cast<to = 1>(s)  z = Tanh(x) }"""
"""Outside of the range of both inputs there is nothing but minus infinity, of which Softmax makes NaN."""


def test_a_range_that_two_inputs_agree_on(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write(RANGE, opset=18)
    result = fix_model(str(path), registry.profile(DEVICE), Config(DEVICE), catalog.substitutions())
    assert [a.substitution for a in result.applied] == ["double-to-float"]
    assert [sum(f.severity is Severity.ERROR for f in r.findings) for r in (result.before, result.after)] == [2, 0]
    save_document(result.document, tmp_path / "fixed.onnx")
    x = np.random.default_rng(0).standard_normal((1, 4, 3)).astype(np.float32)
    for scale in (1.0, -30.0, 0.0, 1e4):
        feed = {"x": x * np.float32(scale), "low": np.array(4000, np.float32), "high": np.array(6000, np.float32)}
        before, after = (onnxruntime.InferenceSession(str(p)).run(["y"], feed)[0] for p in (path, tmp_path / "fixed.onnx"))
        assert np.isfinite(before).all()
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-6)


def test_without_them_nothing_tells(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BlockCheck, "_drawn", lambda *_: None)
    result = fix_model(str(write(RANGE, opset=18)), registry.profile(DEVICE), Config(DEVICE), catalog.substitutions())
    assert not result.applied
    assert any("no output has a finite value" in r.reason for r in result.refused)


def test_a_wrong_form_is_caught_by_them(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    forms = catalog.substitutions()
    kind = type(next(s for s in forms if s.name == "double-to-float"))
    monkeypatch.setattr(kind, "rewrite", kind.mutant)
    result = fix_model(str(write(RANGE, opset=18)), registry.profile(DEVICE), Config(DEVICE), forms)
    assert not result.applied
    assert any("rolled back" in r.reason and "finite" not in r.reason for r in result.refused)
