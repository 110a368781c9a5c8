"""The rewriting into maps with channels last, as ONNX Runtime's optimizer leaves files for backends that compute in that layout.

Convolutions become NhwcConv, and what stands between them works on [B, H, W, C] too; a Transpose goes there and one comes back.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper
from twin_graphs import ADDED, opset, replace, value_types, weights_of

_UNARY = frozenset({"Relu", "Sigmoid", "Tanh", "LeakyRelu", "Elu", "HardSwish", "Softplus", "Erf"})
_PLACES = (0, 3, 1, 2)
"""Axis of [B, H, W, C] at which each axis of [B, C, H, W] lies."""


class _Layout:
    """Values that are known with channels last, and the nodes that bring others there and back."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.types = value_types(model)
        self.held = {t.name: t for t in weights_of(model)}
        self.nodes: list[onnx.NodeProto] = []
        self.last: dict[str, str] = {}
        self.first: set[str] = {v.name for v in model.graph.input}
        self.count = 0

    def is_map(self, name: str) -> bool:
        return len(self.types.get(name, (0, ()))[1]) == 4

    def to_last(self, name: str) -> str:
        """The value with channels last."""
        if name not in self.last:
            self.last[name] = f"{ADDED}{name} last"
            node = helper.make_node("Transpose", [name], [self.last[name]], f"{ADDED}to {name}", perm=[0, 2, 3, 1])
            self.nodes.append(node)
        return self.last[name]

    def give(self, name: str) -> str:
        """A name for the output of a node that works with channels last."""
        self.last[name] = f"{ADDED}{name} last"
        return self.last[name]

    def back(self, name: str) -> None:
        """The value as [B, C, H, W], for a node that takes it so."""
        if name in self.last and name not in self.first:
            self.nodes.append(helper.make_node("Transpose", [self.last[name]], [name], f"{ADDED}from {name}", perm=[0, 3, 1, 2]))
        self.first.add(name)

    def weight(self, array: np.ndarray) -> str:
        self.count += 1
        self.model.graph.initializer.append(numpy_helper.from_array(array, f"{ADDED}last {self.count}"))
        return f"{ADDED}last {self.count}"


def channels_last(model: onnx.ModelProto) -> bool:
    """Convolutions as NhwcConv, and what stands between them on [B, H, W, C]."""
    layout, changed = _Layout(model), False
    if any(a.type == onnx.AttributeProto.GRAPH for n in model.graph.node for a in n.attribute) or model.functions:
        return False
    for node in model.graph.node:
        done = _convolution(layout, node)
        changed |= done
        if done or _between(layout, node):
            continue
        for name in node.input:
            layout.back(name)
        layout.first.update(node.output)
        layout.nodes.append(node)
    for end in model.graph.output:
        layout.back(end.name)
    if changed:
        replace(model, layout.nodes)
        model.opset_import.add(domain="com.microsoft", version=1)
    return changed


def _convolution(layout: _Layout, node: onnx.NodeProto) -> bool:
    weight = layout.held.get(node.input[1]) if node.op_type == "Conv" and not node.domain else None
    stated = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    whole = weight is not None and weight.data_type == onnx.TensorProto.FLOAT and len(weight.dims) == 4
    if weight is None or not whole or stated.get("group", 1) != 1 or not layout.is_map(node.input[0]):
        return False
    array = np.ascontiguousarray(numpy_helper.to_array(weight).transpose(0, 2, 3, 1))
    inputs = [layout.to_last(node.input[0]), layout.weight(array), *node.input[2:]]
    made = helper.make_node("NhwcConv", inputs, [layout.give(node.output[0])], node.name, domain="com.microsoft")
    made.attribute.extend(node.attribute)
    layout.nodes.append(made)
    return True


def _between(layout: _Layout, node: onnx.NodeProto) -> bool:
    """A node that works on maps with channels last where these are there."""
    inputs, attributes = list(node.input), {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.domain or not inputs or inputs[0] not in layout.last or len(node.output) != 1:
        return False
    if node.op_type in ("Concat", "Softmax") and opset(layout.model) >= 13:
        attributes["axis"] = _PLACES[attributes.get("axis", -1) % 4]
    elif node.op_type.startswith("Reduce"):
        axes = layout.held.get(inputs[1]) if len(inputs) > 1 else None
        stated = attributes.get("axes") if len(inputs) == 1 else None if axes is None else numpy_helper.to_array(axes).tolist()
        if stated is None or not attributes.get("keepdims", 1):
            return False
        moved = [_PLACES[axis % 4] for axis in stated]
        if axes is None:
            attributes["axes"] = moved
        else:
            inputs[1:] = [layout.weight(np.array(moved, np.int64))]
    elif node.op_type not in (*_UNARY, "Add", "Mul", "Max", "Sub"):
        return False
    data = [name for name in inputs if name not in layout.held and not name.startswith(ADDED)]
    if any(not layout.is_map(name) for name in data) or (node.op_type != "Concat" and len(data) < len(node.input) - _axes(node)):
        return False
    ready = [layout.to_last(name) if name in data else name for name in inputs]
    layout.nodes.append(helper.make_node(node.op_type, ready, [layout.give(node.output[0])], node.name, **attributes))
    return True


def _axes(node: onnx.NodeProto) -> int:
    """How many inputs state axes."""
    return len(node.input) - 1 if node.op_type.startswith("Reduce") else 0
