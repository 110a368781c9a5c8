"""Parts of the HTML report's first view: operators by type, what makes the model fit, and what the page is about."""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
from typing import Any

from npu_guard.base.regex import regex
from npu_guard.base.text import printable
from npu_guard.device.keys import LIMITS
from npu_guard.project.next_command import device_from_root
from npu_guard.project.paths import where
from npu_guard.reports.blocks.html_data import catalog_summary, forms_of
from npu_guard.reports.blocks.scopes import folded
from npu_guard.results.device import DeviceLimit
from npu_guard.results.findings import Finding, LayerRow, ModelReport, Report
from npu_guard.results.forms import in_turn
from npu_guard.results.groups import by_rule
from npu_guard.results.next_steps import advised
from npu_guard.results.operators import FATES, by_operator, fate
from npu_guard.results.pieces import BreakerRow
from npu_guard.results.summary import is_error, mended_exactly, si, word

_PRINTED = 40
"""Limits of a device that paper has, where it does not have more: some devices state hundreds."""
_WORD = regex(r"\w+")
_PLACES = 40
"""Places of one rule that are named; the rest is counted."""
_HEADS = {"fits": "Fits", "split": "Split", "slow": "Slow", "warning": "Warning", "undecided": "Undecided", "host": "Host",
          "refused": "Refused"}  # fmt: skip
MARKS = {"fits": "ok", "split": "note", "slow": "warning", "warning": "warning", "undecided": "undecided", "host": "error",
         "refused": "error"}  # fmt: skip


def node_keys(layers: Sequence[LayerRow]) -> Callable[[LayerRow], str]:
    """The part of the page's address that means a node: its name where no other has it, else its number."""
    names = collections.Counter(layer.location.node for layer in layers)

    def key(layer: LayerRow) -> str:
        name = layer.location.node
        return printable(name) if name and not name.startswith("@") and names[name] == 1 else f"@{layer.index}"

    return key


def operator_table(model: ModelReport, key: Callable[[LayerRow], str]) -> dict[str, Any]:
    """Operator types with how many nodes fit, are slow, are split, go to the host or are refused, and why."""
    rows = by_operator(model)
    shown = [fate for fate in FATES if fate == "fits" or any(fate in row.fates for row in rows)]
    return {
        "heads": [_HEADS[fate] for fate in shown],
        "rows": [
            {
                "op": printable(row.op_type, 60),
                "mark": MARKS[row.worst],
                "count": f"{row.count:,}",
                "macs": "unknown" if row.macs is None else si(row.macs) if row.macs else "–",
                "fates": [(MARKS[fate], row.fates.get(fate, 0)) for fate in shown],
                "reason": printable(row.reason, 400),
                "others": row.others,
                "key": key(row.example),
                "example": printable(row.example.location.node or row.example.location.output, 60),
            }
            for row in rows
        ],
    }


def to_do(model: ModelReport, advice: Callable[[str], Any]) -> list[dict[str, Any]]:
    """For each rule what its manual advises, and for each line of Python, or module, what `fix` would put there."""
    shown, told = [], set[str]()
    for group in by_rule(model, [f for f in model.findings if f.suppressed is None]):
        places: dict[tuple[object, ...], list[Finding]] = {}
        for f in group.findings:
            remedy = (_forms(f), f.remedy and f.remedy.option)
            at: tuple[object, ...] = f.location.scope if remedy[0] else ()  # where nothing is put, one row names all modules
            if f.source is not None:
                at = f.source.file, f.source.line
            places.setdefault((at, remedy), []).append(f)
        told_to_do = advised(group.findings, device_from_root(model))
        rows = [_place(model, found, told) for found in list(places.values())[:_PLACES]]
        shown.append(
            {
                "code": group.first.rule,
                "name": group.first.name,
                "mark": word(group.first),
                "count": len(group.findings),
                "mended": _mended(group.findings),
                "share": 100 * group.share,
                "advice": advice(told_to_do) if told_to_do else "",
                "places": rows,
                "more": len(places) - len(rows),
            }
        )
    return shown


def _mended(findings: Sequence[Finding]) -> str:
    """How many `fix` mends, and how many more it would with its option `--warnings`."""
    number, costly = sum(map(mended_exactly, findings)), sum(map(_at_cost, findings))
    least = "at least " if number + costly < len(findings) else ""
    if not costly:
        return f"{least}{number:,}" if number else "–"
    return f"{least}{number:,}, and {costly:,} with --warnings" if number else f"{costly:,} with --warnings"


