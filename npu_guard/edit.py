"""Put new nodes in the place of old ones, in a copy of the model."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence

import onnx

from npu_guard.document import Document
from npu_guard.errors import ModelError
from npu_guard.graph import Node, Value, text
from npu_guard.substitution import Builder, Site


def names_in(proto: onnx.GraphProto) -> set[str]:
    """Every name of a value or node in the graph and its bodies: what new names must stay clear of."""
    found: set[str] = set()
    stack = [proto]
    while stack:
        graph = stack.pop()
        found.update(text(e.name) for e in (*graph.input, *graph.output, *graph.initializer, *graph.value_info))
        for node in graph.node:
            found.add(text(node.name))
            found.update(text(o) for o in node.output)
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    stack.append(attribute.g)
                stack.extend(attribute.graphs)
    return found


def replace(document: Document, nodes: Sequence[Node], edits: Sequence[tuple[Site, Builder, Mapping[Value, str]]]) -> Document:
    """The document with each site's nodes replaced by what its builder emitted.

    `nodes` are those of the main graph as analysed, in the document's order. What only the old nodes used is gone.
    Raises ModelError where the result has a cycle.
    """
    result = document.copy()
    graph = result.proto.graph
    before = _dead(graph)
    index = {node: i for i, node in enumerate(nodes)}
    removed: set[int] = set()
    added: list[onnx.NodeProto] = []
    for site, builder, outputs in edits:
        removed.update(index[node] for node in site.nodes)
        renamed = {new: old.name for old, new in outputs.items()}
        for node in builder.nodes:
            for names in (node.input, node.output):
                for i, name in enumerate(names):
                    if name in renamed:
                        names[i] = renamed[name]
            added.append(node)
        graph.initializer.extend(builder.initializers)
    kept = [node for i, node in enumerate(graph.node) if i not in removed]
    ordered = _in_order([*kept, *added])
    del graph.node[:]
    graph.node.extend(ordered)
    _prune(graph, before)
    return result


def _in_order(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Topological order that keeps the given one wherever it can."""
    producer = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    waits: list[set[int]] = []
    readers: dict[int, list[int]] = {}
    for i, node in enumerate(nodes):
        needed = {producer[name] for name in _reads(node) if name in producer} - {i}
        waits.append(needed)
        for p in needed:
            readers.setdefault(p, []).append(i)
    ready = [i for i, needed in enumerate(waits) if not needed]
    heapq.heapify(ready)
    order = []
    while ready:
        i = heapq.heappop(ready)
        order.append(nodes[i])
        for reader in readers.get(i, ()):
            waits[reader].discard(i)
            if not waits[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(nodes):
        raise ModelError("invalid", "the new nodes wait for each other in a circle")
    return order


def _reads(node: onnx.NodeProto) -> Iterable[str]:
    """Inputs of a node and of the nodes in its bodies."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for body in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
            for inner in body.node:
                yield from _reads(inner)
            yield from (o.name for o in body.output)


def _dead(graph: onnx.GraphProto) -> set[str]:
    """Names that nothing reads: outputs of nodes, and initializers."""
    used = {name for node in graph.node for name in _reads(node)} | {o.name for o in graph.output}
    made = {name for node in graph.node for name in node.output} | {t.name for t in graph.initializer}
    return made - used


def _prune(graph: onnx.GraphProto, dead_before: set[str]) -> None:
    """Drop what the edit has left without readers; what was dead before stays as its author wanted it."""
    while True:
        dead = _dead(graph) - dead_before
        gone = [i for i, node in enumerate(graph.node) if node.output and all(not o or o in dead for o in node.output)]
        if not gone:
            break
        for i in reversed(gone):
            del graph.node[i]
    inputs = {i.name for i in graph.input}
    for i in reversed(range(len(graph.initializer))):
        name = graph.initializer[i].name
        if name in dead and name not in inputs:
            del graph.initializer[i]
    alive = {name for node in graph.node for name in node.output}
    for i in reversed(range(len(graph.value_info))):
        if graph.value_info[i].name not in alive:
            del graph.value_info[i]
