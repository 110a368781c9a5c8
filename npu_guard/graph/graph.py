"""A light read-only view of a model: nodes that know their inputs, values that know their producer and readers.

Subgraphs of If, Loop and Scan are graphs of their own whose names resolve outwards. `build.py` makes the view.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import onnx

from npu_guard.base.text import text
from npu_guard.file.skeleton import Skeleton
from npu_guard.graph.ops import Operator, find_kind, find_operator
from npu_guard.graph.schemas import find_schema, newest_schema
from npu_guard.results.findings import Dim

if TYPE_CHECKING:
    from npu_guard.graph.op_words import Kind, Role

_A = onnx.AttributeProto
BODIES = frozenset({_A.GRAPH, _A.GRAPHS})
"""Types of attributes that hold graphs."""


def domain(value: str | bytes) -> str:
    """An operator set's name, "" for ONNX's own."""
    return "" if not value or value == "ai.onnx" else text(value)


def is_known(shape: tuple[Dim, ...] | None) -> TypeGuard[tuple[int, ...]]:
    """Whether all extents are numbers; a symbol or None is none."""
    if shape is None:
        return False
    for extent in shape:  # noqa: SIM110  # a loop takes half the time, and this is asked dozens of times of each value
        if not isinstance(extent, int):
            return False
    return True


class Value:
    """A tensor in the graph. `shape` and `dtype` (an onnx.TensorProto.DataType) are filled in by the analysis."""

    __slots__ = ("consumers", "dtype", "graph", "initializer", "is_input", "is_output", "name", "producer", "shape")

    def __init__(self, name: str, graph: Graph) -> None:
        self.name = name
        self.graph = graph
        self.producer: Node | None = None
        self.consumers: list[Node] = []
        self.initializer: onnx.TensorProto | None = None
        self.is_input = False
        self.is_output = False
        self.shape: tuple[Dim, ...] | None = None
        self.dtype = 0

    @property
    def only_consumer(self) -> Node | None:
        """The one node that reads the value, once; None where others do, or the model's user."""
        return self.consumers[0] if len(self.consumers) == 1 and not self.is_output else None

    def __repr__(self) -> str:
        return f"Value({self.name!r}, {self.shape})"


