"""Bytes are multiplied as ONNX says on every processor: without VNNI, ONNX Runtime's own kernels saturate at 16 bits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from npu_guard.verification.runtime import Runtime
from npu_guard.verification.saturation import without_saturation

DEPTH = 64
Arrays = Mapping[str, Any]


def model(op: str, inputs: str, constants: Arrays, x: Any, domain: str = "", before: str = "") -> onnx.ModelProto:
    """One operator, behind another one that makes its inputs."""
    node = helper.make_node(op, inputs.split(","), ["y"], domain=domain)
    nodes = [helper.make_node(before, ["f"], ["x", "xs", "xz"]), node] if before else [node]
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    given = helper.make_tensor_value_info("f" if before else "x", kind, x.shape)
    graph = helper.make_graph(nodes, "g", [given], [helper.make_empty_tensor_value_info("y")])
    graph.initializer.extend(numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items())
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)], ir_version=9
    )


def run(made: onnx.ModelProto, feed: Arrays, folder: Path) -> Any:
    with Runtime() as runtime:
        (answer,) = runtime.run(made.SerializeToString(), folder, [feed])
    return answer["y"]


def linear(weight: Any, zero: Any, x_zero: int = 0) -> Arrays:
    return {
        "xs": np.float32(0.01), "xz": np.uint8(x_zero), "w": weight, "ws": np.full(np.shape(zero), 0.01, np.float32), "wz": zero,
        "ys": np.float32(1), "yz": np.uint8(0),
    }  # fmt: skip


LARGE = np.random.default_rng(0).integers(80, 128, (DEPTH, 8)).astype(np.int8)
LARGE[:, ::2] *= -1
X = np.random.default_rng(1).integers(200, 256, (4, DEPTH)).astype(np.uint8)
EXACT = X.astype(np.int64) @ LARGE.astype(np.int64)
FILTERS = LARGE.T.reshape(8, DEPTH, 1, 1)


@pytest.mark.parametrize("zero", [np.int8(0), np.zeros(8, np.int8)], ids=["per tensor", "per channel"])
def test_a_convolution_of_bytes(tmp_path: Path, zero: Any) -> None:
    x = X.T.reshape(1, DEPTH, 2, 2)
    made = model("QLinearConv", "x,xs,xz,w,ws,wz,ys,yz", linear(FILTERS, zero), x)
    wanted = np.clip(np.rint(EXACT.T.reshape(1, 8, 2, 2) * 1e-4), 0, 255)
    assert np.abs(run(made, {"x": x}, tmp_path).astype(int) - wanted).max() <= 1


def test_a_product_of_bytes(tmp_path: Path) -> None:
    made = model("QLinearMatMul", "x,xs,xz,w,ws,wz,ys,yz", linear(LARGE, np.int8(0)), X)
    assert np.abs(run(made, {"x": X}, tmp_path).astype(int) - np.clip(np.rint(EXACT * 1e-4), 0, 255)).max() <= 1


@pytest.mark.parametrize("inputs", ["x,w", "x,w,xz", "x,w,,wz", "x,w,xz,wz"])
def test_a_product_that_gives_int32(tmp_path: Path, inputs: str) -> None:
    made = model("MatMulInteger", inputs, {"w": LARGE, "xz": np.uint8(3), "wz": np.int8(-5)}, X)
    x = X.astype(np.int64) - (3 if "xz" in inputs else 0)
    assert (run(made, {"x": X}, tmp_path) == x @ (LARGE.astype(np.int64) + (5 if "wz" in inputs else 0))).all()


def test_a_convolution_that_gives_int32(tmp_path: Path) -> None:
    x = X.T.reshape(1, DEPTH, 2, 2)
    made = model("ConvInteger", "x,w", {"w": FILTERS}, x)
    assert (run(made, {"x": x}, tmp_path) == EXACT.T.reshape(1, 8, 2, 2)).all()


def test_dynamic_quantization(tmp_path: Path) -> None:
    """What `quantize_dynamic` writes: the activation's type follows from the operator that makes it."""
    made = model("MatMulInteger", "x,w,xz", {"w": LARGE}, X.astype(np.float32), before="DynamicQuantizeLinear")
    got = run(made, {"f": X.astype(np.float32)}, tmp_path)
    assert (got == np.rint(X.astype(np.float32) / np.float32(X.max() / 255)).astype(np.int64) @ LARGE.astype(np.int64)).all()


def test_a_gemm_of_bytes(tmp_path: Path) -> None:
    made = model("QGemm", "x,xs,xz,w,ws,wz,,ys,yz", linear(LARGE, np.int8(0)), X, "com.microsoft")
    assert np.abs(run(made, {"x": X}, tmp_path).astype(int) - np.clip(np.rint(EXACT * 1e-4), 0, 255)).max() <= 1


def test_weights_outside_of_the_model(tmp_path: Path) -> None:
    made = model("MatMulInteger", "x,w", {"w": LARGE}, X)
    (tmp_path / "w.bin").write_bytes(b"head" + LARGE.tobytes())
    held = made.graph.initializer[0]
    onnx.external_data_helper.set_external_data(held, "w.bin", 4, LARGE.nbytes)
    held.ClearField("raw_data")
    assert (run(made, {"x": X}, tmp_path) == EXACT).all()


