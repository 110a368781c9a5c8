"""Rewritings that keep what a graph means: other words for operators, and the table of all rewritings.

Nodes keep their labels; those that a rewriting adds have labels that begin with ADDED. Each says
whether there was any of its kind.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper
from rewrite_layout import channels_last
from rewrite_values import chosen, constants, dequantized, folded, identities, quantized, squeezed, taken, unread
from rewrite_words import batches, elements, joined, listed, resized, sized, sums, undefaulted
from twin_graphs import ADDED, opset, replace, stated_axes, value_types, weights_of

Twin = Callable[[onnx.ModelProto], bool]
_SWAPPED = frozenset({"Add", "Mul", "Max", "Min", "Sum", "Mean", "And", "Or", "Xor", "Equal"})
_REDUCTIONS = frozenset(
    {
        "ReduceMean",
        "ReduceMax",
        "ReduceMin",
        "ReduceSum",
        "ReduceL1",
        "ReduceL2",
        "ReduceProd",
        "ReduceSumSquare",
        "ArgMax",
        "ArgMin",
    }
)
_WITH_AXIS = frozenset(
    [
        "Concat",
        "DequantizeLinear",
        "Flatten",
        "Gather",
        "GatherElements",
        "Hardmax",
        "LayerNormalization",
        "LogSoftmax",
        "LpNormalization",
        "QuantizeLinear",
        "Softmax",
        "Split",
        "Squeeze",
        "TopK",
    ]
)
_FLOAT = onnx.TensorProto.FLOAT


def without_keepdims(model: onnx.ModelProto) -> bool:
    """Reductions that drop their axes, and an Unsqueeze that brings them back; and the other way round."""
    types, nodes, changed = value_types(model), [], False
    for number, node in enumerate(model.graph.node):
        axes = stated_axes(model, node)
        shape = types.get(node.input[0], (0, ()))[1] if node.input else ()
        if node.op_type not in _REDUCTIONS or axes is None or not shape or 0 in shape:
            nodes.append(node)
            continue
        axes = sorted(a % len(shape) for a in axes)
        keeps = next((a.i for a in node.attribute if a.name == "keepdims"), 1)
        others = [a for a in node.attribute if a.name != "keepdims"]
        del node.attribute[:]
        node.attribute.extend([*others, helper.make_attribute("keepdims", 1 - keeps)])
        end, node.output[0] = node.output[0], f"{node.output[0]} other"
        view = helper.make_node("Unsqueeze" if keeps else "Squeeze", [node.output[0]], [end], f"{ADDED}view {number}")
        if opset(model) >= 13:
            tensor = numpy_helper.from_array(np.array(axes, np.int64), f"{ADDED}axes {number}")
            model.graph.initializer.append(tensor)
            view.input.append(tensor.name)
        else:
            view.attribute.append(helper.make_attribute("axes", axes))
        nodes += [node, view]
        changed = True
    replace(model, nodes)
    return changed


def own_name(model: onnx.ModelProto) -> bool:
    """ONNX's domain under its long name."""
    for entry in (*model.graph.node, *model.opset_import):
        if not entry.domain:
            entry.domain = "ai.onnx"
    return True


def from_the_end(model: onnx.ModelProto) -> bool:
    """Axes that are stated as attributes, counted from the end."""
    types, changed = value_types(model), False
    over = _REDUCTIONS | _WITH_AXIS
    for node in model.graph.node:
        rank = len(types.get(node.input[0], (0, ()))[1]) if node.input else 0
        if not rank or node.op_type not in over or opset(model) < 11:
            continue
        if node.op_type in ("Softmax", "LogSoftmax") and opset(model) < 13:
            continue
        for attribute in node.attribute:
            if attribute.name == "axis" and 0 <= attribute.i < rank:
                attribute.i -= rank
                changed = True
            elif attribute.name == "axes" and attribute.ints and all(0 <= a < rank for a in attribute.ints):
                attribute.ints[:] = [a - rank for a in attribute.ints]
                changed = True
    return changed


