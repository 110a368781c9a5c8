"""Input shapes before inference: those of `--input-shape`, and 1 for a batch that is left open."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import onnx

from npu_guard.errors import UsageError
from npu_guard.graph import short, text
from npu_guard.validation.tensors import MAX_DIM


def fix_inputs(proto: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], path: str) -> list[str]:
    """Write given input shapes into the model, and 1 for a dynamic batch; returns what was assumed, for the report.

    Raises UsageError where a shape does not go with the model's inputs.
    """
    initializers = {t.name for t in proto.graph.initializer}
    inputs = {text(i.name): i for i in proto.graph.input if i.name not in initializers}
    symbols: dict[str, int] = {}
    overridden = False
    for name, shape in shapes.items():
        if name not in inputs:
            known = ", ".join(map(short, inputs))
            raise UsageError(f"{path}: --input-shape names {name!r}, which is no input; the inputs are {known}")
        overridden |= _set(inputs[name].type, shape, symbols, f"{path}: --input-shape {name}")
    notes = []
    for name, value in inputs.items():
        dims = value.type.tensor_type.shape.dim
        if len(dims) > 1 and not dims[0].HasField("dim_value") and name not in shapes:
            symbol = text(dims[0].dim_param)
            if symbol in symbols:
                continue
            if symbol:
                symbols[symbol] = 1
            dims[0].dim_value = 1
            notes.append(f"dynamic batch {short(symbol)!r} of input {short(name)!r} taken as 1" if symbol else
                         f"dynamic batch of input {short(name)!r} taken as 1")  # fmt: skip
    for entries in (proto.graph.input, proto.graph.output, proto.graph.value_info):
        for entry in entries if symbols else ():
            for dim in entry.type.tensor_type.shape.dim if entry.type.HasField("tensor_type") else ():
                if dim.dim_param and text(dim.dim_param) in symbols:
                    dim.dim_value = symbols[text(dim.dim_param)]
    if overridden:  # the shapes in the file follow from other inputs; inference makes them anew
        forget_shapes(proto.graph)
    return notes


def open_batches(proto: onnx.ModelProto, given: Collection[str]) -> frozenset[str]:
    """Inputs, besides those whose shape is given, that leave their first extent open, as `fix_inputs` does not."""
    dims = ((i.name, i.type.tensor_type.shape.dim) for i in proto.graph.input if i.type.HasField("tensor_type"))
    return frozenset(name for name, d in dims if d and not d[0].HasField("dim_value") and name not in given)


def forget_shapes(graph: onnx.GraphProto) -> None:
    """Remove what the file says of shapes that follow from others."""
    del graph.value_info[:]
    for value in graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")


def _set(kind: onnx.TypeProto, shape: Sequence[int], symbols: dict[str, int], where: str) -> bool:
    """Write the shape and note what its symbols stand for; the result tells whether a fixed extent was replaced."""
    if not kind.HasField("tensor_type"):
        raise UsageError(f"{where}: the input is not a tensor")
    if not all(0 <= extent <= MAX_DIM for extent in shape):
        raise UsageError(f"{where}: extents must lie between 0 and 2^31-1")
    known = kind.tensor_type.HasField("shape")
    dims = kind.tensor_type.shape.dim
    if known and len(dims) != len(shape):
        raise UsageError(f"{where} has {len(shape)} axes and the input has {len(dims)}")
    kind.tensor_type.shape.SetInParent()
    overridden = False
    for axis, extent in enumerate(shape):
        dim = dims[axis] if known else dims.add()
        symbol = text(dim.dim_param)
        if symbol and symbols.setdefault(symbol, extent) != extent:
            raise UsageError(f"{where}: {short(symbol)!r} cannot be both {symbols[symbol]} and {extent}")
        overridden |= dim.HasField("dim_value") and dim.dim_value != extent
        dim.dim_value = extent
    return overridden
