"""A skeleton becomes the view of `graph.py`.

Finds on the way what ONNX's format allows and its definition forbids: dangling inputs, cycles, values produced twice.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from npu_guard.base.errors import ModelError
from npu_guard.base.limits import exceeded
from npu_guard.base.text import short, text
from npu_guard.file.skeleton import Skeleton
from npu_guard.graph.graph import BODIES, Graph, Model, Node, Value, bodies


def build(skeleton: Skeleton) -> Model:
    """The view of a skeleton. Raises ModelError (`invalid`) where the graph is none."""
    if not skeleton.proto.graph.node and not skeleton.proto.graph.output:
        raise ModelError("invalid", f"{skeleton.path}: the graph has neither nodes nor outputs; there is nothing in it to check")
    model = Model(skeleton)
    counts = _Counts()
    _fill(model.graph, counts)
    model.has_bodies = counts.graphs > 0
    return model


class _Counts:
    """What there is in the graphs so far."""

    __slots__ = ("attributes", "graphs", "nodes", "tensors")

    def __init__(self) -> None:
        self.nodes = self.tensors = self.attributes = 0
        self.graphs = -1  # the outermost is in no node


def _bound(graph: Graph, counts: _Counts) -> None:
    """Refuse what is larger than the limits before a view of it is made."""
    proto, skeleton = graph.proto, graph.model.skeleton
    limits = skeleton.limits
    counts.nodes += len(proto.node)
    counts.tensors += len(proto.initializer) + len(proto.sparse_initializer)
    counts.graphs += 1
    counts.attributes += sum(len(node.attribute) for node in proto.node)
    for what, key, have, limit in (
        ("nodes:", "nodes", counts.nodes, limits.nodes),
        ("tensors:", "tensors", counts.tensors, limits.tensors),
        ("graphs in nodes:", "graphs", counts.graphs, limits.graphs),
        ("attributes of nodes:", "attributes", counts.attributes, limits.attributes),
        ("graphs nested in nodes, in levels:", "nesting", len(graph.path), limits.nesting),
    ):
        if have > limit:
            raise exceeded(skeleton.path, what, have, key, limit)


def _fill(graph: Graph, counts: _Counts) -> None:
    _bound(graph, counts)
    name, proto, values = graph.model.skeleton.path, graph.proto, graph.values
    # Before IR version 4 every initializer had to be listed as an input too, and was none.
    listed_twice = graph.model.skeleton.proto.ir_version < 4
    for tensor in proto.initializer:
        _initializer(graph, text(tensor.name), tensor)
    for sparse in proto.sparse_initializer:
        _initializer(graph, text(sparse.values.name), None)
    for entry in proto.input:
        value_name = text(entry.name)
        if not value_name:
            raise ModelError("invalid", f"{name}: a graph input has no name")
        known = values.get(value_name)
        if known is not None and known.is_input:
            raise ModelError("invalid", f"{name}: two graph inputs are called {short(value_name)!r}")
        value = values.setdefault(value_name, Value(value_name, graph))
        value.is_input = known is None or not listed_twice
        if value.is_input:
            graph.inputs.append(value)
    for node_proto in proto.node:
        graph.nodes.append(_node(graph, node_proto, counts))
    for entry in proto.output:
        value_name = text(entry.name)
        found = graph.lookup(value_name)
        if found is None:
            raise ModelError("invalid", f"{name}: graph output {short(value_name)!r} is produced by no node")
        found.is_output = True
        graph.outputs.append(found)


def _initializer(graph: Graph, value_name: str, tensor: onnx.TensorProto | None) -> None:
    if not value_name:
        raise ModelError("invalid", f"{graph.model.skeleton.path}: an initializer has no name")
    if value_name in graph.values:
        raise ModelError("invalid", f"{graph.model.skeleton.path}: two initializers are called {short(value_name)!r}")
    value = graph.values[value_name] = Value(value_name, graph)
    # A sparse initializer is a constant like any other; its values are never asked for.
    value.initializer = tensor if tensor is not None else onnx.TensorProto(name=value_name)


def _node(graph: Graph, proto: onnx.NodeProto, counts: _Counts) -> Node:
    node = Node(proto, graph)
    if not node.op_type:
        raise ModelError("invalid", f"{graph.model.skeleton.path}: node {short(node.name)!r} has no operator type")
    values, inputs, outputs = graph.values, node.inputs, node.outputs
    for raw in proto.input[:]:
        if not raw:
            inputs.append(None)
            continue
        name = raw if raw.__class__ is str else text(raw)
        value = values.get(name)
        if value is None:
            value = graph.lookup(name)
            if value is None:
                raise _dangling(graph, node, name)
        value.consumers.append(node)
        inputs.append(value)
    if attributes := proto.attribute:
        for attribute in attributes:
            if attribute.type in BODIES:
                for key, body in bodies(attribute):
                    _body(graph, node, key, body, counts)
    for raw in proto.output[:]:
        if not raw:
            outputs.append(None)
            continue
        name = raw if raw.__class__ is str else text(raw)
        if name in values:
            raise ModelError(
                "invalid",
                f"{graph.model.skeleton.path}: node {short(node.label)!r} ({node.op}) produces {short(name)!r},"
                " which exists already; every value must be produced once",
            )
        value = values[name] = Value(name, graph)
        value.producer = node
        outputs.append(value)
    if not outputs:
        outputs.append(None)
    if outputs[0] is None:  # legal where the first output is optional and unused
        value = outputs[0] = Value("", graph)
        value.producer = node
    return node


def _body(graph: Graph, node: Node, attribute: str, proto: onnx.GraphProto, counts: _Counts) -> None:
    body = Graph(graph.model, proto, graph, (*graph.path, f"{short(text(node.proto.name) or node.op_type)}.{attribute}"))
    found = node.subgraphs if isinstance(node.subgraphs, list) else []
    found.append((attribute, body))
    node.subgraphs = found
    _fill(body, counts)


def _dangling(graph: Graph, node: Node, missing: str) -> ModelError:
    """Tell a value that nobody makes from one that is made too late, and an unsorted graph from a cycle."""
    name = graph.model.skeleton.path
    label = short(text(node.proto.name) or text(node.proto.output[0] if node.proto.output else node.op_type))
    protos = list(graph.proto.node)
    producers = {text(o): index for index, p in enumerate(protos) for o in p.output}
    if missing not in producers:
        return ModelError("invalid", f"{name}: node {label!r} ({node.op}) reads {short(missing)!r}, which nothing produces")
    start = len(graph.nodes)  # index of this node: the nodes before it are built
    if _reaches(protos, producers, producers[missing], start):
        return ModelError("invalid", f"{name}: the graph has a cycle through node {label!r} ({node.op}) and {short(missing)!r}")
    return ModelError(
        "invalid",
        f"{name}: node {label!r} ({node.op}) reads {short(missing)!r} before it is produced;"
        " ONNX wants nodes in topological order",
    )


def _reaches(protos: list[onnx.NodeProto], producers: Mapping[str, int], start: int, target: int) -> bool:
    """Whether node `target` is node `start` or among its ancestors."""
    seen = {start}
    stack = [start]
    while stack:
        index = stack.pop()
        if index == target:
            return True
        for raw in protos[index].input:
            parent = producers.get(text(raw))
            if parent is not None and parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return False