def inputs_from_the_end(model: onnx.ModelProto) -> bool:
    """Axes that are stated as inputs, counted from the end."""
    types, held, changed = value_types(model), {t.name: t for t in weights_of(model)}, False
    places = {**dict.fromkeys((*_REDUCTIONS, "Squeeze", "Unsqueeze"), 1), "Slice": 3}
    for number, node in enumerate(model.graph.node):
        place = places.get(node.op_type, 0)
        tensor = held.get(node.input[place]) if 0 < place < len(node.input) else None
        if tensor is None:
            continue
        rank = len(types.get(node.output[0] if node.op_type == "Unsqueeze" else node.input[0], (0, ()))[1])
        axes = numpy_helper.to_array(tensor)
        if not rank or not axes.size or axes.min() < 0:
            continue
        model.graph.initializer.append(numpy_helper.from_array(axes - rank, f"{ADDED}axes from the end {number}"))
        node.input[place] = f"{ADDED}axes from the end {number}"
        changed = True
    return changed


def swapped(model: onnx.ModelProto) -> bool:
    """Operands of what does not mind their order, the last one first."""
    nodes = [node for node in model.graph.node if node.op_type in _SWAPPED and len(node.input) > 1 and not node.domain]
    for node in nodes:
        node.input[:] = list(reversed(node.input))
    return bool(nodes)


def defaults(model: onnx.ModelProto) -> bool:
    """Attributes that are left out, with the default that ONNX states."""
    changed = False
    for node in model.graph.node:
        if node.domain or not onnx.defs.has(node.op_type):
            continue
        schema = onnx.defs.get_schema(node.op_type, opset(model))
        have = {a.name for a in node.attribute}
        for name, declared in schema.attributes.items():
            if name not in have and declared.default_value.type and not declared.required:
                node.attribute.append(declared.default_value)
                changed = True
    return changed


def renamed(model: onnx.ModelProto) -> bool:
    """Other names of all values but those of inputs and outputs."""
    kept = {v.name for v in (*model.graph.input, *model.graph.output)} | {""}
    if any(a.type == onnx.AttributeProto.GRAPH for n in model.graph.node for a in n.attribute):
        return False
    names: dict[str, str] = {}

    def new(name: str) -> str:
        return name if name in kept else names.setdefault(name, f"v{len(names)}")

    for node in model.graph.node:
        node.input[:] = [new(n) for n in node.input]
        node.output[:] = [new(n) for n in node.output]
    for entry in (*model.graph.initializer, *model.graph.value_info):
        entry.name = new(entry.name)
    return bool(names)


def stated(model: onnx.ModelProto) -> bool:
    """Shapes of all values stated in the file."""
    known = onnx.shape_inference.infer_shapes(model)
    changed = len(known.graph.value_info) > len(model.graph.value_info)
    model.CopyFrom(known)
    return changed


def in_functions(model: onnx.ModelProto) -> bool:
    """Each node in a model-local function of its own."""
    version, count = opset(model), 0
    for number, node in enumerate(model.graph.node):
        if node.domain or node.op_type == "Constant" or any(a.type == onnx.AttributeProto.GRAPH for a in node.attribute):
            continue
        if "" in node.input or len(set(node.input)) < len(node.input) or not node.output[0]:
            continue
        name = f"F{number}"
        inner = onnx.NodeProto()
        inner.CopyFrom(node)
        model.functions.append(helper.make_function("twin", name, list(node.input), list(node.output), [inner],
                                                    [helper.make_opsetid("", version)]))  # fmt: skip
        node.op_type, node.domain = name, "twin"
        del node.attribute[:]
        count += 1
    if count:
        model.opset_import.add(domain="twin", version=1)
    return bool(count)


def _converted(model: onnx.ModelProto, version: int) -> bool:
    if version == opset(model) or len(model.opset_import) != 1 or model.functions or model.opset_import[0].domain:
        return False
    try:
        found = onnx.version_converter.convert_version(model, version)
        onnx.checker.check_model(found)
    except (RuntimeError, onnx.checker.ValidationError):  # the converter has no way for this graph
        return False
    added = {n.output[0] for n in found.graph.node} - {n.output[0] for n in model.graph.node}
    for number, node in enumerate(found.graph.node):
        if node.output[0] in added:
            node.name = f"{ADDED}converted {number}"
    model.CopyFrom(found)
    return True


