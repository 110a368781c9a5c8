"""The drivers without their compilers: one child for each question, layers of a log, and ONNX operators as TFLite."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx.parser
import pytest

from npu_guard.compilers.builtin import DRIVERS

sys.path.insert(0, str(DRIVERS))
import driver
import rknn_driver
import tflite_op
import tflite_ops
import vela_driver

sys.path.remove(str(DRIVERS))
SCRIPT = f"""
import os, signal, sys, time
sys.path.insert(0, {str(DRIVERS)!r})
import driver
def hang(path):
    with open(path + ".pid", "w") as file:
        file.write(str(os.getpid()))
    time.sleep(600)
def judge(path, options, folder):
    if "hang" in path:
        driver.apart(lambda: hang(path), folder, 600)
    if "die" in path:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "exit" in path:
        sys.exit("enough")
    return driver.answer("accepted", options["key"])
driver.main(judge, ())
"""


def test_one_answer_for_each_model_whatever_becomes_of_the_others(tmp_path: Path, gone: Callable[[int], bool]) -> None:
    names = [str(tmp_path / name) for name in ("die", "exit", "hang", "good")]
    command = [sys.executable, "-c", SCRIPT, "--out", str(tmp_path / "out"), "--option", "key=a=b"]
    for seconds in ("1", "10", "100"):  # on a busy machine those that end need longer for that
        subprocess.run([*command, "--seconds", seconds, *names], check=True, timeout=1200)
        answers = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
        if answers[-1]["status"] == "accepted" and (tmp_path / "hang.pid").exists():
            break
    assert [a["model"] for a in answers] == names
    assert [(a["status"], a["message"]) for a in answers] == [
        ("failed", "died of signal 11"),
        ("failed", "raised SystemExit: enough"),
        ("failed", f"did not end within {seconds} s"),
        ("accepted", "a=b"),
    ]
    assert gone(int((tmp_path / "hang.pid").read_text()))  # a child of the child that was killed


def test_layers_by_name_and_reshapes_at_the_border() -> None:
    nodes = [SimpleNamespace(op_type=op, output=[out]) for op, out in (("Conv", "a"), ("Relu", "b"), ("Sin", "c"), ("Add", "d"))]
    table = "Reshape CPU x_rs, Conv NPU op0z_2, Conv NPU op0z_3, Sin CPU op2z, Pad CPU inner, Add NPU op3z, Reshape CPU y-rs"
    layers = [tuple(entry.split()) for entry in table.split(", ")]
    verdicts, others = rknn_driver._verdicts(nodes, rknn_driver._without_border(layers))
    assert [v["word"] for v in verdicts] == ["decomposed", "merged", "host", "npu"]
    assert others == ["Pad (inner)"]
    assert rknn_driver._without_border([("Reshape", "CPU", "Reshape:op0z")])  # the operator itself stays


def test_a_reshape_of_the_model_does_not_bring_those_at_the_border_back() -> None:
    nodes = [SimpleNamespace(op_type=op, output=[out]) for op, out in (("Reshape", "a"), ("Concat", "b"))]
    table = "Reshape CPU x_rs, Reshape NPU op0z, Concat NPU op1z, Reshape CPU val1z-rs"
    layers = [tuple(entry.split()) for entry in table.split(", ")]
    verdicts, others = rknn_driver._verdicts(nodes, rknn_driver._without_border(layers))
    assert ([v["word"] for v in verdicts], others) == (["npu", "npu"], [])


def test_what_is_inserted_counts_for_the_tensor_that_it_is_named_after() -> None:
    nodes = [SimpleNamespace(op_type=op, output=[out]) for op, out in (("Conv", "a"), ("Relu", "b"))]
    layers = [("Conv", "NPU", "Conv:op0z"), ("Reshape", "CPU", "Reshape:val0z_rs"), ("Relu", "NPU", "Relu:op1z")]
    verdicts, others = rknn_driver._verdicts(nodes, rknn_driver._without_border(layers))
    assert ([v["word"] for v in verdicts], others) == (["host", "npu"], [])


def test_tensors_are_named_after_their_nodes(tmp_path: Path) -> None:
    text = "g (float[4] x) => (float[2] b, float[4] c) { a, b = Split(x) c = Relu(x) d = Add(a, b) }"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    kept, copy = driver.renamed(str(path), str(tmp_path), tensors=True)
    assert [list(n.output) for n in kept.graph.node] == [["a", "b"], ["c"], ["d"]]
    sent = onnx.load(copy).graph
    assert [(list(n.input), list(n.output)) for n in sent.node] == [
        (["x"], ["val0z", "val0z_1"]), (["x"], ["val1z"]), (["val0z", "val0z_1"], ["val2z"]),
    ]  # fmt: skip
    assert [o.name for o in sent.output] == ["val0z_1", "val1z"]
    assert driver.makers("Reshape:val0z_1_rs") == [0]


@pytest.mark.parametrize("calibration", ["", "drawn", "/data/list.txt"])
def test_the_toolkit_quantizes_where_there_is_calibration_data(
    calibration: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: dict[str, Any] = {}

    class Toolkit:
        def __init__(self, **_: Any) -> None: ...

        def config(self, **options: Any) -> None:
            built.update(options)

        def load_onnx(self, model: str) -> int:
            return 0

        def build(self, **options: Any) -> int:
            built.update(options)
            return 0

        def release(self) -> None: ...

    monkeypatch.setitem(sys.modules, "rknn.api", SimpleNamespace(RKNN=Toolkit))
    text = "g (float[1,2,3] x, int64[2] i, float[4] w) => (float[1,2,3] y) <float[4] w = {0.0, 0.0, 0.0, 0.0}> { y = Relu(x) }"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    found = rknn_driver._build(model, "m.onnx", {"calibration": calibration}, str(tmp_path))
    assert found == {"error": ""}
    assert built["do_quantization"] is bool(calibration)
    if calibration == "drawn":
        files = Path(built["dataset"]).read_text().split()
        assert [np.load(file).shape for file in files] == [(1, 2, 3), (2,)]
    else:
        assert built["dataset"] == (calibration or None)


def test_calibration_data_is_not_drawn_for_an_open_shape(tmp_path: Path) -> None:
    model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 17]> g (float[N,2] x) => (float[N,2] y) { y = Relu(x) }')
    with pytest.raises(ValueError, match="input 'x' has an open one"):
        rknn_driver._drawn(model, str(tmp_path))


def test_shape_arithmetic_is_folded_before_vela_is_asked() -> None:
    text = """g (float[1,8,4,6] x) => (float[1,8,24] y, float[1,8,4,6] r) <int64[1] z = {0}, int64[2] t = {8, -1}> {
        s = Shape(x) b = Gather(s, z) c = Concat<axis = 0>(b, t) y = Reshape(x, c) r = Relu(x) }"""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    assert vela_driver._fold(model, onnx) == {"s", "b", "c"}
    _, _, constants = vela_driver._known(model, onnx)
    assert constants["s"].tolist() == [1, 8, 4, 6]
    assert constants["c"].tolist() == [1, 8, -1]
    known = {v.name: v for v in onnx.shape_inference.infer_shapes(model, data_prop=True).graph.value_info}
    assert [d.dim_value for d in known["c"].type.tensor_type.shape.dim] == [3]


def test_weights_are_not_folded() -> None:
    text = "g (float[2] x) => (float[2] y) <float[2] w = {1.0, 2.0}> { v = Relu(w) y = Add(x, v) }"
    model = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}'))
    assert vela_driver._fold(model, onnx) == set()


def mapped(text: str) -> Any:
    """The file that one operator becomes; weights are declared with values."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    shapes, dtypes, constants = vela_driver._known(model, onnx)
    node = model.graph.node[0]
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    words = {name: value.decode() if isinstance(value, bytes) else value for name, value in attributes.items()}
    op = tflite_op.Op(node, shapes, dtypes, constants, words)
    tflite_ops.MAPPED[node.op_type](op)
    return op.file


