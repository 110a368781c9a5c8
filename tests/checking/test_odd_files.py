"""Files in spellings that ONNX allows and few write, sparse weights and the long name of its domain, are judged like others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from npu_guard.checking import registry
from npu_guard.pipeline.check import check_model
from npu_guard.project.config import Config
from npu_guard.results.findings import ModelReport


def conv(outputs: int, kernel: int) -> onnx.ModelProto:
    text = f"""<ir_version: 8, opset_import: ["": 17]> g (float[1,8,40,40] x) => (float[1,{outputs},m,n] y)
        {{ a = Relu(x)  y = Conv(a, w) }}"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(numpy_helper.from_array(np.ones((outputs, 8, kernel, kernel), np.float32), "w"))
    return model


def sparse(model: onnx.ModelProto, flat: bool, constant: bool) -> onnx.ModelProto:
    """The weight with every fifth number alone, at indices of one number or one for each axis, held or made by a node."""
    dims = list(model.graph.initializer[0].dims)
    numbers = np.arange(0, np.prod(dims), 5)
    indices = numbers[:, None] if flat else np.stack(np.unravel_index(numbers, dims), 1)
    shape = [len(numbers)] if flat else list(indices.shape)
    values = helper.make_tensor("w", onnx.TensorProto.FLOAT, [len(numbers)], [0.5] * len(numbers))
    places = helper.make_tensor("places", onnx.TensorProto.INT64, shape, indices.reshape(-1).tolist())
    held = helper.make_sparse_tensor(values, places, dims)
    del model.graph.initializer[:]
    if constant:
        model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], sparse_value=held))
    else:
        model.graph.sparse_initializer.append(held)
    return model


def checked(model: onnx.ModelProto, save: Callable[..., Path]) -> ModelReport:
    report = check_model(str(save(model)), registry.profile("aimotive-aiware"), Config())
    assert report.error is None
    assert not report.crashes
    return report


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(("outputs", "kernel", "codes"), [(8, 3, []), (12, 3, ["NPU401"]), (8, 19, ["NPU201"])])
def test_sparse_weights_are_weights(
    save: Callable[..., Path], outputs: int, kernel: int, codes: list[str], flat: bool, constant: bool
) -> None:
    report = checked(sparse(conv(outputs, kernel), flat, constant), save)
    assert [f.rule for f in report.findings] == codes


@pytest.mark.parametrize("imports", ["", "ai.onnx"])
@pytest.mark.parametrize(("kernel", "codes"), [(3, []), (19, ["NPU201"])])
def test_the_long_name_of_the_domain(save: Callable[..., Path], imports: str, kernel: int, codes: list[str]) -> None:
    model = conv(8, kernel)
    for node in model.graph.node:
        node.domain = "ai.onnx"
    model.opset_import[0].domain = imports
    assert [f.rule for f in checked(model, save).findings] == codes


def test_the_long_name_in_a_branch(save: Callable[..., Path]) -> None:
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 17]> g (float[1,8,4,4] x) => (float[1,8,4,4] y)
        <bool c = {1}> { y = If (c) <then_branch = t () => (float[1,8,4,4] a) { a = Relu(x) },
                                    else_branch = e () => (float[1,8,4,4] b) { b = Erf(x) }> }""")
    for branch in model.graph.node[0].attribute:
        branch.g.node[0].domain = "ai.onnx"
    model.graph.node[0].domain = "ai.onnx"
    assert checked(model, save).findings == ()
