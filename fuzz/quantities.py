"""Mutations of quantized graphs: scales and zero points, their types, axes and blocks, and other spellings of an operator."""

from __future__ import annotations

import math
import re

import numpy as np
import onnx
from mutations import FLOATS, MUTATIONS, NUMBERS, Choose, graphs, pick

QUANTIZED = re.compile("^Q[A-Z]|uantize|Integer|NBits$")
"""Operators of quantized graphs, by name."""
TYPES = (1, 2, 3, 4, 5, 6, 10, 16, 17, 18, 19, 20, 21, 22, 23)
"""Element types that scales and zero points have, and some that they cannot have."""


def quantities(proto: onnx.ModelProto, choose: Choose) -> None:
    """A scale or zero point, or the axis or block that it is for, at a node that reads one."""
    held = {t.name: t for graph in graphs(proto) for t in graph.initializer}
    nodes = [n for graph in graphs(proto) for n in graph.node if QUANTIZED.search(n.op_type)]
    node = pick(nodes, choose)
    if node is None:
        return
    kind = choose(8)
    tensors = [held[i] for i in node.input if i in held]
    tensor = pick(tensors, choose)
    if kind == 0:
        name = ("axis", "axis", "axis", "axis", "block_size", "output_dtype", "bits")[choose(7)]
        old = next((a for a in node.attribute if a.name == name), None)
        attribute = node.attribute.add(name=name, type=onnx.AttributeProto.INT) if old is None else old
        attribute.i = NUMBERS[choose(len(NUMBERS))]
    elif kind == 1 and node.input:
        node.input[choose(len(node.input))] = tensor.name if tensor is not None and choose(2) else ""
    elif kind == 2:
        _spelling(proto, node, choose)
    elif tensor is None:
        return
    elif kind == 3:
        _whole(proto, tensor, choose)
    elif kind == 4 and node.op_type == "QuantizeLinear":
        _fill(tensor, TYPES[choose(len(TYPES))], choose)
    else:
        _fill(tensor, tensor.data_type, choose)


def _spelling(proto: onnx.ModelProto, node: onnx.NodeProto, choose: Choose) -> None:
    """Another operator that reads the same inputs, or another domain of it."""
    names = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")
    if choose(2):
        node.op_type = names[choose(len(names))]
    else:
        node.domain = "" if node.domain else "com.microsoft"
        if all(entry.domain != "com.microsoft" for entry in proto.opset_import):
            proto.opset_import.add(domain="com.microsoft", version=1)


def _whole(proto: onnx.ModelProto, tensor: onnx.TensorProto, choose: Choose) -> None:
    """A constant becomes an input of the model, with or without a value of its own."""
    entry = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
    proto.graph.input.append(entry)
    if choose(2) and tensor in proto.graph.initializer:
        proto.graph.initializer.remove(tensor)


def _fill(tensor: onnx.TensorProto, data_type: int, choose: Choose) -> None:
    """Other numbers, of this type: one for all, or one for each of some channels."""
    old = list(tensor.dims)
    kept = choose(4) > 0 and 0 <= math.prod(old) <= 64
    count = math.prod(old) if kept else (1, 1, 2, 3, 16)[choose(5)]
    if data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16):
        values = [FLOATS[choose(len(FLOATS))] if choose(2) else 2.0 ** (choose(16) - 8) for _ in range(count)]
    else:
        values = [(0, 1, -1, 7, 8, 15, 127, 128, -128, 255)[choose(10)] for _ in range(count)]
    shape = old if kept else [] if count == 1 and choose(2) else [count]
    try:
        with np.errstate(all="ignore"):
            made = onnx.helper.make_tensor(tensor.name, data_type, shape, values)
    except Exception:  # a number that the type does not hold
        return
    tensor.CopyFrom(made)


OF_QUANTIZED = (*MUTATIONS, *[quantities] * (3 * len(MUTATIONS)))
"""What is done to quantized graphs: three of four times, their numbers."""
