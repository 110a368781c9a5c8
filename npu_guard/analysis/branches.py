"""An If whose condition is known is the branch that is taken: it is written in the If's place, as every compiler does.

Exporters leave conditions that follow from shapes (a `squeeze` of torch asks whether the extent is 1) and from modes. Once the
shapes are fixed these are numbers, and the other branch never runs: it may hold anything.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping

import onnx

from npu_guard.analysis.constants import Constants
from npu_guard.base.text import text
from npu_guard.file.unread import drop_unread, unread
from npu_guard.graph.graph import Graph, Model, Node, bodies


def write_taken_branches(model: Model) -> bool:
    """Replace every If of known condition by its branch, in the protobuf that a view was made from; whether there was one.

    A branch may hold another If, so whoever calls this makes the view again and asks once more. What only the condition, or the
    branch that never runs, has read is gone from the main graph.
    """
    constants = Constants()
    taken = [(graph, known) for graph in model.graph.graphs() if (known := dict(_known(graph, constants)))]
    if not taken:
        return False
    main = model.skeleton.proto.graph
    defined = collections.Counter(_definitions(main))
    before = unread(main)
    done: set[int] = set()
    for graph, branches in taken:
        around: Graph | None = graph
        inside = False
        while around is not None and not inside:  # what lies in a branch that is moved itself waits for the next time
            inside = id(around) in done
            around = around.parent
        if not inside:
            _write(graph, branches, defined)
        done.update(id(body) for node in graph.nodes if node.op_type == "If" for _, body in node.subgraphs)
    drop_unread(main, before)
    return True


def copy_nodes(source: onnx.GraphProto, target: onnx.GraphProto, *, interface: bool = False) -> None:
    """Give a graph the nodes and weights of another, and with `interface` the types of its inputs and outputs."""
    for name in ("node", "initializer", "sparse_initializer", *(("input", "output") if interface else ())):
        entries = getattr(target, name)
        del entries[:]
        entries.extend(getattr(source, name))


def _known(graph: Graph, constants: Constants) -> Iterator[tuple[int, onnx.GraphProto]]:
    """Positions of Ifs of known condition, with the branch that is taken."""
    for index, node in enumerate(graph.nodes):
        if node.op_type == "If" and not node.domain and node.subgraphs and (branch := _branch(node, constants)) is not None:
            yield index, branch


def _branch(node: Node, constants: Constants) -> onnx.GraphProto | None:
    given = node.input(0)
    condition = None if given is None else constants.get(given)
    body = None if condition is None else dict(node.subgraphs).get("then_branch" if condition.any() else "else_branch")
    return None if body is None or len(body.outputs) != len(node.proto.output) else body.proto


def _definitions(graph: onnx.GraphProto) -> Iterator[str]:
    """Names of all values that a graph and the bodies in it define."""
    yield from (value.name for value in graph.input)
    yield from (tensor.name for tensor in graph.initializer)
    yield from (sparse.values.name for sparse in graph.sparse_initializer)
    for node in graph.node:
        yield from node.output
        for attribute in node.attribute:
            for _, body in bodies(attribute):
                yield from _definitions(body)


def _write(view: Graph, branches: Mapping[int, onnx.GraphProto], defined: collections.Counter[str]) -> None:
    graph = view.proto
    # Before IR version 4, ONNX's inference knows weights by the list of inputs.
    listed = view.parent is None and view.model.skeleton.proto.ir_version < 4
    nodes: list[onnx.NodeProto] = []
    for index, node in enumerate(graph.node):
        if index in branches:
            nodes += _moved(graph, node, branches[index], defined, listed)
        else:
            nodes.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _moved(
    graph: onnx.GraphProto, node: onnx.NodeProto, branch: onnx.GraphProto, defined: collections.Counter[str], listed: bool
) -> list[onnx.NodeProto]:  # fmt: skip
    """Nodes of a branch under names that are free around it; what the If gave is what the branch gave."""
    own = [name for n in branch.node for name in n.output if name]
    held = [t.name for t in branch.initializer] + [s.values.name for s in branch.sparse_initializer]
    leaving = collections.Counter(name for a in node.attribute for _, body in bodies(a) for name in _definitions(body))
    staying = collections.Counter(_definitions(branch))
    names: dict[str, str] = {}
    pairs: list[tuple[str, str]] = []
    for outer, inner in zip(node.output, branch.output, strict=True):
        if not outer:
            continue
        if inner.name in own and inner.name not in names:
            names[inner.name] = outer
        else:
            pairs.append((inner.name, outer))
    for name in (*own, *held):
        if name not in names and defined[name] - leaving[name] + staying[name] > 1:
            names[name] = _free(name, defined)
    made = []
    for old in branch.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(old)
        _rename(copy, names)
        made.append(copy)
    for inner_name, outer in pairs:
        made.append(onnx.NodeProto(op_type="Identity", name=outer, input=[names.get(inner_name, inner_name)], output=[outer]))
    for tensor in branch.initializer:
        graph.initializer.add().CopyFrom(tensor)
        graph.initializer[-1].name = name = names.get(tensor.name, tensor.name)
        if listed:
            graph.input.append(onnx.helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims)))
    for sparse in branch.sparse_initializer:
        graph.sparse_initializer.add().CopyFrom(sparse)
        graph.sparse_initializer[-1].values.name = names.get(sparse.values.name, sparse.values.name)
    return made


def _free(name: str, defined: collections.Counter[str]) -> str:
    number = 1
    while f"{text(name)}_{number}" in defined:
        number += 1
    defined[f"{text(name)}_{number}"] += 1
    return f"{text(name)}_{number}"


def _rename(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Give values other names in a node and the bodies in it; a body's own values hide those around it."""
    if not names:
        return
    for which in (node.input, node.output):
        for index, name in enumerate(which):
            if name in names:
                which[index] = names[name]
    for attribute in node.attribute:
        for _, body in bodies(attribute):
            hidden = {
                *(v.name for v in body.input),
                *(t.name for t in body.initializer),
                *(o for n in body.node for o in n.output),
            }
            inner = {old: new for old, new in names.items() if old not in hidden}
            for nested in body.node:
                _rename(nested, inner)
            for value in body.output:
                value.name = inner.get(value.name, value.name)
