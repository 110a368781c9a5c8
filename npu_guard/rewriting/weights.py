"""Values of constant tensors for rewrites, stored or computed, and how much one run of `fix` does for any model.

A file of 1 kB may compute a weight by 2^40 products, or hold 100,000 blocks that can all be replaced.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct, field

from npu_guard.analysis import constants
from npu_guard.analysis.constants import Array
from npu_guard.base.errors import Undecidable
from npu_guard.base.text import short
from npu_guard.graph.graph import Node, Value
from npu_guard.rewriting import reference

if TYPE_CHECKING:
    from npu_guard.file.document import Document

Small = Callable[[Value], Array | None]
Evaluate = Callable[[Node, Sequence[Array | None]], list[Array] | None]
STEP, CREDIT = 1024, 16
"""Elements for which a node counts besides those that it reads and writes, and those that are free for each that is stored."""
MATCHES = 1000
"""Blocks that one attempt may replace. A network has a few hundred at most."""


class Budget(Struct):
    """What is left to one run of `fix`, all passes and attempts together: far more than networks need, and soon over."""

    matches: int = 2 * MATCHES
    """Blocks that may still be replaced, again where an attempt failed."""
    noises: int = 100
    """Blocks that differ and of which it may still be asked how uncertain they are of themselves."""
    proof_macs: int = 1 << 30
    """Multiplications that may still be made to prove blocks."""
    elements: int = 1 << 25
    """Elements of weights that may still be computed."""
    read: set[str] = field(default_factory=set)
    """Stored weights that have been read, each of which allows more to be computed."""


def evaluated(node: Node, inputs: Sequence[Array | None]) -> list[Array] | None:
    """Outputs of a node on weights, however large; None where it is not evaluated."""
    found = constants.evaluate(node, inputs, None)
    return reference.run(node, inputs) if found is None and not reference.reason(node) else found


class Weights:
    """Constant tensors of a document: read when they are asked for, and computed where the graph computes them."""

    def __init__(self, document: Document, budget: Budget | None = None) -> None:
        self._document = document
        self._budget = budget or Budget()
        self._tensors = {t.name: t for t in document.proto.graph.initializer}

    def get(self, value: Value, small: Small, evaluate: Evaluate) -> Array:
        """The tensor. `small` knows some values without computing them, `evaluate` runs a node. Raises Undecidable."""
        steps = self._steps(value, small)
        waiting = Counter(v for node in steps for v in node.inputs)
        known: dict[Value | None, Array | None] = {None: None}
        for node in steps:
            for given in node.inputs:
                if given not in known and given is not None:
                    known[given] = self._stored(given, small)
            inputs = [known[v] for v in node.inputs]
            results = evaluate(node, inputs)
            if results is None:
                why = reference.reason(node) or f"is computed by {node.op}, which is not evaluated here"
                raise Undecidable(f"weight {short(node.output.name)!r} {why}")
            self._spend(sum(x.size for x in (*inputs, *results) if x is not None))
            known.update(zip(node.outputs, results, strict=False))
            waiting.subtract(node.inputs)
            for given in node.inputs:
                if given is not None and not waiting[given]:
                    known.pop(given, None)  # whole networks of weights pass through here, so none is held without need
            known[None] = None
        found = known.get(value) if steps else self._stored(value, small)
        if found is None:
            raise Undecidable(f"weight {short(value.name)!r} is no output of an operator that is evaluated here")
        return found

    def _steps(self, value: Value, small: Small) -> list[Node]:
        """Nodes that compute the value, each behind those that it reads."""
        order: list[Node] = []
        first = _maker(value, small)
        stack = [] if first is None else [(first, iter(first.inputs))]
        seen = {first}
        while stack:
            node, inputs = stack[-1]
            makers = (_maker(v, small) for v in inputs if v is not None)
            other = next((m for m in makers if m is not None and m not in seen), None)
            if other is not None:
                seen.add(other)
                stack.append((other, iter(other.inputs)))
                continue
            stack.pop()
            order.append(node)
            self._spend(STEP)
        return order

    def _spend(self, elements: int) -> None:
        self._budget.elements -= elements
        if self._budget.elements < 0:
            raise Undecidable("its weights take more computing than is done here; fold the model's constants first")

    def _stored(self, value: Value, small: Small) -> Array:
        """What nothing has to be computed for. Raises Undecidable."""
        if (found := small(value)) is not None:
            return found
        node, name = value.producer, short(value.name)
        if value.initializer is not None:
            tensor = self._tensors.get(value.initializer.name)
            if tensor is None:
                raise Undecidable(f"weight {name!r} is not a plain initializer")
        elif node is None:
            raise Undecidable(f"weight {name!r} is an input")
        else:
            if (found := constants.constant_node(node)) is not None:
                return found
            tensor = node.attributes.get("value")
            if tensor is None:
                raise Undecidable(f"the value of Constant {short(node.label)!r} is not a number")
        array = self._document.array(tensor)
        if value.name not in self._budget.read:
            self._budget.read.add(value.name)
            self._budget.elements += CREDIT * array.size
        return array


def _maker(value: Value, small: Small) -> Node | None:
    """The node that has to be run for a value."""
    node = value.producer
    stored = value.initializer is not None or node is None or (node.op_type == "Constant" and not node.domain)
    return None if stored or small(value) is not None else node
