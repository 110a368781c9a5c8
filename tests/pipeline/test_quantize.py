"""`quantize`: what comes out keeps to the device's scheme, and loses what it is said to lose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

from npu_guard import cli
from npu_guard.checking import registry
from npu_guard.verification.scheme import scheme_of

onnxruntime = pytest.importorskip("onnxruntime")

NET = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,16,8,8] x) => (float[1,16] y)
<float[16,16,3,3] a, float[16] b, float[16,16,3,3] c, float[16,16] d, float[16] e, float[1,16,1,1] g>
{
  [first] p = Conv<pads = [1,1,1,1]>(x, a, b)
  [relu] q = Relu(p)
  [second] r = Conv<pads = [1,1,1,1]>(q, c)
  [scale] m = Mul(r, g)
  [add] s = Add(m, x)
  [pool] t = MaxPool<kernel_shape = [2,2], strides = [2,2]>(s)
  [mean] u = ReduceMean<axes = [2,3], keepdims = 0>(t)
  [last] y = Gemm(u, d, e)
}"""


def _net(tmp_path: Path, *, loud: bool = False) -> str:
    """The net with drawn weights. With `loud`, one channel that `second` makes is a thousand times as large, until `scale`."""
    model = onnx.parser.parse_model(NET)
    random = np.random.default_rng(5)
    have = {t.name for t in model.graph.initializer}
    for entry in model.graph.value_info:
        if entry.name not in have and entry.name in "abcdeg":
            values = random.standard_normal([d.dim_value for d in entry.type.tensor_type.shape.dim]).astype(np.float32) / 8
            if loud and entry.name == "c":
                values[0] *= 1000
            if entry.name == "g":
                values = np.where((np.arange(16) == 0) & loud, 1e-3, 1.0).astype(np.float32).reshape(1, 16, 1, 1)
            model.graph.initializer.append(onnx.numpy_helper.from_array(values, entry.name))
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=random.standard_normal((16, 16, 8, 8)).astype(np.float32))
    return str(tmp_path / "net.onnx")


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(["quantize", *arguments])
    return int(end.value.code or 0)


def _quantize(tmp_path: Path, device: str, *more: str, loud: bool = False) -> tuple[int, Path]:
    out = tmp_path / "out.onnx"
    model = _net(tmp_path, loud=loud)
    return _run(model, "--calibration", str(tmp_path / "data.npz"), "--profile", device, "-o", str(out), *more), out


