"""The main graph as a partition sees it: units that stay whole, what they read and make, and where they may run.

A unit is one node, or several between which no tensor can be handed over (sequences, strings, tensors of unknown rank).
What the graph alone determines is no unit: it is copied into every piece that reads it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.layout import RUNNING
from npu_guard.analysis.quantized.encoding import dequantizes
from npu_guard.analysis.quantized.reading import Quantized, read
from npu_guard.checking.engine import Checked
from npu_guard.device import Profile
from npu_guard.file.tensors import BITS
from npu_guard.graph.graph import Node, Value, is_known

NPU, HOST, EITHER = 0, 1, 2
"""Sides; EITHER is for what leaves no trace on a device, which follows its neighbours."""
_NO_NUMBERS = (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING)
"""Element types that no device holds."""


@dataclass(frozen=True, slots=True)
class Units:
    """Units in a topological order. `values` are those that units hand to each other, graph inputs not counted."""

    members: Sequence[tuple[Node, ...]]
    sides: Sequence[int]
    blocked: Sequence[bool]
    """Whether findings, and nothing else, keep the unit on the host."""
    macs: Sequence[int]
    reads: Sequence[tuple[int, ...]]
    """Values that each unit takes from others."""
    makes: Sequence[tuple[int, ...]]
    values: Sequence[Value]
    producer: Sequence[int]
    readers: Sequence[tuple[int, ...]]
    bytes: Sequence[int]
    copied: frozenset[Node]
    """Nodes that are no units: whoever reads them has them."""


def build(analysis: Analysis, checked: Checked, profile: Profile) -> Units:
    """The units of a model. Linear in nodes and edges."""
    quantized = read(analysis)
    copied = copied_nodes(analysis, quantized)
    nodes = [n for n in analysis.model.graph.nodes if n not in copied]
    held = _held(analysis, checked, profile)
    glue = [_glued(node, copied) for node in nodes]
    groups = _groups(nodes, glue) if any(glue) else [(node,) for node in nodes]
    home = {node: i for i, group in enumerate(groups) for node in group}

    number: dict[Value, int] = {}
    reads: list[tuple[int, ...]] = []
    for i, group in enumerate(groups):
        taken: dict[int, None] = {}
        for node in group:
            for value in reads_through(node, copied):
                if value.producer is not None and home.get(value.producer, i) != i:
                    taken[number.setdefault(value, len(number))] = None
        reads.append(tuple(taken))
    values = list(number)
    producer = [home[v.producer] for v in values if v.producer is not None]
    makes: list[list[int]] = [[] for _ in groups]
    readers: list[list[int]] = [[] for _ in values]
    for v, unit in enumerate(producer):
        makes[unit].append(v)
    for unit, taken_values in enumerate(reads):
        for v in taken_values:
            readers[v].append(unit)
    return Units(
        members=groups,
        sides=[_side(group, analysis, held, quantized) for group in groups],
        blocked=[len(group) == 1 and group[0] in held and not group[0].subgraphs for group in groups],
        macs=[sum(_macs(node, analysis) for node in group) for group in groups],
        reads=reads,
        makes=[tuple(m) for m in makes],
        values=values,
        producer=producer,
        readers=[tuple(r) for r in readers],
        bytes=[_size(v) for v in values],
        copied=copied,
    )


def reads_through(node: Node, copied: frozenset[Node]) -> Iterator[Value]:
    """What a node takes from its graph when it has nodes that are copied beside it: what these read in their turn."""
    for value in node.reads():
        given = value
        while given.producer in copied and dequantizes(given.producer) and given.producer.inputs[0] is not None:
            given = given.producer.inputs[0]
        yield given


def copied_nodes(analysis: Analysis, quantized: Quantized | None = None) -> frozenset[Node]:
    """Nodes whose outputs follow from constants and from shapes that are wholly known; and DequantizeLinear inside a quantized
    network, so that tensors are handed over in integers whoever reads them.
    """
    members = (quantized or read(analysis)).members
    found: set[Node] = set()
    for node in analysis.model.graph.nodes:
        inside = node in members and dequantizes(node) and not node.output.is_output and not _is_captured(node.output)
        follows = node.output in analysis.static and (is_known_shape(node) or all(_follows(v, found) for v in node.inputs))
        if inside or follows:
            found.add(node)
    return frozenset(found)


def _is_captured(value: Value) -> bool:
    """Whether a body reads the value, which takes it from the graph around as it is."""
    return any(reader.graph is not value.graph for reader in value.consumers)


def is_known_shape(node: Node) -> bool:
    """Whether the node asks for a shape that the analysis knows, so that its data need not be there."""
    given = node.inputs[0] if node.inputs else None
    asks = node.op_type in ("Shape", "Size") and not node.domain
    return asks and given is not None and is_known(given.shape)


def is_default(value: Value) -> bool:
    """Whether the model holds the value: an initializer, also one that a caller may override."""
    return value.producer is None and value.initializer is not None


def _follows(value: Value | None, copied: set[Node]) -> bool:
    return value is None or is_default(value) or value.producer in copied


def can_cross(value: Value) -> bool:
    """Whether a piece can hand the value over: a tensor of numbers whose rank is known, which ONNX wants of an input."""
    return value.shape is not None and value.dtype not in _NO_NUMBERS


def _glued(node: Node, copied: frozenset[Node]) -> list[Value]:
    """Outputs whose readers must be where the node is."""
    found = [v for v in node.outputs if v is not None and not can_cross(v) and v.consumers]
    return found if found and node not in copied else []


def _groups(nodes: Sequence[Node], glue: Sequence[Sequence[Value]]) -> list[tuple[Node, ...]]:
    """Nodes that stay together, in a topological order: strong components once what is glued reads in both directions."""
    import networkx as nx

    index = {node: i for i, node in enumerate(nodes)}
    graph: Any = nx.DiGraph()
    graph.add_nodes_from(range(len(nodes)))
    for i, node in enumerate(nodes):
        for value in node.reads():
            before = index.get(value.producer) if value.producer is not None else None
            if before is not None:
                graph.add_edge(before, i)
                if value in glue[before]:
                    graph.add_edge(i, before)
    whole = nx.condensation(graph)
    first = {c: min(whole.nodes[c]["members"]) for c in whole}
    order = nx.lexicographical_topological_sort(whole, key=first.__getitem__)
    return [tuple(nodes[i] for i in sorted(whole.nodes[c]["members"])) for c in order]


def _held(analysis: Analysis, checked: Checked, profile: Profile) -> set[Node]:
    """Nodes that the device does not run: those with errors, those that it refuses, and what is one run with them."""
    accepted = {(f.location.graph, f.location.output) for f in checked.findings if f.suppressed is not None}
    held: set[Node] = set()
    for node in analysis.model.graph.nodes:
        operator = profile.operator(node.op)
        refused = operator is not None and operator.status == "refused"
        if node in checked.blocked or (refused and (node.graph.path, node.output.name) not in accepted):
            held.add(node)
    held.update(_runs_around([n for n in analysis.model.graph.nodes if n in held and n.op_type in RUNNING], analysis))
    return held


def _runs_around(nodes: Iterable[Node], analysis: Analysis) -> set[Node]:
    """Reshaping operators next to those that are refused, which are judged with them: alone they would leave half a view."""
    readers: dict[Value, Node | None] = {}

    def after(node: Node) -> Node | None:
        """The only reader, if it is of the same kind."""
        if node.output not in readers:
            found = analysis.readers(node.output)
            readers[node.output] = found[0] if len(found) == 1 and found[0].op_type in RUNNING else None
        return readers[node.output]

    def before(node: Node) -> Node | None:
        source = node.inputs[0] if node.inputs else None
        producer = None if source is None else analysis.origin(source).producer
        return producer if producer is not None and producer.op_type in RUNNING and after(producer) is node else None

    found: set[Node] = set()
    for node in nodes:
        if node not in found:
            found.add(node)
            for step in (before, after):
                here = step(node)
                while here is not None:
                    found.add(here)
                    here = step(here)
    return found


def _side(group: Sequence[Node], analysis: Analysis, held: set[Node], quantized: Quantized) -> int:
    node = group[0]
    if len(group) > 1 or node in held or node.subgraphs:
        return HOST
    for value in (*node.inputs, *node.outputs):
        if value is not None and value.dtype in _NO_NUMBERS and value.name:
            return HOST
    return EITHER if node in analysis.elided or node in quantized.members else NPU


def _macs(node: Node, analysis: Analysis) -> int:
    costs = analysis.costs
    own = costs[node].macs if node in costs else 0
    if not node.subgraphs:
        return own
    return own + sum(costs[n].macs for _, body in node.subgraphs for n in body.walk() if n in costs)


def _size(value: Value) -> int:
    """Bytes, for weighing; an extent that is not known counts as 1."""
    known = math.prod([d for d in value.shape or () if isinstance(d, int)])
    return (known * BITS.get(value.dtype, 32) + 7) // 8