def older(model: onnx.ModelProto) -> bool:
    """The same in opset 17, in which reductions state their axes as attributes."""
    return opset(model) > 17 and _converted(model, 17)


def newer(model: onnx.ModelProto) -> bool:
    """The same in opset 18, in which axes are inputs."""
    # The converter does not say that an Upsample samples asymmetrically, and writes a Softmax over several axes as three nodes.
    left_out = {"Resize", "Upsample", "Softmax", "LogSoftmax"} & {n.op_type for n in model.graph.node}
    return opset(model) < 18 and not left_out and _converted(model, 18)


def products(model: onnx.ModelProto) -> bool:
    """A Gemm as MatMul and Add, the weights transposed."""
    weights, types, nodes, changed = {t.name: t for t in weights_of(model)}, value_types(model), [], False
    for node in model.graph.node:
        stated = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        b = weights.get(node.input[1]) if node.op_type == "Gemm" else None
        flat = node.op_type == "Gemm" and len(types.get(node.input[0], (0, ()))[1]) == 2
        if b is None or not flat or stated.get("transA", 0) or stated.get("alpha", 1) != 1 or stated.get("beta", 1) != 1:
            nodes.append(node)
            continue
        array = numpy_helper.to_array(b)
        name = f"{ADDED}weight {node.name}"
        model.graph.initializer.append(
            numpy_helper.from_array(np.ascontiguousarray(array.T if stated.get("transB") else array), name)
        )
        out = node.output[0]
        biased = len(node.input) > 2 and bool(node.input[2])
        product = f"{out} product" if biased else out
        nodes.append(helper.make_node("MatMul", [node.input[0], name], [product], node.name))
        if biased:
            nodes.append(helper.make_node("Add", [product, node.input[2]], [out], f"{ADDED}bias {node.name}"))
        changed = True
    replace(model, nodes)
    return changed


def integers(model: onnx.ModelProto) -> bool:
    """A Conv with weights as QuantizeLinear, QLinearConv and DequantizeLinear."""
    weights, nodes, changed = {t.name: t for t in weights_of(model)}, [], False
    model.graph.initializer.append(helper.make_tensor(f"{ADDED}scale", _FLOAT, [], [0.1]))
    model.graph.initializer.append(helper.make_tensor(f"{ADDED}zero", onnx.TensorProto.UINT8, [], [0]))
    scale = [f"{ADDED}scale", f"{ADDED}zero"]
    for node in model.graph.node:
        weight = weights.get(node.input[1]) if node.op_type == "Conv" and not node.domain else None
        biased = len(node.input) > 2
        if weight is None or weight.data_type != _FLOAT or biased or opset(model) < 10:
            nodes.append(node)
            continue
        name, out = f"{ADDED}integers {node.name}", node.output[0]
        whole = (numpy_helper.to_array(weight) * 10).clip(0, 255).astype(np.uint8)
        model.graph.initializer.append(numpy_helper.from_array(whole, name))
        nodes.append(helper.make_node("QuantizeLinear", [node.input[0], *scale], [f"{out} x"], f"{ADDED}q {node.name}"))
        made = helper.make_node("QLinearConv", [f"{out} x", *scale, name, *scale, *scale], [f"{out} y"], node.name)
        made.attribute.extend(node.attribute)
        nodes.append(made)
        nodes.append(helper.make_node("DequantizeLinear", [f"{out} y", *scale], [out], f"{ADDED}d {node.name}"))
        changed = True
    replace(model, nodes)
    return changed


TWINS: dict[str, Twin] = {
    t.__name__: t
    for t in (
        constants, folded, dequantized, chosen, taken, identities, quantized, squeezed, without_keepdims, own_name, from_the_end,
        swapped, defaults, renamed, stated, in_functions, older, newer, products, integers, undefaulted, sized, resized, sums,
        joined, listed, batches, inputs_from_the_end, channels_last, elements, unread,
    )
}  # fmt: skip
