"""Operators on weights that are evaluated nowhere else, by ONNX's own reference."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx

from npu_guard.analysis import constants
from npu_guard.analysis.constants import Array
from npu_guard.graph.graph import Node, Value, is_known


def reason(node: Node) -> str:
    """Why a node on weights is not evaluated, as far as its operator and shapes tell; empty where it is."""
    makes = sum(map(_extent, node.outputs))
    most = constants.most(map(_extent, node.inputs))
    if makes > most:
        return f"is computed by {node.op}, and {makes:,} numbers are more than {most:,}"
    if constants.can_evaluate(node) or (not node.domain and node.kind != "random" and not _has_body(node)):
        return ""
    return f"is computed by {node.op}, which is not evaluated here"


def run(node: Node, inputs: Sequence[Array | None]) -> list[Array] | None:
    """Outputs of a node without bodies, None where there are none."""
    from onnx.reference import ReferenceEvaluator  # `check` does without

    graph = onnx.GraphProto(name="constant", node=[node.proto])
    fed = {name: array for name, array in zip(node.proto.input, inputs, strict=True) if name and array is not None}
    graph.input.extend(
        onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in fed.items()
    )
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.proto.output if name)
    opsets = [onnx.helper.make_opsetid("", node.graph.model.opsets.get("", 1))]
    try:
        results = ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=opsets)).run(None, fed)
    except Exception:  # its operators raise whatever numpy does
        return None
    return [np.asarray(r) for r in results]


def _has_body(node: Node) -> bool:
    return any(a.HasField("g") or a.graphs for a in node.proto.attribute)


def _extent(value: Value | None) -> int:
    """Elements of a tensor, as far as its shape is known."""
    return math.prod(value.shape) if value is not None and is_known(value.shape) else 0
