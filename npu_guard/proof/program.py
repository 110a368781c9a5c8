"""A model as the evaluation sees it: constants as arrays, and calls in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from npu_guard.base.errors import ModelError
from npu_guard.base.text import short, text
from npu_guard.file.document import Document
from npu_guard.graph.ops import Operator, find_operator
from npu_guard.proof.modular import Array
from npu_guard.proof.tensor import Unsupported


@dataclass(frozen=True, slots=True)
class Call:
    """An operator at work."""

    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int

    def attr(self, name: str, default: Any) -> Any:
        """An attribute, or the operator's default."""
        return self.attributes.get(name, default)

    @property
    def operator(self) -> Operator:
        """What is known of the operator, as of a node."""
        return find_operator(self.op_type, self.domain)

    @property
    def op(self) -> str:
        """As a node's."""
        return self.op_type

    @property
    def made(self) -> int:
        """Outputs that somebody asks for."""
        return sum(1 for name in self.outputs if name)


@dataclass(frozen=True, slots=True)
class Input:
    """What the model is fed. An extent that is open is None."""

    name: str
    kind: str
    shape: tuple[int | None, ...] | None
    double: bool = False
    """Whether its numbers are of float64, so that a Cast to float32 rounds them."""


@dataclass(frozen=True, slots=True)
class Program:
    """A model."""

    inputs: tuple[Input, ...]
    constants: Mapping[str, Array]
    calls: Sequence[Call]
    outputs: tuple[str, ...]
    opset: int
    given: Mapping[str, Any] = field(default_factory=dict)
    """What rewrites have said of constants, by name: `exact.Exact`."""

    def floats(self) -> Iterator[Array]:
        """Stored floats, and those in attributes."""
        yield from (a for a in self.constants.values() if a.dtype.kind == "f")
        for call in self.calls:
            for value in call.attributes.values():
                if isinstance(value, float):
                    yield np.asarray(value, np.float32)
                elif isinstance(value, np.ndarray) and value.dtype.kind == "f":
                    yield value


def read(document: Document, given: Mapping[str, Any] | None = None) -> Program:
    """The program of a model. Raises Unsupported, and ModelError where a weight cannot be read."""
    graph = document.proto.graph
    opset = next((o.version for o in document.proto.opset_import if o.domain in ("", "ai.onnx")), 1)
    if document.proto.functions:
        raise Unsupported("functions of the model's own")
    used = {text(name) for node in graph.node for name in node.input} | {text(o.name) for o in graph.output}
    constants = {text(t.name): _array(document, t) for t in graph.initializer if text(t.name) in used}
    inputs = tuple(_input(i) for i in graph.input if text(i.name) not in constants)
    calls = [_call(document, node, opset) for node in graph.node]
    return Program(inputs, constants, calls, tuple(text(o.name) for o in graph.output), opset, given or {})


def _array(document: Document, tensor: onnx.TensorProto) -> Array:
    array = np.asarray(document.array(tensor))
    if array.dtype.kind not in "fiub":
        array = array.astype(np.float32) if array.dtype.itemsize <= 2 else array
        if array.dtype.kind != "f":
            raise Unsupported("a constant that is no number")
    return array


def _input(info: onnx.ValueInfoProto) -> Input:
    kind = info.type.tensor_type
    if not info.type.HasField("tensor_type"):
        raise Unsupported("an input that is no tensor")
    shape = None
    if kind.HasField("shape"):
        shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
    try:
        letter = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)).kind
    except KeyError:
        raise Unsupported("an input of no known type") from None
    if letter not in "iubfV":  # V is what numpy makes of types that it lacks, such as bfloat16
        raise Unsupported("an input that is no number")
    return Input(
        text(info.name), {"i": "i", "u": "i", "b": "b"}.get(letter, "f"), shape, kind.elem_type == onnx.TensorProto.DOUBLE
    )


def _call(document: Document, node: onnx.NodeProto, opset: int) -> Call:
    attributes: dict[str, Any] = {}
    for attribute in node.attribute:
        if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
            raise Unsupported(f"{short(node.op_type)} with a body")
        if attribute.type == onnx.AttributeProto.TENSOR:
            attributes[attribute.name] = _array(document, attribute.t)
        else:
            value = onnx.helper.get_attribute_value(attribute)
            attributes[attribute.name] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    domain = "" if node.domain == "ai.onnx" else text(node.domain)
    names = tuple(map(text, node.input)), tuple(map(text, node.output))
    return Call(text(node.op_type), domain, *names, attributes, opset)


__all__ = ["Call", "Input", "ModelError", "Program", "read"]
