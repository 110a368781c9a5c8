"""Node data for Google's Model Explorer: colours its picture of the graph by verdict.

    npu-guard check net.onnx --report model_explorer:net.json
    onnxvis net.onnx --node_data_paths net.json

The file is the custom node data of one graph, `{"results": {node id: {"value", "bgColor", "textColor"}}, ...}`, without a
graph id, which the viewer reads as data of the graph that it shows. So it is meant for one model; of several, a node of
the same name gets the worst verdict.

Checked against model-explorer-onnx 0.4.2, its adapter for ONNX: a node's id is its name, and `[value] name` is a graph
input. Read in the viewer's source and not tried: that text is allowed as a value, and that a node in a branch of an If is
called `if/then_branch/node`. Not covered: nodes without a name, which the adapter names itself, and bodies of Loop and
Scan, which are graphs of their own there.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator

from npu_guard.results.findings import INPUT, Location, ModelReport, Report
from npu_guard.results.summary import word

LAYERS = True
_COLOURS = {
    "error": ("#c62828", "#ffffff"),
    "warning": ("#f9a825", "#000000"),
    "note": ("#4dd0e1", "#000000"),
    "undecided": ("#8e24aa", "#ffffff"),
    "ok": ("#a5d6a7", "#000000"),
    "folded": ("#eeeeee", "#000000"),
}
"""Background and text by verdict, the worst first."""
_LONGEST = 512
"""Characters of the way into a body, which each node in it repeats; the viewer finds nothing by a longer one."""
_ORDER = tuple(_COLOURS)


def render(report: Report, *, color: bool = False) -> str:
    """The file's content; nodes in order of execution."""
    verdicts: dict[str, tuple[str, set[str]]] = {}
    for model in report.models:
        for key, verdict, rule in _words(model):
            known, rules = verdicts.setdefault(key, (verdict, set()))
            worst = min(known, verdict, key=_ORDER.index)
            verdicts[key] = (worst, rules | {rule} if rule else rules)
    results = {key: _result(verdict, sorted(rules)) for key, (verdict, rules) in verdicts.items()}
    options = {"showExpandedSummaryOnGroupNode": True, "showLabelCountColumnsInChildrenStatsTable": True}
    return json.dumps({"results": results, **options}, indent=1) + "\n"


def _words(model: ModelReport) -> Iterator[tuple[str, str, str]]:
    """(node id, verdict, rule) of each operator and of each finding that counts."""
    for row in model.layers:
        if row.location.op_type != INPUT:
            yield _key(row.location), row.verdict, ""
    for finding in model.findings:
        if finding.suppressed is None:
            yield _key(finding.location), word(finding), finding.rule


def _key(location: Location) -> str:
    if location.op_type == INPUT:
        return f"[value] {location.node}"
    return f"{_way(location.graph)}{location.node}"


@functools.lru_cache(maxsize=16)
def _way(graph: tuple[str, ...]) -> str:
    """What is before the names of a body's nodes."""
    way = "".join(f"{part}/" for entry in graph for part in entry.rsplit(".", 1))
    if len(way) > _LONGEST:
        way = f"{way[:80]}…{hashlib.sha256(way.encode(errors='replace')).hexdigest()[:32]}/"
    return way


def _result(verdict: str, rules: list[str]) -> dict[str, str]:
    background, text = _COLOURS[verdict]
    return {"value": " ".join([verdict, *rules]), "bgColor": background, "textColor": text}
