"""Put new nodes in the place of old ones, in a copy of the model."""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import onnx

from npu_guard.base.errors import ModelError
from npu_guard.base.text import text
from npu_guard.file.bodies import bodies_of, walk_graphs
from npu_guard.file.document import Document
from npu_guard.graph.graph import Node, Value
from npu_guard.rewriting import roles
from npu_guard.rewriting.substitution import Builder, Match


class Edit(NamedTuple):
    """A match, what its rewrite emitted, and the new name for each replaced value."""

    match: Match
    builder: Builder
    outputs: Mapping[Value, str]


def free_name(wanted: str, taken: set[str]) -> str:
    """The wanted name, with a number behind it where it is taken; it is taken from now on."""
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    taken.add(name)
    return name


def names_in(proto: onnx.GraphProto) -> set[str]:
    """Every name of a value or node in the graph and its bodies: what new names must stay clear of."""
    found: set[str] = set()
    for graph in walk_graphs(proto):
        found.update(text(e.name) for e in (*graph.input, *graph.output, *graph.initializer, *graph.value_info))
        for node in graph.node:
            found.add(text(node.name))
            found.update(text(o) for o in node.output)
    return found


def replace_matches(document: Document, nodes: Sequence[Node], edits: Sequence[Edit]) -> Document:
    """The document with each match's nodes replaced by what its builder emitted.

    `nodes` are those of the main graph as analysed, in the document's order. What only the old nodes used is gone.
    Raises ModelError where the result has a cycle.
    """
    result = document.copy()
    graph = result.proto.graph
    before = _dead(graph, _readers(graph))
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
    _prune(graph, before)
    return result


def _share(graph: onnx.GraphProto, new: set[str]) -> None:
    """Leave one of the initializers with the same content where the new nodes made several, or made again what was there."""
    inputs = {i.name for i in graph.input}
    seen: dict[tuple[object, ...], list[onnx.TensorProto]] = {}
    same: dict[str, str] = {}
    for tensor in graph.initializer:
        if tensor.HasField("raw_data") and tensor.name not in inputs:
            digest = hashlib.blake2b(tensor.raw_data, digest_size=16).digest()
            alike = seen.setdefault((tensor.data_type, tuple(tensor.dims), digest), [])
            first = next((t for t in alike[:8] if roles.may_be_one(t, tensor)), None)
            if first is None:
                alike.append(tensor)
            elif tensor.name in new:
                same[tensor.name] = first.name
    for node in graph.node if same else ():
        for i, name in enumerate(node.input):
            node.input[i] = same.get(name, name)
    _drop(graph.initializer, [i for i, t in enumerate(graph.initializer) if t.name in same])


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
        for body in bodies_of(attribute):
            for inner in body.node:
                yield from _reads(inner)
            yield from (o.name for o in body.output)


def _readers(graph: onnx.GraphProto) -> Counter[str]:
    """How many read each name: nodes, and the model's user."""
    return Counter(itertools.chain((name for node in graph.node for name in set(_reads(node))), (o.name for o in graph.output)))


def _dead(graph: onnx.GraphProto, readers: Mapping[str, int]) -> set[str]:
    """Names that nothing reads: outputs of nodes, and initializers."""
    made = {name for node in graph.node for name in node.output} | {t.name for t in graph.initializer}
    return {name for name in made if not readers.get(name)}


def _prune(graph: onnx.GraphProto, dead_before: set[str]) -> None:
    """Drop what the edit has left without readers; what was dead before stays as its author wanted it."""
    nodes, readers = list(graph.node), _readers(graph)
    producer = {name: i for i, node in enumerate(nodes) for name in node.output if name}

    def useless(node: onnx.NodeProto) -> bool:
        return bool(node.output) and not any(o and (readers[o] or o in dead_before) for o in node.output)

    gone = {i for i, node in enumerate(nodes) if useless(node)}
    stack = list(gone)
    while stack:
        for name in set(_reads(nodes[stack.pop()])):
            readers[name] -= 1
            maker = producer.get(name)
            if maker is not None and maker not in gone and useless(nodes[maker]):
                gone.add(maker)
                stack.append(maker)
    kept = [node for i, node in enumerate(nodes) if i not in gone]
    inputs, alive = {i.name for i in graph.input}, {name for node in kept for name in node.output}
    _drop(graph.node, sorted(gone))
    dead = _dead(graph, readers) - dead_before - inputs
    _drop(graph.initializer, [i for i, t in enumerate(graph.initializer) if t.name in dead])
    _drop(graph.value_info, [i for i, v in enumerate(graph.value_info) if v.name not in alive])


_SINGLY = 64
"""Members that are dropped one by one: each time all that follow move, where dropping at once copies what is kept."""


def _drop(field: Any, gone: Sequence[int]) -> None:
    """Drop these members of a repeated field, in rising order."""
    if len(gone) <= _SINGLY:
        for i in reversed(gone):
            del field[i]
        return
    dropped = set(gone)
    kept = [member for i, member in enumerate(field) if i not in dropped]
    del field[:]
    field.extend(kept)
