"""The first layers of an audio network are taken for what they are."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from npu_guard.analysis.analyze import analyze
from npu_guard.checking.context import context_of
from npu_guard.checking.examples import case_model, profile_for
from npu_guard.checking.rule import Case
from npu_guard.file.load import load
from npu_guard.fixing import catalog
from npu_guard.rewriting.substitution import Refused


@pytest.mark.parametrize(("weight", "attributes", "reason"), [
    ("float[36,1,5] w", "strides = [1]", ""),
    ("float[1,1,4] w", "strides = [2], pads = [1,1]", ""),
    ("float[1,1,3] w", "pads = [1,1]", "no way back"),
])  # fmt: skip
def test_filters_over_a_signal_are_no_channel_attention(weight: str, attributes: str, reason: str, tmp_path: Path) -> None:
    """What is said of a Conv that is left is about this Conv: the last one alone has a factor for each channel."""
    case = Case(
        f"g (float[1,400,1] x) => (y) <{weight}, int64[3] r = {{1,1,400}}> {{ s = Reshape(x, r)  y = Conv<{attributes}>(s, w) }}"
    )
    (tmp_path / "model.onnx").write_bytes(onnx.shape_inference.infer_shapes(case_model(case)).SerializeToString())
    analysis = analyze(load(tmp_path / "model.onnx"))
    form = next(s for s in catalog.substitutions() if s.name == "eca-to-se")
    conv = next(n for n in analysis.nodes() if n.op_type == "Conv")
    try:
        assert form.match(conv, context_of(analysis, profile_for(case))) is None
        found = ""
    except Refused as refusal:
        found = refusal.reason
    assert reason in found
    assert bool(reason) == bool(found)
