"""Bodies of control flow in protobuf messages, whatever the types of their attributes claim: nothing is validated yet here.

What a validated model has in its nodes is `Node.subgraphs` of the view.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def bodies_of(attribute: onnx.AttributeProto) -> Iterator[onnx.GraphProto]:
    """Graphs in an attribute."""
    if attribute.HasField("g"):  # else asking for it makes one
        yield attribute.g
    yield from attribute.graphs


def walk_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all bodies in it, each before its own. No recursion: bodies may be nested as deep as a file likes."""
    stack = [graph]
    while stack:
        graph = stack.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                stack.extend(bodies_of(attribute))


def walk_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Nodes and those of all bodies in them, each before its own."""
    stack = [nodes]
    while stack:
        for node in stack.pop():
            yield node
            for attribute in node.attribute:
                stack.extend(body.node for body in bodies_of(attribute))