class Node:
    """An operator. Optional attributes that are absent read as ONNX's defaults."""

    __slots__ = ("_attributes", "domain", "graph", "inputs", "name", "op_type", "outputs", "proto", "subgraphs")

    def __init__(self, proto: onnx.NodeProto, graph: Graph) -> None:
        self.proto = proto
        self.graph = graph
        # This runs once for each node: calls of text() that would return what they get are left out.
        op_type, name, opset = proto.op_type, proto.name, proto.domain
        self.op_type = op_type if op_type.__class__ is str else text(op_type)
        self.domain = domain(opset) if opset else ""
        self.name = name if name.__class__ is str else text(name)
        self.inputs: list[Value | None] = []
        self.outputs: list[Value | None] = []
        self.subgraphs: Sequence[tuple[str, Graph]] = ()
        self._attributes: dict[str, Any] | None = None

    @property
    def op(self) -> str:
        """Operator name, with its domain where that is not ONNX's own: `Conv`, `com.microsoft::FusedConv`."""
        return f"{self.domain}::{self.op_type}" if self.domain else self.op_type

    @property
    def label(self) -> str:
        """The node's name, or its first output's where it has none."""
        return self.name or next((v.name for v in self.outputs if v is not None and v.name), self.op_type)

    @property
    def output(self) -> Value:
        """The first output."""
        first = self.outputs[0]
        assert first is not None  # validated: the first output of a kept node is named
        return first

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Attributes as Python values: int, float, str, tuples of them, TensorProto; graphs are in `subgraphs`."""
        if self._attributes is None:
            self._attributes = {text(a.name): _decode(a) for a in self.proto.attribute}
        return self._attributes

    def attr(self, name: str, default: Any = None) -> Any:
        """Value of an attribute, else ONNX's default, else `default`."""
        stated = self.attributes.get(name)
        if stated is not None:
            return stated
        declared = self.graph.model.default(self, name)
        return declared if declared is not None else default

    def input(self, index: int) -> Value | None:
        """Input `index`, None where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    @property
    def operator(self) -> Operator:
        """What is known of the operator; of the kind `unknown` where there is no record of it."""
        return find_operator(self.op_type, self.domain)

    @property
    def kind(self) -> Kind:
        """Kind of the operator, whatever its domain."""
        return find_kind(self.op_type, self.domain)

    def named(self, name: str) -> Value | None:
        """The input that ONNX calls `name`, None where it is left out or the operator has none."""
        index = self.operator.index(name)
        return None if index is None else self.input(index)

    def role(self, *roles: Role) -> Value | None:
        """The first input that is there for one of these roles, such as `weight`; None where there is none."""
        operator = self.operator
        for value, formal in zip(self.inputs, operator.inputs, strict=False):
            if value is not None and formal.role in roles:
                return value
        rest = range(len(operator.inputs), len(self.inputs)) if operator.variadic else ()
        return next((v for i in rest if (v := self.inputs[i]) is not None and operator.role(i) in roles), None)

    def captures(self) -> Iterator[Value]:
        """Values of graphs around its bodies that these read or give back, some more than once; nothing of other nodes."""
        inside = dict.fromkeys(graph for _, body in self.subgraphs for graph in body.graphs())
        for graph in inside:
            for value in itertools.chain((v for node in graph.nodes for v in node.inputs), graph.outputs):
                if value is not None and value.graph not in inside:
                    yield value

    def reads(self) -> Iterator[Value]:
        """What the node takes from the graphs around it: inputs that are there, and what its bodies capture."""
        yield from (value for value in self.inputs if value is not None)
        if self.subgraphs:
            yield from self.captures()

    def metadata(self, key: str) -> str | None:
        """An entry of the node's metadata_props."""
        for entry in self.proto.metadata_props:
            if entry.key == key:
                return text(entry.value)
        return None

    def __repr__(self) -> str:
        return f"Node({self.op} {self.label!r})"


class Graph:
    """A graph or a body inside a node (`path` names the way in)."""

    __slots__ = ("inputs", "model", "nodes", "outputs", "parent", "path", "proto", "values")

    def __init__(self, model: Model, proto: onnx.GraphProto, parent: Graph | None, path: tuple[str, ...]) -> None:
        self.model = model
        self.proto = proto
        self.parent = parent
        self.path = path
        self.nodes: list[Node] = []
        self.values: dict[str, Value] = {}
        self.inputs: list[Value] = []
        self.outputs: list[Value] = []

    def lookup(self, name: str) -> Value | None:
        """The value that a name means here: own first, then of the graphs around."""
        graph: Graph | None = self
        while graph is not None:
            value = graph.values.get(name)
            if value is not None:
                return value
            graph = graph.parent
        return None

    def walk(self) -> Iterator[Node]:
        """All nodes in order, each before those of its bodies."""
        return self._walk() if self.model.has_bodies else iter(self.nodes)

    def _walk(self) -> Iterator[Node]:
        for node in self.nodes:
            yield node
            for _, body in node.subgraphs:
                yield from body._walk()

    def graphs(self) -> Iterator[Graph]:
        """This graph and all bodies in it, each before its own."""
        return self._graphs() if self.model.has_bodies else iter((self,))

    def _graphs(self) -> Iterator[Graph]:
        yield self
        for node in self.nodes:
            for _, body in node.subgraphs:
                yield from body._graphs()


