"""Writes a network that was changed in real numbers in integers: pairs of QuantizeLinear and DequantizeLinear, and weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.quantized.encoding import dequantizes, quantizes
from npu_guard.analysis.quantized.held import Held, zero_point
from npu_guard.file.document import Document
from npu_guard.file.value_names import free_name, names_in
from npu_guard.graph.graph import Node, Value
from npu_guard.rewriting.integers.clamps import is_rounding
from npu_guard.rewriting.integers.grid import Style, widened
from npu_guard.rewriting.integers.held import Real
from npu_guard.rewriting.integers.pooling import as_convolution
from npu_guard.rewriting.integers.scheme import Wanted, fitted
from npu_guard.rewriting.integers.weights import NewWeights

WIDE = frozenset({onnx.TensorProto.INT16, onnx.TensorProto.UINT16})
"""Types of 16 bits."""
_ABOVE_0 = {"Sqrt": (0,), "Reciprocal": (0,), "Log": (0,), "Pow": (0,), "Div": (1,)}
"""Operators, and which of their operands is no 0 in what forms write."""
_ROUNDED_UP = 0.51
"""Part of a step that is rounded to one."""
WIDE_OPSET = 21
"""The first in which QuantizeLinear has types of 16 bits; before, those of com.microsoft have."""


class Writer:
    """Puts pairs, and weights in integers, into a document."""

    def __init__(
        self, analysis: Analysis, real: Real, held: Mapping[str, Held], document: Document, style: Style,
        wanted: Wanted, fine: Collection[str] = (),
    ) -> None:  # fmt: skip
        """`held` are all tensors that are integers. `fine` are those in 16 bits that operators have beside nothing narrower."""
        self._analysis = analysis
        self._real = real
        self._held = held
        self._wanted = wanted
        self._fine = fine
        self._widened: dict[str, str] = {}
        self._style = style
        self._document = document
        self._taken = names_in(document.proto.graph)
        self._nodes: list[onnx.NodeProto] = []
        self._new: list[onnx.TensorProto] = []
        self.weights = NewWeights(document, analysis, style, wanted, self.name, self._domain, self._nodes, self._new)
        self._numbers: dict[str, tuple[str, str]] = {}
        """For each held tensor, what is rounded, and what comes of it."""

    def name(self, wanted: str) -> str:
        """A name that is free."""
        return free_name(wanted, self._taken)

    def written(self) -> Document:
        """The document. Raises Refused."""
        graph = self._document.proto.graph
        outputs = {o.name for o in graph.output}
        for name in self._held:
            loose = name not in outputs or ("", name) in self._real.loose
            self._numbers[name] = (name, self.name(f"{name}_dequantized")) if loose else (self.name(f"{name}_unrounded"), name)
        for entry in graph.input:
            if entry.name in self._held:
                self._pair(entry.name)
        protos = list(graph.node)
        for node, proto in zip(self._analysis.model.graph.nodes, protos, strict=True):
            self._node(node, proto)
        del graph.node[:]
        graph.node.extend(self._nodes)
        graph.initializer.extend(self._new)
        used = {name for node in self._nodes for name in node.input} | outputs | {i.name for i in graph.input}
        used |= {v.name for node in self._analysis.model.graph.nodes for v in node.captures()}
        kept = [t for t in graph.initializer if t.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        del graph.value_info[:]
        return self._document

    def _node(self, node: Node, proto: onnx.NodeProto) -> None:
        copy = onnx.NodeProto()
        copy.CopyFrom(proto)
        owner = node.outputs[0].name if node.outputs and node.outputs[0] is not None else ""
        fine = self._is_fine(node)
        for i, value in enumerate(node.inputs):
            if value is not None and value.name in self._numbers:
                raw, rounded = self._numbers[value.name]
                loose = (owner, value.name) in self._real.loose and not self._wanted.fills
                copy.input[i] = raw if loose else rounded
        computes = [(i, v, h) for i, v in enumerate(node.inputs) if v is not None and (h := self._of(v)) is not None]
        if fine:
            for i, value, held in computes:
                copy.input[i] = self._in_16_bits(value.name, held, copy.input[i])
        if computes and not quantizes(node) and not dequantizes(node):
            self.weights.of(
                node, copy, [self._fine_of(h) if fine else h for _, _, h in computes], wide=fine, least=self._least(node)
            )
        self._apart(node, copy)
        clamps = owner in self._held and owner in self._real.clamps and is_rounding(node, self._held[owner], self._analysis)
        if owner in self._held and (node.op_type == "Identity" or clamps):
            self._pair(owner, copy.input[0])
            return
        for i, value in enumerate(node.outputs):
            if value is not None and value.name in self._numbers:
                copy.output[i] = self._numbers[value.name][0]
        self._nodes.append(copy)
        for value in node.outputs:
            if value is not None and value.name in self._held:
                self._pair(value.name, self._rounded_finely(value.name) if fine else "")

    def _of(self, value: Value) -> Held | None:
        return self._held.get(value.name) or self._real.native.get(value.name)

    def _least(self, node: Node) -> float:
        """What a small number is made that keeps the argument of a root or quotient above 0: it must not be rounded to 0."""
        held = self._held.get(node.output.name)
        if node.op_type != "Add" or held is None or node.name in self._real.nodes:
            return 0.0
        readers = [(reader, reader.inputs.index(node.output)) for reader in node.output.consumers]
        some = bool(readers) and all(reader.op_type in _ABOVE_0 and at in _ABOVE_0[reader.op_type] for reader, at in readers)
        return _ROUNDED_UP * float(held.scale) if some else 0.0

    def _is_fine(self, node: Node) -> bool:
        """Whether an operator reads or gives a tensor that wants all beside it in 16 bits."""
        if not self._fine or quantizes(node) or dequantizes(node):
            return False
        return any(v is not None and v.name in self._fine for v in (*node.inputs, *node.outputs))

    def _fine_of(self, held: Held) -> Held:
        """How the same numbers are held in 16 bits, of a type that the device takes; as before where there is none."""
        wide = widened(held)
        return held if wide is held else fitted(wide, self._wanted)

    def _in_16_bits(self, name: str, held: Held, given: str) -> str:
        """The name of the same numbers, each step in 256 parts."""
        wide = self._fine_of(held)
        if wide is held:
            return given
        if given not in self._widened:
            self._widened[given] = self._write(f"{name}_in_16_bits", wide, given, "")
        return self._widened[given]

    def _rounded_finely(self, name: str) -> str:
        """What an operator gives in 16 bits, before it becomes the integers of fewer that it is held as; else nothing."""
        wide, raw = self._fine_of(self._held[name]), self._numbers[name][0]
        return "" if wide is self._held[name] else self._write(f"{name}_in_16_bits", wide, raw, "")

    def _apart(self, node: Node, copy: onnx.NodeProto) -> None:
        """Write a pooling whose ends have to share a scale, and do not, as a convolution, where it is one."""
        if node.op_type not in self._wanted.same_scale:
            return
        ends = [
            None if v is None else self._held.get(v.name) or self._real.native.get(v.name) for v in (node.input(0), node.output)
        ]
        made = as_convolution(node, powers=self._style.powers)
        if made is None or ends[0] is None or ends[1] is None or ends[0].same(ends[1]):
            return
        copy.op_type = "Conv"
        copy.input.append(self.weights.constant(f"{copy.name}_weight", made[0]))
        del copy.attribute[:]
        copy.attribute.extend(made[1])

    def _pair(self, name: str, given: str = "") -> None:
        raw, rounded = self._numbers[name]
        self._write(name, self._held[name], given or raw, rounded)

    def _write(self, name: str, held: Held, given: str, result: str) -> str:
        """Write a pair that rounds what is given; the name of what comes of it, a new one where there is none."""
        scale, zero, integers = (self.name(f"{name}_{what}") for what in ("scale", "zero_point", "quantized"))
        result = result or self.name(f"{name}_dequantized")
        self._new.append(onnx.numpy_helper.from_array(held.scale, scale))
        self._new.append(zero_point(held, zero))
        domain = self._domain(held.dtype)
        for op, x, y in (("QuantizeLinear", given, integers), ("DequantizeLinear", integers, result)):
            self._nodes.append(onnx.helper.make_node(op, [x, scale, zero], [y], self.name(f"{name}_{op}"), domain=domain))
        return result

    def _domain(self, dtype: int) -> str:
        if dtype not in WIDE or self._analysis.model.opsets.get("", 1) >= WIDE_OPSET:
            return ""
        imports = self._document.proto.opset_import
        if not any(e.domain == "com.microsoft" for e in imports):
            imports.add(domain="com.microsoft", version=1)
        return "com.microsoft"
