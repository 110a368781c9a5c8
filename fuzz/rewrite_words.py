"""Rewritings that keep what a graph means: one operator by another, or by other attributes and inputs of its own.

Nodes keep their labels; those that a rewriting adds have labels that begin with ADDED. Each says
whether there was any of its kind.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper
from twin_graphs import ADDED, opset, replace, value_types, weights_of

_AS_IN_11 = frozenset(
    [
        "Add",
        "AveragePool",
        "BatchNormalization",
        "Concat",
        "Conv",
        "ConvTranspose",
        "Flatten",
        "Gemm",
        "GlobalAveragePool",
        "LeakyRelu",
        "MatMul",
        "MaxPool",
        "Mul",
        "Relu",
        "Reshape",
        "Sigmoid",
        "Softmax",
        "Sub",
        "Tanh",
        "Transpose",
        "Upsample",
    ]
)
"""Operators that say the same in opset 9 and in opset 11."""


def undefaulted(model: onnx.ModelProto) -> bool:
    """Attributes that state what ONNX takes where they are left out, left out."""
    changed = False
    for node in model.graph.node:
        if node.domain or not onnx.defs.has(node.op_type):
            continue
        declared = onnx.defs.get_schema(node.op_type, opset(model)).attributes
        kept = [a for a in node.attribute if a.name not in declared or declared[a.name].default_value != a]
        changed |= len(kept) < len(node.attribute)
        del node.attribute[:]
        node.attribute.extend(kept)
    return changed


def sized(model: onnx.ModelProto) -> bool:
    """A Resize that states sizes in the place of scales."""
    types, held, changed = value_types(model), {t.name: t for t in weights_of(model)}, False
    for number, node in enumerate(model.graph.node):
        shape = types.get(node.output[0], (0, ()))[1]
        before = types.get(node.input[0], (0, ()))[1] if node.input else ()
        scales = held.get(node.input[2]) if node.op_type == "Resize" and len(node.input) == 3 else None
        if scales is None or not shape or 0 in (*shape, *before):
            continue
        if [s * d for s, d in zip(numpy_helper.to_array(scales).tolist(), before, strict=False)] != list(shape):
            continue  # with a rounding, sizes state other scales
        sizes = numpy_helper.from_array(np.array(shape, np.int64), f"{ADDED}sizes {number}")
        model.graph.initializer.append(sizes)
        node.input[2:] = ["", sizes.name]
        changed = True
    return changed


def resized(model: onnx.ModelProto) -> bool:
    """An Upsample as a Resize of opset 11, which samples as that does."""
    ops = {node.op_type for node in model.graph.node}
    if opset(model) != 9 or "Upsample" not in ops or ops - _AS_IN_11:
        return False
    for entry in model.opset_import:
        entry.version = 11
    model.graph.initializer.append(numpy_helper.from_array(np.array([], np.float32), f"{ADDED}roi"))
    for node in model.graph.node:
        if node.op_type == "Upsample":
            node.op_type = "Resize"
            node.input[:] = [node.input[0], f"{ADDED}roi", node.input[1]]
            for name, value in (("coordinate_transformation_mode", "asymmetric"), ("nearest_mode", "floor")):
                node.attribute.append(helper.make_attribute(name, value))
    return True


def sums(model: onnx.ModelProto) -> bool:
    """A product of activations and weights as an Einsum."""
    types, held, changed = value_types(model), {t.name: t for t in weights_of(model)}, False
    for node in model.graph.node:
        weight = held.get(node.input[1]) if node.op_type == "MatMul" and opset(model) >= 12 else None
        rank = len(types.get(node.input[0], (0, ()))[1]) if node.input else 0
        if weight is None or len(weight.dims) != 2 or not 2 <= rank <= 4:
            continue
        rows = "bhw"[: rank - 1]
        node.op_type = "Einsum"
        node.attribute.append(helper.make_attribute("equation", f"{rows}c,cd->{rows}d"))
        changed = True
    return changed


def elements(model: onnx.ModelProto) -> bool:
    """A Mul as an Einsum that names the axes of both operands."""
    types, held, changed = value_types(model), {t.name: t.dims for t in weights_of(model)}, False
    for node in model.graph.node:
        if node.op_type != "Mul" or opset(model) < 12:
            continue
        shapes = [tuple(held[n]) if n in held else types.get(n, (0, ()))[1] for n in (*node.input, node.output[0])]
        rank = len(shapes[2])
        terms = ["abcdefgh"[rank - len(shape) : rank] for shape in shapes]
        whole = all(d == shapes[2][rank - len(s) + i] != 0 for s in shapes for i, d in enumerate(s))
        if not 0 < rank <= 8 or not whole or not all(shapes[:2]):
            continue  # an Einsum broadcasts no extents of 1
        node.op_type = "Einsum"
        node.attribute.append(helper.make_attribute("equation", f"{terms[0]},{terms[1]}->{terms[2]}"))
        changed = True
    return changed


def joined(model: onnx.ModelProto) -> bool:
    """MatMul and the Add of a vector behind it as one Gemm."""
    types, held, nodes, changed = value_types(model), {t.name: t for t in weights_of(model)}, [], False
    readers = [name for node in model.graph.node for name in node.input]
    ends = {o.name for o in model.graph.output}
    biased = {n.input[0]: n for n in model.graph.node if n.op_type == "Add" and n.input[1] in held}
    gone = set()
    for node in model.graph.node:
        add = biased.get(node.output[0]) if node.op_type == "MatMul" and node.input[1] in held else None
        flat = len(types.get(node.input[0], (0, ()))[1]) == 2 if node.input else False
        lone = readers.count(node.output[0]) == 1 and node.output[0] not in ends
        if add is None or not flat or not lone or len(held[node.input[1]].dims) != 2 or len(held[add.input[1]].dims) != 1:
            nodes.append(node)
            continue
        gone.add(add.output[0])
        nodes.append(helper.make_node("Gemm", [*node.input, add.input[1]], list(add.output), node.name))
        changed = True
    replace(model, [n for n in nodes if n.op_type == "Gemm" or n.output[0] not in gone])
    return changed


def listed(model: onnx.ModelProto) -> bool:
    """All weights listed as inputs, as every file before IR version 4 has them."""
    held = weights_of(model)
    if not held or model.functions or opset(model) > 13:
        return False
    model.ir_version = 3
    model.graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in held)
    return True


def batches(model: onnx.ModelProto) -> bool:
    """A batch of 1 that the inputs leave open, which is taken as 1."""
    shapes = [i.type.tensor_type.shape.dim for i in model.graph.input if i.type.HasField("tensor_type")]
    opened = [dims for dims in shapes if len(dims) == 4 and dims[0].dim_value == 1]
    for dims in opened:
        dims[0].dim_param = "batch"
    return bool(opened)
