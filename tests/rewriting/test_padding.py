"""Zeros around maps as the padding of convolutions: random margins, each by every form that there is, against numpy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from npu_guard.analysis.analyze import analyze
from npu_guard.checking import registry
from npu_guard.checking.context import Context
from npu_guard.checking.examples import case_model
from npu_guard.checking.rule import Case
from npu_guard.file.document import Document
from npu_guard.file.load import load
from npu_guard.fixing import catalog

(FORM,) = [s for s in catalog.substitutions() if s.name == "pad-to-conv"]


@pytest.mark.parametrize("seed", range(20))
def test_margins_are_where_they_were(seed: int, tmp_path: Path, by_form: Callable[..., onnx.ModelProto]) -> None:
    random = np.random.default_rng(seed)
    shape = [int(n) for n in random.integers(1, 7, 4)]
    top, left, bottom, right = (int(n) for n in random.integers(0, 5, 4))
    top += not any((top, left, bottom, right))  # a Pad by nothing is no operator
    text = f"""g (float[{",".join(map(str, shape))}] x) => (float["B","C","H","W"] y)
        <int64[8] p = {{0, 0, {top}, {left}, 0, 0, {bottom}, {right}}}> {{ y = Pad(x, p) }}"""
    path = tmp_path / "model.onnx"
    path.write_bytes(case_model(Case(text)).SerializeToString())
    skeleton = load(path)
    document, analysis = Document.of(skeleton), analyze(skeleton)
    (node,) = analysis.nodes()
    matches = FORM.match(node, Context(analysis, registry.profile("nvidia-dla")))
    assert isinstance(matches, Sequence)
    assert [m.variant for m in matches] == ["own", "long"]
    x = random.standard_normal(shape).astype(np.float32)
    for match in matches:
        after = by_form(FORM, match, document, analysis)
        (found,) = onnxruntime.InferenceSession(after.SerializeToString()).run(None, {"x": x})
        np.testing.assert_array_equal(found, np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right))))
