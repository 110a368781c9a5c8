"""A model on two devices: what the page shows of both together, and which operators they judge differently."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from npu_guard.base.text import printable
from npu_guard.reports.blocks.comparison import Compared, finding_list
from npu_guard.reports.blocks.html_data import shown_path
from npu_guard.results.findings import Finding, LayerRow, ModelReport
from npu_guard.results.groups import ranked
from npu_guard.results.runs import runs
from npu_guard.results.share import share_words
from npu_guard.results.summary import Counts, count, message, plural, word

_COUNTS = (("Errors", "error"), ("of these fixable", "mended"), ("Warnings", "warning"), ("Undecided", "undecided"))


def of_devices(one: ModelReport, two: ModelReport) -> Compared:
    """The reports are of the same file with layers, so their rows are the same operators."""
    sides = tuple(printable(m.device.title if m.device is not None else m.profile, 60) for m in (one, two))
    changes, names = _judged_differently(one.layers, two.layers)
    told = [runs(model, side) for model, side in zip((one, two), sides, strict=True)]
    view: dict[str, Any] = {
        "title": f"{told[0][:1].upper()}{told[0][1:]}, {told[1]}",
        "lead": f"{shown_path(one.path)}: {plural(len(changes), 'operator')} judged differently.",
        "tab": "Two devices", "caption": "Errors and costs", "sides": sides, "change": "", "rows": _rows(one, two),
        "legend": "What the two judge differently has a number and a coloured box, one number for each module.",
        "verification": None, "int8": [], "replaced": [], "more_replaced": 0, "left": [], "more_left": 0,
        "lists": [
            finding_list(f"Only on {sides[0]}", one, _only(one.findings, two.findings)),
            finding_list(f"Only on {sides[1]}", two, _only(two.findings, one.findings)),
            finding_list("On both", one, _both(one.findings, two.findings), _differs(two.findings, sides[1])),
        ],
    }  # fmt: skip
    return Compared(view, (changes, changes), names)


def _rows(one: ModelReport, two: ModelReport) -> list[tuple[str, str, str, str]]:
    counts = [count(model.findings) for model in (one, two)]
    shown = [(label, *(_number(c, name) for c in counts), "") for label, name in _COUNTS]
    shares = [share_words(m.totals.npu_macs_percent, c.error) for m, c in zip((one, two), counts, strict=True)]
    shown.append(("MACs that run as they are", *shares, ""))
    pieces = [1 if m.pieces is None else len(m.pieces.pieces) for m in (one, two)]
    shown.append(("Pieces, where the rest is for the host", *map(str, pieces), ""))
    return [(name, first, second, change) for name, first, second, change in shown]


def _number(counts: Counts, name: str) -> str:
    """One of the counts; of what `fix` mends, a check knows the least."""
    number = getattr(counts, name)
    return f"at least {number:,}" if name == "mended" and 0 < number < counts.error else f"{number:,}"


def _judged_differently(one: Iterable[LayerRow], two: Iterable[LayerRow]) -> tuple[dict[int, int], tuple[str, ...]]:
    """Rows whose verdict differs, numbered by module."""
    numbers: dict[tuple[str, ...], int] = {}
    found = {
        a.index: numbers.setdefault(a.scope, len(numbers) + 1) for a, b in zip(one, two, strict=True) if a.verdict != b.verdict
    }
    return found, tuple(".".join(scope) or "(top level)" for scope in numbers)


def _key(finding: Finding) -> tuple[object, ...]:
    return finding.rule, finding.location.output, finding.location.node, finding.location.graph


def _only(mine: Iterable[Finding], others: Iterable[Finding]) -> list[Finding]:
    known = {_key(f) for f in others}
    return ranked(f for f in mine if _key(f) not in known and f.suppressed is None)


def _differs(others: Iterable[Finding], device: str) -> Callable[[Finding], str]:
    """What another device says of a finding of both where it says something else: `warning on Ethos-U85: kernel 5x5 ...`."""
    known = {_key(f): f for f in others}

    def told(finding: Finding) -> str:
        other = known[_key(finding)]
        said = message(other) if message(other) != message(finding) else ""
        if not said and word(other) == word(finding):
            return ""
        return f"{word(other)} on {device}{said and f': {said}'}"

    return told


def _both(mine: Iterable[Finding], others: Iterable[Finding]) -> list[Finding]:
    known = {_key(f) for f in others}
    return ranked(f for f in mine if _key(f) in known and f.suppressed is None)
