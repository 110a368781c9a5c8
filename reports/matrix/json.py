"""Models against devices, as JSON version 1."""

from __future__ import annotations

import msgspec

from npu_guard.base.json import json_text
from npu_guard.fleet.matrix import Matrix


def render(matrix: Matrix, *, color: bool = False) -> str:
    """The whole document."""
    models = [{"path": r.path, "error": r.error, "devices": [msgspec.to_builtins(c) for c in r.cells]} for r in matrix.rows]
    document = {
        "schema_version": 1, "tool": {"name": "npu-guard", "version": matrix.report.version},
        "profiles": matrix.profiles, "models": models,
    }  # fmt: skip
    return json_text(document)
