"""A quantized network as the network in real numbers that it stands for, with a note of how each tensor was held.

Pairs of QuantizeLinear and DequantizeLinear of activations are left out, and operators in integer arithmetic are the plain ones.
What cannot be left out without a change of meaning (scales computed at run time or for each channel, integers that come in or go
out) stays as it is. Weights stay behind their DequantizeLinear. `restore.py` is the way back.
"""

from __future__ import annotations

import math

import onnx

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.quantized.encoding import Encoding, computes_integers, dequantizes, is_float, quantizes, stated
from npu_guard.analysis.quantized.held import FLOAT, Held, held_of, span, zero_point
from npu_guard.analysis.quantized.reading import Quantized, read
from npu_guard.base.text import short
from npu_guard.file.document import Document
from npu_guard.file.value_names import free_name
from npu_guard.graph.graph import Node, Value
from npu_guard.rewriting.integers.bounds import least
from npu_guard.rewriting.integers.clamps import clamp, needs_top, top
from npu_guard.rewriting.integers.held import Real
from npu_guard.rewriting.integers.plain_operator import plainly
from npu_guard.rewriting.substitution import Refused

_FAR = 64
"""Tensors that are looked at before one, to tell the least number that it can have."""


def in_real_numbers(document: Document, analysis: Analysis) -> Real | None:
    """The network without its pairs; None where no activation is held.

    Raises Refused where it cannot be told what it stands for.
    """
    quantized = read(analysis)
    if not quantized:
        return None
    return _Reading(document, analysis, quantized).made()


