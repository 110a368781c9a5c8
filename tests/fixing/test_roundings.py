"""Where a quantized network that was fixed rounds other numbers than before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from npu_guard.analysis.analyze import analyze
from npu_guard.analysis.quantized.held import Held, span
from npu_guard.analysis.quantized.reading import read
from npu_guard.checking import registry
from npu_guard.file.document import Document
from npu_guard.file.save import save_document
from npu_guard.fixing import catalog
from npu_guard.fixing.driver import FixReport
from npu_guard.pipeline.fix import fix_model
from npu_guard.project.config import Config
from npu_guard.results.verification import Roundings
from npu_guard.rewriting.integers.grid import on_grid, widened
from npu_guard.rewriting.substitution import EXACT

onnxruntime = pytest.importorskip("onnxruntime")
INT8, UINT8, INT16, UINT16 = (getattr(onnx.TensorProto, name) for name in ("INT8", "UINT8", "INT16", "UINT16"))
random = np.random.default_rng(5)


@pytest.fixture
def net(save: Callable[..., Path]) -> Callable[[str], str]:
    def made(text: str) -> str:
        return str(save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>\n{text}')))

    return made


def run(model: str | Document, x: np.ndarray[Any, Any], tmp_path: Path) -> np.ndarray[Any, Any]:
    if isinstance(model, Document):
        save_document(model, tmp_path / "made.onnx")
        model = str(tmp_path / "made.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def fixed(path: str, device: str) -> FixReport:
    forms = [s for s in catalog.substitutions() if s.exactness == EXACT]
    return fix_model(path, registry.profile(device), Config(profile=device), forms, seeds=(0,))


def numbers(*shape: int) -> str:
    return "{" + ", ".join(map(str, random.integers(-90, 90, shape).ravel().tolist())) + "}"


LATE = f"""g (float[1,4,6,6] x) => (float[1,4,6,6] y) <float s = {{0.05}}, uint8 z = {{120}}, float sr = {{0.04}},
    uint8 zm = {{110}}, int8[4,4] v = {numbers(4, 4)}, float t = {{0.003}}, int8 n = {{0}}, int64[3] flat = {{1, 4, 36}},
    int64[4] map = {{1, 4, 6, 6}}> {{
    vd = DequantizeLinear(v, t, n)
    r = Reshape(x, flat)
    [tokens] k = Transpose<perm = [0,2,1]>(r)  kq = QuantizeLinear(k, s, z)  kd = DequantizeLinear(kq, s, z)
    [first] a = MatMul(kd, vd)  aq = QuantizeLinear(a, sr, zm)  ad = DequantizeLinear(aq, sr, zm)
    c = Transpose<perm = [0,2,1]>(ad)
    y = Reshape(c, map) }}"""
"""The input becomes integers behind movers, as quantizers leave it, so that these and their rounding go together."""


@pytest.mark.parametrize("beside", ["", "other = Relu(x) twice = Add(y0, other) "])
def test_what_was_rounded_behind_movers_that_are_gone_is_rounded_in_front(
    beside: str, net: Callable[[str], str], tmp_path: Path
) -> None:
    """Also beside an operator that reads the input in floating point, and goes on doing so."""
    text = LATE
    if beside:
        text = LATE.replace("y = Reshape(c, map)", f"y0 = Reshape(c, map)  {beside.replace('twice', 'y')}")
    path = net(text)
    report = fixed(path, "aimotive-aiware")
    assert [a.substitution for a in report.applied] == ["tensors-to-maps"]
    assert report.verification.roundings == Roundings(0, 0, 0, 0)
    x = random.standard_normal((1, 4, 6, 6)).astype(np.float32) * 3
    wanted, real = run(path, x, tmp_path), run(net(text.replace("MatMul(kd", "MatMul(k")), x, tmp_path)
    assert (np.abs(wanted - real) > 0.02).any(), "it does matter whether the input is rounded"
    np.testing.assert_allclose(run(report.document, x, tmp_path), wanted, atol=1e-6)


NORM = f"""g (int8[1,16,3,4] x) => (int8[1,16,3,4] y) <float s = {{0.03}}, int8 z = {{-7}}, float sr = {{0.008}}, int8 zr = {{3}},
    int8[16] scale = {numbers(16)}, int8[16] bias = {numbers(16)}, float u = {{0.01}}, int8 n = {{0}},
    int64[3] flat = {{1, 16, 12}}, int64[4] map = {{1, 16, 3, 4}}> {{
    xd = DequantizeLinear(x, s, z)  sd = DequantizeLinear(scale, u, n)  bd = DequantizeLinear(bias, u, n)
    r = Reshape(xd, flat)  rq = QuantizeLinear(r, s, z)  rd = DequantizeLinear(rq, s, z)
    k = Transpose<perm = [0,2,1]>(rd)  kq = QuantizeLinear(k, s, z)  kd = DequantizeLinear(kq, s, z)
    [norm] a = LayerNormalization(kd, sd, bd)  aq = QuantizeLinear(a, sr, zr)  ad = DequantizeLinear(aq, sr, zr)
    c = Transpose<perm = [0,2,1]>(ad)  cq = QuantizeLinear(c, sr, zr)  cd = DequantizeLinear(cq, sr, zr)
    e = Reshape(cd, map)  y = QuantizeLinear(e, sr, zr) }}"""


def types_of(document: Document) -> list[set[int]]:
    """The types of the activations of each operator that is in integers."""
    units = read(analyze(document.skeleton())).units.values()
    ends = [[*(o.encoding for o in unit.data), unit.output] for unit in units if unit.is_quantized]
    return [{e.dtype for e in several if e is not None} for several in ends]


def test_parts_of_a_block_have_16_bits_where_a_device_has_them(net: Callable[[str], str], tmp_path: Path) -> None:
    path = net(NORM)
    report = fixed(path, "ethos-u85")
    assert [f.rule for f in report.before.findings] == ["NPU101"]
    assert list(report.after.findings) == []
    told = report.verification.roundings
    assert told is not None
    assert told.anew > 0
    types = types_of(report.document)
    assert {INT16} in types
    assert all(len(one) == 1 for one in types), "what an operator reads and gives has one type"
    x = random.integers(-128, 128, (1, 16, 3, 4)).astype(np.int8)
    wanted, made = (run(model, x, tmp_path).astype(int) for model in (path, report.document))
    assert len(np.unique(wanted)) > 50
    assert np.abs(made - wanted).max() <= 1
    flat = np.full((1, 16, 3, 4), -7, np.int8)
    wanted, made = (run(model, flat, tmp_path).astype(int) for model in (path, report.document))
    assert np.abs(made - wanted).max() <= 1, "a variance of 0 is not rounded to 0 in front of the root"


@pytest.mark.parametrize(
    ("held", "dtype"), [(Held(INT8, np.float32(0.3), -7), INT16), (Held(UINT8, np.float32(0.3), 130), UINT16)]
)
def test_16_bits_have_the_numbers_of_8(held: Held, dtype: int) -> None:
    wide = widened(held)
    assert wide.dtype == dtype
    low, high = span(held.dtype)
    steps = np.arange(low, high + 1)
    real = (steps - held.zero) * np.float32(held.scale)
    integers = np.rint(real / np.float64(wide.scale)) + wide.zero
    assert span(dtype)[0] <= integers.min() <= integers.max() <= span(dtype)[1]
    np.testing.assert_array_equal((integers - wide.zero).astype(np.float32) * np.float32(wide.scale), real.astype(np.float32))
    assert widened(wide) is wide


def test_what_is_on_the_grid_of_a_channel() -> None:
    scales = np.float32([0.3, 0.5])
    weight = np.float32([[3, -2], [0, 127]]) * scales[:, None]
    assert on_grid(weight, scales, 0)
    assert not on_grid(weight, scales, 1), "rows have these scales, and not columns"
    assert not on_grid(weight + np.float32([[0, 0], [0.1, 0]]), scales, 0)


LONG = f"""g (float[1,4,24,24] x) => (float[1,4,24,24] y) <float s = {{0.05}}, uint8 z = {{120}}, float sr = {{0.04}},
    int8[4,4,19,3] w = {numbers(4, 4, 19, 3)}, float t = {{0.0004}}, int8 n = {{0}}> {{
    xq = QuantizeLinear(x, s, z)  xd = DequantizeLinear(xq, s, z)  wd = DequantizeLinear(w, t, n)
    [long] c = Conv<pads = [9,1,9,1]>(xd, wd)  cq = QuantizeLinear(c, sr, z)  y = DequantizeLinear(cq, sr, z) }}"""


@pytest.mark.parametrize(("device", "anew"), [("aimotive-aiware", False), ("ethos-u85", True)])
def test_sums_that_stay_in_floating_point_are_no_new_rounding(
    device: str, anew: bool, net: Callable[[str], str], tmp_path: Path
) -> None:
    path = net(LONG)
    report = fixed(path, device)
    told = report.verification.roundings
    x = random.standard_normal((1, 4, 24, 24)).astype(np.float32)
    moved = np.abs(run(path, x, tmp_path) - run(report.document, x, tmp_path)).max() / 0.04
    if not report.applied:
        assert device == "ethos-u85", "its kernels may be as long"
        return
    assert told is not None
    assert (told.anew > 0) == anew
    assert told.same != anew
    assert moved <= 1.01
