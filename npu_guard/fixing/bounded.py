"""A network in real numbers whose tensors go no further than the integers that some of them become."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from npu_guard.analysis.quantized.held import Held, span
from npu_guard.file.document import Document
from npu_guard.file.value_names import free_name, names_in


def bounded(document: Document, held: Mapping[str, Held]) -> Document:
    """The document with what reads each of these tensors, which are float32, reading it within the range of its integers.

    Bodies of loops and branches read it as it is.
    """
    made = document.copy()
    graph = made.proto.graph
    taken = names_in(graph)
    within: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []

    def bound(name: str) -> None:
        if name not in held:
            return
        ends = [(end - held[name].zero) * float(held[name].scale) for end in span(held[name].dtype)]
        given = name
        for op, end in zip(("Max", "Min"), ends, strict=True):
            constant, result = (free_name(f"{name}_{what}", taken) for what in (f"end_of_{op}", op))
            graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(end, np.float32), constant))
            nodes.append(onnx.helper.make_node(op, [given, constant], [result]))
            given = result
        within[name] = given

    for entry in graph.input:
        bound(entry.name)
    for node in list(graph.node):
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for i, name in enumerate(copy.input):
            copy.input[i] = within.get(name, name)
        nodes.append(copy)
        for name in node.output:
            bound(name)
    del graph.node[:]
    graph.node.extend(nodes)
    return made