class _Reading:
    """One network on its way."""

    def __init__(self, document: Document, analysis: Analysis, quantized: Quantized) -> None:
        self.analysis = analysis
        self.quantized = quantized
        self.document = document.copy()
        self.real = Real(self.document)
        self.number: dict[str, str] = {}
        """By the name of integers, or of what a DequantizeLinear makes of them, the tensor in real numbers."""
        self.nodes: list[onnx.NodeProto] = []
        self.taken = set(analysis.model.graph.values)

    def made(self) -> Real | None:
        """The result. Raises Refused."""
        graph = self.analysis.model.graph
        for node in graph.nodes:
            if any(v.name in self.number for v in node.captures()):
                raise Refused(f"a body of {short(node.label)!r} reads quantized tensors")
            self._node(node)
        if not self.real.held:
            return None
        self._name_outputs()
        proto = self.document.proto.graph
        del proto.node[:]
        proto.node.extend(self.nodes)
        del proto.value_info[:]  # types have changed
        used = {name for node in self.nodes for name in node.input} | {o.name for o in proto.output}
        used |= {i.name for i in proto.input} | {v.name for node in graph.nodes for v in node.captures()}
        kept = [t for t in proto.initializer if t.name in used]
        del proto.initializer[:]
        proto.initializer.extend(kept)
        self.real.known = {name for node in self.nodes for name in node.output} | used
        self.real.nodes = {node.name for node in self.nodes} | {""}
        return self.real

    def _node(self, node: Node) -> None:
        x = node.inputs[0] if node.inputs else None
        if quantizes(node) and x is not None and not self.analysis.is_constant(x) and self._quantize(node, x):
            return
        if dequantizes(node) and x is not None and not self.analysis.is_constant(x):
            self._dequantize(node, x)
            return
        if computes_integers(node) and self._holds(node):
            self._plain(node)
            return
        self._copy(node)

    def _holds(self, node: Node) -> bool:
        unit = self.quantized.units.get(node)
        return unit is not None and unit.form in ("qoperator", "integer")

    def _quantize(self, node: Node, x: Value) -> bool:
        """Leave a QuantizeLinear out, if all that reads it can do without."""
        held = held_of(self.quantized.encodings.get(node.output), self.analysis)
        if held is None or node.output.is_output or x.dtype != FLOAT:
            return False
        source = self._of(x)
        before = self.real.held.get(source) or self.real.native.get(source)
        if before is None:
            source = self._clamped(source, held, x)
        elif not before.same(held):
            again = self._new(f"{source}_again")  # numbers that are rounded twice: a tensor of its own
            self.nodes.append(onnx.helper.make_node("Identity", [source], [again], again))
            source = again
        if source not in self.real.native:
            self.real.held[source] = held
        self.number[node.output.name] = source
        if before is None and source == self._of(x):
            self.real.loose.update((reader.output.name, source) for reader in x.consumers if not quantizes(reader))
            if x.is_output:
                self.real.loose.add(("", source))
        return True

    def _dequantize(self, node: Node, x: Value) -> None:
        source = self.number.get(x.name)
        held = held_of(self.quantized.encodings.get(x), self.analysis)
        if source is None:
            self._copy(node)
            if held is not None and node.output.dtype == FLOAT:
                self.real.native[node.output.name] = held
            return
        stated = _stated(node, self.analysis)
        wanted = self.real.held.get(source) or self.real.native.get(source)
        if stated is None or wanted is None or not stated.same(wanted):
            raise Refused(f"{short(node.label)!r} reads integers with another scale than they were made with")
        self.number[node.output.name] = source

    def _plain(self, node: Node) -> None:
        """An operator in integer arithmetic as the plain one."""
        wanted = held_of(self.quantized.given(node.output), self.analysis)
        made = plainly(node, self.analysis, self._read_integers, self._new)
        self.document.proto.graph.initializer.extend(made.initializers)
        self.nodes.extend(made.nodes)
        y = node.output
        if y.dtype == FLOAT:
            return
        if wanted is None:
            raise Refused(f"the scale of what {short(node.label)!r} gives is not stated")
        self._integers_out(y, wanted, self.nodes[-1])

    def _read_integers(self, value: Value, encoding: Encoding) -> str:
        """The tensor in real numbers that an operator reads as integers."""
        if (known := self.number.get(value.name)) is not None:
            return known
        held = held_of(encoding, self.analysis)
        if held is None or encoding.scale is None:
            raise Refused(f"the scale of {short(value.name)!r} is not stated")
        name = self._new(f"{value.name}_numbers")
        given = [value.name, encoding.scale.name, *([encoding.zero.name] if encoding.zero is not None else [])]
        self.nodes.append(onnx.helper.make_node("DequantizeLinear", given, [name], name))
        self.real.native[name] = held
        self.number[value.name] = name
        return name

    def _integers_out(self, y: Value, held: Held, maker: onnx.NodeProto) -> None:
        """Note that a tensor that was integers is real numbers now; where it leaves the model it is made integers again."""
        name = y.name
        if y.is_output:
            name = self._new(f"{y.name}_numbers")
            maker.output[list(maker.output).index(y.name)] = name
            proto = self.document.proto.graph
            scale, zero = self._new(f"{y.name}_scale"), self._new(f"{y.name}_zero_point")
            proto.initializer.append(onnx.numpy_helper.from_array(held.scale, scale))
            proto.initializer.append(zero_point(held, zero))
            self.nodes.append(onnx.helper.make_node("QuantizeLinear", [name, scale, zero], [y.name], self._new(f"{y.name}_out")))
            self.real.native[name] = held
        else:
            name = self._clamped(name, held, y)
            self.real.held[name] = held
        self.number[y.name] = name

    def _clamped(self, name: str, held: Held, value: Value) -> str:
        """The tensor behind a Relu, where the integers say that there was one; behind a Clip where it is a gate."""
        if held.zero != span(held.dtype)[0] or value.producer is None or self._least(value, {}) >= -float(held.scale) / 2:
            return name
        made = self._new(f"{name}_clamped")
        high = top(held) if needs_top(value, self.analysis) else None
        node, bounds = clamp(name, made, high, self.analysis.model.opsets.get("", 1))
        node.metadata_props.extend(value.producer.proto.metadata_props)
        self.nodes.append(node)
        self.document.proto.graph.initializer.extend(bounds)
        self.real.clamps.add(made)
        return made

    def _least(self, value: Value, known: dict[Value, float]) -> float:
        """A number that no number of a tensor is below, as its operators and the integers before tell; -inf where they do not."""
        if value in known:
            return known[value]
        known[value] = -math.inf
        held = self.real.held.get(self._of(value)) or self.real.native.get(self._of(value))
        low = 0.0 if held is not None and held.zero == span(held.dtype)[0] else -math.inf
        constant = self.analysis.constants.get(value) if is_float(value) else None
        if constant is not None and constant.size:
            low = float(constant.min())
        elif value.producer is not None and len(known) < _FAR:
            low = max(low, least(value.producer, lambda v: self._least(v, known), self.analysis))
        known[value] = low
        return low

    def _copy(self, node: Node) -> None:
        """A node on real numbers; one that hands integers on does the same to numbers."""
        integers = [v for v in node.inputs if v is not None and v.name in self.number and v.dtype != FLOAT]
        copy = onnx.NodeProto()
        copy.CopyFrom(node.proto)
        for i, v in enumerate(node.inputs):
            if v is not None:
                copy.input[i] = self.number.get(v.name, v.name)
        self.nodes.append(copy)
        if not integers:
            return
        given = [v for v in node.outputs if v is not None and v.dtype == integers[0].dtype]
        if not given:
            return  # Shape and the like
        sources = [self.real.held.get(self._of(v)) or self.real.native.get(self._of(v)) for v in integers]
        wanted = [held_of(self.quantized.encodings.get(v), self.analysis) for v in given]
        held = sources[0]
        if held is None or node.domain or not all(h is not None and h.same(held) for h in (*sources, *wanted)):
            raise Refused(f"{short(node.label)!r} computes with integers")
        for i, v in enumerate(node.inputs):
            if v is not None and v.dtype == integers[0].dtype and v.name not in self.number:
                copy.input[i] = self._filled(node, i, v, held)
        for v in given:
            self._integers_out(v, held, copy)

    def _filled(self, node: Node, index: int, value: Value, held: Held) -> str:
        """A constant that stands among integers, such as what a Pad fills in, as numbers. Raises Refused."""
        known = self.analysis.constants.get(value)
        if known is None:
            raise Refused(f"input {index} of {short(node.label)!r} is not known")
        numbers = ((known.astype("float64") - held.zero) * float(held.scale)).astype("float32")
        name = self._new(f"{value.name}_numbers")
        self.document.proto.graph.initializer.append(onnx.numpy_helper.from_array(numbers, name))
        return name

    def _of(self, value: Value) -> str:
        return self.number.get(value.name, value.name)

    def _new(self, wanted: str) -> str:
        return free_name(wanted, self.taken)

    def _name_outputs(self) -> None:
        """Give outputs of the model, which a DequantizeLinear made, their names again."""
        proto = self.document.proto.graph
        fixed = {o.name for o in proto.output} | {i.name for i in proto.input}
        renamed: dict[str, str] = {}
        for output in proto.output:
            source = self.number.get(output.name)
            if source is None or source == output.name or output.type.tensor_type.elem_type != FLOAT:
                continue
            if source in fixed or source in renamed:
                made = renamed.get(source, source)
                self.nodes.append(onnx.helper.make_node("Identity", [made], [output.name], self._new(f"{output.name}_again")))
            else:
                renamed[source] = output.name
        for node in self.nodes if renamed else ():
            for names in (node.input, node.output):
                for i, name in enumerate(names):
                    names[i] = renamed.get(name, name)
        for table in (self.real.held, self.real.native):
            for old, new in renamed.items():
                if old in table:
                    table[new] = table.pop(old)
        self.real.loose = {(renamed.get(a, a), renamed.get(b, b)) for a, b in self.real.loose}


def _stated(node: Node, analysis: Analysis) -> Held | None:
    x = node.input(0)
    return None if x is None else held_of(stated(node, x, dynamic=False), analysis)
