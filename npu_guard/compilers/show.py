"""A comparison as text and as JSON."""

from __future__ import annotations

import json
from typing import Any

import npu_guard
from npu_guard.base.text import printable
from npu_guard.compilers.compare import Comparison, Row

_TITLES = {
    "missed": "missed: these fit by the rules, and the compiler refuses them",
    "false-alarm": "false alarms: the rules refuse these, and the compiler takes them",
    "agreement": "refused by both",
    "undecided": "undecided: the model does not tell the rules",
    "unknown": "unknown: the compiler did not tell",
}
_STATUS = {
    "accepted": "accepted",
    "refused": "refused",
    "failed": "could not run, which is no opinion",
    "not_run": "could not be asked about all of it",
}
SHOWN = 50
"""Operators listed for each outcome; the JSON has all."""


def comparison_text(comparison: Comparison) -> str:
    """Readable, without colours; names and messages are other people's text."""
    answer, counts = comparison.answer, comparison.counts()
    head = f"{printable(comparison.model)}: {answer.compiler} for {comparison.profile}: {_STATUS[answer.status]}"
    lines = [f"{head}{f' ({printable(answer.message)})' if answer.message else ''}"]
    told = counts["agreement"] + counts["missed"] + counts["false-alarm"]
    if told:
        lines.append(
            f"  rules and compiler agree on {counts['agreement']} of {told} operators ({100 * counts['agreement'] / told:.1f} %)"
        )
    for outcome, title in _TITLES.items():
        rows = [r for r in comparison.rows if r.outcome == outcome and (outcome != "agreement" or r.rules == "refused")]
        if rows:
            lines += ["", f"  {title}", *map(_line, rows[:SHOWN])]
        if len(rows) > SHOWN:
            lines.append(f"    and {len(rows) - SHOWN} more")
    if comparison.elsewhere:
        lines += ["", "  refused by the compiler under a name that the model does not have"]
        lines += [
            f"    {printable(entry.name) or '(no name)'}  {printable(entry.message)}" for entry in comparison.elsewhere[:SHOWN]
        ]
    return "\n".join([*lines, ""])


def _line(row: Row) -> str:
    rules = f"  rules: {', '.join(row.codes)}" if row.codes else ""
    told = f"  compiler: {row.compiler.replace('_', ' ')}" + (f" ({printable(row.message)})" if row.message else "")
    return f"    {printable(row.location.op_type)}  {printable(row.location.node)}{rules}{told}"


def comparison_json(comparison: Comparison) -> str:
    """Version 1. Text from the model and the compiler is as it came; JSON escapes what could do harm."""
    answer = comparison.answer
    document: dict[str, Any] = {
        "schema_version": 1,
        "tool": {"name": "npu-guard", "version": npu_guard.__version__},
        "model": comparison.model,
        "profile": comparison.profile,
        "compiler": {"name": answer.compiler, "status": answer.status, "message": answer.message},
        "counts": {name.replace("-", "_"): count for name, count in comparison.counts().items()},
        "nodes": [_node(row) for row in comparison.rows],
        "elsewhere": [{"name": e.name, "op_type": e.op_type, "word": e.word, "message": e.message} for e in comparison.elsewhere],
    }
    return json.dumps(document, indent=2) + "\n"


def _node(row: Row) -> dict[str, Any]:
    return {
        "node": row.location.node,
        "op_type": row.location.op_type,
        "output": row.location.output,
        "scope": list(row.location.scope),
        "rules": row.rules,
        "codes": list(row.codes),
        "compiler": row.compiler,
        "message": row.message,
        "outcome": row.outcome,
    }
