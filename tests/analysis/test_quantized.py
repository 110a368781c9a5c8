"""All spellings of a quantized network are the same units, and rules judge the operator inside as that of the float twin."""

from __future__ import annotations

import collections
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

from npu_guard import check
from npu_guard.analysis.analyze import analyze
from npu_guard.analysis.quantized.encoding import Encoding
from npu_guard.analysis.quantized.reading import Quantized
from npu_guard.checking import registry
from npu_guard.file import load
from npu_guard.pipeline.check import check_models
from npu_guard.project.config import Config

HEADER = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>\n'
SCALES = "float s = {0.05}, float t = {0.1}, float r = {0.2}, uint8 z = {128}, int8 n = {0}, int8[4,2,1,1] w, int32[4] b"


def _model(text: str) -> onnx.ModelProto:
    model = onnx.parser.parse_model(HEADER + text)
    known = {name for node in model.graph.node for name in node.output} | {t.name for t in model.graph.initializer}
    for entry in model.graph.value_info:
        if entry.name not in known:
            tensor = entry.type.tensor_type
            values = np.ones([d.dim_value for d in tensor.shape.dim], onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
            model.graph.initializer.append(onnx.numpy_helper.from_array(values, entry.name))
    return model


def _read(model: onnx.ModelProto, tmp_path: Path) -> Quantized:
    onnx.save(model, tmp_path / "m.onnx")
    return Quantized(analyze(load.load(str(tmp_path / "m.onnx"))))


def _shown(held: Encoding | None) -> tuple[str, str, str | None] | None:
    if held is None:
        return None
    return onnx.TensorProto.DataType.Name(held.dtype), held.granularity, None if held.scale is None else held.scale.name


SPELLINGS = {
    "qdq": f"""g (uint8[1,2,4,4] x) => (uint8[1,4,4,4] y) <{SCALES}>
    {{ a = DequantizeLinear(x, s, z)  c = DequantizeLinear(w, t, n)  d = Conv(a, c)  y = QuantizeLinear(d, r, z) }}""",
    "qdq behind an activation": f"""g (uint8[1,2,4,4] x) => (uint8[1,4,4,4] y) <{SCALES}>
    {{ a = DequantizeLinear(x, s, z)  c = DequantizeLinear(w, t, n)  d = Conv(a, c)  e = Relu(d)
       y = QuantizeLinear(e, r, z) }}""",
    "qdq in com.microsoft": f"""g (uint8[1,2,4,4] x) => (uint8[1,4,4,4] y) <{SCALES}>
    {{ a = com.microsoft.DequantizeLinear(x, s, z)  c = com.microsoft.DequantizeLinear(w, t, n)  d = Conv(a, c)
       y = com.microsoft.QuantizeLinear(d, r, z) }}""",
    "weights quantized in the graph": """g (uint8[1,2,4,4] x) => (uint8[1,4,4,4] y)
    <float s = {0.05}, float t = {0.1}, float r = {0.2}, uint8 z = {128}, int8 n = {0}, float[4,2,1,1] w>
    { a = DequantizeLinear(x, s, z)  q = QuantizeLinear(w, t, n)  c = DequantizeLinear(q, t, n)  d = Conv(a, c)
      y = QuantizeLinear(d, r, z) }""",
    "QLinearConv": f"""g (uint8[1,2,4,4] x) => (uint8[1,4,4,4] y) <{SCALES}> {{ y = QLinearConv(x, s, z, w, t, n, r, z) }}""",
    "in front of a Reshape": f"""g (uint8[1,2,4,4] x) => (uint8[1,4,16] y) <{SCALES}, int64[3] f = {{1, 4, 16}}>
    {{ a = QLinearConv(x, s, z, w, t, n, r, z)  y = Reshape(a, f) }}""",
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_spellings_of_a_convolution_are_one_unit(name: str, tmp_path: Path) -> None:
    quantized = _read(_model(SPELLINGS[name]), tmp_path)
    unit = next(u for n, u in quantized.units.items() if n.kind == "convolution")
    assert [_shown(o.encoding) for o in unit.operands] == [("UINT8", "tensor", "s"), ("INT8", "tensor", "t")]
    assert _shown(unit.output) == ("UINT8", "tensor", "r")
    assert unit.is_whole
    assert {n.op_type for n in quantized.members} <= {"QuantizeLinear", "DequantizeLinear"}


def test_sums_that_are_scaled_at_run_time_belong_to_the_convolution(tmp_path: Path) -> None:
    quantized = _read(
        _model(f"""g (float[1,2,4,4] x) => (float[1,4,4,4] y) <{SCALES}>
        {{ q, a, o = DynamicQuantizeLinear(x)  i = ConvInteger(q, w, o, n)  f = Cast<to = 1>(i)  u = Mul(a, t)
           y = Mul(f, u) }}"""),
        tmp_path,
    )
    (unit,) = quantized.units.values()
    assert unit.form == "dynamic"
    assert quantized.scaled_output(unit.node).name == "y"
    assert sorted(n.op_type for n in quantized.members) == ["Cast", "DynamicQuantizeLinear", "Mul", "Mul"]


@pytest.mark.parametrize(("op", "shape"), [("ConvInteger", "1,2,4,4"), ("MatMulInteger", "4,4")])
def test_sums_of_integers_with_given_scales_are_no_qoperator(op: str, shape: str, tmp_path: Path) -> None:
    """Behind a QuantizeLinear as before a Mul: QLinearConv has the scale of its result, and these have none."""
    weight = "int8[4,2,1,1]" if op == "ConvInteger" else "int8[4,4]"
    scales = f"float s = {{0.05}}, uint8 z = {{128}}, {weight} w, int8 n = {{0}}, float t = {{0.1}}"
    quantized = _read(
        _model(f"""g (float[{shape}] x) => (float[] y) <{scales}>
        {{ q = QuantizeLinear(x, s, z)  i = {op}(q, w, z, n)  f = Cast<to = 1>(i)  y = Mul(f, t) }}"""),
        tmp_path,
    )
    (unit,) = quantized.units.values()
    assert (unit.node.op_type, unit.form) == (op, "integer")
    assert next(_shown(o.encoding) for o in unit.operands)[0] == "UINT8"


def test_weights_of_few_bits_are_held_in_blocks(tmp_path: Path) -> None:
    model = _model("""g (float[1,16,32] x) => (float[1,16,8] y) <uint8[8,2,8] w, float[16] c>
    { y = com.microsoft.MatMulNBits<K = 32, N = 8, bits = 4, block_size = 16>(x, w, c) }""")
    (unit,) = _read(model, tmp_path).units.values()
    data, weight = unit.operands
    assert data.encoding is None
    assert _shown(weight.encoding) == ("UINT4", "block", "c")
    assert unit.form == "weights"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("{ i = Cast<to = 2>(x)  y = DequantizeLinear(i, s, z) }", "DequantizeLinear"),
        ("{ i = QuantizeLinear(x, s, z)  y = Cast<to = 1>(i) }", "QuantizeLinear"),
        ("{ i, a, o = DynamicQuantizeLinear(x)  y = DequantizeLinear(i, a, o) }", "DynamicQuantizeLinear"),
    ],
)
def test_what_belongs_to_no_unit_is_an_operator(text: str, left: str, tmp_path: Path) -> None:
    quantized = _read(_model(f"g (float[1,2,4,4] x) => (float[1,2,4,4] y) <{SCALES}> {text}"), tmp_path)
    assert left in {n.op_type for n in quantized.units}


