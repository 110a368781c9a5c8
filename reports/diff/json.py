"""What a change adds, as JSON version 1: the findings are those of the report's own JSON."""

from __future__ import annotations

import json
from typing import Any

from msgspec.structs import replace

from npu_guard.base.json import json_text
from npu_guard.checking import registry
from npu_guard.gate.diff import Diff
from npu_guard.results.findings import Finding, Report

VERSION = 1


def render(diff: Diff, *, color: bool = False) -> str:
    """The whole document."""
    document = _document(diff.report)
    head = document["models"][0]
    new, fixed, unchanged = head["findings"], _findings(diff, diff.fixed), _findings(diff, diff.unchanged)
    data = {
        "schema_version": VERSION,
        "tool": document["tool"],
        "profile": diff.head.profile,
        "base": {"path": diff.base.path, "sha256": diff.base.sha256},
        "head": {"path": head["path"], "sha256": head["sha256"]},
        "verdict": diff.head.verdict.value,
        "summary": {"new": len(new), "fixed": len(fixed), "changed": len(diff.altered), "unchanged": len(unchanged)},
        "new": new,
        "fixed": fixed,
        "unchanged": unchanged,
        "changed": [{"fixed": old.fingerprint, "new": now.fingerprint} for old, now in diff.altered],
    }
    return json_text(data)


def _findings(diff: Diff, findings: tuple[Finding, ...]) -> Any:
    return _document(replace(diff.report, models=(replace(diff.head, findings=findings),)))["models"][0]["findings"]


def _document(report: Report) -> Any:
    return json.loads(registry.renderer("json")(report, color=False))
