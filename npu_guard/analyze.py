"""A skeleton becomes an analysis: shapes, constants, what a compiler folds away, costs, and what is not known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from npu_guard import cost, shapes, static, validate
from npu_guard.build import build
from npu_guard.fold import Constants
from npu_guard.graph import Model, Node, Value
from npu_guard.inputs import fix_inputs
from npu_guard.load import Skeleton
from npu_guard.results import NodeCost


@dataclass(frozen=True, slots=True)
class Analysis:
    """What is known of a model, independent of any device."""

    model: Model
    constants: Constants
    static: set[Value]
    """Values that the graph alone determines."""
    silent: set[Node]
    """Nodes that leave no trace on a device: folded away, or passing their input on unchanged."""
    costs: Mapping[Node, NodeCost]
    unknown: Mapping[Value, str]
    """Values whose shape or type is not fully known, with the reason."""
    notes: tuple[str, ...]

    def nodes(self) -> Iterator[Node]:
        """Nodes that a device has to run, in order, bodies included."""
        for node in self.model.graph.walk():
            if node not in self.silent:
                yield node

    def is_constant(self, value: Value | None) -> bool:
        """Whether a compiler knows the value (None, an input that is left out, counts as known)."""
        return static.is_constant(value, self.static)

    def origin(self, value: Value) -> Value:
        """The value behind silent nodes."""
        node = value.producer
        while node is not None and node in self.silent and value not in self.static:
            source = node.inputs[0] if node.inputs else None
            if source is None:
                break
            value, node = source, source.producer
        return value

    def readers(self, value: Value) -> list[Node]:
        """Nodes that read the value, seen through silent nodes."""
        found = []
        stack = list(reversed(value.consumers))
        while stack:
            node = stack.pop()
            if node not in self.silent:
                found.append(node)
            elif node.output not in self.static:  # a Shape, say, reads the value but what it makes is a constant
                stack.extend(reversed(node.output.consumers))
        return found


def analyze(skeleton: Skeleton, input_shapes: Mapping[str, Sequence[int]] | None = None) -> Analysis:
    """All that the rules may ask about. Raises ModelError where the model is none that could run."""
    notes = fix_inputs(skeleton.proto, input_shapes or {}, skeleton.path)
    with shapes.start(skeleton) as inference:
        model = build(skeleton)
        validate.before_inference(model)
        unknown = shapes.infer(model, inference, assumed=bool(notes))
    validate.after_inference(model)
    constants = Constants()
    fixed = static.static_values(model.graph.walk())
    silent = {
        node
        for node in model.graph.walk()
        if node.output in fixed or static.does_nothing(node, constants) or static.only_broadcasts(node)
    }
    costs: dict[Node, NodeCost] = {}
    for graph in model.graph.graphs():
        costs |= cost.node_costs(graph.nodes, graph.outputs, fixed, silent)
    return Analysis(model, constants, fixed, silent, costs, unknown, tuple(notes))
