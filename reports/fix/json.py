"""What `fix` did, as JSON version 1: the document of `check` for the fixed model, with what was done to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from msgspec.structs import asdict

from npu_guard.base.installation import VERSION
from npu_guard.base.json import json_text
from npu_guard.checking import registry
from npu_guard.fixing.outcome import by_module, by_rule, jumps, remaining
from npu_guard.fixing.report import FixResult
from npu_guard.reports.blocks.verification import int8_json, verification_json
from npu_guard.results.findings import Applied, Report


def render(result: FixResult, *, color: bool = False) -> str:
    """The whole document."""
    report, integers = result.report, result.int8
    render = registry.renderer("json")
    document = json.loads(render(Report(VERSION, (report.after,)), color=False))
    before = json.loads(render(Report(VERSION, (report.before,)), color=False))["models"][0]
    document["models"][0] |= {
        "sha256": before["sha256"],
        "before": before["summary"],
        "applied": [_applied(a) for a in report.applied],
        "refused": [{"substitution": r.substitution, "node": r.node, "reason": r.reason} for r in report.refused],
        "remaining": [
            {
                "rule": r.finding.rule,
                "node": r.finding.location.node,
                "op_type": r.finding.location.op_type,
                "tensor": r.finding.location.output,
                "reason": r.reason,
            }
            for r in remaining(report.after, report.refused)
        ],
        "rules": _pairs(by_rule(report.before, report.after)),
        "modules": _pairs(by_module(report.before, report.after)),
        "jumps": [
            {"cost": j.cost, "before": j.before, "after": j.after, "at": None if j.step is None else j.step.at}
            for j in jumps(report.before, report.after, report.applied)
        ],
        "crashes": [{"rule": c.rule, "node": c.node, "error": c.error} for c in report.after.crashes],
        "verification": verification_json(report.verification) | ({} if integers is None else {"int8": int8_json(integers)}),
    }
    if result.metric is not None:
        document["models"][0]["metric"] = {"before": result.metric[0], "after": result.metric[1]}
    return json_text(document)


def _pairs(counts: Mapping[str, tuple[int, int]]) -> dict[str, dict[str, int]]:
    return {name: {"before": before, "after": after} for name, (before, after) in counts.items()}


def _applied(a: Applied) -> dict[str, Any]:
    return {
        "substitution": a.substitution, "exactness": a.exactness, "rules": list(a.rules), "nodes_before": list(a.nodes_before),
        "nodes_after": list(a.nodes_after), "verification": verification_json(a.verification),
        "note": a.note, "pass": a.number, "node": a.node, "at": a.at, "others": list(a.others), "chain": list(a.chain),
        "source": None if a.source is None else asdict(a.source),
        "before": asdict(a.before), "after": asdict(a.after),
    }  # fmt: skip
