"""Where a model is cut, for people: shares, pieces, what crosses, and what would help most."""

from __future__ import annotations

from npu_guard.base.text import printable
from npu_guard.partitioning.report import PartitionReport, advice, headline
from npu_guard.reports.blocks.pieces import MOST, left_out, shape_text, size_text, targets_text, verdict_text
from npu_guard.results.next_steps import quoted
from npu_guard.results.summary import si


def render(report: PartitionReport, *, color: bool = False) -> str:
    """Shares, pieces, what crosses, and what would help most."""
    p = report.partition
    lines = [f"{printable(report.path)}  {p.profile}", "", headline(p), *(f"Note: {printable(n)}" for n in p.analysis.notes), ""]
    lines.append(f"{'piece':>5}  {'side':<4} {'operators':>9} {'MACs':>9} {'activations':>12}  in -> out")
    for q in p.pieces[:MOST]:
        numbers = f"{len(q.nodes):>9,} {si(q.macs):>9} {si(q.bytes) + 'B':>12}"
        lines.append(f"{q.index:>5}  {q.side:<4} {numbers}  {len(q.inputs)} -> {len(q.outputs)}")
    lines += left_out(len(p.pieces), "piece")
    if p.crossings:
        lines += ["", "Crossing from piece to piece"]
        for c in p.crossings[:MOST]:
            lines.append(
                f"  {c.source:>3} -> {targets_text(c):<8} {size_text(c):>9}  {shape_text(c.value)}  {printable(c.tensor, 80)}"
            )
        lines += left_out(len(p.crossings), "tensor")
    if p.breakers:
        lines += ["", "What breaks the graph most"]
        lines += [f"  {sentence}" for sentence in advice(p)]
    if report.mending is not None:
        told, command = report.mending
        lines += ["", f"`fix` comes first: {told}:", f"  {command}"]
    if report.verification is not None:
        v = report.verification
        lines += ["", f"Pieces in order against the whole model: {printable(verdict_text(v))}"]
    if report.written is not None:
        folder = printable(report.written)
        lines += ["", f"Wrote {folder}. Next, compare the pieces with the whole again:"]
        lines.append(f"  npu-guard verify --manifest {quoted(f'{report.written}/manifest.json')} {quoted(report.path)}")
    elif report.verification is None:
        lines += ["", "Nothing was written. To write each piece as a model, and compare them with the whole, add -o FOLDER."]
    return "\n".join(lines) + "\n"