def test_a_model_in_floating_point_has_no_units(tmp_path: Path) -> None:
    quantized = _read(_model("g (float[1,2,4,4] x) => (float[1,2,4,4] y) { y = Relu(x) }"), tmp_path)
    assert not quantized
    assert not quantized.members


def _wide(channels: int, tmp_path: Path) -> str:
    scale = np.full(channels, 0.1, np.float32)
    scale[-1] = 0.0
    model = _model(f"""g (uint8[1,1,4,4] x) => (uint8[1,{channels},4,4] y)
    <float s = {{0.05}}, uint8 z = {{128}}, int8[{channels},1,1,1] w, int8[{channels}] n>
    {{ a = DequantizeLinear(x, s, z)  c = DequantizeLinear<axis = 0>(w, t, n)  d = Conv(a, c)  y = QuantizeLinear(d, s, z) }}""")
    model.graph.initializer.append(onnx.numpy_helper.from_array(scale, "t"))
    onnx.save(model, tmp_path / "wide.onnx")
    return str(tmp_path / "wide.onnx")


@pytest.mark.parametrize(("channels", "outcome"), [(8, "fail"), (1100, "fail"), (4096, "fail"), (5000, "undecided")])
def test_scales_are_read_up_to_a_bound(channels: int, outcome: str, tmp_path: Path) -> None:
    findings = [f for f in check(_wide(channels, tmp_path), profile="axera:AX650").findings if f.rule == "NPU811"]
    assert [(f.outcome.value, f.location.op_type) for f in findings] == [(outcome, "Conv")]


