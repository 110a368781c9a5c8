"""What nothing in a graph reads: dropped where a change has left it so, kept where the author of the model did."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import onnx

from npu_guard.file.bodies import bodies_of

_SINGLY = 64
"""Members that are dropped one by one: each time all that follow move, where dropping at once copies what is kept."""


def reads(node: onnx.NodeProto) -> Iterable[str]:
    """Inputs of a node and of the nodes in its bodies."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for body in bodies_of(attribute):
            for inner in body.node:
                yield from reads(inner)
            yield from (o.name for o in body.output)


def unread(graph: onnx.GraphProto) -> set[str]:
    """Names that nothing reads: outputs of nodes, and initializers."""
    return _unread(graph, _readers(graph))


def drop_unread(graph: onnx.GraphProto, dead_before: set[str]) -> None:
    """Drop what a change has left without readers; what was dead before stays as its author wanted it."""
    nodes, readers = list(graph.node), _readers(graph)
    producer = {name: i for i, node in enumerate(nodes) for name in node.output if name}

    def useless(node: onnx.NodeProto) -> bool:
        return bool(node.output) and not any(o and (readers[o] or o in dead_before) for o in node.output)

    gone = {i for i, node in enumerate(nodes) if useless(node)}
    stack = list(gone)
    while stack:
        for name in set(reads(nodes[stack.pop()])):
            readers[name] -= 1
            maker = producer.get(name)
            if maker is not None and maker not in gone and useless(nodes[maker]):
                gone.add(maker)
                stack.append(maker)
    kept = [node for i, node in enumerate(nodes) if i not in gone]
    inputs, alive = {i.name for i in graph.input}, {name for node in kept for name in node.output}
    drop(graph.node, sorted(gone))
    dead = _unread(graph, readers) - dead_before - inputs
    drop(graph.initializer, [i for i, t in enumerate(graph.initializer) if t.name in dead])
    drop(graph.value_info, [i for i, v in enumerate(graph.value_info) if v.name not in alive])


def drop(field: Any, gone: Sequence[int]) -> None:
    """Drop these members of a repeated field, in rising order."""
    if len(gone) <= _SINGLY:
        for i in reversed(gone):
            del field[i]
        return
    dropped = set(gone)
    kept = [member for i, member in enumerate(field) if i not in dropped]
    del field[:]
    field.extend(kept)


def _readers(graph: onnx.GraphProto) -> Counter[str]:
    """How many read each name: nodes, and the model's user."""
    return Counter(itertools.chain((name for node in graph.node for name in set(reads(node))), (o.name for o in graph.output)))


def _unread(graph: onnx.GraphProto, readers: Mapping[str, int]) -> set[str]:
    made = {name for node in graph.node for name in node.output} | {t.name for t in graph.initializer}
    return {name for name in made if not readers.get(name)}
