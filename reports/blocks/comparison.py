"""A model before and after: what the page shows of both together, and which operators belong to which change."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from npu_guard.base.text import printable
from npu_guard.fixing.outcome import remaining
from npu_guard.fixing.report import FixResult
from npu_guard.gate.diff import Diff
from npu_guard.reports.blocks.html_data import shown_path, source_line
from npu_guard.reports.blocks.overview import node_keys, said_once
from npu_guard.reports.blocks.scopes import folded
from npu_guard.reports.blocks.verification import int8_text, worst_difference
from npu_guard.results.findings import INPUT, Applied, Finding, LayerRow, ModelReport, Verdict
from npu_guard.results.forms import in_turn
from npu_guard.results.groups import alike
from npu_guard.results.share import share_words
from npu_guard.results.summary import count, message, plural, si, word
from npu_guard.results.verification import Verification
from npu_guard.verification.report import proof_text

_LISTED = 300
_LINKS = 12
"""Nodes of one change that have a link of their own."""
_LEGEND = "What was {} has a number and a coloured box. Choosing one shows its counterpart."
_NEW = {
    Verdict.PASS: " Nothing new or changed counts as a failure.",
    Verdict.FAIL: " What is new or changed counts as a failure.",
    Verdict.UNDECIDED: " Of what is new, a rule could not tell.",
    Verdict.UNREADABLE: "",
}
"""The verdict of the comparison, which is about new findings alone."""
_NUMBERS = (("Layers", "nodes", ""), ("Multiply-accumulates", "macs", ""), ("Parameters", "params", ""),
            ("Activations", "activation_bytes", "B"), ("Peak activations", "peak_bytes", "B"))  # fmt: skip


class Compared(Struct, frozen=True):
    """The part of the page about both models. `changes` has the change that a row of a model belongs to, by row index."""

    view: Mapping[str, Any]
    changes: tuple[Mapping[int, int], Mapping[int, int]]
    names: tuple[str, ...]
    """What each change is called, from change 1 on."""


def of_fix(result: FixResult) -> Compared:
    """What `fix` replaced."""
    report = result.report
    sides = [_by_name(model.layers) for model in (report.before, report.after)]
    changes: tuple[dict[int, int], dict[int, int]] = ({}, {})
    names, rows, told = [], [], set[str]()
    keys = [node_keys(model.layers) for model in (report.before, report.after)]
    for number, step in enumerate(report.applied, 1):
        found = []
        for side, nodes in enumerate((step.nodes_before, step.nodes_after)):
            there = [layer for name in nodes for layer in sides[side].get(name, ())]
            for layer in there:
                changes[side].setdefault(layer.index, number)
            found.append(_links(there, keys[side], len(nodes)))
        names.append(" then ".join(name + times for name, times in in_turn((step.substitution, *step.chain))))
        rows.append(_replaced(number, step, told, *found))
    left = [(r.finding, r.reason) for r in remaining(report.after, report.refused)]
    before, after = (count(model.findings).error for model in (report.before, report.after))
    written = f" Written to {result.written.name}." if result.written is not None else " Nothing was written."
    view = _both(report.before, report.after) | {
        "title": f"{plural(before, 'error')} before, {after or 'none'} after fix",
        "lead": f"{plural(len(report.applied), 'block')} replaced.{written}",
        "verification": _verification(report.verification) if report.applied else None,
        "int8": printable(int8_text(result.int8), 2000).splitlines() if result.int8 is not None else [],
        "replaced": rows[:_LISTED],
        "more_replaced": max(0, len(rows) - _LISTED),
        "left": [_left(finding, reason) for finding, reason in left[:_LISTED]],
        "more_left": max(0, len(left) - _LISTED),
        "lists": [],
        "legend": _LEGEND.format("replaced"),
    }
    return Compared(view, changes, tuple(names))


def of_diff(diff: Diff) -> Compared:
    """What a change adds and fixes; operators that only one side has, by the module that they are in."""
    changes, names = _only_one_side(diff.base.layers, diff.head.layers)
    was = {id(f): f"before: {message(old)}" for old, f in diff.altered}
    view = _both(diff.base, diff.head, diff.now) | {
        "title": diff.words(),
        "lead": f"{shown_path(diff.head.path)} compared with {shown_path(diff.base.path)}.{_NEW[diff.head.verdict]}",
        "verification": None, "int8": [], "replaced": [], "more_replaced": 0, "left": [], "more_left": 0,
        "lists": [
            finding_list("New findings", diff.head, [f for f in diff.head.findings if id(f) not in was]),
            *([finding_list("Changed findings", diff.head, [f for _, f in diff.altered], lambda f: was[id(f)])] if was else []),
            finding_list("Fixed findings", diff.base, diff.gone),
        ],
        "legend": _LEGEND.format("changed"),
    }  # fmt: skip
    return Compared(view, changes, names)


def _both(before: ModelReport, after: ModelReport, now: Sequence[Finding] | None = None) -> dict[str, Any]:
    counts = [count(before.findings), count(after.findings if now is None else now)]
    old, new = counts
    shown = [("Errors", f"{old.error:,}", f"{new.error:,}", ""), ("Warnings", f"{old.warning:,}", f"{new.warning:,}", "")]
    shown.append(("Undecided", f"{old.undecided:,}", f"{new.undecided:,}", ""))
    for label, field, unit in _NUMBERS:
        was, is_now = (getattr(model.totals, field) for model in (before, after))
        shown.append((label, f"{si(was)}{unit}", f"{si(is_now)}{unit}", _change(was, is_now)))
    shares = [share_words(m.totals.npu_macs_percent, c.error) for m, c in zip((before, after), counts, strict=True)]
    shown.append(("MACs that run as they are", shares[0], shares[1], ""))
    words = {"tab": "Before and after", "caption": "Errors and costs", "sides": ("Before", "After"), "change": "Change"}
    return {"rows": shown, **words}


def _change(old: int, new: int) -> str:
    if old == new:
        return "–"
    return "new" if not old else f"{new / old:.2g} times" if new >= 2 * old else f"{100 * (new - old) / old:+.1f} %"


def _replaced(number: int, step: Applied, told: set[str], before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    proof = step.verification.proof
    return {
        "number": number,
        "form": said_once((step.substitution, *step.chain), told),
        "exact": step.exactness == "exact",
        "note": printable(step.note, 200),
        "before": before,
        "after": after,
        "rules": ", ".join(step.rules),
        "line": printable(f"{step.source.file}:{step.source.line}") if step.source is not None else "",
        "label": proof.label if proof is not None else "",
        "difference": printable(worst_difference(step.verification), 300),
    }


def _verification(v: Verification) -> dict[str, Any]:
    return {
        "verdict": v.verdict,
        "told": printable(worst_difference(v), 600),
        "inputs": printable(v.inputs, 400),
        "proof": printable(proof_text(v.proof), 600) if v.proof is not None else "",
        "label": v.proof.label if v.proof is not None else "",
        "outputs": [(printable(o.name, 60), f"{o.max_abs:.2g}", "–" if o.of_largest is None else f"{o.of_largest:.1g}",
                     f"{o.cosine:.6f}", f"{o.snr_db:.0f} dB", "as expected" if o.ok else "differs") for o in v.outputs],
    }  # fmt: skip


def _by_name(layers: Iterable[LayerRow]) -> dict[str, list[LayerRow]]:
    found: dict[str, list[LayerRow]] = collections.defaultdict(list)
    for layer in layers:
        if layer.verdict != "folded" and layer.location.op_type != INPUT:
            found[layer.location.node].append(layer)
    return found


def _links(layers: Sequence[LayerRow], key: Callable[[LayerRow], str], nodes: int) -> dict[str, Any]:
    """Operators of a block by type, each with its first node, and how many nodes the graph at hand does not have."""
    kinds = collections.Counter(layer.location.op_type for layer in layers)
    first = {layer.location.op_type: layer for layer in reversed(layers)}
    links = [(key(first[op]), printable(op, 40), times) for op, times in list(kinds.items())[:_LINKS]]
    return {
        "count": nodes,
        "links": links,
        "more": len(layers) - sum(times for _, _, times in links),
        "elsewhere": max(0, nodes - len(layers)),
    }


def _node(finding: Finding) -> str:
    return printable(f"{finding.location.op_type} {finding.location.node or finding.location.output}", 100)


def _places(model: ModelReport, findings: Sequence[Finding]) -> str:
    """`MatMul in blocks.*.attn, net.py:14`."""
    first, scopes = findings[0], [f.location.scope for f in findings]
    node = _node(first) if len(findings) == 1 else printable(", ".join(dict.fromkeys(f.location.op_type for f in findings)), 100)
    module = f" in {printable(folded(scopes), 120)}" if any(scopes) else ""
    return f"{node}{module}{', ' + source_line(model, first) if first.source is not None else ''}"


def _left(finding: Finding, reason: str) -> dict[str, str]:
    return {"rule": finding.rule, "message": printable(finding.message), "node": _node(finding), "reason": printable(reason)}


def finding_list(
    title: str, model: ModelReport, findings: Sequence[Finding], more: Callable[[Finding], str] = lambda _: ""
) -> dict[str, Any]:
    """Findings as the page lists them, those that say the same together; `more` is told below the first of them."""
    groups = alike(model, findings)
    lines = [
        {
            "word": word(g.first),
            "rule": g.first.rule,
            "message": printable(g.message),
            "count": len(g.findings),
            "node": _places(model, g.findings),
            "more": printable(more(g.first), 300),
        }
        for g in groups[:_LISTED]
    ]
    return {"title": f"{title}: {len(findings):,}", "lines": lines, "more": max(0, len(groups) - _LISTED)}


_Kind = tuple[object, ...]


def _only_one_side(
    base: Sequence[LayerRow], head: Sequence[LayerRow]
) -> tuple[tuple[dict[int, int], dict[int, int]], tuple[str, ...]]:
    """Operators without a counterpart of the same module, type, shape and attributes, numbered by module."""

    def kinds(layers: Sequence[LayerRow]) -> dict[_Kind, list[LayerRow]]:
        found: dict[_Kind, list[LayerRow]] = collections.defaultdict(list)
        for layer in layers:
            if layer.verdict != "folded":
                found[layer.scope, layer.location.op_type, layer.shape, layer.dtype, layer.attributes].append(layer)
        return found

    sides = (kinds(base), kinds(head))
    changes: tuple[dict[int, int], dict[int, int]] = ({}, {})
    numbers: dict[tuple[str, ...], int] = {}
    for side, mine in enumerate(sides):
        for key, layers in mine.items():
            for layer in layers[len(sides[1 - side].get(key, ())) :]:
                changes[side][layer.index] = numbers.setdefault(layer.scope, len(numbers) + 1)
    return changes, tuple(".".join(scope) or "(top level)" for scope in numbers)
