"""Models are changed where onnxruntime's quantizer needs it, and compute what they did."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from npu_guard.verification.quantizable import doubles, opset_of, quantizable

SHARED = """<ir_version: 8, opset_import: ["" : 13]>
g (float[1,2,4,4] x) => (float[1,2,4,4] y) {
  weight2 = Relu(x)  bias2 = Conv(weight2, weight, bias)  y = Conv(bias2, weight, bias) }"""
"""The quantizer's own copy of the shared bias would be `bias2`, which is a tensor of the model."""
COMPANIONS = """<ir_version: 8, opset_import: ["" : 13]>
g (float[1,2,4,4] x, bool c) => (float[1,2,4,4] y_scale, float[1,2,4,4] z) {
  y = Relu(x)  x_scale = Conv(y, weight, bias)  y_scale = Mul(x_scale, y)
  z = If(c) <then_branch = a () => (float[1,2,4,4] p) { p = Add(x_scale, y_scale) },
            else_branch = b () => (float[1,2,4,4] q) { x_scale = Neg(y)  q = Identity(x_scale) }> }"""
OLD = """<ir_version: 4, opset_import: ["" : 9]>
g (float[1,2,4,4] x) => (float[1,2,4,4] y) { r = Conv(x, weight, bias)  y = Relu(r) }"""


def _model(text: str) -> onnx.ModelProto:
    model = onnx.parser.parse_model(text)
    random = np.random.default_rng(0)
    for name, shape in (("weight", (2, 2, 1, 1)), ("bias", (2,))):
        model.graph.initializer.append(numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name))
    return model


def _run(model: onnx.ModelProto, **more: Any) -> list[Any]:
    feed = {"x": np.random.default_rng(1).standard_normal((1, 2, 4, 4)).astype(np.float32), **more}
    return ReferenceEvaluator(model).run(None, feed)  # type: ignore[no-any-return]


def test_a_bias_with_two_readers_is_two_biases_under_free_names() -> None:
    before = _model(SHARED)
    after = quantizable(_model(SHARED), per_channel=True)
    onnx.checker.check_model(after, full_check=True)
    biases = [node.input[2] for node in after.graph.node if node.op_type == "Conv"]
    assert len(set(biases)) == 2
    assert not {"bias2", "weight2"} & {tensor.name for tensor in after.graph.initializer}
    assert all((a == b).all() for a, b in zip(_run(before), _run(after), strict=True))


@pytest.mark.parametrize("choice", [True, False])
def test_tensors_named_like_companions_are_renamed_but_not_the_interface(choice: bool) -> None:
    before = _model(COMPANIONS)
    after = quantizable(_model(COMPANIONS), per_channel=True)
    names = {name for node in after.graph.node for name in node.output}
    assert "x_scale" not in names  # beside the input x, whose name stays
    assert "y" not in names  # beside the output y_scale, whose name stays
    assert [e.name for e in (*after.graph.input, *after.graph.output)] == ["x", "c", "y_scale", "z"]
    runs = (_run(model, c=np.array(choice)) for model in (before, after))
    assert all((a == b).all() for a, b in zip(*runs, strict=True))


@pytest.mark.parametrize(("per_channel", "opset"), [(True, 13), (False, 10)])
def test_an_opset_without_pairs_is_raised(per_channel: bool, opset: int) -> None:
    after = quantizable(_model(OLD), per_channel)
    assert opset_of(after) == opset
    assert all((a == b).all() for a, b in zip(_run(_model(OLD)), _run(after), strict=True))


def test_what_cannot_be_converted_is_told() -> None:
    model = _model(OLD)
    model.graph.node[1].op_type = "ImageScaler"  # was experimental, and has no schema today
    with pytest.raises(ValueError, match="export it with opset 13"):
        quantizable(model, per_channel=True)


def test_weights_that_are_nothing_beside_the_others_are_0() -> None:
    model = _model(OLD)
    weights = np.float32([[1.0, -2.0], [1e-12, -3e-13]]).reshape(2, 2, 1, 1)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "weight"))
    after = quantizable(model, per_channel=True)
    kept = numpy_helper.to_array(next(t for t in after.graph.initializer if t.name == "weight"))
    assert kept.ravel().tolist() == [1.0, -2.0, 0.0, 0.0]


def test_float64_is_left_out() -> None:
    text = """<ir_version: 8, opset_import: ["" : 13]>
    g (float[1,4] x) => (float[1,4] y) { [wide] d = Cast<to = 11>(x)  [soft] s = Softmax(d)  [back] y = Cast<to = 1>(s) }"""
    model = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text))
    assert doubles(model) == ["wide", "soft"]


def test_constants_are_stored_so_that_weights_are_weights() -> None:
    text = """<ir_version: 8, opset_import: ["" : 13]>
    g (float[1,2,4,4] x) => (float[1,2,4,4] y, float[2] k) {
      w = Constant<value = float[2,2,1,1] {1, 2, 3, 4}>()  y = Conv(x, w)  k = Constant<value = float[2] {5, 6}>() }"""
    after = quantizable(onnx.parser.parse_model(text), per_channel=True)
    assert [node.op_type for node in after.graph.node] == ["Conv", "Constant"]
    assert {t.name: numpy_helper.to_array(t).ravel().tolist() for t in after.graph.initializer} == {"w": [1.0, 2.0, 3.0, 4.0]}
