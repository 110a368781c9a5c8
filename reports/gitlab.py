"""GitLab's code quality report: what a merge request lists. It knows no suppressed findings, so these are left out."""

from __future__ import annotations

import collections
import hashlib
import json
from typing import Any

from npu_guard.base.text import printable
from npu_guard.project.paths import in_project, where
from npu_guard.results.findings import ModelReport, Report
from npu_guard.results.groups import ranked_findings
from npu_guard.results.summary import message, word

_SEVERITY = {"error": "critical", "undecided": "major", "warning": "minor", "note": "info"}


def render(report: Report, *, color: bool = False) -> str:
    """A list of issues, the most important first. A model that nobody could check is the worst of all: `blocker`."""
    issues = []
    for model in report.models:
        if model.error is not None:
            issues.append(_issue(model, "unreadable-model", f"{model.error[0]}: {model.error[1]}", "blocker", model.error[0]))
        for crash in model.crashes:
            text = f"internal error in {crash.rule} at {crash.node}: {crash.error}"
            issues.append(_issue(model, "internal-error", text, "blocker", f"{crash.rule} {crash.node}"))
    for group in ranked_findings(report.models):
        f = group.first
        if f.suppressed is None:
            text = f"{f.rule}: {printable(message(f), 1000)} ({printable(f.location.op_type, 80)} {printable(f.location.node)})"
            issues.append(_issue(group.model, f.name, text, _SEVERITY[word(f)], f.fingerprint, where(group.model, f)))
    _make_unique(issues)
    return json.dumps(issues, indent=2, ensure_ascii=False) + "\n"


def _issue(
    model: ModelReport, check: str, text: str, severity: str, identity: str, location: tuple[str, int] | None = None
) -> dict[str, Any]:
    """One issue. Fingerprints of one model may be those of another; GitLab wants each once."""
    path, line = location or (in_project(model.path), 1)
    key = "\0".join((in_project(model.path), model.profile, check, identity))
    return {
        "description": printable(text, 2000),
        "check_name": printable(check),
        "fingerprint": hashlib.sha256(key.encode("utf-8", "backslashreplace")).hexdigest()[:32],
        "severity": severity,
        "location": {"path": printable(path, 4000), "lines": {"begin": line}},
    }


def _make_unique(issues: list[dict[str, Any]]) -> None:
    """The same model named twice, or two crashes alike, give equal fingerprints."""
    seen: collections.Counter[str] = collections.Counter()
    for issue in issues:
        own = issue["fingerprint"]
        if seen[own]:
            issue["fingerprint"] = hashlib.sha256(f"{own}#{seen[own]}".encode()).hexdigest()[:32]
        seen[own] += 1