def test_scales_are_a_part_of_the_key(tmp_path: Path) -> None:
    path = _wide(1100, tmp_path)
    before = load.read_content(path).key
    model = onnx.load(path)
    scale = next(t for t in model.graph.initializer if t.name == "t")
    scale.CopyFrom(onnx.numpy_helper.from_array(np.full(1100, 0.1, np.float32), "t"))
    onnx.save(model, path)
    assert load.read_content(path).key != before


# What is judged is the operator inside.

NETS = {
    "convolutions": """g (float[1,3,20,20] x) => (float[1,6,10,10] y)
    <float[8,3,19,1] a, float[8] b, float[12,8,3,3] c, float[6,12,1,1] d>
    { p = Conv<pads = [9,0,9,0]>(x, a, b)  q = Relu(p)  r = Conv<pads = [1,1,1,1], strides = [2,2]>(q, c)  s = Sigmoid(r)
      t = Mul(r, s)  y = Conv(t, d) }""",
    "residual": """g (float[1,8,8,8] x) => (float[1,5] y)
    <float[8,8,3,3] a, float[8,8,3,3] b, float[8,5] c, float[5] d, int64[2] f = {1, 8}>
    { p = Conv<pads = [1,1,1,1]>(x, a)  q = Relu(p)  r = Conv<pads = [1,1,1,1]>(q, b)  s = Add(r, x)  t = Relu(s)
      u = GlobalAveragePool(t)  v = Reshape(u, f)  y = Gemm(v, c, d) }""",
    "attention": """g (float[1,8,4,4] x) => (float[1,8,4,4] y)
    <float[8,8,1,1] a, int64[3] f = {1, 8, 16}, int64[4] m = {1, 8, 4, 4}>
    { p = Conv(x, a)  q = Reshape(p, f)  k = Transpose<perm = [0,2,1]>(q)  s = MatMul(k, q)  u = Softmax<axis = -1>(s)
      v = MatMul(q, u)  w = Reshape(v, m)  y = Add(w, x) }""",
    "pyramid": """g (float[1,8,8,8] x) => (float[1,16,8,8] y) <float[] n, float[4] u = {1, 1, 2, 2}, float[8,8,3,3] a>
    { p = MaxPool<kernel_shape = [2,2], strides = [2,2]>(x)  q = Conv<pads = [1,1,1,1]>(p, a)
      r = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">(q, , u)
      y = Concat<axis = 1>(x, r) }""",
}
WAYS: dict[str, dict[str, Any]] = {
    "QDQ": {"quant_format": "QDQ"},
    "QDQ per channel": {"quant_format": "QDQ", "per_channel": True, "activation_type": "QInt8", "weight_type": "QInt8"},
    "QDQ in 16 bits": {"quant_format": "QDQ", "activation_type": "QUInt16", "extra_options": {"UseQDQContribOps": True}},
    "QOperator": {"quant_format": "QOperator"},
    "QOperator per channel": {"quant_format": "QOperator", "per_channel": True, "weight_type": "QInt8"},
}
DEVICES = (
    "aimotive-aiware",
    "qualcomm-htp",
    "ort-nnapi",
    "ethos-u85",
    "rockchip-rk3588",
    "ti-tidl:AM68A",
    "nvidia-dla",
    "kneron:KL730",
)


