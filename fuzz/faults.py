"""One fault in a model that works: another number, a missing input, a list that is none, an operator of another opset.

Unlike `mutations.py`, which makes rubbish, these are slips that a person or a converter makes, one at a time.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import onnx

_A = onnx.AttributeProto
_TYPES = (1, 6, 7, 8, 9, 10, 11)
"""float, int32, int64, string, bool, float16 and double, as in TensorProto."""
_OPSETS = (1, 7, 9, 11, 13, 17, 18, 21)
_SMALL = 64


def apply(model: onnx.ModelProto, rng: random.Random) -> str:
    """Make one fault; the result names it, and is empty where nothing could be done."""
    if not model.graph.node:
        return ""
    node = rng.choice(model.graph.node)
    name, fault = rng.choice(FAULTS)
    return f"{name} of {node.op_type}" if fault(model, node, rng) else ""


def _attribute(model: onnx.ModelProto, node: onnx.NodeProto, rng: random.Random) -> bool:
    if not node.attribute:
        return False
    given = rng.choice(node.attribute)
    if given.type == _A.FLOAT:
        given.f = rng.choice((0.0, -1.0, 1e9, float("nan")))
    elif given.type == _A.INT:
        given.i = rng.choice((-99, -2, -1, 0, 1, 2, 3, 5, 17, 99, 2**40))
    elif given.type == _A.INTS and given.ints and rng.randrange(2):
        given.ints[rng.randrange(len(given.ints))] = rng.choice((-99, -1, 0, 1, 2, 3, 5, 99))
    elif given.type == _A.INTS and given.ints and rng.randrange(2):
        del given.ints[rng.randrange(len(given.ints))]
    elif given.type == _A.INTS:
        given.ints.append(rng.randrange(3))
    elif given.type == _A.STRING:
        given.s = rng.choice((b"", b"foo", given.s.upper(), given.s.lower()))
    else:
        return False
    return True


def _no_attribute(model: onnx.ModelProto, node: onnx.NodeProto, rng: random.Random) -> bool:
    if not node.attribute:
        return False
    del node.attribute[rng.randrange(len(node.attribute))]
    return True


def _input(model: onnx.ModelProto, node: onnx.NodeProto, rng: random.Random) -> bool:
    if not model.graph.input:
        return False
    tensor = rng.choice(model.graph.input).type.tensor_type
    dims, kind = tensor.shape.dim, rng.randrange(4)
    if kind == 0 and dims:
        dims[rng.randrange(len(dims))].dim_value = rng.choice((1, 2, 3, 5, 7))
    elif kind == 1 and dims:
        del dims[rng.randrange(len(dims))]
    elif kind == 2:
        dims.add().dim_value = rng.choice((1, 2, 3))
    else:
        tensor.elem_type = rng.choice(_TYPES)
    _forget(model)
    return True


def _wire(model: onnx.ModelProto, node: onnx.NodeProto, rng: random.Random) -> bool:
    if not node.input:
        return False
    names = ["", *(i.name for i in model.graph.input)]
    node.input[rng.randrange(len(node.input))] = rng.choice(names) if rng.randrange(2) else ""
    return True


def _weights(model: onnx.ModelProto, node: onnx.NodeProto, rng: random.Random) -> bool:
    if not model.graph.initializer:
        return False
    tensor = rng.choice(model.graph.initializer)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return False
    values = onnx.numpy_helper.to_array(tensor)
    kind = rng.randrange(4)
    if kind == 0:
        values = values.reshape(-1)
    elif kind == 1:
        values = values[..., None]
    elif kind == 2:
        values = np.concatenate([values, values]) if values.ndim else values[None]
    elif values.dtype.kind in "iufb":
        values = np.full_like(values, rng.choice((0, 1, 99)))
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))
    return True


def _constant(model: onnx.ModelProto, node: onnx.NodeProto, rng: random.Random) -> bool:
    """A list that was an input becomes part of the model."""
    dtypes = {1: np.float32, 6: np.int32, 7: np.int64}
    small = []
    for entry in model.graph.input:
        tensor = entry.type.tensor_type
        shape = [d.dim_value for d in tensor.shape.dim]
        if tensor.elem_type in dtypes and len(shape) < 2 and int(np.prod(shape)) <= _SMALL:
            small.append((entry, shape, dtypes[tensor.elem_type]))
    if not small:
        return False
    entry, shape, dtype = rng.choice(small)
    values = np.array([rng.choice((-2, -1, 0, 1, 2, 3, 99)) for _ in range(int(np.prod(shape)))], dtype)
    model.graph.initializer.append(onnx.numpy_helper.from_array(values.reshape(shape), entry.name))
    model.graph.input.remove(entry)
    _forget(model)
    return True


def _output(model: onnx.ModelProto, node: onnx.NodeProto, rng: random.Random) -> bool:
    if not model.graph.output or not (entry := rng.choice(model.graph.output)).type.HasField("tensor_type"):
        return False
    dims, kind = entry.type.tensor_type.shape.dim, rng.randrange(3)
    if kind == 0 and dims:
        dims[rng.randrange(len(dims))].dim_value = rng.choice((1, 2, 7))
    elif kind == 1:
        dims.add().dim_value = 2
    else:
        entry.type.tensor_type.elem_type = rng.choice(_TYPES)
    return True


def _opset(model: onnx.ModelProto, node: onnx.NodeProto, rng: random.Random) -> bool:
    model.opset_import[0].version = rng.choice(_OPSETS)
    return True


def _forget(model: onnx.ModelProto) -> None:
    """Outputs of any shape, as theirs would follow from another input."""
    for entry in model.graph.output:
        if entry.type.HasField("tensor_type"):
            entry.type.tensor_type.ClearField("shape")


Fault = Callable[[onnx.ModelProto, onnx.NodeProto, random.Random], bool]
FAULTS: tuple[tuple[str, Fault], ...] = (
    ("an attribute", _attribute), ("no attribute", _no_attribute), ("an input", _input), ("a wire", _wire),
    ("a weight", _weights), ("a constant", _constant), ("an output", _output), ("the opset", _opset),
)  # fmt: skip
