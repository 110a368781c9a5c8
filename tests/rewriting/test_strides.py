"""Strides in other words: random convolutions, each by every form that there is, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from npu_guard.analysis.analyze import analyze
from npu_guard.checking import registry
from npu_guard.checking.context import Context
from npu_guard.file.document import Document
from npu_guard.file.load import load
from npu_guard.fixing import catalog

(FORM,) = [s for s in catalog.substitutions() if s.name == "conv-stride-to-slice"]


def drawn(seed: int) -> onnx.ModelProto:
    """A convolution with any kernel, stride, padding, dilation and groups; often over a map of one row."""
    random = np.random.default_rng(seed)
    kernel = [int(k) for k in random.integers(1, 6, 2)]
    dilations = [int(d) for d in random.integers(1, 3, 2)]
    strides = [int(s) for s in random.integers(1, 6, 2)]
    pads = [int(p) for p in random.integers(0, 4, 4)]
    rows, columns = (int(n) for n in random.integers(1, 20, 2))
    rows = 1 if seed % 3 == 0 else rows
    span = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    rows, columns = max(rows, span[0] - pads[0] - pads[2]), max(columns, span[1] - pads[1] - pads[3])
    group = int(random.choice([1, 2, 4]))
    weight = random.standard_normal((8, 4 // group, *kernel)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=strides, pads=pads, dilations=dilations, group=group)
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", 1, [2, 4, rows, columns])],
        [helper.make_tensor_value_info("y", 1, None)], [onnx.numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


@pytest.mark.parametrize("seed", range(60))
def test_every_form_gives_the_same_windows(seed: int, tmp_path: Path, by_form: Callable[..., onnx.ModelProto]) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(drawn(seed), path)
    skeleton = load(path)
    document, analysis = Document.of(skeleton), analyze(skeleton)
    (node,) = analysis.nodes()
    session = onnxruntime.InferenceSession(path)
    x = np.random.default_rng(seed).standard_normal(session.get_inputs()[0].shape).astype(np.float32)
    (wanted,) = session.run(None, {"x": x})
    matches = FORM.match(node, Context(analysis, registry.profile("ti-tidl:AM68A")))
    assert isinstance(matches, Sequence)
    assert matches or max(node.attr("strides")) == 1
    for match in matches:
        after = by_form(FORM, match, document, analysis)
        (found,) = onnxruntime.InferenceSession(after.SerializeToString()).run(None, {"x": x})
        np.testing.assert_allclose(found, wanted, atol=1e-5, err_msg=str(match.variant))
        assert {n.op_type for n in after.graph.node} <= {"Conv", "Slice", "Reshape"}
