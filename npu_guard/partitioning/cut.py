"""A piece of a partition as a model of its own: the same operators, names, metadata and weights, and nothing else."""

from __future__ import annotations

import numpy as np
import onnx
from msgspec.structs import replace

from npu_guard.base.text import text
from npu_guard.file.document import Document
from npu_guard.graph.graph import Graph, Node, Value
from npu_guard.partitioning.partition import Partition, Piece
from npu_guard.partitioning.units import is_default, is_known_shape

_HEADER = 1 << 16
"""Bytes of text about the whole model that every piece repeats; what is longer stays out of all of them."""


class Cutter:
    """Cuts pieces out of one document. The weights stay in the files that they are in."""

    def __init__(self, document: Document, partition: Partition) -> None:
        self.document = document
        self.partition = partition
        graph = document.proto.graph
        main: Graph = partition.analysis.model.graph
        self.index = {node: i for i, node in enumerate(main.nodes)}
        self.inputs = {text(i.name): i for i in graph.input}
        self.outputs = {text(o.name): o for o in graph.output}
        self.inner = {text(v.name): v for v in graph.value_info}
        self.weights = {text(t.name): t for t in graph.initializer}
        self.sparse = {text(s.values.name): s for s in graph.sparse_initializer}
        self.header = onnx.ModelProto()
        self.header.CopyFrom(document.proto)
        for field in ("graph", "functions", "training_info"):
            self.header.ClearField(field)
        if self.header.ByteSize() > _HEADER:
            self.header.ClearField("doc_string")
            self.header.ClearField("metadata_props")
        words = onnx.GraphProto(doc_string=document.proto.graph.doc_string, metadata_props=document.proto.graph.metadata_props)
        self.words = words if words.ByteSize() <= _HEADER else onnx.GraphProto()

    def document_of(self, piece: Piece) -> Document:
        """The piece's model."""
        nodes, constants = self._needed(piece)
        proto = onnx.ModelProto()
        proto.CopyFrom(self.header)
        whole, graph = self.document.proto.graph, proto.graph
        graph.name = f"{whole.name or 'model'} {piece.index} {piece.side}"
        graph.MergeFrom(self.words)
        graph.node.extend(self._node(node) for node in nodes)
        names = {v.name for v in constants}
        for name in names & self.weights.keys():
            graph.initializer.append(self.weights[name])
        for name in names & self.sparse.keys():
            graph.sparse_initializer.append(self.sparse[name])
        graph.initializer.sort(key=lambda t: t.name)
        graph.sparse_initializer.sort(key=lambda s: s.values.name)
        graph.input.extend(self._info(v, self.inputs) for v in piece.inputs)
        # A default that callers may override, and before IR version 4 every weight, is an input too.
        graph.input.extend(self.inputs[v.name] for v in constants if v.name in self.inputs)
        graph.output.extend(self._info(v, self.outputs) for v in piece.outputs)
        declared = {*piece.inputs, *piece.outputs}
        made = [v for node in nodes for v in node.outputs if v is not None and v.name and v not in declared]
        told = (v for v in made if v.name in self.inner and v.shape is not None and v.dtype)
        graph.value_info.extend(self._info(v, self.inner) for v in told)
        kept = {*names, *(v.name for v in declared), *(v.name for v in made)}
        graph.quantization_annotation.extend(a for a in whole.quantization_annotation if text(a.tensor_name) in kept)
        return replace(self.document, proto=proto)

    def _needed(self, piece: Piece) -> tuple[list[Node], list[Value]]:
        """Nodes of the piece with those that it copies, in the model's order, and what it reads of the model's own values."""
        found, constants = set(piece.nodes), dict[Value, None]()
        stack: list[Value] = [v for node in piece.nodes for v in node.reads()] + list(piece.outputs)
        while stack:
            value = stack.pop()
            node = value.producer
            if is_default(value):
                constants[value] = None
            elif node in self.partition.copied and node is not None and node not in found:
                found.add(node)
                if not is_known_shape(node):
                    stack.extend(node.reads())
        return sorted(found, key=self.index.__getitem__), sorted(constants, key=lambda v: v.name)

    def _node(self, node: Node) -> onnx.NodeProto:
        """The node; where it asks for a shape that is known, the answer, so that the tensor need not be there."""
        proto: onnx.NodeProto = self.document.proto.graph.node[self.index[node]]
        if node not in self.partition.copied or not is_known_shape(node):
            return proto
        value = self.partition.analysis.constants.get(node.output)
        assert value is not None  # its extents are numbers
        answer: onnx.NodeProto = onnx.helper.make_node("Constant", [], [node.output.name], name=node.name)
        answer.attribute.append(onnx.helper.make_attribute("value", onnx.numpy_helper.from_array(np.asarray(value, np.int64))))
        answer.metadata_props.extend(proto.metadata_props)
        answer.doc_string = proto.doc_string
        return answer

    def _info(self, value: Value, known: dict[str, onnx.ValueInfoProto]) -> onnx.ValueInfoProto:
        """The declaration of a value with the shape that the analysis found; extents that nobody knows get a symbol."""
        info = onnx.ValueInfoProto(name=value.name)
        if value.name in known:
            info.CopyFrom(known[value.name])
        if value.dtype and (value.shape is not None or not info.type.HasField("tensor_type")):
            info.type.CopyFrom(onnx.helper.make_tensor_type_proto(value.dtype, symbols(value)))
        return info


def symbols(value: Value) -> list[int | str] | None:
    """The shape, with a symbol of its own for each extent that has none."""
    if value.shape is None:
        return None
    return [f"{value.name}_{axis}" if d is None else d for axis, d in enumerate(value.shape)]
