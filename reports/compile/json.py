"""The rules beside a vendor's compiler, as JSON version 1."""

from __future__ import annotations

from typing import Any

from npu_guard.base.installation import VERSION
from npu_guard.base.json import json_text
from npu_guard.compilers.compare import Comparison, Row


def render(comparison: Comparison, *, color: bool = False) -> str:
    """Version 1. Text from the model and the compiler is as it came; JSON escapes what could do harm."""
    answer = comparison.answer
    document: dict[str, Any] = {
        "schema_version": 1,
        "tool": {"name": "npu-guard", "version": VERSION},
        "model": comparison.model,
        "profile": comparison.profile,
        "compiler": {"name": answer.compiler, "status": answer.status, "message": answer.message},
        "counts": {name.replace("-", "_"): count for name, count in comparison.counts().items()},
        "nodes": [_node(row) for row in comparison.rows],
        "elsewhere": [{"name": e.name, "op_type": e.op_type, "word": e.word, "message": e.message} for e in comparison.elsewhere],
    }
    return json_text(document)


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
