"""What running a model may take of the machine. It follows from the model's weights, which are there, and not from its claims.

A file of 300 bytes may claim a product of 200,000 x 200,000 numbers, or a loop without end. What a model claims is believed in
proportion to its weights, so a network gets its minutes, and what has no weights is given up after seconds.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from npu_guard.base.errors import ModelError

if TYPE_CHECKING:  # the process that runs models has no use for these
    from npu_guard.analysis.analyze import Analysis
    from npu_guard.base.limits import Limits
    from npu_guard.file.document import Document

_SECONDS, _BYTES = 2.0, 256 << 20
"""What any model gets, forty times what a small one needs."""
_LONGEST, _LARGEST = 6000.0, 8 << 30
_PER_NODE, _PER_MAC, _PER_BYTE = 5e-4, 1e-8, 5e-9
"""Seconds to load a node, for a MAC and for a byte that is written: twenty to a hundred times what a slow core needs."""
_NODE_BYTES, _DRAW = 6000, 1e-4
"""What a node takes of ONNX Runtime's memory, and the seconds of drawing an input or comparing an output, however small."""
_FREE_NODES, _FREE_MACS, _FREE_BYTES = 2000, 2_000_000, 4 << 20
"""Claims that need no weights."""
_NODES, _MACS, _CLAIMED = 1 / 512, 3 * 10**4, 3 * 10**3
"""Nodes, MACs and bytes of activations that are believed for each byte of weights. Networks have 5 to 4,000 MACs."""
_KEY = "in [tool.npu-guard.limits] gives it more"
TIME, MEMORY = f"'run-seconds' {_KEY}", f"'run-bytes' {_KEY}"


@dataclass(frozen=True, slots=True)
class RunLimits:
    """Seconds to load a model and for each input, and bytes beyond what ONNX Runtime itself takes."""

    load: float
    each: float
    memory: int
    needs: int = 0
    """Bytes that a run needs at the least, whatever the number of inputs: weights, and activations that live together."""
    needs_each: int = 0
    """Bytes for one set of inputs and what comes out of it."""
    tensors: int = 0
    """Inputs and outputs that a set has; an output counts twice, as it is measured in several ways."""

    def seconds(self, inputs: int) -> float:
        """For one request with so many sets of inputs."""
        return min(_LONGEST, self.load + self.each * max(1, inputs))

    def refusal(self, inputs: int) -> str:
        """Why running the model with so many sets of inputs is not even tried; empty where it is."""
        if (drawing := self.tensors * inputs * _DRAW) > self.load:
            return (
                f"drawing its inputs and comparing its outputs takes {drawing:.1f} s, and it may have {self.load:.1f} s; {TIME}"
            )
        needs = self.needs + self.needs_each * inputs
        if needs <= self.memory:
            return ""
        return f"running it takes {_size(needs)} of memory, and it may have {_size(self.memory)}; {MEMORY}"


GENEROUS = RunLimits(20.0, 300.0, _LARGEST)
"""For models of our own making."""


def run_limits(limits: Limits, *models: tuple[Document, Analysis], int8: bool = False) -> RunLimits:
    """For running each of these models, one after the other. `int8` is for quantizing them, which keeps all activations."""
    found = [_of(limits, document, analysis, int8=int8) for document, analysis in models]
    return RunLimits(*(max(getattr(a, name) for a in found) for name in RunLimits.__slots__))


def hopeless_run(limits: Limits, *documents: Document) -> str:
    """Why no model of these will be run, whatever their analysis says; empty where that depends on it."""
    nodes, weights = (max(counts) for counts in zip(*((len(d.proto.graph.node), _weights(d)) for d in documents), strict=True))
    most = _BYTES + weights * (6 + _CLAIMED) + min(nodes, _FREE_NODES + int(weights * _NODES)) * _NODE_BYTES
    least = RunLimits(0.0, 0.0, min(most, _LARGEST) if limits.run_bytes is None else limits.run_bytes, nodes * _NODE_BYTES)
    return least.refusal(0)


def _of(limits: Limits, document: Document, analysis: Analysis, *, int8: bool) -> RunLimits:
    from npu_guard.analysis.cost import size_bytes

    weights = _weights(document)
    costs = analysis.costs.values()
    nodes = min(len(document.proto.graph.node), _FREE_NODES + int(weights * _NODES))
    macs = min(sum(c.macs for c in costs), _FREE_MACS + weights * _MACS)
    written = sum(c.output_bytes for c in costs)
    live = max((c.live_bytes for c in costs), default=0)
    inputs = [v for v in analysis.model.graph.inputs if v.initializer is None]
    each = sum(map(size_bytes, inputs)) + 2 * sum(map(size_bytes, analysis.model.graph.outputs))
    load = _SECONDS + nodes * _PER_NODE + (20.0 if int8 else 0.0)
    turn = 0.01 + macs * _PER_MAC + min(written, _FREE_BYTES + weights * _CLAIMED) * _PER_BYTE + nodes * 1e-5
    memory = _BYTES + 6 * weights + nodes * _NODE_BYTES + min(4 * live + 12 * each, weights * _CLAIMED)
    if int8:
        memory += _BYTES + min(16 * written, weights * _CLAIMED)
    if limits.run_seconds is not None:
        load, turn = float(limits.run_seconds), 0.0
    memory = min(memory, _LARGEST) if limits.run_bytes is None else limits.run_bytes
    needs = weights + live + len(document.proto.graph.node) * _NODE_BYTES
    return RunLimits(load, turn, memory, needs, each, len(inputs) + 2 * len(analysis.model.graph.outputs))


def _weights(document: Document) -> int:
    """Bytes of tensors that are there, and no more than the files have in all: many tensors may name the same place."""
    total, files = 0, {document.source: _on_disk(document.source)}
    for tensor in document.tensors():
        if tensor.data_location == tensor.EXTERNAL:
            try:
                path, _, length = document.extent(tensor)
            except ModelError:  # said by whoever needs the tensor
                continue
            total += length
            files.setdefault(path, _on_disk(path))
        else:
            total += tensor.ByteSize() - len(tensor.name) - len(tensor.doc_string)
    return min(total, sum(files.values()))


def _on_disk(path: os.PathLike[str]) -> int:
    """What a file really occupies: holes are free."""
    try:
        status = os.stat(path)
    except OSError:
        return 0
    return min(status.st_size, getattr(status, "st_blocks", status.st_size) * 512)


def _size(count: int) -> str:
    for unit, scale in (("GB", 10**9), ("MB", 10**6)):
        if count >= scale:
            return f"{count / scale:,.3g} {unit}" if count < 10**15 else f"{count:.1e} bytes"
    return f"{count} bytes"
