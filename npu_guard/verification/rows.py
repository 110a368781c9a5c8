"""Rows in which the tables of two models differ, and the inputs that point at them.

An embedding has more rows than inputs reach at random, and a row that is wrong shows only where somebody points at it. Where
both models look up a table of the same shape by the same input, the rows that are not alike can be told from the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from npu_guard.analysis.analyze import Analysis
from npu_guard.file.document import Document
from npu_guard.graph.graph import Node, Value
from npu_guard.graph.ops import find_operator

MOST = 64
"""Rows that are kept of one input."""
Table = tuple[str, int]
"""The name of a weight and the axis along which an index points."""


def rows_apart(
    first: Document, second: Document, analyses: tuple[Analysis, Analysis], inputs: Mapping[str, str]
) -> dict[str, tuple[int, ...]]:
    """The rows that differ, up to `MOST`, by the input of the first model that points at them.

    `inputs` maps inputs of the first model to those of the second. Tables that are spelled otherwise have no rows here.
    """
    ours, theirs = (_tables(analysis) for analysis in analyses)
    known = [{tensor.name: tensor for tensor in document.proto.graph.initializer} for document in (first, second)]
    found = {}
    for name, tables in ours.items():
        rows: set[int] = set()
        for (a, axis), (b, other) in zip(tables, theirs.get(inputs.get(name, name), ()), strict=False):
            if axis == other and list(known[0][a].dims) == list(known[1][b].dims):
                rows |= set(_unlike(first.array(known[0][a]), second.array(known[1][b]), axis))
        if rows:
            found[name] = tuple(sorted(rows)[:MOST])
    return found


def _unlike(a: NDArray[np.generic], b: NDArray[np.generic], axis: int) -> list[int]:
    others = tuple(i for i in range(a.ndim) if i != axis)
    return [int(i) for i in np.flatnonzero((a != b).any(axis=others))]


def _tables(analysis: Analysis) -> dict[str, list[Table]]:
    """Weights that are looked up, in the order of the nodes, by the input that says where."""
    found: dict[str, list[Table]] = {}
    for node in analysis.nodes():
        if node.op_type != "Gather" or node.domain:
            continue
        data, source = node.input(0), _source(node)
        if data is None or source is None or data.initializer is None or not data.shape:
            continue
        axis = node.attr("axis", 0)
        if -len(data.shape) <= axis < len(data.shape):
            found.setdefault(source.name, []).append((data.name, axis % len(data.shape)))
    return found


def _source(node: Node) -> Value | None:
    """The input of the graph that the indices are, however they are moved and cast."""
    value = node.input(1)
    for made in _makers(value):
        value = made.input(0)
    return value if value is not None and value.producer is None and value.initializer is None else None


def _makers(value: Value | None) -> Iterator[Node]:
    while value is not None and (node := value.producer) is not None:
        if find_operator(node.op_type, node.domain).kind not in ("view", "identity", "data mover") and node.op_type != "Cast":
            return
        yield node
        value = node.input(0)
