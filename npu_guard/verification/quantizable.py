"""A model as onnxruntime's quantizer can take it: in an opset that has the operators, each bias with one reader, safe names."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
import onnx.numpy_helper
from onnx import version_converter

from npu_guard.file.bodies import bodies_of, walk_graphs
from npu_guard.file.value_names import free_name, names_in

PAIRS_OPSET, CHANNELS_OPSET = 10, 13
"""The first opset with QuantizeLinear, and the first in which it has an axis; weights have one scale before."""
_NOTHING = 2.0**-30
"""Of the largest weight of a tensor; a rounding of float32 is 2^-24 of a number."""
_BIASED = {"Conv", "ConvTranspose", "Gemm"}
"""Operators whose third input is a bias, which the quantizer holds with the scale of the other two."""
_APPENDED = (
    "_scale", "_zero_point", "_quantized", "_quantized_scale", "_quantized_zero_point",
    "_QuantizeLinear_Input", "_QuantizeLinear_Output", "_DequantizeLinear_Output",
)  # fmt: skip
"""What the quantizer appends to the name of a tensor, whether another tensor has that name or not."""


def quantizable(model: onnx.ModelProto, per_channel: bool) -> onnx.ModelProto:
    """The model, changed where the quantizer needs it; what it computes and its inputs and outputs stay.

    Raises ValueError where its opset has no quantization and it cannot be converted to one that has.
    """
    model = _converted(model, CHANNELS_OPSET if per_channel else PAIRS_OPSET)
    _store(model.graph)
    _flush(model.graph)
    _own_biases(model.graph)
    _rename(model.graph, dict(_collisions(model.graph)))
    return model


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators, 0 where the model imports none."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def doubles(model: onnx.ModelProto) -> list[str]:
    """Names of nodes that give float64, which has no ranges: the quantizer falls over a Softmax among them."""
    kinds = {entry.name: entry.type.tensor_type.elem_type for entry in (*model.graph.value_info, *model.graph.output)}
    return [n.name for n in model.graph.node if any(kinds.get(name) == onnx.TensorProto.DOUBLE for name in n.output)]


def _converted(model: onnx.ModelProto, wanted: int) -> onnx.ModelProto:
    """In the opset that is wanted, as far as ONNX's converter can take it there."""
    opset = opset_of(model)
    if not 0 < opset < wanted:
        return model
    try:
        return version_converter.convert_version(model, wanted)
    except Exception:  # the converter raises RuntimeError and types of its own; its words name places in its own source
        if opset >= PAIRS_OPSET:
            return model
        raise ValueError(
            f"opset {opset} has no QuantizeLinear, and ONNX's version converter cannot take the model to opset {wanted}; "
            f"export it with opset {CHANNELS_OPSET} or newer"
        ) from None


def _store(graph: onnx.GraphProto) -> None:
    """Keep the tensors of Constant nodes as initializers: the quantizer takes what a node gives for an activation."""
    kept, outputs = [], {entry.name for entry in graph.output}
    for node in graph.node:
        value = next((a.t for a in node.attribute if a.name == "value" and a.type == onnx.AttributeProto.TENSOR), None)
        if node.op_type == "Constant" and not node.domain and value is not None and node.output[0] not in outputs:
            graph.initializer.add().CopyFrom(value)
            graph.initializer[-1].name = node.output[0]
        else:
            kept.append(node)
    if len(kept) < len(graph.node):
        del graph.node[:]
        graph.node.extend(kept)


def _flush(graph: onnx.GraphProto) -> None:
    """Write 0 for weights that are nothing beside the largest: a channel of such alone would get a scale of no use.

    Training with weight decay leaves such channels, and a normalization folded into them makes them no larger.
    """
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1:
            weights = onnx.numpy_helper.to_array(tensor)
            sizes = np.abs(weights)
            small = (sizes > 0) & (sizes < _NOTHING * sizes.max(initial=0.0))
            if small.any():
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.where(small, np.float32(0), weights), tensor.name))


def _own_biases(graph: onnx.GraphProto) -> None:
    """A copy of a bias for each further reader: the quantizer makes such copies too, under names that others may have."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    taken, seen = _taken(graph), collections.Counter[str]()
    for node in graph.node:
        if node.op_type in _BIASED and len(node.input) > 2 and node.input[2] in stored:
            name = node.input[2]
            seen[name] += 1
            if seen[name] > 1:
                copy = graph.initializer.add()
                copy.CopyFrom(stored[name])
                copy.name = node.input[2] = free_name(f"{name}_of_{seen[name]}", taken)


def _collisions(graph: onnx.GraphProto) -> Iterator[tuple[str, str]]:
    """New names for tensors that have the name which the quantizer gives to a companion of another tensor."""
    names, taken = _values(graph), _taken(graph)
    held = {entry.name for entry in (*graph.input, *graph.output)}
    for name in sorted(names):
        for suffix in _APPENDED:
            plain = name.removesuffix(suffix)
            if plain != name and plain in names:
                moved = plain if name in held else name
                if moved not in held:
                    yield moved, free_name(f"{moved}_renamed", taken)


def _values(graph: onnx.GraphProto) -> set[str]:
    """Tensors of the graph and of the bodies inside it."""
    found: set[str] = set()
    for inner in walk_graphs(graph):
        found.update(entry.name for entry in (*inner.input, *inner.output, *inner.initializer))
        found.update(name for node in inner.node for name in (*node.input, *node.output) if name)
    return found


def _taken(graph: onnx.GraphProto) -> set[str]:
    """What new names must stay clear of: all names, and those that the quantizer may append to."""
    names = names_in(graph) | _values(graph)
    return names | {name.removesuffix(suffix) for name in names for suffix in _APPENDED}


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Give tensors their new names, in subgraphs too, unless such a graph has a tensor of that name itself."""
    if not names:
        return
    for entries in (graph.initializer, graph.value_info):
        for entry in entries:
            entry.name = names.get(entry.name, entry.name)
    for node in graph.node:
        for tensors in (node.input, node.output):
            for index, name in enumerate(tensors):
                tensors[index] = names.get(name, name)
        for attribute in node.attribute:
            for inner in bodies_of(attribute):
                own = _defined(inner)
                _rename(inner, {old: new for old, new in names.items() if old not in own})


def _defined(graph: onnx.GraphProto) -> set[str]:
    return {*(e.name for e in (*graph.input, *graph.initializer)), *(name for node in graph.node for name in node.output)}
