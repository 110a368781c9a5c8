"""Rewritings that keep what a graph means: how constants are held, and what lies between two nodes.

Nodes keep their labels; those that a rewriting adds have labels that begin with ADDED. Each says
whether there was any of its kind.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper
from twin_graphs import ADDED, New, drop, on_edges, opset, put_first, replace, value_types, weights_of

_FLOAT = onnx.TensorProto.FLOAT


def constants(model: onnx.ModelProto) -> bool:
    """Initializers as Constant nodes."""
    held = weights_of(model)
    put_first(model, [helper.make_node("Constant", [], [t.name], f"{ADDED}constant {t.name}", value=t) for t in held])
    drop(model, held)
    return bool(held)


def folded(model: onnx.ModelProto) -> bool:
    """Initializers as what a Reshape of a vector gives, which compilers fold."""
    held = [t for t in weights_of(model) if t.dims and 0 not in t.dims and opset(model) >= 5]
    nodes = []
    for tensor in held:
        shape = numpy_helper.from_array(np.array(tensor.dims, np.int64), f"{ADDED}shape {tensor.name}")
        flat = onnx.TensorProto()
        flat.CopyFrom(tensor)
        flat.name = f"{ADDED}flat {tensor.name}"
        flat.dims[:] = [int(np.prod(tensor.dims))]
        model.graph.initializer.extend([flat, shape])
        nodes.append(helper.make_node("Reshape", [flat.name, shape.name], [tensor.name], f"{ADDED}reshape {tensor.name}"))
    put_first(model, nodes)
    drop(model, held)
    return bool(held)


def dequantized(model: onnx.ModelProto) -> bool:
    """Float weights of convolutions and products behind a DequantizeLinear of integers."""
    read = {n.input[1] for n in model.graph.node if n.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul") and len(n.input) > 1}
    held = [t for t in weights_of(model) if t.name in read and t.data_type == _FLOAT and opset(model) >= 10]
    nodes = []
    for tensor in held:
        whole = np.rint(numpy_helper.to_array(tensor) * 10).clip(-127, 127).astype(np.int8)
        inputs = [f"{ADDED}integers {tensor.name}", f"{ADDED}scale {tensor.name}", f"{ADDED}zero {tensor.name}"]
        values = (whole, np.array(0.1, np.float32), np.array(0, np.int8))
        model.graph.initializer.extend(numpy_helper.from_array(v, name) for v, name in zip(values, inputs, strict=True))
        nodes.append(helper.make_node("DequantizeLinear", inputs, [tensor.name], f"{ADDED}dequantize {tensor.name}"))
    put_first(model, nodes)
    drop(model, held)
    return bool(held)


def chosen(model: onnx.ModelProto) -> bool:
    """Initializers that an If of known condition chooses."""
    held = weights_of(model)
    nodes = []
    for tensor in held:
        branches = []
        for side in ("a", "b"):
            inner = onnx.TensorProto()
            inner.CopyFrom(tensor)
            inner.name = f"{tensor.name} {side}"
            end = helper.make_tensor_value_info(inner.name, tensor.data_type, tensor.dims)
            made = helper.make_node("Constant", [], [inner.name], f"{ADDED}held {inner.name}", value=inner)
            branches.append(helper.make_graph([made], f"{tensor.name} {side}", [], [end]))
        node = helper.make_node("If", ["the condition"], [tensor.name], f"{ADDED}choice {tensor.name}")
        node.attribute.extend(helper.make_attribute(k, g) for k, g in zip(("then_branch", "else_branch"), branches, strict=True))
        nodes.append(node)
    put_first(model, nodes)
    drop(model, held)
    if held:
        model.graph.initializer.append(helper.make_tensor("the condition", onnx.TensorProto.BOOL, [], [True]))
    return bool(held)


def taken(model: onnx.ModelProto) -> bool:
    """Each node of one output in the branch of an If that is taken."""
    nodes = []
    for number, node in enumerate(model.graph.node):
        if len(node.output) != 1 or node.op_type in ("Constant", "If", "Loop", "Scan"):
            nodes.append(node)
            continue
        inner = onnx.NodeProto()
        inner.CopyFrom(node)
        inner.output[0] = f"{node.output[0]} inside"
        ends = [onnx.ValueInfoProto(name=inner.output[0])]
        branch = helper.make_graph([inner], f"branch {number}", [], ends)
        other = helper.make_graph([helper.make_node("NonZero", [node.input[0]], ["nothing"])], f"other {number}", [],
                                  [onnx.ValueInfoProto(name="nothing")]) if node.input else branch  # fmt: skip
        nodes.append(helper.make_node("If", ["the condition"], list(node.output), f"{ADDED}if {number}", then_branch=branch,
                                      else_branch=other))  # fmt: skip
    replace(model, nodes)
    model.graph.initializer.append(helper.make_tensor("the condition", onnx.TensorProto.BOOL, [], [True]))
    return bool(nodes)


def identities(model: onnx.ModelProto) -> bool:
    """An Identity on the way into every node."""
    return on_edges(model, lambda model, name, number: [("Identity", [name], f"{name} {number}", {})], lambda name: True)


def unread(model: onnx.ModelProto) -> bool:
    """Behind every node of floats a NonZero that nobody reads, and a Cast that nobody reads behind that."""
    types = value_types(model)
    given = [o for n in model.graph.node for o in n.output if o and types.get(o, (0, ()))[0] == _FLOAT]
    if opset(model) < 9:
        return False
    for name in given:
        dead = f"{ADDED}places {name}"
        model.graph.node.append(helper.make_node("NonZero", [name], [dead], dead))
        model.graph.node.append(helper.make_node("Cast", [dead], [f"{dead} cast"], f"{dead} cast", to=_FLOAT))
    return bool(given)


def quantized(model: onnx.ModelProto) -> bool:
    """One scale for each tensor: a QuantizeLinear and a DequantizeLinear between two nodes of floats."""
    types = value_types(model)
    inner = {o for n in model.graph.node for o in n.output}
    if opset(model) < 10:
        return False
    model.graph.initializer.append(helper.make_tensor(f"{ADDED}scale", _FLOAT, [], [0.1]))
    model.graph.initializer.append(helper.make_tensor(f"{ADDED}zero", onnx.TensorProto.UINT8, [], [0]))

    def pair(model: onnx.ModelProto, name: str, number: int) -> New:
        scale = [f"{ADDED}scale", f"{ADDED}zero"]
        return [
            ("QuantizeLinear", [name, *scale], f"{name} q{number}", {}),
            ("DequantizeLinear", [f"{name} q{number}", *scale], f"{name} {number}", {}),
        ]

    return on_edges(model, pair, lambda name: types.get(name, (0, ()))[0] == _FLOAT and name in inner)


def squeezed(model: onnx.ModelProto) -> bool:
    """A batch of 1 that goes and comes back between two nodes."""
    types = value_types(model)
    axes = numpy_helper.from_array(np.array([0], np.int64), f"{ADDED}axes")
    if opset(model) >= 13:
        model.graph.initializer.append(axes)

    def away(model: onnx.ModelProto, name: str, number: int) -> New:
        more, attributes = ([axes.name], {}) if opset(model) >= 13 else ([], {"axes": [0]})
        return [
            ("Squeeze", [name, *more], f"{name} s{number}", dict(attributes)),
            ("Unsqueeze", [f"{name} s{number}", *more], f"{name} {number}", dict(attributes)),
        ]

    def fits(name: str) -> bool:
        shape = types.get(name, (0, ()))[1]
        return bool(shape) and types[name][0] == _FLOAT and 2 < len(shape) < 5 and shape[0] == 1 and 0 not in shape

    return on_edges(model, away, fits)
