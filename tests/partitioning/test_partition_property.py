"""Random graphs: what must hold of every partition, and that the pieces compute what the whole does.

The pieces run on ONNX's reference evaluator, in numpy, and the graph theory is networkx's: nothing here is the tool's own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from npu_guard.analysis.analyze import analyze
from npu_guard.checking import registry
from npu_guard.checking.engine import check
from npu_guard.checking.examples import profile_for
from npu_guard.checking.rule import Case
from npu_guard.file import load
from npu_guard.file.document import Document
from npu_guard.graph.graph import Node
from npu_guard.partitioning.cut import Cutter
from npu_guard.partitioning.partition import Partition, Settings, partition_model
from npu_guard.project.config import Config

SHAPE = (1, 4, 2, 2)
ONE = ("Relu", "Erf", "Identity", "Conv", "Sigmoid", "Reshape", "Tail", "If", "Taken")
TWO = ("Add", "Mul", "Or")
"""Erf is the host's. `Reshape` asks for the shape of another tensor, `Tail` makes two outputs, `If` captures a second one,
`Taken` has a known condition, so that its branch stands in its place."""

Steps = Sequence[tuple[str, int, int]]
steps = st.lists(st.tuples(st.sampled_from(ONE + TWO[:2]), st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=14)
costs = st.builds(
    Settings,
    min_macs=st.sampled_from([0, 0, 65]),
    max_pieces=st.sampled_from([1, 2, 3, 64, 64]),
    byte_cost=st.sampled_from([0.0, 0.0, 0.1, 1.0]),
    launch_cost=st.sampled_from([0.0, 10.0]),
)


@given(steps, costs, st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_every_partition_is_one_and_computes_the_same(drawn: Steps, settings: Settings, extra: int) -> None:
    model = network(drawn, extra)
    document, found = cut(model, settings)
    assert len(found.pieces) <= settings.max_pieces
    expect_whole(found)
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    expected = ReferenceEvaluator(model).run(None, {"x": x, "x2": -x, "c": np.asarray(True)})
    names = [o.name for o in model.graph.output]
    actual = composed(document, found, {"x": x, "x2": -x, "c": np.asarray(True)})
    for name, value in zip(names, expected, strict=True):
        assert np.array_equal(actual[name], value), name


@given(steps, st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_where_transfers_are_free_there_are_few_pieces(drawn: Steps, extra: int) -> None:
    """At least as many as the path with most changes has; one more where a path begins on one side and another on the other."""
    _, found = cut(network(drawn, extra), Settings(byte_cost=0, launch_cost=0, max_pieces=1000))
    least = longest(found)
    assert least <= len(found.pieces) <= least + 1


@given(steps, st.data())
@settings(max_examples=15, deadline=None)
def test_pieces_in_another_order_do_not_run(drawn: Steps, data: st.DataObject) -> None:
    """The wrong variant: two pieces that hand something to each other, swapped."""
    document, found = cut(network(drawn, 0), Settings(byte_cost=0, launch_cost=0))
    if not found.crossings:
        return
    crossing = data.draw(st.sampled_from(found.crossings))
    a, b = crossing.source, crossing.targets[0]
    pieces = list(found.pieces)
    pieces[a], pieces[b] = pieces[b], pieces[a]
    x = np.ones(SHAPE, np.float32)
    try:
        composed(document, replace(found, pieces=tuple(pieces)), {"x": x, "x2": x, "c": np.asarray(True)})
    except KeyError:
        return
    raise AssertionError("a piece ran before what it reads")


def network(drawn: Steps, extra: int) -> onnx.ModelProto:
    """Each step reads earlier values; unread values are outputs, and so are some that are read."""
    values = ["x", "x2"]
    read: set[str] = set()
    nodes: list[onnx.NodeProto] = []
    for i, (op, first, second) in enumerate(drawn):
        a, b, out = values[first % len(values)], values[second % len(values)], f"v{i}"
        read |= {a, b} if op in (*TWO, "If", "Taken") else {a}
        if op == "Conv":
            nodes.append(helper.make_node("Conv", [a, "w"], [out]))
        elif op == "Reshape":
            nodes.append(helper.make_node("Shape", [b], [f"{out}s"], start=0, end=4))
            nodes.append(helper.make_node("Mul", [f"{out}s", "one"], [f"{out}m"]))
            nodes.append(helper.make_node("Reshape", [a, f"{out}m"], [out]))
        elif op == "Tail":
            nodes.append(helper.make_node("Split", [a], [f"{out}p", f"{out}q"], axis=1, num_outputs=2))
            nodes.append(helper.make_node("Concat", [f"{out}q", f"{out}p"], [out], axis=1))
        elif op in ("If", "Taken"):
            condition = "yes" if op == "Taken" else "c"
            nodes.append(helper.make_node("If", [condition], [out], then_branch=body("Add", a, b), else_branch=body("Mul", a, b)))
        else:
            nodes.append(helper.make_node(op, [a, b] if op in TWO else [a], [out]))
        values.append(out)
    outputs = [v for v in values[2:] if v not in read] + values[2 : 2 + extra]
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, SHAPE) for n in ("x", "x2", *dict.fromkeys(outputs))]
    info.insert(2, helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    weights = [
        numpy_helper.from_array(np.random.default_rng(1).standard_normal((4, 4, 1, 1)).astype(np.float32), "w"),
        numpy_helper.from_array(np.ones(4, np.int64), "one"),
        numpy_helper.from_array(np.asarray(True), "yes"),
    ]
    graph = helper.make_graph(nodes, "g", info[:3], info[3:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def body(op: str, a: str, b: str) -> onnx.GraphProto:
    return helper.make_graph(
        [helper.make_node(op, [a, b], ["inner"])], "body", [], [helper.make_tensor_value_info("inner", TensorProto.FLOAT, SHAPE)]
    )


def cut(model: onnx.ModelProto, wanted: Settings) -> tuple[Document, Partition]:
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(model.SerializeToString())
        file.flush()
        skeleton = load.load(Path(file.name))
    document = Document.of(skeleton)
    profile = profile_for(Case("", operators={"Erf": "refused"}))
    analysis = analyze(skeleton)
    analysis.write_branches(document.proto)
    return document, partition_model(analysis, check(analysis, profile, registry.rules(), Config()), profile, wanted)


def expect_whole(found: Partition) -> None:
    """Every node once; no cycle between pieces, and no way out of a piece and back into it; the sides are as they must be."""
    graph = flow(found)
    home = {node: piece.index for piece in found.pieces for node in piece.nodes}
    assert sum(len(piece.nodes) for piece in found.pieces) == len(home)
    assert set(home) == set(graph) == set(found.analysis.model.graph.nodes) - found.copied
    quotient = nx.DiGraph((home[a], home[b]) for a, b in graph.edges if home[a] != home[b])
    assert nx.is_directed_acyclic_graph(quotient)
    assert all(a < b for a, b in quotient.edges)
    for piece in found.pieces:
        inside = set(piece.nodes)
        after = {n for node in inside for n in nx.descendants(graph, node)} - inside
        before = {n for node in inside for n in nx.ancestors(graph, node)} - inside
        assert not after & before
        if piece.side == "npu":
            assert all(n.op_type not in ("Erf", "If") for n in inside)
    assert {(c.source, t) for c in found.crossings for t in c.targets} == set(quotient.edges)


def flow(found: Partition) -> nx.DiGraph:
    graph = nx.DiGraph()
    graph.add_nodes_from(n for n in found.analysis.model.graph.nodes if n not in found.copied)
    for node in graph:
        captured = [v for _, inner in node.subgraphs for n in inner.nodes for v in n.inputs]
        for value in (*node.inputs, *captured):
            if value is not None and value.producer in graph:
                graph.add_edge(value.producer, node)
    return graph


def longest(found: Partition) -> int:
    """Most parts of one side in a row on any path, leaving out what may run on either."""
    graph = flow(found)
    best: dict[Node, dict[bool, int]] = {}
    for node in nx.topological_sort(graph):
        so_far = {side: max((best[p][side] for p in graph.predecessors(node)), default=0) for side in (False, True)}
        if node.op_type not in ("Identity", "Reshape"):
            host = node.op_type in ("Erf", "If")
            so_far[host] = max(so_far[host], so_far[not host] + 1)
        best[node] = so_far
    return max(1, *(count for sides in best.values() for count in sides.values()))


def composed(document: Document, found: Partition, feed: Mapping[str, Any]) -> dict[str, Any]:
    """Run the pieces in order, each with what is known by then. Raises KeyError where something is not."""
    known = dict(feed)
    cutter = Cutter(document, found)
    for piece in found.pieces:
        proto = cutter.document_of(piece).proto
        onnx.checker.check_model(proto, full_check=True)
        made = ReferenceEvaluator(proto).run(None, {i.name: known[i.name] for i in proto.graph.input})
        known.update(zip((o.name for o in proto.graph.output), made, strict=True))
    return known
