"""Where a model begins and ends: what enters it, what leaves it, and who reads beside; of a block, by its border."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.border import Border
from npu_guard.graph.graph import Node, Value

METRICS = frozenset({"enters", "leaves", "leaves_as_is", "shared"})
"""What device files call it."""
_ANY_LAYOUT = ("unary", "softmax", "quantization")
"""Kinds of operators that work in any layout and leave it as it is."""


def enters(analysis: Analysis, value: Value) -> bool:
    """Whether a value is an input of the model, seen through elided nodes."""
    origin = analysis.origin(value)
    return origin.producer is None and origin.name not in analysis.border.computed


def leaves(analysis: Analysis, value: Value) -> bool:
    """Whether a value is an output of the model."""
    return value.is_output and value.name not in analysis.border.read


def leaves_as_is(analysis: Analysis, value: Value) -> bool:
    """Whether a value is an output of the model, itself or behind operators that work in any layout."""
    while True:
        readers = list(analysis.reading(value))
        if len(readers) != 1 or (readers[0] is not None and readers[0].operator.kind not in _ANY_LAYOUT):
            return None in readers and leaves(analysis, value)
        if readers[0] is None:
            return analysis.border.read.get(value.name, True)
        value = readers[0].output


def is_shared(analysis: Analysis, value: Value) -> bool:
    """Whether a value is read by several, or leaves the model where somebody reads it, seen through elided nodes."""
    origin = analysis.origin(value)
    return origin.name in analysis.border.beside or len(list(analysis.reading(origin))) > 1


def border_of(analysis: Analysis, nodes: Collection[Node], inputs: Iterable[Value], outputs: Mapping[Value, str]) -> Border:
    """That of a block of these nodes. `outputs` are the names that values have in it."""
    given = list(inputs)
    return Border(
        frozenset(v.name for v in given if not enters(analysis, v)),
        frozenset(v.name for v in given if _is_read_beside(analysis, v, nodes)),
        {name: leaves_as_is(analysis, v) for v, name in outputs.items() if not leaves(analysis, v)},
    )


def _is_read_beside(analysis: Analysis, value: Value, nodes: Collection[Node]) -> bool:
    origin = analysis.origin(value)
    return origin.name in analysis.border.beside or any(reader not in nodes for reader in analysis.reading(origin))
