"""Evaluate small constant subgraphs: the shape arithmetic that exporters leave in graphs.

Bounded: whatever would need more than MAX_ELEMENTS elements is left alone. `evaluate.py` says what operators do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from npu_guard.analysis.evaluate import MAX_ELEMENTS, OPERATORS, Array, shape_slice, tensor
from npu_guard.analysis.size import bound
from npu_guard.base.text import short
from npu_guard.graph.graph import Node, Value
from npu_guard.graph.plain import SAME

__all__ = ["MAX_ELEMENTS", "Array", "Constants", "constant_node", "evaluate", "shape_of", "tensor", "why_open"]

COMPUTED, GROWTH = 1 << 24, 4
"""Elements that a computed weight may have, or times those that it is computed from where that is more."""


def why_open(value: Value) -> str:
    """Why the numbers of a value are not known: of an initializer that is an input too, that a caller may override it."""
    if value.initializer is not None and value.is_input:
        return f"{short(value.name)!r} is an initializer and a graph input too, so a caller may override it"
    return f"the value of {short(value.name)!r} is not a small constant"


def constant_node(node: Node) -> Array | None:
    """The value of a Constant node, where it is a small number."""
    a = node.attributes
    if "value" in a:
        return tensor(a["value"])
    for name, dtype in (("value_int", np.int64), ("value_ints", np.int64), ("value_float", np.float32),
                        ("value_floats", np.float32)):  # fmt: skip
        if name in a and np.size(a[name]) <= MAX_ELEMENTS:
            return np.asarray(a[name], dtype)
    return None


def can_evaluate(node: Node) -> bool:
    """Whether the operator is one of those that are evaluated."""
    return node.op_type in OPERATORS and (not node.domain or node.op in SAME)


def most(sizes: Iterable[int]) -> int:
    """Elements that a weight may have which is computed from tensors of these sizes."""
    return max(COMPUTED, GROWTH * sum(sizes))


def evaluate(node: Node, inputs: Sequence[Array | None], limit: int | None = MAX_ELEMENTS) -> list[Array] | None:
    """Outputs of a node on constant inputs (None stands for an input that is left out), None where it cannot be told.

    `limit` bounds the elements of an output. None is for weights: as many as those in memory already, so that two small tables
    whose broadcast fills the machine are left alone.
    """
    if not can_evaluate(node):
        return None
    function = OPERATORS[node.op_type]
    try:
        if bound(node, inputs) > (most(x.size for x in inputs if x is not None) if limit is None else limit):
            return None
        with np.errstate(all="ignore"):
            result = function(node, *inputs)
    except (ValueError, TypeError, IndexError, ZeroDivisionError, OverflowError, KeyError, AttributeError, MemoryError):
        return None  # not what the operator's document allows; whoever runs the model will say so
    results = result if isinstance(result, list) else [result]
    if any(r is None or (limit is not None and np.size(r) > limit) for r in results):
        return None
    return [np.asarray(r) for r in results]


def shape_of(node: Node, dims: Sequence[int]) -> Array:
    """What a Shape or Size node gives for a tensor of these extents."""
    if node.op_type == "Size":
        return np.asarray(np.prod(dims, dtype=np.int64))
    return shape_slice(node, dims)


_ROOM = 64 << 20
"""Bytes of all values together. A network has some hundred of a few numbers, and some tables of 4,096."""


class Constants:
    """Values of small constant tensors, worked out when somebody asks."""

    def __init__(self) -> None:
        self._known: dict[Value, Array | None] = {}
        self._room = _ROOM

    def get(self, value: Value) -> Array | None:
        """The value where the graph alone determines it and it is small, else None."""
        known = self._known
        if value in known:
            return known[value]
        stack = [(value, _needed(value))]
        while stack:
            current, inputs = stack[-1]
            given = next((v for v in inputs if v not in known or known[v] is None), current)
            if given is current:
                stack.pop()
                self._evaluate(current)
            elif given not in known:
                stack.append((given, _needed(given)))
                continue
            if known[given] is None:  # one input that is not constant settles it for all that wait for it
                known.update((waiting, None) for waiting, _ in stack)
                stack.clear()
        return known[value]

    def _evaluate(self, value: Value) -> None:
        """Note the value and those that the same node makes."""
        node = value.producer
        if node is None:
            self._keep(value, None if value.initializer is None or value.is_input else tensor(value.initializer))
            return
        results = self._run(node)
        for index, output in enumerate(node.outputs):
            if output is not None:
                self._keep(output, results[index] if results is not None and index < len(results) else None)

    def _keep(self, value: Value, array: Array | None) -> None:
        """Note a value, as long as there is room for all of them: small ones are many in a model that wants to do harm."""
        self._room -= 0 if array is None else array.nbytes
        self._known[value] = array if self._room >= 0 else None

    def _run(self, node: Node) -> Sequence[Array | None] | None:
        if node.domain and node.op not in SAME:
            return None
        if node.op_type == "Constant":
            return [constant_node(node)]
        if node.op_type in _LEAVES:
            shape = node.inputs[0].shape if node.inputs and node.inputs[0] is not None else None
            dims = [d for d in shape or () if isinstance(d, int)]
            return None if shape is None or len(dims) < len(shape) else [shape_of(node, dims)]
        inputs: list[Array | None] = []
        for given in node.inputs:
            value = None if given is None else self._known.get(given)
            if given is not None and value is None:
                return None
            inputs.append(value)
        return evaluate(node, inputs)


def _needed(value: Value) -> Iterator[Value]:
    node = value.producer
    if node is None or node.op_type in _LEAVES or not can_evaluate(node):
        return iter(())
    return (given for given in node.inputs if given is not None)


_LEAVES = frozenset({"Constant", "Shape", "Size"})