def _quantized(model: onnx.ModelProto, way: dict[str, Any], tmp_path: Path) -> str:
    quantization = pytest.importorskip("onnxruntime.quantization")

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            random = np.random.default_rng(0)
            shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
            self.feeds = iter([{"x": random.standard_normal(shape).astype(np.float32)} for _ in range(2)])

        def get_next(self) -> Any:
            return next(self.feeds, None)

    options = dict(way)
    options["quant_format"] = getattr(quantization.QuantFormat, options["quant_format"])
    for name in ("activation_type", "weight_type"):
        if name in options:
            options[name] = getattr(quantization.QuantType, options[name])
    onnx.save(model, tmp_path / "float.onnx")
    quantization.quantize_static(str(tmp_path / "float.onnx"), str(tmp_path / "int.onnx"), Reader(), **options)
    return str(tmp_path / "int.onnx")


def _findings(path: str, device: str) -> collections.Counter[tuple[str, ...]]:
    found: collections.Counter[tuple[str, ...]] = collections.Counter()
    for f in check(path, profile=device).findings:
        operator = f.location.op_type.removeprefix("com.microsoft::").removeprefix("QLinear")
        operator = {"QGemm": "Gemm", "MatMulNBits": "MatMul"}.get(operator, operator)
        measured = str(f.evidence.measured) if f.evidence else ""
        if not f.rule.startswith("NPU8"):
            found[f.rule, f.severity.value, f.outcome.value, operator, measured] += 1
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("net", NETS)
def test_a_quantized_network_has_the_findings_of_its_float_twin(net: str, way: str, tmp_path: Path) -> None:
    model = _model(NETS[net])
    random = np.random.default_rng(1)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1:
            values = random.standard_normal(tensor.dims).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    if "16" in way:
        model.opset_import[0].version = 21  # the first with such types
    path = _quantized(model, WAYS[way], tmp_path)
    for device in DEVICES:
        before, after = _findings(str(tmp_path / "float.onnx"), device), _findings(path, device)
        assert (device, after) == (device, before)


def test_reports_say_how_tensors_are_held_and_how_much_is_in_integers(tmp_path: Path) -> None:
    text = f"""g (float[1,2,4,4] x) => (float[1,4,4,4] y) <{SCALES}>
    {{ q = QuantizeLinear(x, s, z)  a = DequantizeLinear(q, s, z)  c = DequantizeLinear(w, t, n)  d = Conv(a, c)
       e = QuantizeLinear(d, r, z)  f = DequantizeLinear(e, r, z)  y = Erf(f) }}"""
    onnx.save(_model(text), tmp_path / "m.onnx")
    report = json.loads(registry.renderer("json")(check_models([str(tmp_path / "m.onnx")], Config(profile="ort-nnapi"))))
    (model,) = report["models"]
    assert model["summary"]["integer_macs_percent"] == 100.0
    assert {f["node"]: f["tensor"].get("encoding") for f in model["findings"]} == {"y": None}
    loose = _read(_model(text.replace("DequantizeLinear(w, t, n)", "Cast<to = 1>(w)")), tmp_path)
    assert (loose.integer_macs(), [u.is_whole for n, u in loose.units.items() if n.op_type == "Conv"]) == (0, [True])
    quantized = _read(_model(text), tmp_path)
    values = quantized.analysis.model.graph.values
    assert quantized.words(values["a"]) == "as uint8, scale 0.05, zero point 128"
    assert quantized.words(values["d"]) == "as uint8, scale 0.2, zero point 128"
    assert quantized.words(values["c"]) == "as int8, scale 0.1, zero point 0"
    assert quantized.words(values["y"]) == ""


# The same operator in another spelling, with the plain one beside it.

