"""New nodes that do nothing: forms that follow each other write moves that lead nowhere, and the file is to be read by people."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.file.document import Document
from npu_guard.file.unread import reads
from npu_guard.fixing.blocks import block_model
from npu_guard.graph.graph import Node, is_known
from npu_guard.rewriting.edit import Edit

_MOVES = ("Reshape", "Transpose")


def without_idle(made: Edit, document: Document, analysis: Analysis) -> None:
    """Drop moves of an edit that leave every tensor as it is, whatever the batch; what gives a replaced value stays."""
    nodes = made.builder.nodes
    if not any(n.op_type in _MOVES for n in nodes):
        return
    inner = analyze(block_model(document, analysis, [made]).skeleton())
    kept = {*made.outputs.values(), *_in_bodies(nodes)}
    source: dict[str, str] = {}
    for proto in nodes:
        if proto.op_type not in _MOVES or proto.output[0] in kept:
            continue
        value = inner.model.graph.values.get(proto.output[0])
        if value is not None and value.producer is not None and _is_idle(value.producer, inner):
            source[proto.output[0]] = source.get(proto.input[0], proto.input[0])
    if not source:
        return
    for proto in nodes:
        for i, name in enumerate(proto.input):
            proto.input[i] = source.get(name, name)
    made.builder.nodes = [n for n in nodes if n.output[0] not in source]


def _in_bodies(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    return {name for node in nodes if node.attribute for name in reads(node)} - {name for node in nodes for name in node.input}


def _is_idle(node: Node, analysis: Analysis) -> bool:
    before = node.inputs[0]
    shape = None if before is None else before.shape
    if shape is None:
        return False
    if node.op_type == "Transpose":
        return list(node.attr("perm", ())) == list(range(len(shape)))
    wanted = node.input(1)
    if not is_known(shape) or wanted is None or node.attr("allowzero", 0):
        return False
    numbers = analysis.constants.get(wanted)
    if numbers is None or len(target := numbers.reshape(-1).tolist()) != len(shape):
        return False
    # The first axis may be a batch that is open in the file: another axis of open extent could take a part of it.
    return all(t in (d, 0) or (t == -1 and axis == 0) for axis, (t, d) in enumerate(zip(target, shape, strict=True)))