SIGNED = LARGE.T.copy()
"""[8, 64] of signed bytes, as activations."""
BYTES = X.T.copy()
"""[64, 4] of unsigned bytes, as weights."""


def test_two_activations(tmp_path: Path) -> None:
    """Scores of heads in integers: both operands of the product are computed or given."""
    constants = linear(LARGE, np.int8(-7))
    given = dict(constants)
    given.pop("w")
    made = model("QLinearMatMul", "x,xs,xz,w,ws,wz,ys,yz", given, X)
    made.graph.input.append(helper.make_tensor_value_info("w", TensorProto.INT8, LARGE.shape))
    wanted = X.astype(np.int64) @ (LARGE.astype(np.int64) + 7)
    got = run(made, {"x": X, "w": LARGE}, tmp_path)
    assert np.abs(got.astype(int) - np.clip(np.rint(wanted * 1e-4), 0, 255)).max() <= 1


@pytest.mark.parametrize("zeros", ["none", "constant", "given", "of columns"])
def test_two_activations_that_give_int32(tmp_path: Path, zeros: str) -> None:
    zero = {"none": np.int8(0), "constant": np.int8(5), "given": np.int8(5), "of columns": np.arange(-4, 4, dtype=np.int8)}[zeros]
    constants = {} if zeros in ("none", "given") else {"wz": zero}
    made = model("MatMulInteger", "x,w" if zeros == "none" else "x,w,,wz", constants, X)
    made.graph.input.append(helper.make_tensor_value_info("w", TensorProto.INT8, LARGE.shape))
    feed = {"x": X, "w": LARGE}
    if zeros == "given":
        made.graph.input.append(helper.make_tensor_value_info("wz", TensorProto.INT8, []))
        feed["wz"] = zero
    assert (run(made, feed, tmp_path) == X.astype(np.int64) @ (LARGE.astype(np.int64) - zero)).all()


def test_an_activation_that_is_computed(tmp_path: Path) -> None:
    """The type is that of a zero point where no inference knows the operator."""
    made = model("MatMulInteger", "x,v", {"s": np.float32(1), "z": np.int8(0), "u": np.uint8(0)}, X)
    made.graph.input.append(helper.make_tensor_value_info("w", TensorProto.INT8, LARGE.shape))
    made.graph.node.insert(
        0, helper.make_node("QLinearAdd", ["w", "s", "z", "k", "s", "z", "s", "z"], ["v"], domain="com.microsoft")
    )
    made.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 1), np.int8), "k"))
    made.graph.node.insert(
        0, helper.make_node("QLinearAdd", ["f", "s", "u", "j", "s", "u", "s", "u"], ["x"], domain="com.microsoft")
    )
    made.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 1), np.uint8), "j"))
    made.graph.input[0].name = "f"
    assert (run(made, {"f": X, "w": LARGE}, tmp_path) == EXACT).all()


def test_signed_activations_of_a_convolution_beside_unsigned_weights(tmp_path: Path) -> None:
    """ONNX Runtime's ConvInteger puts the weights first, and saturates the other way round."""
    x = SIGNED.T.reshape(1, DEPTH, 2, 4)
    made = model("ConvInteger", "x,w,xz", {"w": BYTES.T.reshape(4, DEPTH, 1, 1), "xz": np.int8(3)}, x)
    wanted = BYTES.T.astype(np.int64) @ (SIGNED.T.astype(np.int64) - 3)
    assert (run(made, {"x": x}, tmp_path) == wanted.reshape(1, 4, 2, 4)).all()


def test_an_initializer_that_is_given_another_value(tmp_path: Path) -> None:
    made = model("MatMulInteger", "x,w", {"w": np.zeros_like(LARGE)}, X)
    made.graph.input.append(helper.make_tensor_value_info("w", TensorProto.INT8, LARGE.shape))
    assert (run(made, {"x": X, "w": LARGE}, tmp_path) == EXACT).all()
    assert (run(made, {"x": X}, tmp_path) == 0).all()


@pytest.mark.parametrize("taken", [True, False])
def test_bodies_that_use_one_name_for_two_weights(tmp_path: Path, taken: bool) -> None:
    bodies = []
    for weight in (LARGE, -LARGE):
        body = helper.make_graph(
            [helper.make_node("MatMulInteger", ["x", "w"], ["inner"])], "b", [], [helper.make_empty_tensor_value_info("inner")]
        )
        body.initializer.append(numpy_helper.from_array(weight, "w"))
        bodies.append(body)
    given = [
        helper.make_tensor_value_info("x", TensorProto.UINT8, X.shape),
        helper.make_tensor_value_info("c", TensorProto.BOOL, []),
    ]
    node = helper.make_node("If", ["c"], ["y"], then_branch=bodies[0], else_branch=bodies[1])
    graph = helper.make_graph([node], "g", given, [helper.make_tensor_value_info("y", TensorProto.INT32, None)])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9)
    assert (run(made, {"x": X, "c": np.array(taken)}, tmp_path) == (EXACT if taken else -EXACT)).all()


