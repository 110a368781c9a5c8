"""Each finding as a model of its own: the node with what it needs, to be sent to a vendor.

Weights are never read, so a repro has random numbers of the same shape in their place (from a fixed seed); only small
constants that steer an operator (shapes, axes, scales) are the model's own. Metadata and doc strings are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.constants import Array
from npu_guard.analysis.layout import RUNNING
from npu_guard.analysis.views import looks_like_tokens
from npu_guard.base.text import text
from npu_guard.file.bodies import bodies_of
from npu_guard.file.document import RUNTIME_IR
from npu_guard.gate.repro_quantized import is_about_encodings, rings
from npu_guard.graph.graph import Graph, Node, Value
from npu_guard.results.findings import INPUT, Dim, Finding

MAX_BYTES = 64 << 20
"""Weights of one repro; beyond that there is a line in the index instead of a file."""
_STEERING = 8
"""Numbers of a float constant that may steer an operator, such as the scales of a Resize; longer ones are weights."""
_STEPS_BACK = 4
"""How far back a repro follows what the inputs of its node are computed from."""
_T = onnx.TensorProto


class ExtractError(Exception):
    """A finding that makes no model of its own; the message says why."""


def extract(analysis: Analysis, finding: Finding) -> Iterator[onnx.ModelProto]:
    """Models that may show the finding, the smallest first: its node alone, or the whole run of rearranging operators; then
    with what reads the result, for rules that ask what comes of it, and with what its inputs are computed from, for rules that
    ask which part an axis was. Raises ExtractError.
    """
    found = _find(analysis, finding)
    cut = _Cut(analysis, found.graph)
    nodes: set[Node] = set()
    if isinstance(found, Value):
        yield cut.model((), (found,))
        nodes |= _readers(analysis, found)
    else:
        nodes |= set(_run(analysis, found))
    if nodes:
        yield cut.model(_in_order(found.graph, nodes), ())
    if isinstance(found, Node) and is_about_encodings(finding):
        for ring in rings(analysis, nodes):
            yield cut.model(_in_order(found.graph, ring), ())
        return
    if after := {r for n in nodes for v in n.outputs if v is not None for r in _readers(analysis, v)} - nodes:
        yield cut.model(_in_order(found.graph, nodes | after), ())
    for _ in range(_STEPS_BACK):
        if not (before := _sources(analysis, found.graph, nodes) - nodes):
            return
        nodes |= before
        yield cut.model(_in_order(found.graph, nodes), ())


def _readers(analysis: Analysis, value: Value) -> set[Node]:
    return {node for node in analysis.readers(value) if node.graph is value.graph}


def _in_order(graph: Graph, nodes: set[Node]) -> list[Node]:
    return [node for node in graph.nodes if node in nodes]


def _sources(analysis: Analysis, graph: Graph, nodes: Iterable[Node]) -> set[Node]:
    """Nodes of the graph from which the others take what is no constant."""
    taken = (v for n in nodes for v in n.inputs if v is not None and not analysis.is_constant(v))
    return {v.producer for v in taken if v.producer is not None and v.producer.graph is graph}


def _find(analysis: Analysis, finding: Finding) -> Node | Value:
    location = finding.location
    for graph in analysis.model.graph.graphs():
        if graph.path == location.graph:
            value = graph.values.get(location.output)
            if value is not None and (value.producer is not None or location.op_type == INPUT):
                return value.producer or value
    for node in analysis.model.graph.walk():  # a node whose first output has no name
        if (node.graph.path, node.label, node.op) == (location.graph, location.node, location.op_type):
            return node
    raise ExtractError("its node is not in the model")


def _run(analysis: Analysis, node: Node) -> list[Node]:
    """Rearranging operators that follow each other directly, judged as one; of the others, the node alone.

    A matrix product over tokens without their batch comes with what took it off: alone it would be one over vectors.
    """
    flat = [v for v in node.inputs if v is not None and looks_like_tokens(v)]
    if flat and (before := _before(analysis, node)) is not None:
        return [*_run(analysis, before), node]
    if node.op_type not in RUNNING or node.domain:
        return [node]
    run = [node]
    while (before := _before(analysis, run[0])) is not None and _only_reader(analysis, before) is run[0]:
        run.insert(0, before)
    while (after := _only_reader(analysis, run[-1])) is not None and _before(analysis, after) is run[-1]:
        run.append(after)
    return run


def _rearranges(analysis: Analysis, node: Node | None) -> bool:
    return node is not None and node.op_type in RUNNING and not node.domain and node not in analysis.elided


def _before(analysis: Analysis, node: Node) -> Node | None:
    first = node.input(0)
    producer = analysis.origin(first).producer if first is not None else None
    return producer if _rearranges(analysis, producer) else None


def _only_reader(analysis: Analysis, node: Node) -> Node | None:
    reader = analysis.only_reader(node.output)
    return reader if _rearranges(analysis, reader) else None


@dataclass(slots=True)
class _Cut:
    analysis: Analysis
    graph: Graph

    def model(self, nodes: Sequence[Node], inputs: Sequence[Value]) -> onnx.ModelProto:
        """These nodes of one graph as a model; without nodes, the inputs passed on."""
        proto = onnx.ModelProto(ir_version=RUNTIME_IR, producer_name="npu-guard")
        proto.graph.name = "repro"
        made: dict[str, Value] = {}
        known: set[str] = set()
        size = 0
        for node in nodes:
            copy = self._copy(node, made)
            proto.graph.node.append(copy)
            for name, value in self._reads(node, copy):
                if name not in known and name not in made:
                    known.add(name)
                    size += self._provide(proto.graph, name, value, _is_structure(node, value))
                    if size > MAX_BYTES:
                        raise ExtractError(f"its weights are larger than {MAX_BYTES >> 20} MiB")
            made |= {v.name: v for v in node.outputs if v is not None and v.name}
        for value in inputs:
            proto.graph.input.append(self._info(value.name, value))
            proto.graph.node.append(onnx.helper.make_node("Identity", [value.name], ["npu_guard_output"], "pass"))
            proto.graph.output.append(self._info("npu_guard_output", value))
        read = {name for node in proto.graph.node for name in node.input}
        proto.graph.output.extend(self._info(name, value) for name, value in made.items() if name not in read)
        domains = {node.domain for node in proto.graph.node} | {""}
        for domain, version in sorted(self.analysis.model.opsets.items()):
            if domain in domains or any(node.subgraphs for node in nodes):
                proto.opset_import.add(domain=domain, version=version)
        return proto

    def _copy(self, node: Node, made: dict[str, Value]) -> onnx.NodeProto:
        copy = onnx.NodeProto()
        copy.CopyFrom(node.proto)
        _strip(copy)
        for index, value in enumerate(node.inputs):
            # What lies between two nodes of a run and does nothing is left out.
            if value is not None and value.name not in made and self.analysis.origin(value).name in made:
                copy.input[index] = self.analysis.origin(value).name
        return copy

    def _reads(self, node: Node, copy: onnx.NodeProto) -> list[tuple[str, Value]]:
        """Values that the node takes from outside, those that its bodies read included."""
        own = [(text(name), value) for name, value in zip(copy.input, node.inputs, strict=False) if value is not None]
        return own + [(value.name, value) for value in node.captures()]

    def _provide(self, graph: onnx.GraphProto, name: str, value: Value, whole: bool) -> int:
        """Make the value a graph input, or a constant where it is one, with its own numbers if `whole`; returns its bytes."""
        initializer = value.initializer
        is_input = value.is_input or not self.analysis.is_constant(value)
        if is_input:
            graph.input.append(self._info(name, value))
        if is_input and initializer is None:
            return 0
        constant = self.analysis.constants.get(value)
        if constant is not None and (constant.dtype.kind not in "fc" or whole or constant.size <= _STEERING):
            graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(constant), name))
            return int(constant.nbytes)
        shape = list(initializer.dims) if initializer is not None and initializer.data_type else _whole(value.shape)
        dtype = value.dtype or (initializer.data_type if initializer is not None else 0)
        if shape is None or dtype not in onnx.helper.get_all_tensor_dtypes() or dtype == _T.UNDEFINED:
            raise ExtractError(f"the shape or type of its constant {name!r} is not known")
        size = math.prod(shape) * (8 if dtype == _T.STRING else onnx.helper.tensor_dtype_to_np_dtype(dtype).itemsize)
        if size <= MAX_BYTES:
            graph.initializer.append(_random(name, dtype, shape))
        return size

    def _info(self, name: str, value: Value) -> onnx.ValueInfoProto:
        if not value.dtype:
            raise ExtractError(f"the type of {name!r} is not known")
        info = onnx.helper.make_tensor_value_info(name, value.dtype, None)
        if value.shape is not None:
            info.type.tensor_type.shape.SetInParent()
            for extent in value.shape:
                dim = info.type.tensor_type.shape.dim.add()
                if isinstance(extent, int):
                    dim.dim_value = extent
                elif extent:
                    dim.dim_param = extent
        return info


def _is_structure(node: Node, value: Value) -> bool:
    """Whether a node reads a value as a scale or zero point."""
    operator = node.operator
    roles = ("scale", "zero_point", "output_scale", "output_zero_point")
    return any(v is value and operator.role(index) in roles for index, v in enumerate(node.inputs))


def _whole(shape: tuple[Dim, ...] | None) -> list[int] | None:
    known = [d for d in shape or () if isinstance(d, int)]
    return known if shape is not None and len(known) == len(shape) else None


def _random(name: str, dtype: int, shape: Sequence[int]) -> onnx.TensorProto:
    """Numbers of a weight's size: a product with them neither dies out nor overflows."""
    kind = onnx.helper.tensor_dtype_to_np_dtype(dtype)
    if dtype == _T.STRING:
        return onnx.TensorProto(name=name, data_type=dtype, dims=shape, string_data=[b""] * math.prod(shape))
    drawn: Array = np.random.default_rng(0).standard_normal(tuple(shape), np.float32)
    if kind.kind in "iub":
        drawn = np.zeros(tuple(shape), np.float32)  # an index that is in every table, a shift by nothing
    else:
        drawn /= math.sqrt(max(1, math.prod(shape[1:])))
    return onnx.numpy_helper.from_array(drawn.astype(kind), name)


def _strip(node: onnx.NodeProto) -> None:
    """Take out what names files and people; bodies too."""
    pending: list[onnx.NodeProto | onnx.GraphProto] = [node]
    while pending:
        proto = pending.pop()
        proto.doc_string = ""
        del proto.metadata_props[:]
        if isinstance(proto, onnx.NodeProto):
            for attribute in proto.attribute:
                attribute.doc_string = ""
                pending += bodies_of(attribute)
        else:
            pending += proto.node
            for info in _infos(proto):
                info.doc_string = ""
                del info.metadata_props[:]
            for tensor in proto.initializer:
                tensor.doc_string = ""
                if any(e.key == "location" for e in tensor.external_data):  # cut out of the model, or in a file beside it
                    name, dtype, dims = tensor.name, tensor.data_type, list(tensor.dims)
                    tensor.CopyFrom(_random(text(name), dtype, dims))


def _infos(graph: onnx.GraphProto) -> Iterable[onnx.ValueInfoProto]:
    return [*graph.input, *graph.output, *graph.value_info]
