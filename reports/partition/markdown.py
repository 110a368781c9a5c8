"""Where a model is cut, as tables for a ticket or a page."""

from __future__ import annotations

from npu_guard.base.markdown import code_span, plain_text
from npu_guard.partitioning.report import PartitionReport, advice, headline
from npu_guard.reports.blocks.pieces import MOST, left_out, shape_text, size_text, targets_text, verdict_text
from npu_guard.results.summary import si


def render(report: PartitionReport, *, color: bool = False) -> str:
    """Tables for a ticket or a page."""
    p = report.partition
    lines = [f"## Partition of {code_span(report.path)} for {plain_text(p.profile)}", "", headline(p), ""]
    lines += [*(f"- {plain_text(n)}" for n in p.analysis.notes), ""] if p.analysis.notes else []
    lines += ["| piece | side | operators | MACs | activations | inputs | outputs |", "|---:|---|---:|---:|---:|---|---|"]
    for q in p.pieces[:MOST]:
        inputs, outputs = (", ".join(code_span(v.name) for v in values[:4]) for values in (q.inputs, q.outputs))
        lines.append(f"| {q.index} | {q.side} | {len(q.nodes):,} | {si(q.macs)} | {si(q.bytes)}B | {inputs} | {outputs} |")
    lines += left_out(len(p.pieces), "piece")
    if p.crossings:
        lines += ["", "| tensor | shape | size | from | to |", "|---|---|---:|---:|---|"]
        for c in p.crossings[:MOST]:
            lines.append(
                f"| {code_span(c.tensor)} | {plain_text(shape_text(c.value))} | {size_text(c)} | {c.source} | {targets_text(c)} |"
            )
        lines += left_out(len(p.crossings), "tensor")
    lines += ["", *(f"- {plain_text(sentence)}" for sentence in advice(p))] if p.breakers else []
    if report.mending is not None:
        told, command = report.mending
        lines += ["", f"`fix` comes first: {plain_text(told)} {code_span(command)}"]
    if report.verification is not None:
        lines += ["", f"Pieces in order against the whole model: {plain_text(verdict_text(report.verification))}"]
    return "\n".join(lines) + "\n"
