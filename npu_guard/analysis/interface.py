"""Shapes that somebody has given, written into what a model says of its inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.inputs import fix_inputs
from npu_guard.base.text import text


def state_shapes(proto: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], analysis: Analysis) -> None:
    """Write given input shapes into the model, and what follows from them of its outputs.

    What is rewritten for these sizes holds for no others, so a model that left them open would promise too much. A batch that
    nobody gave stays open. `analysis` is that of the model with these shapes.
    """
    opened = fix_inputs(proto, shapes, analysis.model.skeleton.path).take_back()
    for output in proto.graph.output:
        value = analysis.model.graph.values.get(text(output.name))
        if value is None or value.shape is None or not output.type.HasField("tensor_type"):
            continue
        stated = output.type.tensor_type.shape.dim
        if len(stated) != len(value.shape):
            output.type.tensor_type.shape.Clear()
            stated.extend(onnx.TensorShapeProto.Dimension() for _ in value.shape)
            output.type.tensor_type.shape.SetInParent()
        for dim, extent in zip(stated, value.shape, strict=True):
            if isinstance(extent, int) and not opened:
                dim.dim_value = extent
