"""What a reader of the full report wants to know of a single node: attributes with their defaults, operands, and its line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import onnx
from msgspec import Struct

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.facts import Facts
from npu_guard.analysis.types import DTYPE_NAMES
from npu_guard.base.errors import Undecidable
from npu_guard.base.text import short
from npu_guard.graph.graph import Node, Value
from npu_guard.results.findings import Attribute, Operand

_MOST = 64
"""Operands of one side, and numbers of one attribute, that are shown; a Concat can have as many as it likes."""
_WINDOW = ("kernel_shape", "strides", "pads", "dilations")
"""Attributes whose default follows from the window, as ONNX's schema says in words alone."""


class _Schema(Struct, frozen=True):
    """What ONNX says of an operator, as far as it is shown."""

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    variadic: bool = False
    """Whether the last input may follow any number of times."""
    defaults: tuple[Attribute, ...] = ()
    window: tuple[str, ...] = ()
    """Attributes of a sliding window that the operator has."""


class Details:
    """Details of the nodes of one model."""

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis
        self.facts = Facts(analysis)
        self._schemas: dict[tuple[str, str], _Schema] = {}
        self._known: dict[object, tuple[Attribute, ...]] = {}
        self._weights: dict[tuple[str, Value], Operand] = {}
        """Constants that were shown: one weight may have thousands of readers."""

    def of(self, node: Node) -> tuple[tuple[Attribute, ...], tuple[Operand, ...], tuple[Operand, ...]]:
        """Attributes, inputs and outputs of a node."""
        schema = self._schema(node)
        reads = self._operands(node.inputs, schema.inputs, variadic=schema.variadic)
        return self._attributes(node, schema), reads, self._operands(node.outputs, schema.outputs, variadic=False)

    def _attributes(self, node: Node, schema: _Schema) -> tuple[Attribute, ...]:
        """Worked out once for nodes that have the same ones, as most convolutions of a network do."""
        kernel: tuple[int, ...] = ()
        if schema.window:
            with contextlib.suppress(Undecidable):
                kernel = self.facts.kernel(node)
        try:
            key = (node.domain, node.op_type, kernel, tuple(node.attributes.items()))
            known = self._known.get(key) if not node.subgraphs else None
        except TypeError:  # a tensor is no key
            return self._in_words(node, schema, kernel)
        if known is None:
            known = self._in_words(node, schema, kernel)
            if not node.subgraphs:
                self._known[key] = known
        return known

    def _in_words(self, node: Node, schema: _Schema, kernel: tuple[int, ...]) -> tuple[Attribute, ...]:
        given = [Attribute(name, words(value)) for name, value in node.attributes.items()]
        given += [Attribute(name, f"graph of {len(body.nodes)} nodes") for name, body in node.subgraphs]
        there = {attribute.name for attribute in given}
        given += [attribute for attribute in schema.defaults if attribute.name not in there]
        if kernel:
            given += self._window(node, there, kernel)
        return tuple(sorted(given, key=lambda attribute: attribute.name))

    def _schema(self, node: Node) -> _Schema:
        key = (node.domain, node.op_type)
        if key not in self._schemas:
            schema = node.graph.model.schema(node)
            self._schemas[key] = _Schema() if schema is None else self._read(node, schema)
        return self._schemas[key]

    def _read(self, node: Node, schema: Any) -> _Schema:
        variadic = bool(schema.inputs) and schema.inputs[-1].option == onnx.defs.OpSchema.FormalParameterOption.Variadic
        found = [(name, node.graph.model.default(node, name)) for name in sorted(schema.attributes)]
        return _Schema(
            inputs=tuple(i.name for i in schema.inputs),
            outputs=tuple(o.name for o in schema.outputs),
            variadic=variadic,
            defaults=tuple(Attribute(name, words(value), default=True) for name, value in found if value is not None),
            window=tuple(name for name in _WINDOW if name in schema.attributes) if "kernel_shape" in schema.attributes else (),
        )

    def _window(self, node: Node, there: set[str], kernel: tuple[int, ...]) -> Iterator[Attribute]:
        """Kernel, strides, pads and dilations that the node leaves out."""
        values = {"kernel_shape": kernel, "strides": (1,) * len(kernel), "dilations": (1,) * len(kernel)}
        if node.attributes.get("auto_pad", "NOTSET") in ("NOTSET", "VALID"):  # else they follow from the map
            values["pads"] = (0,) * 2 * len(kernel)
        for name in self._schema(node).window:
            if name not in there and name in values:
                yield Attribute(name, words(values[name]), default=True)

    def _operands(self, values: Sequence[Value | None], formals: Sequence[str], *, variadic: bool) -> tuple[Operand, ...]:
        last, quantized, found = len(formals) - 1, self.facts.quantized, []
        for index, value in enumerate(values[:_MOST]):
            if value is None or not value.name:
                continue
            formal = formals[index] if index <= last else formals[last] if variadic else ""
            constant = self.analysis.is_constant(value)
            operand = self._weights.get((formal, value)) if constant else None
            if operand is None:
                held = quantized.words(value) if quantized else ""
                operand = Operand(formal, value.name, value.shape, DTYPE_NAMES.get(value.dtype), constant, held)
                if constant:
                    self._weights[formal, value] = operand
            found.append(operand)
        return tuple(found)


def words(value: Any) -> str:
    """A value of an attribute: `3, 3`, `0.01`, `linear`; of a tensor, its type and shape."""
    if isinstance(value, tuple):
        more = ", …" if len(value) > _MOST else ""
        return ", ".join(map(words, value[:_MOST])) + more
    if isinstance(value, float):
        return f"{value:.7g}"
    if isinstance(value, onnx.TensorProto):
        return f"{DTYPE_NAMES.get(value.data_type, 'tensor')} [{', '.join(map(str, value.dims))}]"
    return short(value) if isinstance(value, str) else str(value) if isinstance(value, int) else type(value).__name__
