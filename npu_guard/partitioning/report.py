"""What `partition` says, as text, as JSON version 1 and as Markdown."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import npu_guard
from npu_guard.analysis.facts import DTYPE_NAMES
from npu_guard.base.text import json_ascii, printable
from npu_guard.graph.graph import Node, Value
from npu_guard.graph.origin import location_of
from npu_guard.partitioning.partition import Breaker, Crossing, Partition
from npu_guard.results.findings import Verification
from npu_guard.results.summary import percent, plural, si

_MOST = 40
"""Lines of a table for people; the rest is counted."""


@dataclass(frozen=True, slots=True)
class PartitionReport:
    """What a run found. `written` is the folder, and `verification` what the comparison with the model said of it."""

    path: str
    sha256: str
    partition: Partition
    verification: Verification | None = None
    written: str | None = None


def partition_json(report: PartitionReport) -> str:
    """The whole document; nothing is cut."""
    from npu_guard.verification.report import verification_json

    p = report.partition
    document = {
        "schema_version": 1,
        "tool": {"name": "npu-guard", "version": npu_guard.__version__},
        "path": report.path,
        "sha256": report.sha256,
        "profile": p.profile,
        "notes": list(p.analysis.notes),
        "npu_macs_percent": p.npu_macs_percent,
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
    return json_ascii(json.dumps(document, indent=2, ensure_ascii=True)) + "\n"


def _node(node: Node) -> dict[str, Any]:
    location = location_of(node)
    return {"node": location.node, "op_type": location.op_type, "output": location.output, "scope": list(location.scope)}


def _tensor(value: Value) -> dict[str, Any]:
    return {"name": value.name, "shape": value.shape, "dtype": DTYPE_NAMES.get(value.dtype)}


def partition_text(report: PartitionReport) -> str:
    """Shares, pieces, what crosses, and what would help most."""
    p = report.partition
    lines = [f"{printable(report.path)}  {p.profile}", "", headline(p), *(f"Note: {printable(n)}" for n in p.analysis.notes), ""]
    lines.append(f"{'piece':>5}  {'side':<4} {'operators':>9} {'MACs':>9} {'activations':>12}  in -> out")
    for q in p.pieces[:_MOST]:
        numbers = f"{len(q.nodes):>9,} {si(q.macs):>9} {si(q.bytes) + 'B':>12}"
        lines.append(f"{q.index:>5}  {q.side:<4} {numbers}  {len(q.inputs)} -> {len(q.outputs)}")
    lines += _more(len(p.pieces), "piece")
    if p.crossings:
        lines += ["", "Crossing from piece to piece"]
        for c in p.crossings[:_MOST]:
            lines.append(f"  {c.source:>3} -> {_targets(c):<8} {_size(c):>9}  {_shape(c.value)}  {printable(c.tensor, 80)}")
        lines += _more(len(p.crossings), "tensor")
    if p.breakers:
        lines += ["", "What breaks the graph most"]
        lines += [f"  {sentence}" for sentence in advice(p)]
    if report.verification is not None:
        v = report.verification
        lines += ["", f"Pieces in order against the whole model: {printable(_verdict(v))}"]
    if report.written is not None:
        folder = printable(report.written)
        lines += ["", f"Wrote {folder}. Next: npu-guard verify --manifest {folder}/manifest.json {printable(report.path)}"]
    return "\n".join(lines) + "\n"


def partition_markdown(report: PartitionReport) -> str:
    """Tables for a ticket or a page."""
    p = report.partition
    lines = [f"## Partition of {_cell(report.path)} for {_cell(p.profile)}", "", headline(p), ""]
    lines += [*(f"- {_cell(n)}" for n in p.analysis.notes), ""] if p.analysis.notes else []
    lines += ["| piece | side | operators | MACs | activations | inputs | outputs |", "|---:|---|---:|---:|---:|---|---|"]
    for q in p.pieces[:_MOST]:
        inputs, outputs = (", ".join(_cell(v.name) for v in values[:4]) for values in (q.inputs, q.outputs))
        lines.append(f"| {q.index} | {q.side} | {len(q.nodes):,} | {si(q.macs)} | {si(q.bytes)}B | {inputs} | {outputs} |")
    lines += _more(len(p.pieces), "piece")
    if p.crossings:
        lines += ["", "| tensor | shape | size | from | to |", "|---|---|---:|---:|---|"]
        for c in p.crossings[:_MOST]:
            lines.append(f"| {_cell(c.tensor)} | {_cell(_shape(c.value))} | {_size(c)} | {c.source} | {_targets(c)} |")
        lines += _more(len(p.crossings), "tensor")
    lines += ["", *(f"- {_cell(sentence)}" for sentence in advice(p))] if p.breakers else []
    if report.verification is not None:
        lines += ["", f"Pieces in order against the whole model: {_cell(_verdict(report.verification))}"]
    return "\n".join(lines) + "\n"


def headline(p: Partition) -> str:
    """The result in a sentence."""
    npu = sum(q.side == "npu" for q in p.pieces)
    shares = f"{percent(p.npu_macs_percent)} of the MACs and {percent(p.npu_bytes_percent)} of the activation bytes"
    sizes = [c.bytes for c in p.crossings]
    known = sum(size for size in sizes if size is not None)
    more = f"{si(known)}B" + (" and what is not known" if None in sizes else "")
    crossing = f", {plural(len(sizes), 'tensor')} crossing ({more})" if sizes else ""
    pieces = f"{plural(npu, 'piece')} on the NPU, {plural(len(p.pieces) - npu, 'piece')} on the host"
    return f"{pieces}{crossing}: {shares} on the NPU."


def advice(p: Partition) -> list[str]:
    """A sentence for each place that breaks the graph, what changes most first."""
    return [f"{_who(b)}: {_effect(b, p)}" for b in p.breakers]


def _effect(b: Breaker, p: Partition) -> str:
    """`joins 3 pieces into 1 and moves 31.0 % of the MACs to the NPU`, all by working it out once more."""
    moved = b.npu_macs_percent - p.npu_macs_percent
    parts = []
    if b.pieces != len(p.pieces):
        parts.append(f"leaves {plural(b.pieces, 'piece')} of {len(p.pieces)}" if b.pieces < len(p.pieces)
                     else f"makes it {b.pieces} pieces instead of {len(p.pieces)}")  # fmt: skip
    if moved > 0:
        parts.append(f"moves {percent(moved)} of the MACs to the NPU")
    return " and ".join(parts) or "changes little"


def _who(b: Breaker) -> str:
    """The operators in words."""
    first = f"{printable(b.nodes[0].op, 40)} {printable(b.nodes[0].label, 60)}"
    if len(b.nodes) == 1:
        return f"making {first} compatible"
    kinds = list(dict.fromkeys(printable(n.op, 40) for n in b.nodes))
    return f"making {len(b.nodes)} operators from {first} on compatible ({', '.join(kinds[:6])}{', …' if len(kinds) > 6 else ''})"


def _verdict(v: Verification) -> str:
    if v.verdict == "not_run":
        return f"NOT VERIFIED: {v.reason}"
    return f"{v.verdict} on {v.inputs} ({v.backend}), largest difference {max(o.max_abs for o in v.outputs):.2g}"


def _targets(c: Crossing) -> str:
    return ", ".join(map(str, c.targets))


def _size(c: Crossing) -> str:
    return "unknown" if c.bytes is None else f"{si(c.bytes)}B"


def _shape(value: Value) -> str:
    dims = "x".join("?" if d is None else printable(str(d), 40) for d in value.shape or ()) or "scalar"
    return f"{dims} {DTYPE_NAMES.get(value.dtype, '')}"


def _more(count: int, what: str) -> Sequence[str]:
    return [f"  … and {plural(count - _MOST, what)} more"] if count > _MOST else []


def _cell(content: str) -> str:
    """Text that stays in its cell and is no markup."""
    return re.sub(r"([\\|`*_\[\]~#@!])", r"\\\1", html.escape(printable(content, 200), quote=False))
