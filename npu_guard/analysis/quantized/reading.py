"""The one reading of all spellings of a quantized network: units of (dequantize inputs, operator, quantize output).

QDQ pairs, QLinearConv and its like, ConvInteger with the operators that scale its sums, and ONNX Runtime's com.microsoft forms
come out as the same units. QuantizeLinear and DequantizeLinear that belong to a unit are how a tensor is held, and no operators.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import starmap
from typing import TYPE_CHECKING

from npu_guard.analysis.quantized.encoding import (
    Encoding,
    Operand,
    computes_integers,
    dequantizes,
    is_about_integers,
    operands,
    quantizes,
    result,
    stated,
    whole,
)
from npu_guard.analysis.quantized.moved import MOVING, came_in
from npu_guard.analysis.quantized.unit import Unit
from npu_guard.analysis.types import DTYPE_NAMES
from npu_guard.graph.graph import Node, Value

if TYPE_CHECKING:
    from npu_guard.analysis.analyze import Analysis

CLAMPS = frozenset({"Relu", "Clip"})
"""Activations that end in the bounds of the integers, so that a compiler takes them as a part of the operator before them."""


def read(analysis: Analysis) -> Quantized:
    """The reading of a model, made once."""
    found: Quantized | None = analysis.known.get("quantized")
    if found is None:
        found = analysis.known["quantized"] = Quantized(analysis)
    return found


class Quantized:
    """What a model says of its integers."""

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis
        self.encodings: dict[Value, Encoding] = {}
        """How integers are held, by the tensor that has them."""
        self.members: set[Node] = set()
        """Nodes that belong to units and are no operators of their own."""
        self.units: Mapping[Node, Unit] = {}
        """Units by the operator inside, in order; of a model without any quantization, none."""
        self._sums: set[Value] = set()
        self._scales: set[Value] = set()
        if any(starmap(is_about_integers, analysis.model.operators)):
            nodes = list(analysis.model.graph.walk())
            for node in nodes:
                self._read(node)
            for node in nodes:
                if quantizes(node) and self._is_taken_up(node):
                    self.members.add(node)
            self.units = self._units(nodes)
            if idle := self._scaling_for_none():
                self.members -= idle
                self.units = self._units(nodes)

    def __bool__(self) -> bool:
        return bool(self.encodings)

    def _units(self, nodes: Iterable[Node]) -> Mapping[Node, Unit]:
        left_out = self.analysis.elided | self.members
        return {node: self._unit(node) for node in nodes if node not in left_out and not node.subgraphs}

    def _scaling_for_none(self) -> set[Node]:
        """Nodes that compute a scale for integers which no operator reads: they belong to no unit and are their own."""
        computing = {e.node for e in self.encodings.values() if e.dynamic} & self.members
        if not computing:
            return computing
        read = (self.encodings.get(o.value) or self.held(o.value) for unit in self.units.values() for o in unit.operands)
        return computing - {encoding.node for encoding in read if encoding is not None}

    def _read(self, node: Node) -> None:
        """Note what one node says of the integers around it. All before it are read."""
        if quantizes(node):
            self._quantize(node)
        elif dequantizes(node):
            self._dequantize(node)
        elif computes_integers(node):
            for value, _, encoding in operands(node):
                if encoding is not None:
                    for same in (value, self.analysis.origin(value), *self._moved(value, encoding)):
                        self.encodings.setdefault(same, encoding)
            if (held := result(node)) is not None:
                self.encodings[node.output] = held
                if held.scale is None:
                    self._sums.add(node.output)
        elif node.inputs and node.inputs[0] is not None:
            self._hand_on(node, node.inputs[0])

    def _quantize(self, node: Node) -> None:
        y = node.output
        if node.op_type == "QuantizeLinear":
            self.encodings[y] = stated(node, y, dynamic=self._is_computed(node.input(1)))
        else:
            scale, zero = (node.outputs[i] if i < len(node.outputs) else None for i in (1, 2))
            self.encodings[y] = Encoding(y.dtype, scale, zero, None, 0, node, dynamic=True)
            if scale is not None:
                self._scales.add(scale)

    def _is_computed(self, scale: Value | None) -> bool:
        """Whether a scale comes in, or is worked out, at run time; one that a caller may override has a value of its own."""
        return scale is not None and scale.initializer is None and not self.analysis.is_constant(scale)

    def _dequantize(self, node: Node) -> None:
        x = node.input(0)
        if x is None:
            return
        source = self._source(x)
        known, held = x in self.encodings, stated(node, x, dynamic=self._is_computed(node.input(1)))
        moved = self._moved(x, held)
        made = known or bool(moved) or (source.producer is None and source.is_input)
        held = self.encodings.setdefault(x, held)
        for value in (source, *moved):
            self.encodings.setdefault(value, held)
        if made and node.output not in self.analysis.static:
            self.members.add(node)

    def _moved(self, x: Value, held: Encoding) -> list[Value]:
        """Integers that came in with the model and that nothing but movers hands on to this operand."""
        if x in self.encodings or held.axis is not None:
            return []
        return came_in(x, self.encodings, self._source, self.analysis.is_constant)

    def _hand_on(self, node: Node, x: Value) -> None:
        """What a node between quantized tensors hands on: integers as they are, or sums and scales of integer arithmetic."""
        if x in self.encodings and node.op_type in MOVING and not node.domain:
            held = self.encodings[x]
            for made in node.outputs:
                if made is not None and made.dtype == x.dtype and (held.axis is None or made.shape == x.shape):
                    self.encodings[made] = held
                    if x in self._sums:
                        self._sums.add(made)
        given = [v for v in node.inputs if v is not None]
        if node.domain or len(node.outputs) != 1:
            return
        if node.op_type == "Cast" and x in self._sums:
            self.members.add(node)
            self._sums.add(node.output)
        elif node.kind == "identity" and x in self._sums:
            self._sums.add(node.output)
        elif node.op_type == "Mul" and any(v in self._sums for v in given):
            if all(v in self._sums or v in self._scales or self.analysis.is_constant(v) for v in given):
                self.members.add(node)
        elif node.op_type == "Mul" and any(v in self._scales for v in given) and self._is_scale(given):
            self.members.add(node)
            self._scales.add(node.output)

    def _is_scale(self, given: Iterable[Value]) -> bool:
        return all(v in self._scales or self.analysis.is_constant(v) for v in given)

    def _is_taken_up(self, node: Node) -> bool:
        """Whether the integers that a node makes go to operators that know their scale, or out of the model."""
        if node.output in self.analysis.static:
            return False
        readers = self.analysis.readers(node.output)
        known = all(
            dequantizes(r) or computes_integers(r) or any(v in self.encodings for v in r.outputs if v is not None)
            for r in readers
        )
        return known and (bool(readers) or node.output.is_output)

    def held(self, value: Value) -> Encoding | None:
        """How what a node reads is held: behind a DequantizeLinear, as what that reads; None where it is in floating point."""
        value = self._source(value)
        found = self.encodings.get(value)
        if found is not None and value not in self._sums:
            return found
        producer = value.producer
        if producer is not None and dequantizes(producer) and producer.inputs[0] is not None:
            return self.encodings.get(self._source(producer.inputs[0]))
        return None

    def _source(self, value: Value) -> Value:
        """The value behind elided nodes, and behind those that hand a constant on as it is."""
        value = self.analysis.origin(value)
        while (node := value.producer) is not None and node.kind == "identity" and node.inputs and node.inputs[0] is not None:
            value = self.analysis.origin(node.inputs[0])
        return value

    def given(self, value: Value) -> Encoding | None:
        """How a result is held: as itself, or as the QuantizeLinear makes it that is behind it, or behind a clamp behind it.

        None where somebody reads it in floating point.
        """
        found = self.encodings.get(value)
        if found is not None and value not in self._sums:
            return found
        for _ in range(2):
            readers = self.analysis.readers(value)
            made = [r for r in readers if quantizes(r)]
            if made and len(made) == len(readers) and not value.is_output:
                return self.encodings.get(made[0].output)
            clamp = self.analysis.only_reader(value)
            if clamp is None or clamp.op_type not in CLAMPS or clamp.domain:
                return None
            value = clamp.output
        return None

    def readers(self, value: Value) -> list[Node]:
        """Operators that read a tensor, as it is or held as integers."""
        found: dict[Node, None] = {}
        waiting = [value]
        while waiting:
            for reader in self.analysis.readers(waiting.pop()):
                if reader in self.members:
                    waiting.append(reader.output)
                else:
                    found[reader] = None
        return list(found)

    def integer_macs(self) -> int:
        """Multiply-accumulates of operators that read and give integers, weights as well."""
        costs = self.analysis.costs
        return sum(costs[node].macs for node, unit in self.units.items() if unit.computes_in_integers and node in costs)

    def words(self, value: Value) -> str:
        """How a tensor is held, `as uint8, scale 0.05, zero point 128`; empty where it is in floating point."""
        held = self.held(value) or self.given(value)
        if held is None:
            return ""
        name = DTYPE_NAMES.get(held.dtype, f"type {held.dtype}")
        if held.dynamic or held.scale is None:
            return f"as {name}, scaled at run time"
        scale, zero = (None if v is None else self.analysis.constants.get(v) for v in (held.scale, held.zero))
        if held.axis is not None:
            each = f"blocks of {held.block}" if held.block else "a scale for each place"
            return f"as {name}, {each} along axis {held.axis}"
        if scale is None or scale.size != 1 or (zero is None and held.zero is not None):
            return f"as {name}"
        return f"as {name}, scale {float(scale.reshape(-1)[0]):.6g}, zero point {0 if zero is None else whole(zero)[0]}"

    def scaled_output(self, node: Node) -> Value:
        """The result of a unit in real numbers: of a ConvInteger, what comes of its sums when they are scaled."""
        value = node.output
        while value in self._sums and (reader := self.analysis.only_reader(value)) is not None and reader in self.members:
            value = reader.output
        return value

    def scalings(self, node: Node) -> list[Value]:
        """Constants by which the sums of a ConvInteger or MatMulInteger are scaled behind it."""
        found: list[Value] = []
        value = node.output if node.outputs and node.outputs[0] is not None else None
        while value in self._sums and (reader := self.analysis.only_reader(value)) is not None and reader in self.members:
            found += [v for v in reader.inputs if v is not None and v is not value and self.analysis.is_constant(v)]
            value = reader.output
        return found

    def _role(self, value: Value, role: str) -> str:
        """A weight that is computed is an activation like any other, and a constant operand is a parameter."""
        constant = self.analysis.is_constant(value)
        return "data" if role == "weight" and not constant else "parameter" if role == "data" and constant else role

    def _computed(self, value: Value, encoding: Encoding | None) -> Encoding | None:
        """How an operand of integer arithmetic is held: as the node before it computes it, else as the operator itself says."""
        before = self.encodings.get(value)
        return before if encoding is not None and before is not None and before.dynamic else encoding

    def _unit(self, node: Node) -> Unit:
        if computes_integers(node):
            found = tuple(Operand(v, self._role(v, role), self._computed(v, encoding)) for v, role, encoding in operands(node))
            dynamic = any(o.encoding is not None and o.encoding.dynamic for o in found)
            output = self.given(self.scaled_output(node))
            holds = any(o.encoding is not None for o in found if o.role == "data")
            if dynamic or _scales_itself(node):
                form = "dynamic"
            else:
                form = "weights" if not holds else "qoperator" if node.role("output_scale") is not None else "integer"
            return Unit(node, found, output, form)
        operator, read = node.operator, []
        for index, value in enumerate(node.inputs):
            formal = operator.role(index)
            if value is None or formal not in ("data", "weight", "bias"):
                continue
            role = self._role(value, formal)
            if role == "parameter" and node.kind == "product":
                role = "weight"
            read.append(Operand(value, role, self.held(value)))
        found = tuple(read)
        output = self.given(node.output) if node.outputs and node.outputs[0] is not None else None
        quantized = output is not None or any(o.encoding is not None for o in found if o.role == "data")
        dynamic = any(o.encoding is not None and o.encoding.dynamic for o in found) or _scales_itself(node)
        weights = any(o.encoding is not None for o in found if o.role == "weight")
        return Unit(node, found, output, "dynamic" if dynamic else "qdq" if quantized else "weights" if weights else "float")


def _scales_itself(node: Node) -> bool:
    """Whether the operator computes a scale for what it reads in floating point."""
    return node.op_type.startswith("DynamicQuantize")
