"""Where a model is cut, as JSON version 1."""

from __future__ import annotations

from typing import Any

from npu_guard.analysis.types import DTYPE_NAMES
from npu_guard.base.installation import VERSION
from npu_guard.base.json import json_text
from npu_guard.graph.graph import Node, Value
from npu_guard.graph.origin import location_of
from npu_guard.partitioning.report import PartitionReport
from npu_guard.reports.blocks.verification import verification_json


def render(report: PartitionReport, *, color: bool = False) -> str:
    """The whole document; nothing is cut."""
    p = report.partition
    document = {
        "schema_version": 1,
        "tool": {"name": "npu-guard", "version": VERSION},
        "path": report.path,
        "sha256": report.sha256,
        "profile": p.profile,
        "notes": list(p.analysis.notes),
        "npu_macs_percent": p.npu_macs_percent,
        "runnable_macs_percent": p.runnable_macs_percent,
        "npu_bytes_percent": p.npu_bytes_percent,
        "pieces": [
            {"index": q.index, "side": q.side, "nodes": [_node(n) for n in q.nodes], "macs": q.macs, "bytes": q.bytes,
             "inputs": [_tensor(v) for v in q.inputs], "outputs": [_tensor(v) for v in q.outputs]}
            for q in p.pieces
        ],
        "crossings": [
            {"tensor": _tensor(c.value), "bytes": c.bytes, "from": c.source, "to": list(c.targets)} for c in p.crossings
        ],
        "breakers": [
            {"nodes": [_node(n) for n in b.nodes], "pieces": b.pieces, "npu_macs_percent": b.npu_macs_percent} for b in p.breakers
        ],
        "verification": None if report.verification is None else verification_json(report.verification),
    }  # fmt: skip
    return json_text(document)


def _node(node: Node) -> dict[str, Any]:
    location = location_of(node)
    return {"node": location.node, "op_type": location.op_type, "output": location.output, "scope": list(location.scope)}


def _tensor(value: Value) -> dict[str, Any]:
    return {"name": value.name, "shape": value.shape, "dtype": DTYPE_NAMES.get(value.dtype)}