def pooled(attributes: str, op: str = "AveragePool") -> list[tuple[str, int | None]]:
    file = mapped(f"g (float[1,4,9,9] x) => (float[] y) {{ y = {op}<kernel_shape = [3,3], {attributes}>(x) }}")
    return [(code, fields.get("Padding")) for code, _, _, _, fields in file.operators]


def test_padding_in_the_words_of_tflite() -> None:
    """SAME of a 3x3 window is one pixel at each side: at stride 1, and over 9 pixels at stride 2 too."""
    same, valid = 0, 1
    assert pooled("pads = [0,0,0,0]") == [("AVERAGE_POOL_2D", valid)]
    assert pooled("pads = [1,1,1,1]") == [("AVERAGE_POOL_2D", same)]
    assert pooled("pads = [1,1,1,1], strides = [2,2]") == [("AVERAGE_POOL_2D", same)]
    assert pooled("pads = [1,1,1,1], count_include_pad = 1") == [("PAD", None), ("AVERAGE_POOL_2D", valid)]
    assert pooled('auto_pad = "SAME_UPPER"', "MaxPool") == [("MAX_POOL_2D", same)]
    unmapped = ("pads = [2,2,2,2]", "AveragePool"), ("pads = [2,0,2,0]", "MaxPool"), ("ceil_mode = 1", "MaxPool")
    for attributes, op in unmapped:
        with pytest.raises(tflite_op.NotMapped):
            pooled(attributes, op)


