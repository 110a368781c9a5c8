"""What a reproducer needs beside its node to show how the tensors around it are held as integers."""

from __future__ import annotations

from collections.abc import Iterator

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.quantized.encoding import dequantizes, quantizes
from npu_guard.analysis.quantized.reading import CLAMPS, Quantized, read
from npu_guard.graph.graph import Node
from npu_guard.results.findings import Finding


def is_about_encodings(finding: Finding) -> bool:
    """Whether a finding is about how tensors around its node are held as integers."""
    return finding.rule.startswith("NPU8")


_RINGS = 4
"""How far from its node what a finding about quantization looks at may lie, in operators."""


def rings(analysis: Analysis, nodes: set[Node]) -> Iterator[set[Node]]:
    """The nodes with what quantizes and dequantizes around them; then, each time, with the operators next to all these."""
    quantized, graph = read(analysis), next(iter(nodes)).graph
    ring = _held(quantized, nodes)
    for _ in range(_RINGS):
        yield ring
        beside = {r for n in ring for v in n.outputs if v is not None for r in v.consumers}
        beside |= {v.producer for n in ring for v in n.inputs if v is not None and v.producer is not None}
        ring = _held(quantized, ring | {n for n in beside if n.graph is graph})


def _held(quantized: Quantized, nodes: set[Node]) -> set[Node]:
    """Nodes with those that say how their tensors are held, up to the next operators."""
    found, waiting = set(nodes), list(nodes)
    while waiting:
        node = waiting.pop()
        beside = [v.producer for v in node.inputs if v is not None and v.producer is not None and _holds(quantized, v.producer)]
        beside += [r for v in node.outputs if v is not None for r in v.consumers if _holds(quantized, r) or r.op in CLAMPS]
        for other in beside:
            if other not in found and other.graph is node.graph:
                found.add(other)
                waiting += [other] if _holds(quantized, other) or node in nodes else []
    return found


def _holds(quantized: Quantized, node: Node) -> bool:
    return node in quantized.members or quantizes(node) or dequantizes(node)
