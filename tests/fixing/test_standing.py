"""Forms for limits that a device has for 8 bits alone are found on the network in real numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from npu_guard.checking import registry
from npu_guard.file.save import save_document
from npu_guard.fixing import catalog
from npu_guard.pipeline.check import check_model
from npu_guard.pipeline.fix import fix_model
from npu_guard.project.config import Config
from npu_guard.rewriting.substitution import EXACT

onnxruntime = pytest.importorskip("onnxruntime")
random = np.random.default_rng(6)
DEVICE = "rockchip-rk3588"


def attention(*, quantized: bool) -> str:
    """Attention of 36 places among 8 channels, in floating point or with a pair behind each operator."""
    steps = (
        ("r", "Reshape(x{q}, flat)", "s"), ("k", "Transpose<perm = [0,2,1]>(r{q})", "s"), ("a", "MatMul(k{q}, r{q})", "sa"),
        ("b", "Softmax(a{q})", "sb"), ("t", "Transpose<perm = [0,2,1]>(b{q})", "sb"), ("c", "MatMul(r{q}, t{q})", "s"),
        ("y", "Reshape(c{q}, map)", "s"),
    )  # fmt: skip
    scales = "float s = {0.05}, float sa = {0.4}, float sb = {0.008}, int8 z = {0}, " if quantized else ""
    lines = ["xi = QuantizeLinear(x, s, z)  x_ = DequantizeLinear(xi, s, z)"] if quantized else []
    for name, operator, scale in steps:
        made = f"{name}r" if quantized else name
        lines.append(f"{made} = {operator.format(q='_' if quantized else '')}")
        if quantized:
            last = name if name == "y" else f"{name}_"
            lines.append(f"{name}i = QuantizeLinear({made}, {scale}, z)  {last} = DequantizeLinear({name}i, {scale}, z)")
    return f"""<ir_version: 8, opset_import: ["" : 17]> g (float[1,8,6,6] x) => (float[1,8,6,6] y)
        <{scales}int64[3] flat = {{1, 8, 36}}, int64[4] map = {{1, 8, 6, 6}}> {{ {" ".join(lines)} }}"""


def _errors(report: Any) -> list[str]:
    return sorted(f.rule for f in report.findings if f.severity.value == "error")


def test_what_only_8_bits_do_not_fit_is_mended(tmp_path: Path) -> None:
    for name, text in (("float", attention(quantized=False)), ("int8", attention(quantized=True))):
        onnx.save(onnx.parser.parse_model(text), tmp_path / f"{name}.onnx")
    config, forms = Config(profile=DEVICE), [s for s in catalog.substitutions() if s.exactness == EXACT]
    path = str(tmp_path / "int8.onnx")
    assert _errors(check_model(str(tmp_path / "float.onnx"), registry.profile(DEVICE), config)) == []
    told = check_model(path, registry.profile(DEVICE), config, remedies=True)
    assert set(_errors(told)) == {"NPU405"}
    assert any(f.remedy is not None and f.remedy.substitution for f in told.findings)
    report = fix_model(path, registry.profile(DEVICE), config, forms, seeds=(0,))
    assert _errors(report.after) == []
    save_document(report.document, tmp_path / "fixed.onnx")
    x = random.standard_normal((1, 8, 6, 6)).astype(np.float32) * 3
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    sessions = [onnxruntime.InferenceSession(str(tmp_path / f"{n}.onnx"), options) for n in ("int8", "fixed")]
    a, b = (session.run(None, {"x": x})[0] for session in sessions)
    assert np.abs(a).max() > 1
    assert np.abs(a - b).max() <= 0.05 * 1.01


LINES = {
    "the half behind": ("Div(x{q}, root)", "Erf(d{q})", "Add(e{q}, one)", "Mul(x{q}, a{q})", "Mul(m{q}, half)"),
    "the halves in front": ("Div(x{q}, root)", "Erf(d{q})", "Mul(e{q}, half)", "Add(a{q}, half)", "Mul(x{q}, m{q})"),
}


def gelu(lines: tuple[str, ...], *, inner: bool) -> str:
    """A Gelu in parts, with pairs at its ends, or between all of its lines too."""
    made = ["xi = QuantizeLinear(x, s, z)  x_ = DequantizeLinear(xi, s, z)"]
    for name, operator in zip("deamy", lines, strict=True):
        operands = operator.format(q="_") if inner else operator.format(q="").replace("x,", "x_,")
        if name == "y":
            made.append(f"yr = {operands}  yi = QuantizeLinear(yr, s, z)  y = DequantizeLinear(yi, s, z)")
        elif inner:
            scale = "t" if name == "m" else "s"
            pair = f"{name}i = QuantizeLinear({name}, {scale}, z)  {name}_ = DequantizeLinear({name}i, {scale}, z)"
            made.append(f"{name} = {operands}  {pair}")
        else:
            made.append(f"{name} = {operands}")
    return f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[1,8,6,6] x) => (float[1,8,6,6] y) <float s = {{0.02}}, float t = {{0.04}}, uint8 z = {{128}},
        float root = {{1.41421354}}, float one = {{1.0}}, float half = {{0.5}}> {{ {" ".join(made)} }}"""


@pytest.mark.parametrize("lines", LINES.values(), ids=LINES)
def test_a_group_with_pairs_between_its_lines_is_none_for_a_compiler_that_takes_it_in_floating_point(
    lines: tuple[str, ...], tmp_path: Path
) -> None:
    """onnxruntime-qnn 2.7.0 leaves an Erf between pairs to the host and takes what is written here in its place."""
    config, forms = Config(profile="qualcomm-htp"), [s for s in catalog.substitutions() if s.exactness == EXACT]
    profile = registry.profile("qualcomm-htp")
    for name, inner in (("ends", False), ("pairs", True)):
        onnx.save(onnx.parser.parse_model(gelu(lines, inner=inner)), tmp_path / f"{name}.onnx")
    whole = fix_model(str(tmp_path / "ends.onnx"), profile, config, forms, seeds=(0,))
    assert "NPU101" not in _errors(whole.before)
    assert not any(step.substitution == "gelu-to-exponential" for step in whole.applied)
    report = fix_model(str(tmp_path / "pairs.onnx"), profile, config, forms, seeds=(0,))
    assert _errors(report.before) == ["NPU101"]
    assert _errors(report.after) == []
    save_document(report.document, tmp_path / "fixed.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(tmp_path / "fixed.onnx"), options)
    for x in (random.standard_normal((1, 8, 6, 6)), np.zeros((1, 8, 6, 6)), np.full((1, 8, 6, 6), -100.0)):
        rounded = np.clip(np.rint(x / 0.02), -128, 127) * 0.02
        expected = [0.5 * n * (1 + math.erf(n / math.sqrt(2))) for n in rounded.ravel()]
        made = session.run(None, {"x": x.astype(np.float32)})[0]
        assert np.abs(made.ravel() - expected).max() <= 0.02 * 2.01
