"""`verify --layers`: what is said of single tensors is what somebody else computes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from npu_guard.pipeline.verify import verify_models
from npu_guard.verification.layers import compare_layers

pytest.importorskip("onnxruntime")
HEADER = '<ir_version: 8, opset_import: ["" : 17]>\n'
FLOAT = "g (float[1,4,4,4] x) => (float[1,4,4,4] y) { a = Relu(x)  b = Abs(a)  y = Add(b, x) }"
QUANTIZED = """g (float[1,4,4,4] x) => (float[1,4,4,4] y) <float s = {0.125}, uint8 z = {0}, float[1] k = {0.0}>
{ a = Relu(x)  q = QuantizeLinear(a, s, z)  d = DequantizeLinear(q, s, z)  b = Abs(d)  y = Add(b, x) }"""


def _save(text: str, path: Path) -> str:
    onnx.save(onnx.parser.parse_model(HEADER + text), path)
    return str(path)


def test_rounding_is_half_a_step(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((3, 1, 4, 4, 4)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x)
    files = _save(FLOAT, tmp_path / "a.onnx"), _save(QUANTIZED, tmp_path / "b.onnx")
    found = {layer.name: layer for layer in compare_layers(*files, {}, tmp_path / "data.npz").layers}
    assert set(found) == {"a", "b", "y"}
    assert found["a"].decibels == 300.0  # nothing has been rounded yet
    assert found["a"].steps == 0.0
    relu = np.maximum(x, 0).astype(np.float64)
    rounded = np.clip(np.rint(relu / 0.125), 0, 255) * 0.125
    ratio = 10 * np.log10(np.square(relu).sum() / np.square(relu - rounded).sum())
    assert found["b"].decibels == pytest.approx(ratio, abs=1e-3)
    assert found["b"].steps is None  # in floating point there


def test_integers_are_compared_in_steps(tmp_path: Path) -> None:
    text = """g (float[8] x) => (float[8] y) <float s = {0.125}, uint8 z = {%d}>
    { q = QuantizeLinear(x, s, z)  y = DequantizeLinear(q, s, z) }"""
    np.savez(tmp_path / "data.npz", x=np.linspace(-1, 1, 8, dtype=np.float32)[None])
    files = _save(text % 128, tmp_path / "a.onnx"), _save(text % 130, tmp_path / "b.onnx")
    found = {layer.name: layer for layer in compare_layers(*files, {}, tmp_path / "data.npz").layers}
    assert (found["q"].decibels, found["q"].steps) == (None, 2.0)


def test_models_without_a_tensor_in_common_are_not_compared(tmp_path: Path) -> None:
    files = (
        _save(FLOAT, tmp_path / "a.onnx"),
        _save("g (float[1,4,4,4] x) => (float[1,4,4,4] z) { z = Neg(x) }", tmp_path / "b.onnx"),
    )
    assert "no tensor of the same name" in compare_layers(*files, {}, None).reason


def test_a_quantized_model_is_compared_within_its_range(tmp_path: Path) -> None:
    """Beyond it, a quantized model gives something else on purpose; the ratio and the steps within it are what is told."""
    head = "g (float[1,4,8,8] x) => (float[1,4,8,8] y) <float s = {0.05}, uint8 z = {120}, float t = {0.4}> {"
    plain = _save(head + "y = Mul(x, x) }", tmp_path / "a.onnx")
    held = _save(
        head + "q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  m = Mul(d, d)"
        "  r = QuantizeLinear(m, t, z)  y = DequantizeLinear(r, t, z) }", tmp_path / "b.onnx",
    )  # fmt: skip
    result = verify_models(plain, held, {}, seeds=(0,))
    assert result.verdict == "differs"
    assert "quantized" in result.reason
    (output,) = result.outputs
    assert output.snr_db > 20
    assert output.steps is not None
    assert 0.5 < output.steps < 3


RELU = "g (float[1,2,4,4] x) => (float[1,2,4,4] y) { c = Neg(x)  r = Relu(c)  y = Abs(r) }"
CLIP = (
    "g (float[1,2,4,4] x) => (float[1,2,4,4] y) <float l = {0.0}, float h = {0.5}> { c = Neg(x)  r = Clip(c, l, h)  y = Abs(r) }"
)
HELD = """g (float[1,2,4,4] x) => (float[1,2,4,4] y) <float s = {SCALE}, uint8 z = {ZERO}>
{ NAMED = Neg(x)  q = QuantizeLinear(NAMED, s, z)  GIVEN = DequantizeLinear(q, s, z)  y = Abs(GIVEN) }"""


@pytest.mark.parametrize(("text", "scale"), [(RELU, 0.02), (CLIP, 0.5 / 255)])
@pytest.mark.parametrize(("named", "given"), [("r", "d"), ("n", "c")], ids=["name of the result", "name of what is read"])
def test_a_relu_in_the_zero_point_is_no_difference(tmp_path: Path, text: str, scale: float, named: str, given: str) -> None:
    """onnxruntime's quantizer leaves it out; the tensor that it quantizes has one of two names."""
    held = HELD.replace("SCALE", str(scale)).replace("NAMED", named).replace("GIVEN", given)
    files = _save(text, tmp_path / "a.onnx"), _save(held.replace("ZERO", "0"), tmp_path / "b.onnx")
    found = {layer.name: layer for layer in compare_layers(*files, {}, None).layers}
    assert found[named if named == "r" else "c"].decibels > 30  # type: ignore[operator]
    lost = _save(held.replace("ZERO", "128"), tmp_path / "c.onnx")  # holds negative numbers: the Relu is lost
    found = {layer.name: layer for layer in compare_layers(files[0], lost, {}, None).layers}
    assert found["y"].decibels < 10  # type: ignore[operator]
    if named == "r":
        assert found["r"].decibels < 10  # type: ignore[operator]
