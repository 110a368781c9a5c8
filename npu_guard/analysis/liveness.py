"""What leads to no output where a graph has bodies: an output of an If, Loop or Scan that nobody reads, and what makes it."""

from __future__ import annotations

from collections.abc import Iterable

from npu_guard.graph.graph import Graph, Model, Node, Value


def dead_nodes(model: Model) -> set[Node]:
    """Nodes of which nothing reaches an output, those in bodies included. The time is linear in the nodes."""
    return _Marking(model).dead()


class _Marking:
    """Values that reach an output, found from the outputs on, through the bodies of If, Loop and Scan output by output."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._live: set[Value] = set()
        self._running: set[Node] = set()
        self._owner: dict[Value, tuple[Node, Graph, int]] = {}
        """Inputs of bodies of Loop and Scan: the node, the body, and which one it is."""
        self._waiting: list[Value] = []
        for graph in model.graph.graphs():
            for node in graph.nodes:
                for _, body in node.subgraphs:
                    self._owner.update((value, (node, body, i)) for i, value in enumerate(body.inputs))
        self._mark(model.graph.outputs)
        while self._waiting:
            value = self._waiting.pop()
            if value.producer is not None:
                self._made(value.producer, value)
            elif value in self._owner:
                self._taken(*self._owner[value])

    def dead(self) -> set[Node]:
        """Nodes that are left."""
        return {node for node in self._model.graph.walk() if node not in self._running}

    def _mark(self, values: Iterable[Value | None]) -> None:
        for value in values:
            if value is not None and value not in self._live:
                self._live.add(value)
                self._waiting.append(value)

    def _made(self, node: Node, value: Value) -> None:
        """An output of a node is wanted."""
        kind = node.op_type if not node.domain and node.subgraphs else ""
        states = _states(node) if kind in ("Loop", "Scan") else None
        if kind != "If" and states is None:
            if node not in self._running:
                self._running.add(node)
                self._mark(node.inputs)
                for _, body in node.subgraphs:  # of an operator that is not known here, all of it
                    self._mark(body.outputs)
            return
        at = node.outputs.index(value)
        first = 1 if kind == "Loop" else 0  # before what a Loop's body gives stands its condition
        if node not in self._running:
            self._running.add(node)
            self._mark(node.inputs[:1] if kind == "If" else node.inputs[:2] if kind == "Loop" else node.inputs[states:])
            self._mark(out for _, body in node.subgraphs for out in body.outputs[:first])
        for _, body in node.subgraphs:
            self._mark(body.outputs[first + at : first + at + 1])
        if states is not None and at < states:  # where it never runs, what comes in goes out
            self._mark(node.inputs[2 * first + at : 2 * first + at + 1])

    def _taken(self, node: Node, body: Graph, at: int) -> None:
        """An input of a body is wanted: what comes in first, and of a state what the body makes of it."""
        states = _states(node) if node.op_type in ("Loop", "Scan") and not node.domain else None
        if states is None:
            self._mark(node.inputs)
            return
        if node.op_type == "Loop":  # the number of the turn, the condition, then the states
            self._mark(node.inputs[at : at + 1])
            self._mark(body.outputs[max(at - 1, 0) : at] if at >= 1 else ())
        else:
            self._mark(node.inputs[at : at + 1])
            self._mark(body.outputs[at : at + 1] if at < states else ())


def _states(node: Node) -> int | None:
    """How many values a Loop or Scan carries from turn to turn; None for what is not known here."""
    if node.op_type == "Loop":
        return max(len(node.inputs) - 2, 0)
    scanned = node.attributes.get("num_scan_inputs")
    if not isinstance(scanned, int) or node.graph.model.opsets.get("", 1) < 9:  # before, lengths of sequences came first
        return None
    return len(node.inputs) - scanned
