"""A skeleton becomes an analysis: shapes, constants, what a compiler folds away, costs, and what is not known."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx
from msgspec import Struct

from npu_guard.analysis import cost, shapes, static
from npu_guard.analysis.border import Border
from npu_guard.analysis.constants import Constants
from npu_guard.analysis.inputs import fix_inputs
from npu_guard.analysis.validation import agreement
from npu_guard.analysis.validation.structure import before_inference
from npu_guard.base.errors import ModelError
from npu_guard.file.skeleton import Skeleton
from npu_guard.graph.build import build
from npu_guard.graph.graph import Model, Node, Value
from npu_guard.results.findings import NodeCost


class Analysis(Struct, frozen=True):
    """What is known of a model, independent of any device."""

    model: Model
    constants: Constants
    static: set[Value]
    """Values that the graph alone determines."""
    elided: set[Node]
    """Nodes that leave no trace on a device: folded away, passing their input on unchanged, or leading to no output."""
    costs: Mapping[Node, NodeCost]
    unknown: Mapping[Value, str]
    """Values whose shape or type is not fully known, with the reason."""
    notes: tuple[str, ...]
    beside: Mapping[str, int]
    """Sizes of the files of weights that were looked at, by location."""
    has_written: bool = False
    """Whether branches of known condition were written in the place of their If, in the skeleton's protobuf."""
    origins: dict[Value, Value] = {}
    """What `origin` has found for values behind elided nodes: many may ask at the end of one long way."""
    known: dict[str, Any] = {}
    """What has been worked out of it once for all who ask, by what it is."""
    single: dict[Value, Node | None] = {}
    """What `only_reader` has found: each of many readers may ask."""
    border: Border = Border()
    """What lies around it, where it is a block of a model."""

    def write_branches(self, proto: onnx.ModelProto) -> None:
        """Write the branches of known condition into another copy of the model as well, and a batch that was guessed, as a
        condition may follow from it."""
        if self.has_written:
            from npu_guard.analysis import branches  # few models have an If

            branches.copy_nodes(self.model.skeleton.proto.graph, proto.graph, interface=bool(self.notes))

    def nodes(self) -> Iterator[Node]:
        """Nodes that a device has to run, in order, bodies included."""
        for node in self.model.graph.walk():
            if node not in self.elided:
                yield node

    def is_constant(self, value: Value | None) -> bool:
        """Whether a compiler knows the value (None, an input that is left out, counts as known)."""
        return static.is_constant(value, self.static)

    def origin(self, value: Value) -> Value:
        """The value behind elided nodes."""
        passed = []
        node = value.producer
        while node is not None and node in self.elided and value not in self.static:
            known = self.origins.get(value)
            source = known or (node.inputs[0] if node.inputs else None)
            if source is None:
                break
            passed.append(value)
            value, node = source, source.producer
        for before in passed:
            self.origins[before] = value
        return value

    def readers(self, value: Value) -> list[Node]:
        """Nodes that read the value, seen through elided nodes."""
        return [node for node in self.reading(value) if node is not None]

    def only_reader(self, value: Value) -> Node | None:
        """The one node that reads the value, once, seen through elided nodes; None where others do, or the model's user."""
        if value not in self.single:
            found = tuple(itertools.islice(self.reading(value), 2))
            self.single[value] = found[0] if len(found) == 1 else None
        return self.single[value]

    def is_read(self, value: Value | None) -> bool:
        """Whether an operator that runs, or whoever runs the model, reads the value."""
        return value is not None and next(iter(self.reading(value)), self) is not self

    def reading(self, value: Value) -> Iterator[Node | None]:
        """Nodes that read the value, and None for each output of the model that it is, seen through elided nodes too."""
        if value.is_output:
            yield None
        stack = [(value, node) for node in reversed(value.consumers)]
        while stack:
            given, node = stack.pop()
            if node not in self.elided:
                yield node
            elif node.output not in self.static and node.inputs[0] is given:  # what only tells a type or a shape goes no further
                if node.output.is_output:
                    yield None
                stack += [(node.output, reader) for reader in reversed(node.output.consumers)]


def analyze(
    skeleton: Skeleton, input_shapes: Mapping[str, Sequence[int]] | None = None, border: Border | None = None
) -> Analysis:
    """All that the rules may ask about. `border` is that of a block. Raises ModelError where the model is none that could run."""
    guess = fix_inputs(skeleton.proto, input_shapes or {}, skeleton.path)
    written: list[onnx.GraphProto] = []
    try:
        return _analyze(skeleton, guess.notes, written, border)
    except ModelError as error:
        if not guess.notes or error.kind != "invalid":
            raise
    for graph in written[:1]:  # a condition may have followed from the guess
        from npu_guard.analysis import branches

        branches.copy_nodes(graph, skeleton.proto.graph)
    return _analyze(skeleton, guess.take_back(), [], border)  # perhaps nothing is wrong but the guess


def _analyze(skeleton: Skeleton, notes: Sequence[str], written: list[onnx.GraphProto], border: Border | None) -> Analysis:
    """`written` takes the graph as it was before branches of known condition were written into it."""
    while True:
        with shapes.start(skeleton) as inference:
            model = build(skeleton)
            try:
                beside = before_inference(model)
                unknown = shapes.infer(model, inference)
            except ModelError as error:
                if error.kind != "invalid" or not _write_branches(model, written):
                    raise  # else it lies perhaps in a branch that never runs
                continue
        if not _write_branches(model, written):
            break
    constants = Constants()
    agreement.after_inference(model, constants)
    fixed = static.static_values(model.graph.walk())
    elided = {
        node
        for node in model.graph.walk()
        if node.output in fixed
        or (node.op_type in static.PASSING and (static.does_nothing(node, constants) or static.only_broadcasts(node)))
    }
    elided |= static.leads_nowhere(model)
    costs: dict[Node, NodeCost] = {}
    for graph in model.graph.graphs():
        costs |= cost.node_costs(graph.nodes, graph.outputs, fixed, elided)
    return Analysis(
        model,
        constants,
        fixed,
        elided,
        costs,
        unknown,
        tuple(notes),
        beside,
        has_written=bool(written),
        border=border or Border(),
    )


def _write_branches(model: Model, written: list[onnx.GraphProto]) -> bool:
    if not model.has_bodies:
        return False
    from npu_guard.analysis import branches

    before = onnx.GraphProto()
    before.CopyFrom(model.skeleton.proto.graph)
    if not branches.write_taken_branches(model):
        return False
    written.append(before)
    return True
