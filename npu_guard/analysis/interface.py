"""Shapes that somebody has given, written into what a model says of its inputs and outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.inputs import fix_inputs
from npu_guard.base.errors import UsageError
from npu_guard.base.text import short, text
from npu_guard.file.constant_inputs import Held
from npu_guard.file.skeleton import Skeleton


def state_shapes(proto: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], analysis: Analysis) -> None:
    """Write given input shapes into the model, and what follows from them of its outputs.

    What is rewritten for these sizes holds for no others, so a model that left them open would promise too much. A batch that
    nobody gave stays open. `analysis` is that of the model with these shapes.
    """
    opened = fix_inputs(proto, shapes, analysis.model.skeleton.path).take_back()
    for output in proto.graph.output:
        value = analysis.model.graph.values.get(text(output.name))
        if value is None or value.shape is None or not output.type.HasField("tensor_type"):
            continue
        stated = output.type.tensor_type.shape.dim
        if len(stated) != len(value.shape):
            output.type.tensor_type.shape.Clear()
            stated.extend(onnx.TensorShapeProto.Dimension() for _ in value.shape)
            output.type.tensor_type.shape.SetInParent()
        for dim, extent in zip(stated, value.shape, strict=True):
            if isinstance(extent, int) and not opened:
                dim.dim_value = extent


def hold_inputs(skeleton: Skeleton, held: Held) -> None:
    """Make constants of inputs of a model that was just loaded: of weights that are inputs as well, where they are frozen, and
    of those whose value is given.

    From IR version 4 on, an initializer that is listed as an input is a default that a caller may override; before, every
    initializer had to be listed. Raises UsageError where a value does not go with the model's inputs.
    """
    if not held.freeze_weights and not held.values:
        return
    graph, values, path = skeleton.proto.graph, held.values, skeleton.path
    if values:
        inputs = {text(entry.name): entry for entry in graph.input}
        for name, numbers in values.items():
            if name not in inputs:
                known = ", ".join(map(short, inputs))
                raise UsageError(f"{path}: --input-value names {name!r}, which is no input; the inputs are {known}")
            tensor = _tensor(inputs[name], numbers, f"{path}: --input-value {name}")
            kept = [t for t in graph.initializer if t.name != tensor.name]
            del graph.initializer[:]
            graph.initializer.extend([*kept, tensor])
    weights = {t.name for t in (*graph.initializer, *(s.values for s in graph.sparse_initializer))}
    gone = weights if held.freeze_weights else weights & set(values)
    left = [entry for entry in graph.input if entry.name not in gone]
    del graph.input[:]
    graph.input.extend(left)


def unlist_weights(skeleton: Skeleton) -> None:
    """Make a model of an IR version before 4, in which weights had to be listed as inputs and nobody could override one, one of
    version 4 with its weights as weights alone: what is written into it could not be a weight otherwise.
    """
    proto = skeleton.proto
    if proto.ir_version >= 4:
        return
    hold_inputs(skeleton, Held(freeze_weights=True))
    proto.ir_version = 4


def _tensor(entry: onnx.ValueInfoProto, numbers: Sequence[float], where: str) -> onnx.TensorProto:
    kind = entry.type.tensor_type
    if not entry.type.HasField("tensor_type") or not kind.HasField("shape"):
        raise UsageError(f"{where}: the input is no tensor of known rank")
    dims = [d.dim_value if d.HasField("dim_value") else len(numbers) if len(kind.shape.dim) == 1 else 1 for d in kind.shape.dim]
    if math.prod(dims) != len(numbers):
        raise UsageError(f"{where}: {len(numbers)} numbers are given and the input has {math.prod(dims)}")
    try:
        array = np.asarray(numbers).astype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type), casting="unsafe").reshape(dims)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UsageError(f"{where}: the input's elements are no numbers") from None
    if not np.array_equal(array.astype(np.float64).ravel(), np.asarray(numbers, np.float64)) and array.dtype.kind in "iub":
        raise UsageError(f"{where}: {', '.join(map(str, numbers))} cannot be held by its elements of {array.dtype}")
    made: onnx.TensorProto = onnx.numpy_helper.from_array(array, entry.name)
    return made