def _outputs(path: Path, tmp_path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    # Beyond the basic ones, its optimisations multiply bytes in 16 bits, which saturate on processors without VNNI.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    data = np.load(tmp_path / "data.npz")["x"]
    return np.concatenate([session.run(None, {"x": sample[None]})[0] for sample in data])


DEVICES = ("qualcomm-htp", "amd-dpu:DPUCZDX8G", "ethos-u85", "ort-nnapi", "nvidia-dla", "aimotive-aiware")


@pytest.mark.parametrize("device", DEVICES)
def test_the_result_keeps_to_the_scheme_of_the_device(device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = _quantize(tmp_path, device, "--format", "json")
    document = json.loads(capsys.readouterr().out)["models"][0]
    assert [f for f in document["findings"] if f["rule"].startswith("NPU8")] == []
    assert code == (1 if any(f["severity"] == "error" for f in document["findings"]) else 0)
    # What is said of the loss is what somebody else measures on the file.
    wanted, given = _outputs(tmp_path / "net.onnx", tmp_path), _outputs(out, tmp_path)
    ratio = 10 * np.log10(np.square(wanted).sum() / np.square(wanted - given).sum())
    assert document["quantization"]["outputs"][0]["snr_db"] == pytest.approx(ratio, abs=0.5)  # its own optimizer is on here
    assert ratio > 15


def test_scales_are_powers_of_two_where_the_device_shifts(tmp_path: Path) -> None:
    _, out = _quantize(tmp_path, "amd-dpu:DPUCZDX8G")
    made = onnx.load(out)
    read = {
        node.input[1] for node in made.graph.node if node.op_type.endswith("QuantizeLinear") or node.op_type == "DequantizeLinear"
    }
    scales = [onnx.numpy_helper.to_array(t) for t in made.graph.initializer if t.name in read]
    assert len(scales) > 8
    assert all((np.frexp(scale)[0] == 0.5).all() for scale in scales)


def test_a_loss_beyond_the_minimum_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = _quantize(tmp_path, "ethos-u85", "--minimum-snr", "90")
    assert code == 5
    assert not out.exists()
    assert "--minimum-snr wants 90" in capsys.readouterr().err


def test_sensitivity_names_what_loses_most(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _quantize(tmp_path, "qualcomm-htp", "--sensitivity", "--minimum-snr", "-50", "--format", "json", loud=True)
    rows = json.loads(capsys.readouterr().out)["models"][0]["quantization"]["sensitivity"]
    assert {row["node"] for row in rows[:2]} == {"second", "scale"}
    assert {"first", "second", "scale", "add", "last"} <= {row["node"] for row in rows}
    assert rows[0]["snr_db"] < next(row["snr_db"] for row in rows if row["node"] == "first") - 10
    assert [row["snr_db"] for row in rows] == sorted(row["snr_db"] for row in rows)


def test_operators_that_are_kept_lose_less(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = {}
    for name, more in {
        "all": (),
        "float": ("--keep", "second", "--keep", "scale"),
        "wide": ("--keep", "second", "--keep", "scale", "--keep-as", "int16"),
    }.items():
        _quantize(tmp_path, "qualcomm-htp", "--minimum-snr", "-50", "--format", "json", *more, loud=True)
        document = json.loads(capsys.readouterr().out)["models"][0]
        found[name] = document["quantization"]
        islands = {f["node"] for f in document["findings"] if f["rule"] in ("NPU801", "NPU802")}
        assert bool(islands) == (name == "float"), islands
    assert found["wide"]["outputs"][0]["snr_db"] > found["all"]["outputs"][0]["snr_db"] + 10
    assert found["float"]["integer_macs"] < found["all"]["integer_macs"]


@pytest.mark.parametrize(
    ("device", "more", "what"),
    [
        ("qualcomm-htp", ("--keep", "secnd"), "no operator 'secnd'; did you mean 'second'?"),
        ("ort-nnapi", ("--keep", "second", "--keep-as", "int16"), "has no activations of 16 bits"),
        ("ort-coreml:MLProgram", (), "reads no quantized network"),
    ],
)
def test_what_the_device_cannot_do_is_one_sentence(
    device: str, more: tuple[str, ...], what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = _quantize(tmp_path, device, *more)
    assert (code, out.exists()) == (2, False)
    assert what in capsys.readouterr().err


def test_a_quantized_network_is_not_quantized_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out = _quantize(tmp_path, "ethos-u85")
    assert _run(str(out), "--calibration", str(tmp_path / "data.npz"), "-o", str(tmp_path / "twice.onnx")) == 2
    assert "is quantized already" in capsys.readouterr().err


def test_schemes_of_devices_differ() -> None:
    schemes = {device: scheme_of(registry.profile(device)) for device in DEVICES}
    assert schemes["amd-dpu:DPUCZDX8G"].power_of_two
    assert not schemes["amd-dpu:DPUCZDX8G"].per_channel
    assert (schemes["ort-nnapi"].activation, schemes["ort-nnapi"].weight) == ("uint8", "int8")
    assert schemes["nvidia-dla"].activation_symmetric
    assert schemes["qualcomm-htp"].channel_operators == ("Conv", "ConvTranspose", "Gemm")


def test_the_scale_of_a_normalization_has_the_type_that_the_device_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(1)
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1,6,16] x) => (float[1,6,16] y) <float[16] s, float[16] b> { [norm] y = LayerNormalization(x, s, b) }"""
    )
    numbers = random.standard_normal((2, 16)).astype(np.float32)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(n, name) for n, name in zip(numbers, "sb", strict=True))
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=random.standard_normal((8, 1, 6, 16)).astype(np.float32))
    given = (str(tmp_path / "net.onnx"), "--calibration", str(tmp_path / "data.npz"), "-o", str(tmp_path / "out.onnx"))
    assert _run(*given, "--profile", "qualcomm-htp", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["models"][0]["findings"] == []
    made = onnx.load(tmp_path / "out.onnx").graph
    scale = next(n for n in made.node if n.op_type == "DequantizeLinear" and n.input[0].startswith("s_"))
    assert next(t for t in made.initializer if t.name == scale.input[0]).data_type == onnx.TensorProto.UINT8


GELUS = {
    "division": "d = Div(t, root) e = Erf(d) a = Add(e, one) m = Mul(t, a) g = Mul(m, half)",
    "product": "d = Mul(t, inverse) e = Erf(d) a = Add(e, one) m = Mul(t, half) g = Mul(m, a)",
    "something else": "d = Div(t, half) e = Erf(d) a = Add(e, one) m = Mul(t, a) g = Mul(m, half)",
}


def _drawn(text: str, tmp_path: Path) -> tuple[str, ...]:
    """Arguments that quantize the net with drawn weights `w` and inputs."""
    model, random = onnx.parser.parse_model(text), np.random.default_rng(3)
    have = {t.name for t in model.graph.initializer}
    for entry in model.graph.value_info:
        if entry.name not in have and entry.name in "wv":
            numbers = random.standard_normal([d.dim_value for d in entry.type.tensor_type.shape.dim]).astype(np.float32)
            model.graph.initializer.append(onnx.numpy_helper.from_array(numbers / 4, entry.name))
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "net.onnx")
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    np.savez(tmp_path / "data.npz", x=random.standard_normal((8, *shape[1:])).astype(np.float32))
    return str(tmp_path / "net.onnx"), "--calibration", str(tmp_path / "data.npz"), "-o", str(tmp_path / "out.onnx")


@pytest.mark.parametrize(("opset", "domain"), [(17, "com.microsoft"), (20, "")])
@pytest.mark.parametrize("spelling", GELUS)
def test_what_the_compiler_takes_as_one_stays_one(
    spelling: str, opset: int, domain: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = _drawn(
        f"""<ir_version: 8, opset_import: ["" : {opset}]> net (float[1,6,16] x) => (float[1,6,16] y)
        <float[16,16] w, float[16,16] v, float root = {{1.41421354}}, float inverse = {{0.70710677}}, float one = {{1}},
         float half = {{0.5}}> {{ t = MatMul(x, w) {GELUS[spelling]} y = MatMul(g, v) }}""",
        tmp_path,
    )
    assert _run(*given, "--profile", "qualcomm-htp", "--format", "json") == 0
    document = json.loads(capsys.readouterr().out)["models"][0]
    made = onnx.load(tmp_path / "out.onnx")
    gelus = [(node.domain, node.output[0]) for node in made.graph.node if node.op_type == "Gelu"]
    if spelling == "something else":  # has no operator of its own: the compiler takes its parts in floating point
        assert gelus == []
        assert {f["severity"] for f in document["findings"]} == {"note"}
    else:
        assert gelus == [(domain, "g")]
        assert document["findings"] == []
        assert document["quantization"]["joined"] == 1
    wanted, result = _outputs(tmp_path / "net.onnx", tmp_path), _outputs(tmp_path / "out.onnx", tmp_path)
    assert 10 * np.log10(np.square(wanted).sum() / np.square(wanted - result).sum()) > 20


def test_a_group_with_an_operator_that_is_kept_is_not_joined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = _drawn(
        f"""<ir_version: 8, opset_import: ["" : 20]> net (float[1,6,16] x) => (float[1,6,16] y)
        <float[16,16] w, float[16,16] v, float root = {{1.41421354}}, float one = {{1}}, float half = {{0.5}}>
        {{ t = MatMul(x, w) {GELUS["division"]} y = MatMul(g, v) }}""",
        tmp_path,
    )
    assert _run(*given, "--profile", "qualcomm-htp", "--keep", "e", "--format", "json") == 0
    document = json.loads(capsys.readouterr().out)["models"][0]
    assert document["quantization"]["joined"] == 0
    assert {f["severity"] for f in document["findings"]} == {"note"}


@pytest.mark.parametrize("device", ["qualcomm-htp", "ethos-u85", "amd-dpu:DPUCZDX8G"])
def test_what_only_moves_an_input_is_quantized_with_it(device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = _drawn(
        """<ir_version: 8, opset_import: ["" : 17]> net (float[1,16,2,8] x) => (float[1,16,16] y)
        <float[16,16] w, int64[3] s = {1, 16, 16}>
        { r = Reshape(x, s) t = Transpose<perm = [0,2,1]>(r) y = MatMul(t, w) }""",
        tmp_path,
    )
    _run(*given, "--profile", device, "--format", "json")
    findings = json.loads(capsys.readouterr().out)["models"][0]["findings"]
    assert [f for f in findings if f["rule"].startswith("NPU8")] == []


@pytest.mark.parametrize("masked", ["Where(m, s, low)", "Add(s, bias)"])
def test_a_mask_of_minus_infinity_gets_no_scale(masked: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = _drawn(
        f"""<ir_version: 8, opset_import: ["" : 17]> net (float[1,4,4] x) => (float[1,4,4] y)
        <float[4,4] w, bool[1,1,4] m = {{1, 1, 1, 0}}, float low, float[1,1,4] bias>
        {{ s = MatMul(x, w)  k = {masked}  p = Softmax<axis = -1>(k)  y = MatMul(p, w) }}""",
        tmp_path,
    )
    model = onnx.load(given[0])
    for name, values in (("low", np.float32(-np.inf)), ("bias", np.float32([[[0, 0, 0, -np.inf]]]))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(values), name))
    onnx.save(model, given[0])
    _run(*given, "--profile", "aimotive-aiware", "--format", "json")
    (told,) = json.loads(capsys.readouterr().out)["models"]
    assert "NPU811" not in {f["rule"] for f in told["findings"]}
    assert all(output["snr_db"] > 20 for output in told["quantization"]["outputs"])


@pytest.mark.parametrize(
    ("kept", "held"), [(("add",), ["add"]), (("second",), []), (("second", "scale"), []), (("scale", "add", "relu"), ["relu"])]
)
def test_what_neighbours_quantize_is_not_said_to_be_in_floating_point(
    kept: tuple[str, ...], held: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pair stands on both sides of an operator without weights whose neighbours are quantized: the file is the same."""
    options = [word for name in kept for word in ("--keep", name)]
    _, out = _quantize(tmp_path, "qualcomm-htp", *options, "--minimum-snr", "0", "--format", "json")
    told = json.loads(capsys.readouterr().out)["models"][0]["quantization"]["held_by_neighbours"]
    assert told == held
    kept_bytes = out.read_bytes()
    _, out = _quantize(tmp_path, "qualcomm-htp", "--minimum-snr", "0")
    capsys.readouterr()
    assert (out.read_bytes() == kept_bytes) == (set(kept) == set(held))


def test_the_text_says_what_keep_does_and_what_comes_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out = _quantize(tmp_path, "qualcomm-htp", "--keep", "add", "--minimum-snr", "0")
    text = capsys.readouterr().out
    assert "--keep changes nothing at add: what is read and given there is quantized for neighbours" in text
    assert "left in floating point" not in text
    assert f"{out}  qualcomm-htp" in text
    assert _quantize(tmp_path, "qualcomm-htp", "--minimum-snr", "99")[0] == 5
    assert "--sensitivity names the operators that lose most" in capsys.readouterr().err
