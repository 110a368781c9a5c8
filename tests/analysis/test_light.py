"""Shape inference is not given the values of large weights, and finds the same without them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

from npu_guard.analysis.inputs import LIGHT, light


def _model() -> onnx.ModelProto:
    """Sizes of a Split are as large as a weight, and a scale of a Resize is in floating point."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1,1200,4,4] x) => (y) '
        '{ a, b = Split<axis = 1>(x, sizes) c = Conv(a, w) y = Resize<mode = "nearest">(c, , scales) }'
    )
    model.doc_string, model.producer_name = "told", "a test"
    model.metadata_props.add(key="k", value="v")
    weights = {
        "sizes": np.array([600, 600], np.int64), "w": np.ones((8, 600, 1, 1), np.float32),
        "scales": np.array([1, 1, 2, 3], np.float32)
    }  # fmt: skip
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return model


def test_shapes_are_those_of_the_whole_model() -> None:
    model = _model()
    made = light(model)
    assert made.ByteSize() < LIGHT < model.ByteSize()
    shapes = [
        {v.name: str(v.type) for v in onnx.shape_inference.infer_shapes(m, strict_mode=True, data_prop=True).graph.value_info}
        for m in (model, made)
    ]
    assert shapes[0] == shapes[1] != {}


def test_all_else_is_as_it_was() -> None:
    model = _model()
    made = light(model)
    assert [t.name for t in made.graph.initializer] == [t.name for t in model.graph.initializer]
    for proto in (model, made):
        del proto.graph.initializer[:]
    assert made == model


def test_many_sizes_are_kept() -> None:
    """Whole numbers are what extents follow from, however many there are."""
    model = _model()
    del model.graph.initializer[0]
    model.graph.initializer.append(numpy_helper.from_array(np.ones(LIGHT, np.int64), "sizes"))
    assert light(model).graph.initializer[-1].raw_data == model.graph.initializer[-1].raw_data


def test_a_model_of_small_weights_is_not_copied() -> None:
    model = _model()
    del model.graph.initializer[1]
    assert light(model) is model