def _at_cost(finding: Finding) -> bool:
    """Whether a form that computes the same removes it, which `fix` leaves alone unless it is asked."""
    return finding.remedy is not None and finding.remedy.exactness == "exact" and not mended_exactly(finding)


def title_of(findings: Sequence[Finding]) -> str:
    """What the table of rules is about: errors alone keep a model off its device, and those for the host not even that."""
    errors = [f for f in findings if is_error(f)]
    if not errors:
        return "What the rules found"
    title = "What goes to the host" if all(fate(f) == "host" for f in errors) else "What keeps it off the device"
    return title + (", and what else the rules found" if len(errors) < len(findings) else "")


def _place(model: ModelReport, findings: Sequence[Finding], told: set[str]) -> dict[str, Any]:
    first = findings[0]
    return {
        "op": _operators(findings),
        "module": printable(folded([f.location.scope for f in findings]), 120),
        "line": printable(":".join(map(str, where(model, first)))) if first.source is not None else "",
        "fix": said_once(_forms(first), told),
        "option": first.remedy.option if first.remedy is not None else "",
    }


def _operators(findings: Sequence[Finding]) -> str:
    """`Conv`, `Conv, 4 times`, or `Reshape, Squeeze; 5 in all`."""
    kinds = list(dict.fromkeys(printable(f.location.op_type, 60) for f in findings))
    times = "" if len(findings) == 1 else f"; {len(findings):,} in all" if len(kinds) > 1 else f", {len(findings):,} times"
    return ", ".join(kinds) + times


def device_limits(model: ModelReport) -> list[tuple[DeviceLimit, bool]]:
    """The device's limits, and whether paper has them: of many, those that findings name."""
    limits = model.device.limits if model.device is not None else ()
    named: dict[str, set[str]] = {}
    for f in model.findings:
        if f.evidence is not None:
            named.setdefault(f.evidence.limit, set()).add(f.location.op_type)

    def counts(limit: DeviceLimit) -> bool:
        operators = named.get(limit.key)
        if operators is None or limit.key in LIMITS or limit.meaning.startswith("all operators"):
            return operators is not None
        return not operators.isdisjoint(_WORD.findall(limit.meaning))  # what is stated of operators begins with their names

    return [(limit, len(limits) <= _PRINTED or counts(limit)) for limit in limits]


def said_once(forms: Sequence[str], told: set[str]) -> list[tuple[str, str, str, str]]:
    """Forms with what they do, as text where it has not been told, and else for whoever points at the name; and how often."""
    found = []
    for name, times in in_turn(forms):
        words = catalog_summary(name)
        found.append((name, "", words, times) if name in told else (name, words, "", times))
        told.add(name)
    return found


def breaker(model: ModelReport, row: BreakerRow, key: Callable[[LayerRow], str]) -> dict[str, Any]:
    """Operators that break the graph, with their module and line of Python, and what making them compatible changes."""
    at = (row.graph, row.output)
    placed = [f for f in model.findings if f.source is not None]
    inside = [
        f for f in placed if row.scope and f.location.scope[: len(row.scope)] == row.scope
    ]  # another operator of the module
    first = next((f for f in placed if (f.location.graph, f.location.output) == at), next(iter(inside), None))
    layer = next((layer for layer in model.layers if (layer.location.graph, layer.location.output) == at), None)
    return {
        "operators": printable(row.operators.replace(" compatible", "", 1), 200),
        "effect": printable(row.effect),
        "module": printable(".".join(row.scope) or "(top level)", 120),
        "line": printable(":".join(map(str, where(model, first)))) if first is not None else "",
        "key": key(layer) if layer is not None else "",
    }


def _forms(finding: Finding) -> tuple[str, ...]:
    return () if finding.remedy is None else forms_of(finding.remedy)


def record(report: Report, model: ModelReport) -> list[tuple[str, str]]:
    """What was checked with what, for whoever the page is forwarded to."""
    device = model.device
    rows = [("Tool", f"npu-guard {report.version}"), ("Profile", model.profile)]
    if device is not None:
        rows += [("Device", device.title), ("Compiler", device.toolchain), ("Sources", device.source)]
        rows.append(("Profile, SHA-256", device.digest))
    rows += [("Operator set", str(model.opset) if model.opset else ""), ("Model, SHA-256", model.sha256)]
    rows += [("Fails on", "never" if report.fail_on == "never" else f"{report.fail_on}s"), ("Date", report.date)]
    return [(name, printable(value)) for name, value in rows if value]
