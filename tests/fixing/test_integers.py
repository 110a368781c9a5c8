"""`fix` on quantized networks: read as real numbers, fixed, and in integers again, with what that costs in steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from npu_guard.analysis.analyze import analyze
from npu_guard.analysis.opening import open_to_write
from npu_guard.analysis.quantized.held import Held
from npu_guard.analysis.quantized.reading import read
from npu_guard.checking import registry
from npu_guard.file.document import Document
from npu_guard.file.save import save_document
from npu_guard.fixing import catalog
from npu_guard.fixing.driver import FixReport
from npu_guard.fixing.twin import beyond_scheme, twin_of
from npu_guard.pipeline.check import check_model
from npu_guard.pipeline.fix import fix_model
from npu_guard.project.config import Config
from npu_guard.rewriting.integers.grid import fitting, in_steps, style_of, weight_scales
from npu_guard.rewriting.integers.pooling import as_convolution
from npu_guard.rewriting.integers.real import in_real_numbers
from npu_guard.rewriting.integers.restore import Restoration, style_of_model
from npu_guard.rewriting.substitution import EXACT, Refused
from npu_guard.verification.steps import compare_in_steps

onnxruntime = pytest.importorskip("onnxruntime")
UINT8, INT8, UINT16 = onnx.TensorProto.UINT8, onnx.TensorProto.INT8, onnx.TensorProto.UINT16
random = np.random.default_rng(4)


def numbers(*shape: int) -> str:
    """Integers of int8 for a tensor in ONNX text."""
    return "{" + ", ".join(map(str, random.integers(-90, 90, shape).ravel().tolist())) + "}"


SCALES = """float s = {0.05}, uint8 z = {120}, float sr = {0.04}, uint8 zr = {0}, float sm = {0.03}, uint8 zm = {110},
    float[4] sw = {0.004, 0.003, 0.005, 0.002}, int8[4] zw = {0, 0, 0, 0}, float[4] sb = {0.0002, 0.00015, 0.00025, 0.0001}"""
QDQ = f"""g (float[1,4,24,24] x) => (float[1,4,24,24] y) <{SCALES}, int8[4,4,19,3] w = {numbers(4, 4, 19, 3)},
    int32[4] b = {{100, -2000, 30, 4}}, int8[4,4,1,1] v = {numbers(4, 4, 1, 1)}> {{
    xq = QuantizeLinear(x, s, z)  xd = DequantizeLinear(xq, s, z)
    wd = DequantizeLinear<axis = 0>(w, sw, zw)  bd = DequantizeLinear<axis = 0>(b, sb)
    [long] c = Conv<pads = [9,1,9,1]>(xd, wd, bd)
    cq = QuantizeLinear(c, sr, zr)  cd = DequantizeLinear(cq, sr, zr)
    p = MaxPool<kernel_shape = [3,3], pads = [1,1,1,1]>(cd)
    pq = QuantizeLinear(p, sr, zr)  pd = DequantizeLinear(pq, sr, zr)
    vd = DequantizeLinear<axis = 0>(v, sw, zw)
    [short] d = Conv(pd, vd)  dq = QuantizeLinear(d, sm, zm)  y = DequantizeLinear(dq, sm, zm) }}"""
QOPERATOR = f"""g (float[1,4,24,24] x) => (uint8[1,4,24,24] y) <{SCALES}, int8[4,4,19,3] w = {numbers(4, 4, 19, 3)},
    int32[4] b = {{100, -2000, 30, 4}}, int64[8] pads = {{0,0,1,1,0,0,1,1}}> {{
    xq = QuantizeLinear(x, s, z)
    [long] c = QLinearConv<pads = [9,1,9,1]>(xq, s, z, w, sw, zw, sr, zr, b)
    f = Pad(c, pads, zr)
    p = MaxPool<kernel_shape = [3,3]>(f)
    y = com.microsoft.QLinearAdd(p, sr, zr, xq, s, z, sm, zm) }}"""
WIDE = QDQ.replace("uint8", "uint16").replace("QuantizeLinear(", "com.microsoft.QuantizeLinear(")
WIDE = WIDE.replace(" DequantizeLinear(", " com.microsoft.DequantizeLinear(")
FORMS = {"pairs": QDQ, "operators": QOPERATOR, "16 bits": WIDE}


@pytest.fixture
def net(save: Callable[..., Path]) -> Callable[[str], str]:
    def made(text: str) -> str:
        model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 13, "com.microsoft" : 1]>\n{text}')
        return str(save(model))

    return made


def run(model: str | Document, x: np.ndarray[Any, Any], tmp_path: Path) -> Any:
    if isinstance(model, Document):
        save_document(model, tmp_path / "made.onnx")
        model = str(tmp_path / "made.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def fixed(path: str, device: str = "aimotive-aiware", *, approximate: bool = False) -> FixReport:
    forms = [s for s in catalog.substitutions() if approximate or s.exactness == EXACT]
    return fix_model(path, registry.profile(device), Config(profile=device), forms, seeds=(0,))


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_there_and_back_is_the_same(text: str, net: Callable[[str], str], tmp_path: Path) -> None:
    path = net(text)
    document, analysis = open_to_write(path, {})
    real = in_real_numbers(document, analysis)
    assert real is not None
    operators = {node.op_type for node in real.document.proto.graph.node}
    assert "QLinearConv" not in operators
    assert "Relu" in operators, "it is what a zero point of 0 means"
    back = Restoration(real, real.document, analyze(real.document.skeleton()), style_of_model(analysis, real))
    assert back.inexact == []
    x = random.standard_normal((1, 4, 24, 24)).astype(np.float32)
    a, b = run(back.write({}), x, tmp_path), run(path, x, tmp_path)
    if text is not QOPERATOR:
        np.testing.assert_array_equal(a, b)
    else:  # onnxruntime's QLinearConv rounds in its own way, now and then to the other integer
        assert (a != b).mean() < 0.01


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_a_kernel_that_is_too_long_is_taken_apart_in_integers(text: str, net: Callable[[str], str], tmp_path: Path) -> None:
    path = net(text)
    report = fixed(path)
    assert [f.rule for f in report.before.findings if f.rule == "NPU201"] == ["NPU201"]
    assert not any(f.rule == "NPU201" for f in report.after.findings)
    assert report.verification.verdict in ("equal", "close")
    assert report.verification.outputs[0].steps is not None
    made = analyze(report.document.skeleton())
    quantized = read(made)
    loose = [
        n.op_type for n, u in quantized.units.items() if n.kind in ("convolution", "broadcasting", "pooling") and not u.is_whole
    ]
    assert loose, "16 bits need operators that are not ONNX's own before opset 21, and move a network of 16 bits"
    x = random.standard_normal((1, 4, 24, 24)).astype(np.float32)
    a, b = run(path, x, tmp_path), run(report.document, x, tmp_path)
    step = 1 if a.dtype == np.uint8 else 0.03
    assert np.abs(a.astype(np.float64) - b).max() / step <= 2.01
    assert (np.abs(a.astype(np.float64) - b) > 0.01).mean() < 0.02


def test_check_says_what_fix_does(net: Callable[[str], str]) -> None:
    config = Config(profile="aimotive-aiware")
    for text in FORMS.values():
        report = check_model(net(text), registry.profile(config.profile), config, remedies=True)
        (long,) = [f for f in report.findings if f.rule == "NPU201"]
        assert long.remedy is not None
        assert "large-kernel-to-phases" in (long.remedy.substitution, *long.remedy.chain)


def test_weights_that_are_moved_stay_the_same_integers(net: Callable[[str], str]) -> None:
    path = net(QDQ)
    before = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}["w"]
    made = fixed(path).document.proto.graph.initializer
    after = [
        onnx.numpy_helper.to_array(t) for t in made if t.data_type == INT8 and len(t.dims) == 4 and tuple(t.dims[2:]) != (1, 1)
    ]
    assert sorted(v for w in after for v in w.ravel().tolist() if v) == sorted(v for v in before.ravel().tolist() if v)


def test_what_cannot_be_told_is_left_as_it_is(net: Callable[[str], str]) -> None:
    path = net(QDQ.replace("cd = DequantizeLinear(cq, sr, zr)", "cd = DequantizeLinear(cq, sm, zr)"))
    document, analysis = open_to_write(path, {})
    with pytest.raises(Refused, match="another scale than they were made with"):
        in_real_numbers(document, analysis)
    assert twin_of(document, analysis, {}) is None
    assert fixed(path).before.totals is not None


MOVED = f"""g (float[1,4,8,8] x) => (float[1,4,8,8] y) <{SCALES}, int8[4,4,1,1] v = {numbers(4, 4, 1, 1)}> {{
    xq = QuantizeLinear(x, s, z)  xd = DequantizeLinear(xq, s, z)
    [pool] p = MaxPool<kernel_shape = [3,3], pads = [1,1,1,1]>(xd)
    vd = DequantizeLinear<axis = 0>(v, sw, zw)
    [conv] d = Conv(p, vd)  dq = QuantizeLinear(d, sm, zm)  y = DequantizeLinear(dq, sm, zm) }}"""


def test_a_pair_that_is_missing_behind_what_only_moves_is_put_in_without_a_loss(
    net: Callable[[str], str], tmp_path: Path
) -> None:
    path = net(MOVED)
    report = fixed(path, "ethos-u85")
    assert {f.rule for f in report.before.findings if f.severity.value == "error"} == {"NPU801"}
    assert [f for f in report.after.findings if f.severity.value == "error"] == []
    assert {a.exactness for a in report.applied} == {EXACT}
    x = random.standard_normal((1, 4, 8, 8)).astype(np.float32)
    np.testing.assert_array_equal(run(path, x, tmp_path), run(report.document, x, tmp_path))


def test_a_scheme_is_changed_where_rounding_is_allowed(net: Callable[[str], str]) -> None:
    text = MOVED.replace("d = Conv(p, vd)", "pq = QuantizeLinear(p, s, z)  pd = DequantizeLinear(pq, s, z)  d = Conv(pd, vd)")
    path = net(text)
    for device in ("nvidia-dla", "amd-dpu:DPUCZDX8G"):
        assert fixed(path, device).applied == (), "zero points and scales are not changed unless somebody allows it"
        report = fixed(path, device, approximate=True)
        assert [f.rule for f in report.before.findings if f.severity.value == "error"]
        assert [f.rule for f in report.after.findings if f.severity.value == "error"] == []
        assert report.verification.verdict == "close"
        assert report.verification.outputs[0].steps is not None


TOKENS = f"""g (float[1,4,6,6] x) => (float[1,4,6,6] y) <{SCALES}, int8[4,4] v = {numbers(4, 4)},
    int8[4,4] w = {numbers(4, 4)}, float t = {{0.003}}, int8 n = {{0}}, int64[3] flat = {{1, 4, 36}},
    int64[4] map = {{1, 4, 6, 6}}> {{
    xq = QuantizeLinear(x, s, z)  xd = DequantizeLinear(xq, s, z)  vd = DequantizeLinear(v, t, n)  wd = DequantizeLinear(w, t, n)
    r = Reshape(xd, flat)  rq = QuantizeLinear(r, s, z)  rd = DequantizeLinear(rq, s, z)
    [tokens] k = Transpose<perm = [0,2,1]>(rd)  kq = QuantizeLinear(k, s, z)  kd = DequantizeLinear(kq, s, z)
    [first] a = MatMul(kd, vd)  aq = QuantizeLinear(a, sr, zm)  ad = DequantizeLinear(aq, sr, zm)
    [second] b = MatMul(ad, wd)  bq = QuantizeLinear(b, sm, zm)  bd = DequantizeLinear(bq, sm, zm)
    c = Transpose<perm = [0,2,1]>(bd)  cq = QuantizeLinear(c, sm, zm)  cd = DequantizeLinear(cq, sm, zm)
    e = Reshape(cd, map)  eq = QuantizeLinear(e, sm, zm)  y = DequantizeLinear(eq, sm, zm) }}"""


def test_a_new_tensor_with_the_numbers_of_an_old_one_is_rounded_as_that(net: Callable[[str], str], tmp_path: Path) -> None:
    path = net(TOKENS)
    report = fixed(path)
    assert [a.substitution for a in report.applied] == ["tensors-to-maps"]
    assert report.verification.verdict == "equal"
    made = analyze(report.document.skeleton())
    convolutions = [u for n, u in read(made).units.items() if n.op_type == "Conv"]
    scales = [made.constants.get(u.output.scale) for u in convolutions if u.output is not None and u.output.scale is not None]
    assert [float(s) for s in scales if s is not None] == pytest.approx([0.04, 0.03])
    x = random.standard_normal((1, 4, 6, 6)).astype(np.float32) * 3
    assert np.abs(run(path, x, tmp_path) - run(report.document, x, tmp_path)).max() <= 0.03 * 1.001


POOLED = f"""g (float[1,4,8,8] x) => (float[1,4,1,1] y) <{SCALES}, int8 m = {{0}}, float u = {{0.006}}> {{
    xq = QuantizeLinear(x, s, m)  xd = DequantizeLinear(xq, s, m)
    [pool] p = GlobalAveragePool(xd)  pq = QuantizeLinear(p, u, m)  y = DequantizeLinear(pq, u, m) }}"""


def test_a_pool_whose_result_has_a_scale_of_its_own_is_a_convolution_where_pools_keep_theirs(
    net: Callable[[str], str], tmp_path: Path
) -> None:
    path = net(POOLED)
    report = fixed(path, "nvidia-dla")
    assert [f.rule for f in report.before.findings if f.severity.value == "error"] == ["NPU101"]
    assert [f.rule for f in report.after.findings if f.severity.value == "error"] == []
    operators = [node.op_type for node in report.document.proto.graph.node if "Linear" not in node.op_type]
    assert "Conv" in operators
    assert "AveragePool" not in operators
    assert report.verification.outputs[0].steps is not None
    assert report.verification.outputs[0].steps <= 1.001
    x = random.standard_normal((1, 4, 8, 8)).astype(np.float32) * 2 + np.float32(0.3)
    wanted = run(path, x, tmp_path)
    assert np.abs(wanted).max() > 0.05, "the input has means"
    assert np.abs(wanted - run(report.document, x, tmp_path)).max() <= 0.006 * 1.001


@pytest.mark.parametrize(
    ("attributes", "fits"),
    [
        ("kernel_shape = [4,2], strides = [4,2]", True),
        ("kernel_shape = [3,3], pads = [1,1,1,1], count_include_pad = 1", True),
        ("kernel_shape = [3,3], pads = [1,1,1,1]", False),
        ("kernel_shape = [3,3], strides = [2,2], ceil_mode = 1", False),
        ('kernel_shape = [3,3], auto_pad = "SAME_UPPER"', False),
        ('kernel_shape = [3,3], auto_pad = "VALID"', True),
    ],
)
def test_a_pool_as_a_convolution(attributes: str, fits: bool, net: Callable[[str], str], tmp_path: Path) -> None:
    path = net(f"g (float[1,4,9,8] x) => (float[1,4,a,b] y) {{ y = AveragePool<{attributes}>(x) }}")
    (node,) = open_to_write(path, {})[1].model.graph.nodes
    made = as_convolution(node, powers=False)
    assert (made is not None) == fits
    assert as_convolution(node, powers=True) is None or attributes.startswith("kernel_shape = [4,2]")
    if made is not None:
        model = onnx.load(path)
        model.graph.node[0].op_type = "Conv"
        model.graph.node[0].input.append("w")
        del model.graph.node[0].attribute[:]
        model.graph.node[0].attribute.extend(made[1])
        model.graph.initializer.append(onnx.numpy_helper.from_array(made[0], "w"))
        onnx.save(model, tmp_path / "conv.onnx")
        x = random.standard_normal((1, 4, 9, 8)).astype(np.float32)
        np.testing.assert_allclose(run(str(tmp_path / "conv.onnx"), x, tmp_path), run(path, x, tmp_path), atol=1e-6)


GELU = """g (float[1,4,8,8] x) => (float[1,4,8,8] y) <float s = {0.02}, uint8 z = {128}, float e = {0.00784},
    uint8 m = {127}, float r = {0.0055459388}, float o = {0.003921569}, uint8 c = {255}, uint8 zero = {0}, float g = {0.007843},
    float h = {0.0019607844}> {
    xq = QuantizeLinear(x, s, z)  xd = DequantizeLinear(xq, s, z)  rd = DequantizeLinear(c, r, zero)
    d = Div(xd, rd)  dq = QuantizeLinear(d, s, z)  dd = DequantizeLinear(dq, s, z)
    f = Erf(dd)  fq = QuantizeLinear(f, e, m)  fd = DequantizeLinear(fq, e, m)  one = DequantizeLinear(c, o, zero)
    a = Add(fd, one)  aq = QuantizeLinear(a, g, zero)  ad = DequantizeLinear(aq, g, zero)
    p = Mul(xd, ad)  pq = QuantizeLinear(p, s, z)  pd = DequantizeLinear(pq, s, z)  hd = DequantizeLinear(c, h, zero)
    q = Mul(pd, hd)  qq = QuantizeLinear(q, s, z)  y = DequantizeLinear(qq, s, z) }"""


def test_a_gelu_between_pairs_is_one_and_has_no_clamp(net: Callable[[str], str]) -> None:
    """1 + erf(x) is never negative, so that a zero point of 0 behind it is no Relu."""
    path = net(GELU)
    real = in_real_numbers(*open_to_write(path, {}))
    assert real is not None
    assert [n.op_type for n in real.document.proto.graph.node if "Linear" not in n.op_type] == ["Div", "Erf", "Add", "Mul", "Mul"]
    other = in_real_numbers(*open_to_write(net(GELU.replace("f = Erf(dd)", "f = Elu<alpha = 1.5>(dd)")), {}))
    assert other is not None
    assert "Clip" in [n.op_type for n in other.document.proto.graph.node], "an Elu may be less than -1"
    assert "gelu-to-exponential" in [a.substitution for a in fixed(path, "ethos-u85").applied]


@pytest.mark.parametrize(("factor", "clamped"), [(0.5, False), (0.25, False), (0.6, True)])
def test_a_product_with_a_constant_has_a_least_number(factor: float, clamped: bool, net: Callable[[str], str]) -> None:
    """erf(x) / 2 + 1 / 2 is never negative; 0.6 times it may be."""
    text = f"""g (float[1,4,6,6] x) => (float[1,4,6,6] y) <{SCALES}, float h = {{{factor}}}, float o = {{0.5}}> {{
        xq = QuantizeLinear(x, s, z)  xd = DequantizeLinear(xq, s, z)  e = Erf(xd)  eq = QuantizeLinear(e, s, z)
        ed = DequantizeLinear(eq, s, z)  m = Mul(ed, h)  mq = QuantizeLinear(m, s, z)  md = DequantizeLinear(mq, s, z)
        a = Add(md, o)  aq = QuantizeLinear(a, sr, zr)  ad = DequantizeLinear(aq, sr, zr)
        r = Neg(ad)  rq = QuantizeLinear(r, s, z)  y = DequantizeLinear(rq, s, z) }}"""
    real = in_real_numbers(*open_to_write(net(text), {}))
    assert real is not None
    assert ("Relu" in [n.op_type for n in real.document.proto.graph.node]) == clamped


def test_scales_are_those_of_the_network() -> None:
    held = [Held(UINT8, np.float32(0.05), 120)]
    style = style_of(held, [("Conv", INT8, np.float32([0.004, 0.0031]))])
    assert style.channel_operators == {"Conv"}
    assert (fitting(-1.0, 3.0, style).dtype, fitting(-1.0, 3.0, style, wide=True).dtype) == (UINT8, UINT16)
    powers = style_of([Held(INT8, np.float32(0.25), 0)], [("Conv", INT8, np.float32(0.125))])
    assert powers.symmetric
    assert np.frexp(float(fitting(-1.0, 3.1, powers).scale))[0] == 0.5
    weight = np.float32([[0.004 * 3, 0.004 * -60, 0.0], [0.0031 * 127, 0.0, 0.0031]])  # the first has no 127 any more
    scales = weight_scales(weight, 0, style)
    assert in_steps(weight, scales, 0, 0, INT8).tolist() == [[3, -60, 0], [127, 0, 1]]


def test_a_network_between_integers_is_judged_within_their_range(net: Callable[[str], str]) -> None:
    text = QDQ.replace("float[1,4,24,24] x", "uint8[1,4,24,24] x").replace("float[1,4,24,24] y", "uint8[1,4,24,24] y")
    text = text.replace("xq = QuantizeLinear(x, s, z)  xd = DequantizeLinear(xq, s, z)", "xd = DequantizeLinear(x, s, z)")
    text = text.replace("dq = QuantizeLinear(d, sm, zm)  y = DequantizeLinear(dq, sm, zm)", "y = QuantizeLinear(d, sm, zm)")
    report = fixed(net(text))
    assert not any(f.rule == "NPU201" for f in report.after.findings)
    assert report.verification.verdict in ("equal", "close")
    assert "range" in report.verification.inputs


def test_verdicts_in_steps() -> None:
    real = [{"y": random.standard_normal(1000)}]
    before = [{"y": np.round(real[0]["y"] / 0.1) * 0.1}]

    def verdict(after: np.ndarray[Any, Any]) -> str:
        return compare_in_steps(["y"], before, [{"y": after}], (real, real), {"y": (0.1, 0)}, 1.0, "").verdict

    assert verdict(before[0]["y"] + 0.1) == "equal"
    assert verdict(before[0]["y"] + 0.2 * (np.arange(1000) % 30 == 0)) == "close"
    assert verdict(before[0]["y"] + 1.0) == "differs"


PADDED = f"""g (float[1,4,6,6] x) => (float[1,4,12,12] y) <{SCALES}, int8[4,4,4,4] w = {numbers(4, 4, 4, 4)},
    float t = {{0.003}}, int8 n = {{0}}> {{
    xq = QuantizeLinear(x, s, z)  xd = DequantizeLinear(xq, s, z)  wd = DequantizeLinear(w, t, n)
    [up] c = ConvTranspose<strides = [2,2], pads = [1,1,1,1]>(xd, wd)
    cq = QuantizeLinear(c, sm, zm)  y = DequantizeLinear(cq, sm, zm) }}"""


def _errors(report: Any) -> list[str]:
    return sorted(f.rule for f in report.findings if f.severity.value == "error")


def test_a_scheme_that_the_device_does_not_take_keeps_no_form_away(net: Callable[[str], str], tmp_path: Path) -> None:
    path = net(PADDED)
    report = fixed(path, "nvidia-dla")
    assert _errors(report.before) == ["NPU205", "NPU805"]
    assert set(_errors(report.after)) == {"NPU805"}, "the new operators are held as the old one"
    x = random.standard_normal((1, 4, 6, 6)).astype(np.float32)
    np.testing.assert_array_equal(run(path, x, tmp_path), run(report.document, x, tmp_path))
    assert _errors(fixed(path, "nvidia-dla", approximate=True).after) == []


def test_no_form_leaves_more_errors_in_a_scheme_that_the_device_does_not_take(net: Callable[[str], str]) -> None:
    text = PADDED.replace("[2,2], pads = [1,1,1,1]", "[3,3]").replace("4,12,12] y", "4,19,19] y").replace("uint8", "uint16")
    text = text.replace(" DequantizeLinear(", " com.microsoft.DequantizeLinear(")
    report = fixed(net(text.replace(" QuantizeLinear(", " com.microsoft.QuantizeLinear(")), "ort-nnapi")
    assert _errors(report.before) == _errors(report.after) == ["NPU101", "NPU805"]
    assert any("4 errors in place of 2" in refused.reason for refused in report.refused), (
        "a convolution and what moves its result"
    )


def test_a_form_that_does_harm_in_integers_keeps_no_other_away(net: Callable[[str], str], tmp_path: Path) -> None:
    """A convolution and what moves its result are in 16 bits, which the device refuses of each; one for one adds none."""
    text = PADDED.replace("[2,2], pads = [1,1,1,1]", "[3,3]").replace(
        "float[1,4,12,12] y", "float[1,4,6,6] u, float[1,4,19,19] y"
    )
    text = text.rstrip(" }") + "\n[other] e = Reciprocal(xd)  eq = QuantizeLinear(e, sm, zm)  u = DequantizeLinear(eq, sm, zm) }"
    text = text.replace("uint8", "uint16").replace(" DequantizeLinear(", " com.microsoft.DequantizeLinear(")
    path = net(text.replace(" QuantizeLinear(", " com.microsoft.QuantizeLinear("))
    report = fixed(path, "ort-nnapi")
    assert _errors(report.before) == ["NPU101", "NPU101", "NPU805", "NPU805"]
    assert _errors(report.after) == ["NPU101", "NPU805", "NPU805"]
    assert [a.substitution for a in report.applied][:1] == ["elementwise-to-arithmetic"]
    (left,) = [r for r in report.refused if "5 errors in place of 4" in r.reason]
    assert (left.substitution, left.node) == ("transposed-conv-to-conv", "up")
    x = random.standard_normal((1, 4, 6, 6)).astype(np.float32)
    np.testing.assert_array_equal(run(path, x, tmp_path), run(report.document, x, tmp_path))


def test_a_form_that_leaves_floating_point_between_integers_is_none(net: Callable[[str], str]) -> None:
    """Of the rules for quantization, those that follow from the scheme alone are set aside."""
    found = check_model(net(MOVED), registry.profile("ethos-u85"), Config()).findings
    assert {f.rule for f in beyond_scheme(found, found)} == {f.rule for f in found} == {"NPU801"}


def test_weights_are_made_symmetric_where_rounding_is_allowed(net: Callable[[str], str]) -> None:
    text = PADDED.replace("uint8 z = {120}", "int8 z = {0}").replace("uint8 zm = {110}", "int8 zm = {0}")
    path = net(text.replace("pads = [1,1,1,1]", "pads = [0,0,0,0]").replace("12,12] y", "14,14] y").replace("n = {0}", "n = {9}"))
    report = fixed(path, "nvidia-dla")
    assert _errors(report.before) == _errors(report.after) == ["NPU803"]
    report = fixed(path, "nvidia-dla", approximate=True)
    assert _errors(report.after) == []
    assert report.verification.verdict in ("equal", "close")


def test_scales_that_belong_to_no_axis_are_refused(net: Callable[[str], str]) -> None:
    """Such a model does not run; its shapes alone do not tell."""
    report = fixed(
        net(f"""g (float[1,16,6,6] x) => (float[1,16,6,6] y) <{SCALES}, int8[4,16,1,1] v = {numbers(4, 16, 1, 1)},
        int8[16,4,1,1] w = {numbers(16, 4, 1, 1)}, float t = {{0.003}}, int8 n = {{0}}> {{
        xq = QuantizeLinear(x, s, z)  xd = DequantizeLinear(xq, s, z)  vd = DequantizeLinear<axis = 17>(v, sw, zw)
        c = Conv(xd, vd)  cq = QuantizeLinear(c, sr, zr)  cd = DequantizeLinear(cq, sr, zr)  wd = DequantizeLinear(w, t, n)
        d = Conv(cd, wd)  dq = QuantizeLinear(d, sm, zm)  y = DequantizeLinear(dq, sm, zm) }}""")
    )
    assert "NPU401" in {f.rule for f in report.before.findings}
    assert (report.before.crashes, report.after.crashes) == ((), ())
