"""What a check foresees of `fix`: the forms cost what they cost in the fixed model, and what was not tried is no refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from npu_guard.fixing import remedies
from npu_guard.pipeline.check import check_models
from npu_guard.pipeline.frozen import with_frozen_weights
from npu_guard.project.config import Config
from npu_guard.results.prospect import Prospect
from npu_guard.results.summary import count

SAMPLE = Path(__file__).parents[2] / "samples" / "sample_net.onnx"
LONG = """g (float[1,8,32,32] x) => (float[1,8,32,32] y) <float[8,8,19,1] v>
          { a = Relu(x) y = Conv<pads = [9,0,9,0]>(a, v) }"""
LISTED = """g (float[1,8,32,32] x, float[12,8,1,1] v) => (float[1,12,32,32] y)
            <float[12,8,1,1] v> { a = Conv(x, v) y = Relu(a) }"""


def _model(path: Any) -> Any:
    (model,) = check_models([str(path)], Config(), remedies=True).models
    return model


def test_the_price_is_that_of_the_fixed_model(cli: Any, tmp_path: Path) -> None:
    """Forms that follow each other in the sample share a few bytes; what they add is the same but for a thousandth."""
    model = _model(SAMPLE)
    assert count(model.findings).mended == count(model.findings).error > 0
    fixed_model = tmp_path / "fixed.onnx"
    cli("fix", str(SAMPLE), "-o", str(fixed_model))
    fixed, now = _model(fixed_model).totals, model.totals
    assert model.prospect.macs == fixed.macs - now.macs > 0
    assert model.prospect.bytes == pytest.approx(fixed.activation_bytes - now.activation_bytes, rel=1e-3)
    assert "6 errors, all fixed exactly (+7 % MACs, +33 % activation bytes) by:" in cli("check", str(SAMPLE)).out


def test_blocks_that_were_not_tried_are_told(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(LONG)
    assert _model(path).prospect.untried == 0
    monkeypatch.setattr(remedies, "SKETCHES", 0)
    untried = _model(path)
    assert untried.prospect == Prospect(untried=1), "no price, and not for the host at the end"
    assert count(untried.findings).mended == 0


def test_what_no_form_is_for_is_not_untried(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remedies, "SKETCHES", 0)
    nothing = _model(write("g (float[1,8,4,4] x) => (y) { a = Relu(x) y = NonZero(a) }"))
    assert count(nothing.findings).error == 1
    assert nothing.prospect.untried == 0


def test_weights_that_a_caller_may_override_are_taken_as_fix_takes_them(cli: Any, write: Any) -> None:
    path = write(LISTED)
    assert with_frozen_weights(str(path), Config())[1] == ("v",)
    model = _model(path)
    assert count(model.findings).mended == 1
    assert "1 error, fixed exactly" in cli("check", "net.onnx").out
    assert "npu-guard partition" not in cli("check", "net.onnx").out
    assert "Fixed: 1 error, now none" in cli("fix", "net.onnx", "-o", "fixed.onnx").out
