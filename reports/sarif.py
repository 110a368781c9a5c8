"""SARIF 2.1.0, for GitHub code scanning and other result viewers.

GitHub rejects a result without a location and keeps the top 5,000 of a run, so both are seen to here. The standard
wants level `none` for what could not be decided (kind `open`), and that level hides a result from reviewers; such a
finding is therefore a warning that begins with "cannot tell".
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from typing import Any

from npu_guard.base.text import printable
from npu_guard.checking import manual, registry
from npu_guard.checking.rule import Rule
from npu_guard.device.keys import EVERY
from npu_guard.project.next_command import steps_from_root
from npu_guard.project.paths import in_project, uri, where
from npu_guard.results.findings import Location, ModelReport, Report
from npu_guard.results.groups import Group, ranked_findings
from npu_guard.results.summary import count, level, mending, message, plural

HASHES = True
REMEDIES = True
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
MOST_RESULTS = 5000
_LONGEST = 20_000
_NOTIFICATIONS = {
    "model-unreadable": "A model could not be read or was refused.",
    "rule-crash": "A rule raised: a bug of npu-guard. The other rules still ran.",
    "results-cut": f"More than {MOST_RESULTS:,} findings; the least important ones are left out.",
}

Json = dict[str, Any]


def render(report: Report, *, color: bool = False) -> str:
    """One run with all models, the most important findings first."""
    codes = _codes(report)
    found = ranked_findings(report.models)
    notices = _notices(report, codes) + _cut(found[MOST_RESULTS:])
    run = {
        "tool": {
            "driver": {
                "name": "npu-guard",
                "version": printable(report.version),
                "rules": [_rule(code, name, report.rule_url(code)) for code, name in codes.items()],
                "notifications": [{"id": key, "shortDescription": {"text": text}} for key, text in _NOTIFICATIONS.items()],
            }
        },
        "invocations": [
            {
                "executionSuccessful": not any(m.error or m.crashes for m in report.models),
                "toolExecutionNotifications": _clean(notices),
            }
        ],
        "artifacts": _clean(_artifacts(report.models)),
        "results": _clean([_result(group, list(codes)) for group in found[:MOST_RESULTS]]),
        "properties": {"models": _clean([_facts(m) for m in report.models])},
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False) + "\n"


def _codes(report: Report) -> dict[str, str]:
    """Name by code of every rule that ran, spoke or crashed, sorted by code."""
    names = {rule.code: rule.name for rule in registry.rules()}
    codes = {code for m in report.models for code in (*m.asked, *(c.rule for c in m.crashes))}
    found = {code: names.get(code, code) for code in codes} | {f.rule: f.name for m in report.models for f in m.findings}
    return dict(sorted(found.items()))


def _rule(code: str, name: str, url: str) -> Json:
    descriptor = {"id": printable(code), "name": "".join(part.capitalize() for part in printable(name).split("-"))}
    known: Rule | None = next((r for r in registry.rules() if r.code == code), None)
    return descriptor if known is None else {**descriptor, **({"helpUri": url} if url else {}), **_manual(known)}


@functools.cache
def _manual(rule: Rule) -> Json:
    return {
        "shortDescription": {"text": rule.summary()},
        "fullDescription": {"text": f"{rule.section('What it does')} {rule.section('Why it matters')}"},
        "help": {"text": rule.manual(), "markdown": manual.page(rule)},
        "defaultConfiguration": {"level": rule.severity.value},
        "properties": {"tags": ["npu", *(op for op in rule.ops if op != EVERY)][:10]},
    }


def _result(group: Group, codes: list[str]) -> Json:
    model, f = group.model, group.first
    file, line = where(model, f)
    shape = "" if f.tensor is None or f.tensor.shape is None else f" {_shape(f.tensor.shape)}"
    node = f"{printable(f.location.op_type)} {printable(f.location.node)}{shape} in {in_project(model.path)}".strip()
    mended = mending(group.findings)
    fingerprints = {"npuGuard/v1": f.fingerprint}
    if f.source is None:  # GitHub would take all findings of a rule on line 1 of a model file for the same one
        fingerprints["primaryLocationLineHash"] = f"{f.fingerprint}:1"
    return {
        "ruleId": f.rule,
        "ruleIndex": codes.index(f.rule),
        "level": level(f),
        "message": _message(f"{printable(message(f), 2000)} ({node}){mended and f'; {mended}'}"),
        "analysisTarget": {"uri": uri(in_project(model.path))},
        "locations": [_location(file, line, f.location)],
        "partialFingerprints": fingerprints,
        "suppressions": None if f.suppressed is None else [{"kind": "external", "justification": f.suppressed}],
        "properties": {
            "outcome": f.outcome.value,
            "severity": f.severity.value,
            "profile": model.profile,
            "node": f.location.node,
            "opType": f.location.op_type,
            "module": ".".join(f.location.scope) or None,
            "tensor": None if f.tensor is None else f.tensor.name,
            "shape": None if f.tensor is None or f.tensor.shape is None else list(f.tensor.shape),
            "dtype": None if f.tensor is None else f.tensor.dtype,
            "limit": None if f.evidence is None else f.evidence.limit,
            "measured": None if f.evidence is None else f.evidence.measured,
            "allowed": None if f.evidence is None else f.evidence.allowed,
            "macsPercent": round(100 * group.share, 2),
            "remedy": None if f.remedy is None else f.remedy.substitution,
            "remedyIsExact": f.remedy.exactness == "exact" if f.remedy is not None and f.remedy.substitution else None,
        },
    }


def _message(text: str) -> Json:
    """What reads as a link, `[text](target)`, would become one."""
    return {"text": text.replace("](", "] (")}


def _shape(dims: Iterable[object]) -> str:
    return f"[{', '.join('?' if d is None else printable(str(d), 40) for d in dims)}]"


def _location(file: str, line: int = 1, location: Location | None = None) -> Json:
    physical = {"artifactLocation": {"uri": uri(file)}, "region": {"startLine": line}}
    if location is None or not location.op_type:  # of what is about the settings
        return {"physicalLocation": physical}
    module = ".".join(printable(part) for part in location.scope)
    node = "/".join(printable(part) for part in (module, *location.graph, location.node) if part)
    logical = [{"name": printable(location.node), "fullyQualifiedName": node, "kind": "function"}]
    if module:
        logical.append({"name": printable(location.scope[-1]), "fullyQualifiedName": module, "kind": "module"})
    return {"physicalLocation": physical, "logicalLocations": logical}


def _notices(report: Report, codes: dict[str, str]) -> list[Json]:
    """What kept the run from being complete."""
    found = []
    for m in report.models:
        if m.error is not None:
            found.append(_notice("model-unreadable", f"{m.error[0]}: {m.error[1]}", m))
        for crash in m.crashes:
            notice = _notice("rule-crash", f"internal error in {crash.rule} at {crash.node}: {crash.error}", m)
            found.append(notice | {"associatedRule": {"id": crash.rule, "index": list(codes).index(crash.rule)}})
    return found


def _cut(rest: list[Group]) -> list[Json]:
    if not rest:
        return []
    words = count(group.first for group in rest).words()
    return [_notice("results-cut", f"{plural(len(rest), 'less important finding')} left out: {words}", None, "warning")]


def _notice(kind: str, text: str, model: ModelReport | None, severity: str = "error") -> Json:
    return {
        "descriptor": {"id": kind, "index": list(_NOTIFICATIONS).index(kind)},
        "level": severity,
        "message": _message(text),
        "locations": None if model is None else [_location(in_project(model.path))],
    }


def _artifacts(models: Iterable[ModelReport]) -> list[Json]:
    """The model files, each once."""
    files = {(uri(in_project(m.path)), m.sha256) for m in models}
    return [
        {"location": {"uri": name}, "roles": ["analysisTarget"], "hashes": {"sha-256": digest} if digest else None}
        for name, digest in sorted(files)
    ]


def _facts(model: ModelReport) -> Json:
    return {
        "uri": uri(in_project(model.path)),
        "profile": model.profile,
        "verdict": model.verdict.value,
        "notApplicable": list(model.not_applicable),
        "macs": model.totals.macs,
        "npuMacsPercent": model.totals.npu_macs_percent,
        "nextSteps": [f"{told}: {command}" for told, command in steps_from_root(model)],
    }


def _clean(value: Any) -> Any:
    """Every text safe to show, and nothing that is null: what comes from files is data."""
    if isinstance(value, dict):
        return {key: _clean(entry) for key, entry in value.items() if entry is not None}
    if isinstance(value, list | tuple):
        return [_clean(entry) for entry in value]
    return printable(value, _LONGEST) if isinstance(value, str) else value
