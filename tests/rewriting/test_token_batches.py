"""Tokens at the edge of a model that leaves its batch open: what stays of the rearrangement there holds for every batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from npu_guard.checking import registry
from npu_guard.checking.examples import case_model
from npu_guard.checking.rule import Case
from npu_guard.file.save import save_document
from npu_guard.fixing import catalog
from npu_guard.pipeline.fix import fix_model
from npu_guard.project.config import Config

TOKENS = [s for s in catalog.substitutions() if s.name == "tokens-to-maps"]
MLP = """n = LayerNormalization(x, k)  a = MatMul(n, w)  b = Relu(a)  c = MatMul(b, v)  d = Sigmoid(c)  e = Mul(d, b)
         f = LayerNormalization(e, m)"""
WEIGHTS = "float[8,16] w, float[16,16] v, float[8] k, float[16] m"
GRAPHS = {
    "tokens in, tokens out": f'g (float["B",12,8] x) => (float["B",12,16] y) <{WEIGHTS}> {{ {MLP}  y = MatMul(f, v) }}',
    "heads at the output": f"""g (float["B",12,8] x) => (float["B",12,2,8] y)
        <{WEIGHTS}, int64[4] heads = {{0, 12, 2, 8}}> {{ {MLP}  g = MatMul(f, v)  y = Reshape(g, heads) }}""",
    "all positions of all images in a row": """g (float["B",8,3,4] x) => (float["BN",16] y)
        <float[8,16] w, float[16,16] v, int64[2] flat = {-1, 8}> {
            t = Transpose<perm = [0,2,3,1]>(x)  f = Reshape(t, flat)  a = Gemm(f, w)  b = Relu(a)  y = Gemm(b, v) }""",
}


@pytest.mark.parametrize("name", GRAPHS)
def test_open_batch(name: str, tmp_path: Path) -> None:
    source, target = tmp_path / "model.onnx", tmp_path / "fixed.onnx"
    model = case_model(Case(GRAPHS[name]))
    onnx.save(model, source)
    report = fix_model(str(source), registry.profile("aimotive-aiware"), Config(), TOKENS, seeds=(0,))
    assert len(report.applied) == 1, report.refused  # and not once more for what has to stay at the edge
    assert (report.verification.verdict, report.verification.inputs.endswith("a batch of 2")) == ("equal", True)
    save_document(report.document, target)
    before = ReferenceEvaluator(model)
    after = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        x = np.random.default_rng(batch).standard_normal((batch, *without_batch(model))).astype(np.float32)
        np.testing.assert_allclose(after.run(None, {"x": x})[0], before.run(None, {"x": x})[0], rtol=1e-4, atol=1e-4)


def without_batch(model: onnx.ModelProto) -> list[int]:
    return [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[1:]]
