"""Input shapes before inference: those of `--input-shape`, and 1 for a batch that is left open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import onnx

from npu_guard.base.errors import UsageError
from npu_guard.base.text import short, text
from npu_guard.file.tensors import MAX_DIM


class Guess:
    """What was assumed of inputs, in words for the report; can be taken back."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._inputs: list[str] = []
        self._before: list[tuple[onnx.TensorShapeProto.Dimension, onnx.TensorShapeProto.Dimension]] = []

    def of(self, name: str, symbol: str) -> None:
        """Note that the batch of an input counts as 1."""
        called = f"dynamic batch {short(symbol)!r}" if symbol else "dynamic batch"
        self._inputs.append(f"{called} of input {short(name)!r}")
        self.notes.append(f"{self._inputs[-1]} taken as 1")

    def set(self, dim: onnx.TensorShapeProto.Dimension, extent: int) -> None:
        """Write an extent that follows from it."""
        before = onnx.TensorShapeProto.Dimension()
        before.CopyFrom(dim)
        self._before.append((dim, before))
        dim.dim_value = extent

    def take_back(self) -> list[str]:
        """Leave open what was open; returns what to say of it."""
        for dim, before in self._before:
            dim.CopyFrom(before)
        return [f"{opened} left open: the model does not run with 1" for opened in self._inputs]


def fix_inputs(proto: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], path: str) -> Guess:
    """Write given input shapes into the model, and 1 for a dynamic batch, which is only a guess.

    Raises UsageError where a shape does not go with the model's inputs.
    """
    initializers = {t.name for t in proto.graph.initializer}
    inputs = {text(i.name): i for i in proto.graph.input if i.name not in initializers}
    given: dict[str, int] = {}
    overridden = False
    for name, shape in shapes.items():
        if name not in inputs:
            known = ", ".join(map(short, inputs))
            raise UsageError(f"{path}: --input-shape names {name!r}, which is no input; the inputs are {known}")
        overridden |= _set(inputs[name].type, shape, given, f"{path}: --input-shape {name}")
    guess, batches = Guess(), set[str]()
    for name, value in inputs.items():
        dims = value.type.tensor_type.shape.dim
        if len(dims) > 1 and not dims[0].HasField("dim_value") and name not in shapes:
            symbol = text(dims[0].dim_param)
            if symbol in given:
                continue
            if symbol not in batches:
                guess.of(name, symbol)
            if symbol:
                batches.add(symbol)
            guess.set(dims[0], 1)
    everywhere = batches - _in_space(inputs.values())
    for entries in (proto.graph.input, proto.graph.output, proto.graph.value_info):
        for entry in entries if given or everywhere else ():
            for dim in entry.type.tensor_type.shape.dim if entry.type.HasField("tensor_type") else ():
                symbol = dim.dim_param and text(dim.dim_param)
                if symbol in given:
                    dim.dim_value = given[symbol]
                elif symbol in everywhere:
                    guess.set(dim, 1)
    if overridden:  # the shapes in the file follow from other inputs; inference makes them anew
        forget_shapes(proto.graph)
    return guess


def _in_space(inputs: Iterable[onnx.ValueInfoProto]) -> set[str]:
    """Symbols that name axes which no batch has. It is the second one in states of recurrent networks."""
    dims = [value.type.tensor_type.shape.dim for value in inputs]
    return {text(dim.dim_param) for own in dims for dim in own[1 if len(own) > 3 else 2 :] if dim.dim_param}


def without_defaults(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model as a caller may use it: an initializer that is an input too is only what is taken where nothing is given."""
    inputs = {i.name for i in proto.graph.input} if proto.ir_version >= 4 and proto.graph.initializer else set()
    if not any(t.name in inputs for t in proto.graph.initializer):
        return proto
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    kept = [t for t in proto.graph.initializer if t.name not in inputs]
    del bare.graph.initializer[:]
    bare.graph.initializer.extend(kept)
    return bare


def dense(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with sparse initializers as what they are to every runtime: tensors, here without their values."""
    if not proto.graph.sparse_initializer:
        return proto
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    for sparse in proto.graph.sparse_initializer:
        tensor = made.graph.initializer.add(name=sparse.values.name, data_type=sparse.values.data_type, dims=sparse.dims)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="sparse")
    del made.graph.sparse_initializer[:]
    return made


LIGHT = 4096
"""Bytes of a weight in floating point up to which inference is given its values: no shape follows from a larger one."""
_FLOATS = frozenset((onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16))


def light(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model without the values of large weights that it holds in memory, as a file that is loaded is."""
    heavy = [t.data_type in _FLOATS and t.ByteSize() > LIGHT for t in proto.graph.initializer]
    if not any(heavy):
        return proto
    made = onnx.ModelProto()
    _merge(proto, made, "graph")
    _merge(proto.graph, made.graph, "initializer")
    for tensor, large in zip(proto.graph.initializer, heavy, strict=True):
        if large:
            stub = made.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            stub.data_location = onnx.TensorProto.EXTERNAL
            stub.external_data.add(key="location", value="memory")
        else:
            made.graph.initializer.add().CopyFrom(tensor)
    return made


def _merge(source: Any, target: Any, but: str) -> None:
    """Copy all fields but one, which would be copied with all that it holds."""
    for field, value in source.ListFields():
        if field.name == but:
            continue
        held = getattr(target, field.name)
        if hasattr(held, "extend"):
            held.extend(value)
        elif hasattr(held, "CopyFrom"):
            held.CopyFrom(value)
        else:
            setattr(target, field.name, value)


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
