"""What the rewritings of `make twins` share: weights, types and axes of a graph, and putting nodes in."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx
from onnx import helper, numpy_helper

ADDED = "twin "
"""What the label of a node begins with that a rewriting adds."""
New = list[tuple[str, list[str], str, dict[str, object]]]
"""Nodes to put in: operator, inputs, output and attributes."""


def opset(model: onnx.ModelProto) -> int:
    """Version of ONNX's own operators."""
    return next((e.version for e in model.opset_import if e.domain in ("", "ai.onnx")), 0)


def weights_of(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Initializers that nobody can override."""
    listed = {i.name for i in model.graph.input}
    return [t for t in model.graph.initializer if t.name not in listed]


def value_types(model: onnx.ModelProto) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Element types and shapes of activations, where they are known; an extent that is not is 0."""
    found = {}
    graph = onnx.shape_inference.infer_shapes(model).graph
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape"):
            found[value.name] = (tensor.elem_type, tuple(d.dim_value for d in tensor.shape.dim))
    return found


def stated_axes(model: onnx.ModelProto, node: onnx.NodeProto) -> list[int] | None:
    """Axes that a reduction states as numbers."""
    for attribute in node.attribute:
        if attribute.name in ("axes", "axis"):
            return list(attribute.ints) or [attribute.i]
    given = next((t for t in model.graph.initializer if len(node.input) > 1 and t.name == node.input[1]), None)
    return None if given is None else [int(a) for a in numpy_helper.to_array(given).ravel()] or None


def on_edges(
    model: onnx.ModelProto,
    make: Callable[[onnx.ModelProto, str, int], New],
    fits: Callable[[str], bool],
) -> bool:
    """Put nodes on the way into every node, where the value fits."""
    nodes: list[onnx.NodeProto] = []
    count = 0
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name and fits(name):
                for op, inputs, output, attributes in make(model, name, count):
                    nodes.append(helper.make_node(op, inputs, [output], f"{ADDED}{op} {count}", **attributes))
                node.input[index] = nodes[-1].output[0]
                count += 1
        nodes.append(node)
    replace(model, nodes)
    return count > 0


def replace(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def put_first(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    replace(model, [*nodes, *model.graph.node])


def drop(model: onnx.ModelProto, tensors: list[onnx.TensorProto]) -> None:
    names = {t.name for t in tensors}
    left = [t for t in model.graph.initializer if t.name not in names]
    del model.graph.initializer[:]
    model.graph.initializer.extend(left)


def labels(model: onnx.ModelProto) -> Iterator[str]:
    """A label for each node that has none: its first output."""
    for node in model.graph.node:
        node.name = node.name or next((o for o in node.output if o), node.op_type)
        yield node.name