def test_channels_come_last() -> None:
    file = mapped("g (float[1,4,5,6] x) => (float[] y) { y = ReduceMean<axes = [1,3], keepdims = 1>(x) }")
    (code, inputs, outputs, _, _) = file.operators[0]
    shapes = [file.tensors[i][1] for i in (inputs[0], outputs[0])]
    assert (code, shapes) == ("MEAN", [[1, 5, 6, 4], [1, 5, 1, 1]])
    assert file.tensors[inputs[1]][3].tolist() == [2, 3]  # W, then C


def shapes_of(text: str) -> list[tuple[str, list[list[int]]]]:
    """Each operator with the shapes of what goes in."""
    file = mapped(text)
    return [(code, [file.tensors[i][1] for i in inputs]) for code, inputs, _, _, _ in file.operators]


def test_axes_that_onnx_puts_in_front_are_written_before_channels_come_last() -> None:
    text = "g (float[1,8,5,4] x, float[4] z) => (float[] y) { y = Add(x, z) }"
    assert shapes_of(text) == [("ADD", [[1, 5, 4, 8], [1, 1, 4, 1]])]
    text = "g (float[1,8,5,4] x) => (float[] y) <float s = {2}> { y = Mul(s, x) }"
    assert shapes_of(text) == [("MUL", [[1], [1, 5, 4, 8]])]


def test_softmax_of_scores_stays_in_their_order() -> None:
    text = "g (float[1,3,5,7] x) => (float[] y) {{ y = Softmax<axis = {}>(x) }}"
    assert shapes_of(text.format(3)) == [("SOFTMAX", [[1, 3, 5, 7]])]
    assert shapes_of(text.format(1)) == [("SOFTMAX", [[1, 5, 7, 3]])]
    with pytest.raises(tflite_op.NotMapped):
        mapped(text.format(2))


def test_zeros_around_a_maximum_of_what_is_positive() -> None:
    """No form has them around what may be negative: a zero would be the maximum."""
    text = """g (float[1,4,8,8] x) => (float[] y, float[] z) {
        r = Relu(x) y = MaxPool<kernel_shape = [3,3], pads = [1,1,1,1], strides = [2,2]>(r) z = Tanh(x) }"""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    model = onnx.shape_inference.infer_shapes(model)
    assert vela_driver._positive(model.graph) == {"r", "y"}
    words = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}
    known = vela_driver._known(model, onnx)
    op = tflite_op.Op(model.graph.node[1], *known, words, {"r"})
    tflite_ops.MAPPED["MaxPool"](op)
    assert [code for code, *_ in op.file.operators] == ["PAD", "MAX_POOL_2D"]
    with pytest.raises(tflite_op.NotMapped):
        tflite_ops.MAPPED["MaxPool"](tflite_op.Op(model.graph.node[1], *known, words))


def test_norms_are_a_factor_and_a_summand_of_each_channel() -> None:
    held = ", ".join(f"float[4] {name} = {{1, 1, 1, 1}}" for name in "sbmv")
    text = f"g (float[1,4,5,6] x) => (float[] y) <{held}> {{ y = BatchNormalization(x, s, b, m, v) }}"
    assert shapes_of(text) == [("MUL", [[1, 5, 6, 4], [1, 1, 1, 4]]), ("ADD", [[1, 5, 6, 4], [1, 1, 1, 4]])]


def test_pads_that_follow_from_shapes_are_folded_in_rounds() -> None:
    """A shape behind a Pad is known once its sizes are."""
    text = """g (float[1,2,4,6] x) => (float[] y) <int64[8] p = {0,0,0,0,0,0,1,1}, int64[2] t = {1, -1}> {
        two = Constant<value_ints = [4, 2]>() q = Reshape(p, two) m = Transpose(q) n = Transpose(m)
        one = Constant<value_ints = [-1]>() f = Reshape(n, one) a = Pad(x, f) s = Shape(a) r = Relu(a) y = Reshape(r, s) }"""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    first = vela_driver._fold(model, onnx)
    assert {"q", "m", "n", "f"} <= first
    assert "s" not in first
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    assert vela_driver._fold(model, onnx, first) == {"s"}
