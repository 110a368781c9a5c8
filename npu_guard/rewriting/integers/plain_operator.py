"""One operator in integer arithmetic as the plain operator on real numbers, with its weights behind a DequantizeLinear.

QLinearConv(x, w, b) is Conv(x, DequantizeLinear(w), DequantizeLinear(b)), where the scale of b is that of x times that of w.
Sources: the operators' documents in ONNX; docs/ContribOperators.md of onnxruntime.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from msgspec import Struct, field

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.quantized.encoding import Encoding, operands
from npu_guard.base.text import short
from npu_guard.graph.graph import Node, Value
from npu_guard.graph.plain import is_channels_last, plain
from npu_guard.rewriting.substitution import Refused

_FORMS = frozenset({
    "Conv", "MatMul", "Gemm", "Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool", "Sigmoid", "LeakyRelu", "Softmax",
    "ReduceMean",
})  # fmt: skip
_OWN = frozenset({"channels_last", "opset"})
"""Attributes that the plain operators do not have."""


class Plain(Struct):
    """The nodes, the last of which gives the result under its old name, and initializers that they need."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)


def plainly(node: Node, analysis: Analysis, reads: Callable[[Value, Encoding], str], new: Callable[[str], str]) -> Plain:
    """The operator in other words. `reads` names what an activation is in real numbers, `new` makes names. Raises Refused."""
    op = plain(node)
    if op not in _FORMS or is_channels_last(node):
        raise Refused(f"{node.op} has no form in real numbers here")
    made = Plain()
    given: list[str] = []
    scales: list[Value] = []
    for value, role, encoding in operands(node):
        if role == "bias":
            given.append(_bias(made, node, value, scales, analysis, new) if encoding is not None else value.name)
        elif encoding is None or encoding.scale is None:
            given.append(value.name)
        else:
            scales.append(encoding.scale)
            given.append(_weight(made, value, encoding, new) if analysis.is_constant(value) else reads(value, encoding))
    attributes = [a for a in node.proto.attribute if a.name not in _OWN]
    if op == "Gemm" and node.attr("alpha", 1.0) != 1.0:
        raise Refused(f"{node.op} with alpha has no form in real numbers here")
    opset = analysis.model.opsets.get("", 1)
    if op == "ReduceMean" and opset >= 18:
        axes = next((a.ints for a in attributes if a.name == "axes"), None)
        attributes = [a for a in attributes if a.name != "axes"]
        if axes is not None:
            made.initializers.append(onnx.numpy_helper.from_array(np.asarray(axes, np.int64), new(f"{node.label}_axes")))
            given.append(made.initializers[-1].name)
    copy = onnx.helper.make_node(op, given, [node.output.name], node.name)
    copy.attribute.extend(attributes)
    copy.metadata_props.extend(node.proto.metadata_props)
    copy.doc_string = node.proto.doc_string
    made.nodes.append(copy)
    return made


def _weight(made: Plain, value: Value, encoding: Encoding, new: Callable[[str], str]) -> str:
    name = new(f"{value.name}_numbers")
    given = [value.name, *(v.name for v in (encoding.scale, encoding.zero) if v is not None)]
    dequantized = onnx.helper.make_node("DequantizeLinear", given, [name], name)
    if encoding.axis is not None:
        dequantized.attribute.append(onnx.helper.make_attribute("axis", encoding.axis))
    made.nodes.append(dequantized)
    return name


def _bias(made: Plain, node: Node, value: Value, scales: list[Value], analysis: Analysis, new: Callable[[str], str]) -> str:
    known = [analysis.constants.get(scale) for scale in scales]
    if len(known) != 2 or known[0] is None or known[1] is None or known[0].size != 1:
        raise Refused(f"the scales of {short(node.label)!r} are not known")
    product = (known[0].reshape(-1)[0] * known[1].reshape(-1)).astype(np.float32)
    scale = new(f"{value.name}_scale")
    made.initializers.append(onnx.numpy_helper.from_array(product if product.size > 1 else product.reshape(()), scale))
    name = new(f"{value.name}_numbers")
    made.nodes.append(onnx.helper.make_node("DequantizeLinear", [value.name, scale], [name], name))
    if product.size > 1:
        made.nodes[-1].attribute.append(onnx.helper.make_attribute("axis", 0))
    return name