class Model:
    """The whole view, made from a skeleton by `build.build`."""

    def __init__(self, skeleton: Skeleton) -> None:
        self.skeleton = skeleton
        self.opsets = {domain(e.domain): e.version for e in skeleton.proto.opset_import}
        if skeleton.opset:
            self.opsets[""] = skeleton.opset
        self._schemas: dict[tuple[str, str], Any] = {}
        self._defaults: dict[tuple[str, str, str], Any] = {}
        self.graph = Graph(self, skeleton.proto.graph, None, ())
        self.has_bodies = True
        """Whether there are graphs in nodes; taken for granted until the view is complete."""
        self.recorded: Any = None
        """What `origin.py` has read of where nodes come from."""
        self.surveys = 10_000
        """How often the surroundings of a node may be searched for its origin; simplifiers leave a few hundred without."""

    @functools.cached_property
    def traced(self) -> bool:
        """Whether an exporter left anything at the nodes that tells where they come from."""
        return any(node.proto.metadata_props or node.proto.doc_string for node in self.graph.walk())

    @functools.cached_property
    def operators(self) -> frozenset[tuple[str, str]]:
        """(operator type, domain) of all nodes."""
        return frozenset([(node.op_type, node.domain) for node in self.graph.walk()])

    @functools.cached_property
    def map_batches(self) -> frozenset[Dim]:
        """First extents of what is convolved. Beside the inputs' batch, those that a network makes itself: regions, frames."""
        maps = [node.role("data") for node in self.graph.walk() if node.kind == "convolution"]
        return frozenset(x.shape[0] for x in maps if x is not None and x.shape is not None and len(x.shape) > 3)

    @functools.cached_property
    def input_batches(self) -> frozenset[Dim]:
        """First extents of the model's inputs, those of vectors left out."""
        shapes = [v.shape for v in self.graph.inputs if v.initializer is None]
        return frozenset(shape[0] for shape in shapes if shape is not None and len(shape) > 1)

    def schema(self, node: Node) -> Any:
        """onnx.defs.OpSchema of a node's operator in this model's opset, None where ONNX defines no such operator."""
        key = (node.domain, node.op_type)
        if key not in self._schemas:
            self._schemas[key] = find_schema(node.op_type, node.domain, self.opsets.get(node.domain, 1))
        return self._schemas[key]

    def is_made_up(self, node: Node) -> bool:
        """Whether a node has the domain of ONNX's own operators, none of which is called like that in any version."""
        ours = not node.domain or node.domain.startswith("ai.onnx.")
        return ours and self.schema(node) is None and newest_schema(node.op_type, node.domain) is None

    def default(self, node: Node, name: str) -> Any:
        """What ONNX takes for an attribute of a node where it is left out, None where that is nothing."""
        key = (node.domain, node.op_type, name)
        if key not in self._defaults:
            schema = self.schema(node)
            declared = schema.attributes[name].default_value if schema is not None and name in schema.attributes else None
            # A schema hands over copies of all its attributes, each time.
            self._defaults[key] = _decode(declared) if declared is not None and declared.type else None
        return self._defaults[key]


def bodies(attribute: onnx.AttributeProto) -> Iterator[tuple[str, onnx.GraphProto]]:
    """Graphs in an attribute, each with the key that it has in `Node.subgraphs`."""
    if attribute.type == _A.GRAPH:
        yield text(attribute.name), attribute.g
    elif attribute.type == _A.GRAPHS:
        for index, body in enumerate(attribute.graphs):
            yield f"{text(attribute.name)}[{index}]", body


_DECODERS: dict[int, Any] = {
    _A.INT: lambda a: a.i,
    _A.FLOAT: lambda a: a.f,
    _A.STRING: lambda a: text(a.s),
    _A.INTS: lambda a: tuple(a.ints),
    _A.FLOATS: lambda a: tuple(a.floats),
    _A.STRINGS: lambda a: tuple(text(s) for s in a.strings),
    _A.TENSOR: lambda a: a.t,
}


def _decode(attribute: onnx.AttributeProto) -> Any:
    decoder = _DECODERS.get(attribute.type)
    return decoder(attribute) if decoder else None
