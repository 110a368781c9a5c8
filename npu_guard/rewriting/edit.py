"""Put new nodes in the place of old ones, in a copy of the model."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import onnx

from npu_guard.base.errors import ModelError
from npu_guard.file.document import Document
from npu_guard.file.unread import drop, drop_unread, reads, unread
from npu_guard.graph.graph import Node, Value
from npu_guard.rewriting import roles
from npu_guard.rewriting.substitution import Builder, Match


class Edit(NamedTuple):
    """A match, what its rewrite emitted, and the new name for each replaced value."""

    match: Match
    builder: Builder
    outputs: Mapping[Value, str]


def replace_matches(document: Document, nodes: Sequence[Node], edits: Sequence[Edit]) -> Document:
    """The document with each match's nodes replaced by what its builder emitted.

    `nodes` are those of the main graph as analysed, in the document's order. What only the old nodes used is gone.
    Raises ModelError where the result has a cycle.
    """
    result = document.copy()
    graph = result.proto.graph
    before = unread(graph)
    index = {node: i for i, node in enumerate(nodes)}
    removed: set[int] = set()
    added: list[onnx.NodeProto] = []
    for match, builder, outputs in edits:
        removed.update(index[node] for node in match.nodes)
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
    _share(graph, {t.name for _, builder, _ in edits for t in builder.initializers})
    drop_unread(graph, before)
    return result


def _share(graph: onnx.GraphProto, new: set[str]) -> None:
    """Leave one of the initializers with the same content where the new nodes made several, or made again what was there."""
    from hashlib import blake2b  # slow to load; `check` shares nothing

    inputs = {i.name for i in graph.input}
    seen: dict[tuple[object, ...], list[onnx.TensorProto]] = {}
    same: dict[str, str] = {}
    for tensor in graph.initializer:
        if tensor.HasField("raw_data") and tensor.name not in inputs:
            digest = blake2b(tensor.raw_data, digest_size=16).digest()
            alike = seen.setdefault((tensor.data_type, tuple(tensor.dims), digest), [])
            first = next((t for t in alike[:8] if roles.may_be_one(t, tensor)), None)
            if first is None:
                alike.append(tensor)
            elif tensor.name in new:
                same[tensor.name] = first.name
    for node in graph.node if same else ():
        for i, name in enumerate(node.input):
            node.input[i] = same.get(name, name)
    drop(graph.initializer, [i for i, t in enumerate(graph.initializer) if t.name in same])


def _in_order(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Topological order that keeps the given one wherever it can."""
    producer = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    waits: list[set[int]] = []
    readers: dict[int, list[int]] = {}
    for i, node in enumerate(nodes):
        needed = {producer[name] for name in reads(node) if name in producer} - {i}
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
