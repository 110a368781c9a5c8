"""A network in real numbers that was changed becomes integers again: each tensor that is still there as it was held before.

What moves numbers without computing holds its result as what it reads, so nothing is rounded there. Of other new tensors the
range is measured. New weights are put on the grid of the old ones, so that weights that were only moved are the same integers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from msgspec.structs import replace

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.quantized.encoding import dequantizes, quantizes
from npu_guard.analysis.quantized.held import FLOAT, Held, span
from npu_guard.analysis.quantized.reading import CLAMPS, read
from npu_guard.file.document import Document
from npu_guard.graph.graph import Node, Value
from npu_guard.graph.handlers import OfKind
from npu_guard.rewriting.integers.grid import Style, fitting, style_of
from npu_guard.rewriting.integers.held import Real
from npu_guard.rewriting.integers.pooling import as_convolution
from npu_guard.rewriting.integers.scheme import Wanted, fitted, shared
from npu_guard.rewriting.integers.writing import WIDE, Writer

_MOVES = OfKind("view", "data mover", "identity", also="MaxPool GlobalMaxPool Relu")
"""Operators whose results are some of the numbers that they read, or 0."""
ROOM = 4.0
"""Times by which a range of 16 bits is wider than what usual inputs tell: two bits, of which there are eight more than before."""
_COARSER = 2.0
"""Times by which the scale of a new tensor may grow to be that of another; beyond, it stays in floating point where it may."""


def moves(node: Node) -> bool:
    """Whether the results of a node are some of the numbers that it reads, or 0."""
    if node.domain:
        return False
    if node.op_type == "Resize":
        return bool(node.attr("mode", "nearest") == "nearest")
    if node.op_type == "Pad":
        return len(node.inputs) < 3 or node.inputs[2] is None
    return node.op_type in _MOVES


def style_of_model(analysis: Analysis, real: Real) -> Style:
    """How a quantized network holds its tensors."""
    weights = []
    for node, unit in read(analysis).units.items():
        for operand in unit.operands:
            held = operand.encoding
            if operand.role == "weight" and held is not None and held.scale is not None and not held.block:
                scale = analysis.constants.get(held.scale)
                if scale is not None:
                    weights.append((node.op_type.replace("QLinear", "").replace("QGemm", "Gemm"), held.dtype, scale))
    return style_of([*real.held.values()], weights)


def in_style(style: Style, wanted: Wanted) -> Style:
    """The style of a network that may be rounded to what the device takes."""
    if wanted.approximate and wanted.weight_types and style.weight not in wanted.weight_types:
        style = replace(style, weight=next(iter(wanted.weight_types)))
    if not (wanted.approximate and wanted.powers):
        return style
    return replace(style, powers=True, scales=style.scales[np.frexp(style.scales)[0] == 0.5])


class Restoration:
    """One changed network on its way back. `inexact` are the new tensors whose range has to be measured."""

    def __init__(
        self, real: Real, document: Document, analysis: Analysis, style: Style, wanted: Wanted | None = None, *,
        wide: bool = False, alike: Mapping[str, Held] | None = None, tied: bool = False, again: Collection[str] = (),
    ) -> None:  # fmt: skip
        """`document` and `analysis` are those of the changed network, `wanted` is what the device takes; `wide` holds new tensors
        that nothing tells the scale of in 16 bits, so that parts of a sum lose nothing, and where the device names types, all
        that an operator reads and gives beside them. `alike` are tensors that have the numbers of one that was held, and are
        held as that; `tied` gives these up where the device wants operands to share a scale. `again` are those of them that
        were in floating point and were rounded behind movers that are gone: new operators read them rounded."""
        self._wanted = wanted or Wanted()
        self._wide = wide
        self._real = real
        self._document = document
        self._analysis = analysis
        self._style = style
        self._held: dict[str, Held] = {n: h for n, h in real.held.items() if n in analysis.model.graph.values}
        self._alike = alike or {}
        self._tied = tied
        self._held.update({n: h for n, h in self._alike.items() if n not in real.known})
        for name in again:
            self._held[name] = self._alike[name]
            self._for_new_operators(analysis.model.graph.values[name])
        self._alive: set[str] = {*self._held, *real.native}
        self.inexact: list[Value] = []
        self.otherwise = 0
        """Tensors that are still there and have another scale than before, as soon as the network is written."""
        self.rounded = 0
        """New weights that are no whole number of steps, likewise."""
        if self._wanted.fills:
            self.inexact += [v for v in analysis.model.graph.inputs if v.dtype == FLOAT and v.name not in self._alive]
            self._alive.update(v.name for v in self.inexact)
        elif self._wanted.whole:
            self._begin()
        self._backward()
        for node in analysis.model.graph.nodes:
            self._forward(node, self._wanted.same_scale)

    def _begin(self) -> None:
        """Have what new operators read in floating point, as old ones did, become integers for them alone."""
        for value in self._analysis.model.graph.values.values():
            if value.dtype != FLOAT or value.name not in self._real.known or self._of(value) or self._analysis.is_constant(value):
                continue
            if any(reader.name not in self._real.nodes for reader in value.consumers):
                self._alive.add(value.name)
                self.inexact.append(value)
                self._for_new_operators(value)

    def _for_new_operators(self, value: Value) -> None:
        """Leave a value that becomes integers in floating point for operators that read it before, and for the model's user."""
        self._real.loose.update((r.output.name, value.name) for r in value.consumers if r.name in self._real.nodes)
        if value.is_output:
            self._real.loose.add(("", value.name))

    def _data(self, node: Node) -> list[Value]:
        """Activations that a node reads; none that is rounded for others alone."""
        owner = node.outputs[0].name if node.outputs and node.outputs[0] is not None else ""
        loose = set() if self._wanted.fills else {v for o, v in self._real.loose if o == owner}
        data = [v for v in node.inputs if v is not None and v.dtype == FLOAT and v.name not in loose]
        return [v for v in data if not self._analysis.is_constant(v)]

    def _of(self, value: Value) -> Held | None:
        return self._held.get(value.name) or self._real.native.get(value.name)

    def _backward(self) -> None:
        """Hold what is only moved before it becomes integers as those: to round and to move commute."""
        for node in reversed(self._analysis.model.graph.nodes):
            for v in node.outputs:
                if v is None or v.dtype != FLOAT or v.is_output or not v.consumers or v.name in self._held:
                    continue
                after = [self._of(r.output) if moves(r) and r.op_type not in CLAMPS else None for r in v.consumers]
                first = after[0]
                if first is not None and all(h is not None and h.same(first) for h in after) and self._reads(node):
                    self._hold(v, first)
                elif not self._analysis.is_constant(v) and all(self._computes_anew(r) for r in v.consumers):
                    self._alive.add(v.name)  # read in integers before, behind operators that are gone
                    self.inexact.append(v)

    def _computes_anew(self, node: Node) -> bool:
        """Whether an operator is a new one, whose result is held."""
        return node.name not in self._real.nodes and not moves(node) and self._of(node.output) is not None

    def _reads(self, node: Node) -> bool:
        if self._wanted.whole and node.name not in self._real.nodes:
            return any(v is not None and not self._analysis.is_constant(v) for v in node.inputs)
        return any(v.name in self._alive for v in self._data(node))

    def _hold(self, value: Value, held: Held) -> None:
        self._held[value.name] = held
        self._alive.add(value.name)

    def _forward(self, node: Node, same_scale: Collection[str]) -> None:
        if quantizes(node) or dequantizes(node) or not self._reads(node):
            return
        data = self._data(node)
        sources = [self._of(v) for v in data]
        first = sources[0] if sources else None
        moved = first if moves(node) and all(s is not None and first is not None and s.same(first) for s in sources) else None
        for v in node.outputs:
            if v is None or v.dtype != FLOAT or self._analysis.is_constant(v):
                continue
            if v.name in self._held or v in self.inexact:
                if v.name in self._held and moved is not None and node.op_type in same_scale:
                    self._held[v.name] = moved
            elif moved is not None and not (v.is_output and v.name in self._real.known):
                self._hold(v, moved)
            elif self._ends_in_bounds(v):
                self._alive.add(v.name)
            elif v.name not in self._real.known or (self._wanted.fills and not v.is_output):
                self._alive.add(v.name)
                self.inexact.append(v)

    def _ends_in_bounds(self, value: Value) -> bool:
        """Whether a clamp alone reads the value, so that compilers take both as one operator."""
        reader = value.only_consumer
        return reader is not None and reader.op_type in CLAMPS and not reader.domain and not moves(_maker(value))

    def write(self, ranges: Mapping[str, tuple[float, float]], room: float = 1.0) -> Document:
        """The network in integers. `ranges` are the least and the largest number of each inexact tensor; one without stays in
        floating point. Those that get more bits than others are held `room` times as wide. Raises Refused."""
        for value in self.inexact:
            if value.name in ranges:
                times = room if self._wide and self._style.activation not in WIDE else 1.0
                low, high = (times * end for end in ranges[value.name])
                self._held[value.name] = self._alike.get(value.name) or fitting(low, high, self._style, wide=self._wide)
        held = {name: fitted(own, self._wanted) for name, own in self._held.items()}
        free = {value.name for value in self.inexact}
        if self._tied:
            free |= {name for name in held if name not in self._real.known}
        powers = self._style.powers
        nodes = [n for n in self._analysis.model.graph.nodes if as_convolution(n, powers=powers) is None]
        own = {name: float(one.scale) for name, one in held.items()}
        shared(held, nodes, self._wanted, free)
        if not self._wanted.whole and not self._wanted.approximate:
            held = {name: one for name, one in held.items() if float(one.scale) <= own[name] * _COARSER}
        fine = {n for n in free if n in held and held[n].dtype in WIDE} if self._wide and self._wanted.types else set()
        self.otherwise = sum(not _alike(own, held.get(name)) for name, own in self._before().items())
        writer = Writer(self._analysis, self._real, held, self._document.copy(), self._style, self._wanted, fine)
        document = writer.written()
        self.rounded = writer.weights.rounded
        return document

    def _before(self) -> dict[str, Held]:
        """How tensors were held that are still there, under their names or with their numbers."""
        values = self._analysis.model.graph.values
        there = {name: own for name, own in self._real.held.items() if name in values}
        return {**there, **{n: own for n, own in self._alike.items() if n in self._alive and n not in self._real.known}}


def _alike(old: Held, new: Held | None) -> bool:
    """Whether two tensors are the same integers, but for the sign of their type."""
    if new is None or float(old.scale) != float(new.scale):
        return False
    return old.zero - span(old.dtype)[0] == new.zero - span(new.dtype)[0]


def _maker(value: Value) -> Node:
    assert value.producer is not None
    return value.producer