_HELD = "float s = {0.05}, uint8 z = {128}"
OTHER_WORDS = {
    "packed weights": (
        "(float[1,64] x) => (float[1,20] y) <float[64,20] w> { y = MatMul(x, w) }",
        """(float[1,64] x) => (float[1,20] y) <uint8[20,2,16] w, float[40] c>
        { y = com.microsoft.MatMulNBits<K = 64, N = 20, bits = 4, block_size = 32>(x, w, c) }""",
    ),
    "packed weights of several vectors": (
        "(float[6,64] x) => (float[6,20] y) <float[64,20] w> { y = MatMul(x, w) }",
        """(float[6,64] x) => (float[6,20] y) <uint8[20,2,32] w, float[40] c>
        { y = com.microsoft.MatMulNBits<K = 64, N = 20, bits = 8, block_size = 32>(x, w, c) }""",
    ),
    "a pool over the whole map": (
        "(float[1,8,7,7] x) => (float[1,8,1,1] y) { y = AveragePool<kernel_shape = [7,7]>(x) }",
        f"""(float[1,8,7,7] x) => (float[1,8,1,1] y) <{_HELD}> {{ q = QuantizeLinear(x, s, z)
        a = com.microsoft.QLinearAveragePool<kernel_shape = [7,7]>(q, s, z, s, z)  y = DequantizeLinear(a, s, z) }}""",
    ),
    "a pool that counts no padding, as it does by default": (
        "(float[1,8,7,7] x) => (float[1,8,7,7] y) { y = AveragePool<kernel_shape = [3,3], pads = [1,1,1,1]>(x) }",
        f"""(float[1,8,7,7] x) => (float[1,8,7,7] y) <{_HELD}> {{ q = QuantizeLinear(x, s, z)
        a = com.microsoft.QLinearAveragePool<kernel_shape = [3,3], pads = [1,1,1,1]>(q, s, z, s, z)
        y = DequantizeLinear(a, s, z) }}""",
    ),
    "an Expand that broadcasting does anyway": (
        """(float[1,8,1,1] x, float[1,8,4,4] m) => (float[1,8,4,4] y) <int64[4] e = {1, 8, 4, 4}>
        { w = Expand(x, e)  y = Mul(w, m) }""",
        f"""(float[1,8,1,1] x, float[1,8,4,4] m) => (float[1,8,4,4] y) <int64[4] e = {{1, 8, 4, 4}}, {_HELD}>
        {{ p = QuantizeLinear(x, s, z)  a = DequantizeLinear(p, s, z)  w = Expand(a, e)  q = QuantizeLinear(w, s, z)
           b = DequantizeLinear(q, s, z)  n = QuantizeLinear(m, s, z)  o = DequantizeLinear(n, s, z)  c = Mul(b, o)
           r = QuantizeLinear(c, s, z)  y = DequantizeLinear(r, s, z) }}""",
    ),
    "an Expand that has to be": (
        """(float[1,8,1,1] x, float[1,8,4,4] m) => (float[1,8,8,4] y) <int64[4] e = {1, 8, 4, 4}>
        { w = Expand(x, e)  y = Concat<axis = 2>(w, m) }""",
        f"""(float[1,8,1,1] x, float[1,8,4,4] m) => (float[1,8,8,4] y) <int64[4] e = {{1, 8, 4, 4}}, {_HELD}>
        {{ p = QuantizeLinear(x, s, z)  a = DequantizeLinear(p, s, z)  w = Expand(a, e)  q = QuantizeLinear(w, s, z)
           b = DequantizeLinear(q, s, z)  n = QuantizeLinear(m, s, z)  o = DequantizeLinear(n, s, z)  c = Concat<axis = 2>(b, o)
           r = QuantizeLinear(c, s, z)  y = DequantizeLinear(r, s, z) }}""",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER_WORDS)
def test_an_operator_in_other_words_has_the_findings_of_the_plain_one(name: str, tmp_path: Path) -> None:
    found = []
    for text in OTHER_WORDS[name]:
        onnx.save(_model(f"g {text}"), tmp_path / "m.onnx")
        found.append({d: _findings(str(tmp_path / "m.onnx"), d) for d in (*DEVICES, "axera:AX650", "ort-coreml:MLProgram")})
    assert found[0] == found[1]
    assert any(found[0].values()) == ("anyway" not in name)


def test_integers_that_come_in_are_held_as_the_operator_behind_movers_says(tmp_path: Path) -> None:
    text = """g (uint8[1,64,1,1] x) => (uint8[1,64] y) <float s = {0.05}, uint8 z = {128}>
    { v = Flatten(x)  y = com.microsoft.QLinearSoftmax<axis = -1, opset = 17>(v, s, z, s, z) }"""
    quantized = _read(_model(text), tmp_path)
    assert quantized.words(quantized.analysis.model.graph.values["x"]) == "as uint8, scale 0.05, zero point 128"
    rules = {f.rule for f in check(str(tmp_path / "m.onnx"), profile="nvidia-dla").findings}
    assert "NPU805" in rules
    assert "NPU404" not in rules
    onnx.save(_model(text.replace("v = Flatten(x)", "n = Add(x, x)  v = Flatten(n)")), tmp_path / "m.onnx")
    rules = {f.rule for f in check(str(tmp_path / "m.onnx"), profile="nvidia-dla").findings}
    assert "NPU404" in rules, "a sum of integers is no mover"


@pytest.mark.parametrize(("zero", "shown"), [(float("inf"), "inf"), (float("nan"), "nan"), (0.5, "0.5"), (0.0, "0")])
def test_zero_points_that_are_no_whole_numbers(tmp_path: Path, zero: float, shown: str) -> None:
    """A file may say anything, and rules compare it as what it is."""
    made = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]> g (float[2,8] x) => (float[2,8] y) <float s = {0.3}>
        { q = com.microsoft.QuantizeLinear(x, s, z)  a = com.microsoft.DequantizeLinear(q, s, z)
          b = Relu(a)  r = com.microsoft.QuantizeLinear(b, s, z)
          y = com.microsoft.DequantizeLinear(r, s, z) }"""
    )
    made.graph.initializer.append(onnx.helper.make_tensor("z", onnx.TensorProto.FLOAT, [], [zero]))
    path = tmp_path / "m.onnx"
    onnx.save(made, path)
    report = check_models([str(path)], Config(profile="amd-dpu:DPUCZDX8G"))
    (model,) = report.models
    assert not model.crashes
    assert "NPU808" in {f.rule for f in model.findings}
    quantized = Quantized(analyze(load.load(path)))
    (value,) = [o.value for unit in quantized.units.values() for o in unit.data]
    assert quantized.words(value).endswith(f"zero point {shown}")


@pytest.mark.parametrize("extents", ["1,4,1,1", "1,4,1,8"])
def test_a_widened_tensor_before_a_product_in_integers(tmp_path: Path, extents: str) -> None:
    """QLinearMul broadcasts as Mul does, so the Expand in front of it is noise of an exporter; for another reader it is not."""
    text = f"""g (uint8[1,4,8,8] x, uint8[{extents}] v) => (uint8[1,4,8,8] y)
    <int64[4] shape = {{1,4,8,8}}, float s = {{0.1}}, float t = {{0.2}}, uint8 z = {{128}}>
    {{ w = Expand(v, shape)  y = com.microsoft.QLinearMul(x, s, z, w, t, z, s, z) }}"""
    onnx.save(_model(text), tmp_path / "m.onnx")
    assert "Expand" not in {f.location.op_type for f in check(str(tmp_path / "m.onnx"), profile="ethos-u85").findings}
    onnx.save(_model(text.replace("=> (uint8[1,4,8,8] y)", "=> (uint8[1,4,8,8] y, uint8[1,4,8,8] w)")), tmp_path / "m.onnx")
    assert "Expand" in {f.location.op_type for f in check(str(tmp_path / "m.onnx"), profile="ethos-u85").findings}
    other = "w = Expand(v, shape)  y = com.microsoft.QLinearSigmoid(w, t, z, s, z)"
    product = "w = Expand(v, shape)  y = com.microsoft.QLinearMul(x, s, z, w, t, z, s, z)"
    lonely = text.replace("uint8[1,4,8,8] x, ", "").replace(product, other)
    onnx.save(_model(lonely), tmp_path / "m.onnx")
    assert "Expand" in {f.location.op_type for f in check(str(tmp_path / "m.onnx"), profile="ethos-u85").findings}


@pytest.mark.parametrize("domain", ["", "com.microsoft."])
def test_a_constant_behind_a_pair_of_either_domain(tmp_path: Path, domain: str) -> None:
    """What Pad fills with is known, as in floating point: 0 is a number that every device pads with."""
    text = """g (float[1,4,8,8] x) => (float[1,4,10,10] y)
    <float s = {0.1}, uint8 z = {7}, uint8 v = {7}, int64[8] p = {0,0,1,1,0,0,1,1}>
    { q = DequantizeLinear(v, s, z)  y = Pad(x, p, q) }""".replace(" DequantizeLinear", f" {domain}DequantizeLinear")
    onnx.save(_model(text), tmp_path / "m.onnx")
    analysis = analyze(load.load(str(tmp_path / "m.onnx")))
    (pad,) = (node for node in analysis.nodes() if node.op_type == "Pad")
    assert analysis.constants.get(pad.inputs[2]) == 0.0
