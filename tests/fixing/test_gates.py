"""Gates of a quantized network: a Clip that the quantizer left out keeps its upper end where a product reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from npu_guard.analysis.opening import open_to_write
from npu_guard.checking import registry
from npu_guard.file.save import save_document
from npu_guard.fixing import catalog
from npu_guard.pipeline.fix import fix_model
from npu_guard.project.config import Config
from npu_guard.rewriting.integers.real import in_real_numbers
from npu_guard.rewriting.substitution import EXACT

onnxruntime = pytest.importorskip("onnxruntime")

LAYERS = 9
WEIGHTS = "{" + ", ".join(str(n) for n in np.random.default_rng(0).integers(-120, 120, 4 * 4 * 19).tolist()) + "}"


def network(product: str) -> str:
    """Hard swish, x Clip(x + 3, 0, 6) / 6, nine times, as the quantizer writes it; the first layer has a kernel of 19 rows."""
    lines = ["x0q = QuantizeLinear(x, s, z)  x0 = DequantizeLinear(x0q, s, z)", "wd = DequantizeLinear(w, sw, zw)"]
    lines += ["c = Conv<pads = [9,0,9,0]>(x0, wd)  cq = QuantizeLinear(c, s, z)  h0 = DequantizeLinear(cq, s, z)"]
    for i in range(LAYERS):
        lines += [
            f"a{i} = Add(h{i}, three)  a{i}q = QuantizeLinear(a{i}, sg, zg)  g{i} = DequantizeLinear(a{i}q, sg, zg)",
            f"p{i} = {product.format(i)}  p{i}q = QuantizeLinear(p{i}, s, z)  h{i + 1} = DequantizeLinear(p{i}q, s, z)",
        ]
    return f"""<ir_version: 8, opset_import: ["" : 13]>
    g (float[1,4,24,8] x) => (float[1,4,24,8] h{LAYERS}) <float s = {{0.08}}, uint8 z = {{100}}, float sg = {{{6 / 255:.9g}}},
      uint8 zg = {{0}}, float three = {{3}}, float sw = {{0.01}}, int8 zw = {{0}}, int8[4,4,19,1] w = {WEIGHTS}>
    {{ {" ".join(lines)} }}"""


@pytest.mark.parametrize(
    ("product", "operator"), [("Mul(h{0}, g{0})", "Clip"), ("Sub(g{0}, three)", "Relu")], ids=["gate", "sum"]
)
def test_the_upper_end_is_kept_for_gates_alone(product: str, operator: str, save: Callable[..., Path]) -> None:
    real = in_real_numbers(*open_to_write(str(save(onnx.parser.parse_model(network(product)))), {}))
    assert real is not None
    clamps = [n for n in real.document.proto.graph.node if n.output[0] in real.clamps]
    assert {n.op_type for n in clamps} == {operator}
    assert len(clamps) == LAYERS
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in real.document.proto.graph.initializer}
    assert all(stored[n.input[2]] == np.float32(6) for n in clamps if operator == "Clip")


def test_gates_that_follow_each_other_are_compared_and_written_without_a_clip(save: Callable[..., Path], tmp_path: Path) -> None:
    path = str(save(onnx.parser.parse_model(network("Mul(h{0}, g{0})"))))
    forms = [s for s in catalog.substitutions() if s.exactness == EXACT]
    report = fix_model(path, registry.profile("aimotive-aiware"), Config(profile="aimotive-aiware"), forms, seeds=(0,))
    assert "NPU201" in {f.rule for f in report.before.findings}
    assert not {f.rule for f in report.after.findings if f.severity.value == "error"}
    assert not [n for n in report.document.proto.graph.node if n.op_type in ("Clip", "Relu")]
    save_document(report.document, tmp_path / "made.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    feed = {"x": np.random.default_rng(1).standard_normal((1, 4, 24, 8)).astype(np.float32) * 9}
    before, after = (onnxruntime.InferenceSession(str(m), options).run(None, feed)[0] for m in (path, tmp_path / "made.onnx"))
    assert float(np.abs(before - after).max()) <= 0.0801  # one step
