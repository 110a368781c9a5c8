"""The main graph of a model as landing needs it: operators, constants with their roles, and what each value is on the example."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from npu_guard.base.regex import regex
from npu_guard.file import load
from npu_guard.file.document import Document
from npu_guard.project.export import STACK_TRACE
from npu_guard.rewriting.substitution import HISTORY
from npu_guard.verification.runtime import Runtime

Array = NDArray[Any]
SCOPES = "pkg.torch.onnx.name_scopes"
"""Key of a node's metadata: paths of the modules around it, outermost first, and the name of its node in torch's graph."""
_FRAME = regex(r'File "([^"\n]+)", line (\d+)')


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    """One operator. `scope` is the path of the module whose forward it is written in, "" for the network.

    `line` is that of the user's source which calls it, as `net.py:12`, "" where none is known.
    """

    proto: onnx.NodeProto
    index: int
    scope: str
    substitutions: tuple[str, ...]
    line: str = ""

    @property
    def place(self) -> str:
        """The module and the line, for a message."""
        return (self.scope or "the network") + (f" ({self.line})" if self.line else "")

    @property
    def type(self) -> str:
        """The operator's name."""
        return self.proto.op_type

    @property
    def inputs(self) -> Sequence[str]:
        """Names of what it reads, "" for what is left out."""
        names: Sequence[str] = self.proto.input
        return names

    @property
    def outputs(self) -> Sequence[str]:
        """Names of what it makes."""
        names: Sequence[str] = self.proto.output
        return names

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes by name, text as str."""
        values = {a.name: onnx.helper.get_attribute_value(a) for a in self.proto.attribute}
        return {name: v.decode() if isinstance(v, bytes) else v for name, v in values.items()}

    def reads(self) -> Iterator[str]:
        """What it and the graphs inside it read."""
        stack = [self.proto]
        while stack:
            node = stack.pop()
            yield from filter(None, node.input)
            for attribute in node.attribute:
                bodies = [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
                stack.extend(inner for body in bodies for inner in body.node)
                yield from (o.name for body in bodies for o in body.output)

    def same(self, other: Op) -> bool:
        """Whether both are the same operator on the same values."""
        a, b = self.proto, other.proto
        if (a.op_type, a.domain) != (b.op_type, b.domain) or list(a.input) != list(b.input) or list(a.output) != list(b.output):
            return False
        return sorted(x.SerializeToString() for x in a.attribute) == sorted(x.SerializeToString() for x in b.attribute)


@dataclass(slots=True)
class Graph:
    """Operators in order, and tensors by name. `values` are those of the example input, which `run` fills in."""

    document: Document
    ops: list[Op]
    constants: dict[str, onnx.TensorProto]
    inputs: list[str]
    outputs: list[str]
    values: dict[str, Array] = field(default_factory=dict)
    producer: dict[str, Op] = field(default_factory=dict)
    consumers: dict[str, list[Op]] = field(default_factory=dict)

    @staticmethod
    def read(path: Path) -> Graph:
        """The graph of a file. Raises ModelError."""
        document = Document.of(load.load(path))
        proto = document.proto.graph
        constants = {t.name: t for t in proto.initializer}
        ops: list[Op] = []
        for node in proto.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                constants[node.output[0]] = node.attribute[0].t
                continue
            meta = {p.key: p.value for p in node.metadata_props}
            history = tuple(filter(None, meta.get(HISTORY, "").split(", ")))
            ops.append(Op(node, len(ops), _scope(meta.get(SCOPES, "")), history, _line(meta.get(STACK_TRACE, ""))))
        inputs = [i.name for i in proto.input if i.name not in constants]
        graph = Graph(document, ops, constants, inputs, [o.name for o in proto.output])
        consumers = defaultdict(list)
        for op in ops:
            graph.producer.update((name, op) for name in op.outputs if name)
            for name in dict.fromkeys(op.reads()):
                consumers[name].append(op)
        graph.consumers = dict(consumers)
        return graph

    def run(self, runtime: Runtime, feed: Mapping[str, Array]) -> None:
        """Fill in what each value is on this input. Raises CannotRun."""
        document = self.document.copy()
        graph = document.proto.graph
        known = {o.name for o in graph.output}
        wanted = [name for op in self.ops for name in op.outputs if name and name not in known]
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
        self.values = {**runtime.run(*document.runnable(), [dict(feed)])[0], **feed}

    def array(self, name: str) -> Array:
        """A constant's elements."""
        return self.document.array(self.constants[name])

    def shape(self, name: str) -> tuple[int, ...]:
        """Extents of a constant or of a value on the example."""
        if name in self.constants:
            return tuple(self.constants[name].dims)
        return tuple(np.shape(self.values[name]))

    def between(self, stops: Collection[str], ends: Collection[str]) -> list[Op] | None:
        """Operators that lead to `ends` from `stops`, in order; None where they read an input of the graph past the stops."""
        seen: set[str] = set()
        found: dict[Op, None] = {}
        stack = list(ends)
        while stack:
            name = stack.pop()
            if name in seen or name in stops or name in self.constants:
                continue
            seen.add(name)
            op = self.producer.get(name)
            if op is None:
                return None
            found[op] = None
            stack.extend(op.reads())
        return sorted(found, key=lambda op: op.index)


def _line(trace: str) -> str:
    """The innermost line of a stack trace as the export leaves it."""
    frames = _FRAME.findall(trace)
    return ":".join(frames[-1]) if frames else ""


def _scope(text: str) -> str:
    try:
        path = ast.literal_eval(text)[:-1] if text else []
    except (SyntaxError, ValueError):
        return ""
    return str(path[-1]) if path else ""


def below(path: str, top: str) -> bool:
    """Whether a module is another one or a part of it."""
    return top in ("", path) or path.startswith(f"{top}.")