def test_an_activation_in_a_body(tmp_path: Path) -> None:
    """Moved where it is read; the graph around it reads it as it is."""
    body = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["inner"])], "b", [], [helper.make_empty_tensor_value_info("inner")]
    )
    nodes = [helper.make_node("If", ["c"], ["p"], then_branch=body, else_branch=body),
             helper.make_node("MatMulInteger", ["x", "w"], ["q"]), helper.make_node("Sub", ["p", "q"], ["y"])]  # fmt: skip
    given = [
        helper.make_tensor_value_info("x", TensorProto.UINT8, X.shape),
        helper.make_tensor_value_info("w", TensorProto.INT8, LARGE.shape),
        helper.make_tensor_value_info("c", TensorProto.BOOL, []),
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.INT32, None) for name in ("y", "q")]
    made = helper.make_model(
        helper.make_graph(nodes, "g", given, outputs), opset_imports=[helper.make_opsetid("", 13)], ir_version=9
    )
    with Runtime() as runtime:
        (answer,) = runtime.run(made.SerializeToString(), tmp_path, [{"x": X, "w": LARGE, "c": np.array(True)}])
    assert (answer["q"] == EXACT).all()
    assert (answer["y"] == 0).all()


def test_products_that_are_scaled_at_once(tmp_path: Path) -> None:
    inits = {"w": LARGE, "s": np.float32(1), "t": np.full(8, 0.5, np.float32), "z": np.uint8(2), "n": np.arange(8, dtype=np.int8)}
    made = model("MatMulIntegerToFloat", "x,w,s,t,z,n", inits, X, "com.microsoft")
    wanted = 0.5 * ((X.astype(np.int64) - 2) @ (LARGE.astype(np.int64) - np.arange(8)))
    assert np.abs(run(made, {"x": X}, tmp_path) - wanted).max() <= 0.5
    real = X.astype(np.float32)
    made = model("DynamicQuantizeMatMul", "x,w,t,n", {k: inits[k] for k in "wtn"}, real, "com.microsoft")
    step = np.float32(X.max() / 255)
    wanted = 0.5 * step * (np.rint(real / step).astype(np.int64) @ (LARGE.astype(np.int64) - np.arange(8)))
    assert np.abs(run(made, {"x": real}, tmp_path) / wanted - 1).max() < 1e-4


def test_one_weight_beside_both_kinds_of_activations(tmp_path: Path) -> None:
    """It stays what it is where both are signed, and as an output."""
    made = model("MatMulInteger", "x,w", {"w": LARGE}, X)
    made.graph.node.append(helper.make_node("MatMulInteger", ["v", "w"], ["u"]))
    made.graph.input.append(helper.make_tensor_value_info("v", TensorProto.INT8, [8, DEPTH]))
    made.graph.output.extend([helper.make_tensor_value_info("u", TensorProto.INT32, None)])
    made.graph.output.extend([helper.make_tensor_value_info("w", TensorProto.INT8, LARGE.shape)])
    with Runtime() as runtime:
        (answer,) = runtime.run(made.SerializeToString(), tmp_path, [{"x": X, "v": SIGNED}])
    assert (answer["y"] == EXACT).all()
    assert (answer["u"] == SIGNED.astype(np.int64) @ LARGE.astype(np.int64)).all()
    assert answer["w"].dtype == np.int8
    assert (answer["w"] == LARGE).all()


def test_what_is_signed_on_both_sides_stays(tmp_path: Path) -> None:
    made = model("MatMulInteger", "x,w", {"w": LARGE}, X.astype(np.int8))
    content = made.SerializeToString()
    assert without_saturation(content, str(tmp_path)) == content
    shared = model("MatMulInteger", "x,w", {"w": LARGE}, X)
    shared.graph.node.append(helper.make_node("Cast", ["w"], ["kept"], to=TensorProto.FLOAT))
    shared.graph.output.append(helper.make_empty_tensor_value_info("kept"))
    changed = onnx.ModelProto.FromString(without_saturation(shared.SerializeToString(), str(tmp_path)))
    assert changed.graph.node[1].input[0] == "w"
    assert changed.graph.node[0].input[1] == "w_unsigned"


def test_a_weight_in_a_body_and_a_constant_node(tmp_path: Path) -> None:
    """The body's product reads the weight of a Constant node around it."""
    body = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["inner"])], "b", [], [helper.make_empty_tensor_value_info("inner")]
    )
    nodes = [
        helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(LARGE)),
        helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body),
    ]
    given = [
        helper.make_tensor_value_info("x", TensorProto.UINT8, X.shape),
        helper.make_tensor_value_info("c", TensorProto.BOOL, []),
    ]
    made = helper.make_model(
        helper.make_graph(nodes, "g", given, [helper.make_tensor_value_info("y", TensorProto.INT32, None)]),
        opset_imports=[helper.make_opsetid("", 13)], ir_version=9,
    )  # fmt: skip
    assert (run(made, {"x": X, "c": np.array(True)}, tmp_path) == EXACT).all()
