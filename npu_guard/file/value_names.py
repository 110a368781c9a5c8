"""Names of values and nodes in a graph, and new ones that nothing there has."""

from __future__ import annotations

import onnx

from npu_guard.base.text import text
from npu_guard.file.bodies import walk_graphs


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
            found.update(map(text, node.output))
    return found
