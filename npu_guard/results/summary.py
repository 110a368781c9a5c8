"""What every report needs of findings: counts, verdicts and words. Which of them say the same is in `groups.py`."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from npu_guard.base.text import printable
from npu_guard.results.documented import documented_percent, undocumented
from npu_guard.results.findings import Evidence, Finding, ModelReport, Outcome, Report, Severity, Verdict
from npu_guard.results.simplified import Moved, Simplified

UNDECIDED = "cannot tell"


class Counts(Struct, frozen=True):
    """How many findings of each kind. Suppressed ones count only as that; undecided ones not in their severity."""

    error: int = 0
    warning: int = 0
    note: int = 0
    undecided: int = 0
    suppressed: int = 0
    known: Mapping[str, int] = {}
    """Of the suppressed ones those that the model had before, by what knows them: `in the baseline`, `known at main`."""
    fixable: int = 0
    mended: int = 0
    """Errors that an exact form removes."""

    def words(self) -> str:
        """`3 errors, 1 warning, 2 undecided`: errors always, the rest where there is some."""
        parts = [plural(self.error, "error")]
        parts += [plural(n, word) for n, word in ((self.warning, "warning"), (self.note, "note")) if n]
        accepted = self.suppressed - sum(self.known.values())
        parts += [f"{n} {word}" for n, word in ((self.undecided, "undecided"), (accepted, "suppressed")) if n]
        parts += [f"{n} {word}" for word, n in self.known.items()]
        return ", ".join(parts)


def count(findings: Iterable[Finding]) -> Counts:
    """Count findings."""
    found = list(findings)
    counted = [f for f in found if f.suppressed is None]
    failed = [f.severity for f in counted if f.outcome is Outcome.FAIL]
    return Counts(
        error=failed.count(Severity.ERROR),
        warning=failed.count(Severity.WARNING),
        note=failed.count(Severity.NOTE),
        undecided=len(counted) - len(failed),
        suppressed=len(found) - len(counted),
        known=collections.Counter(f.known for f in found if f.known),
        fixable=sum(f.remedy is not None and f.remedy.substitution is not None for f in counted),
        mended=sum(is_error(f) and mended_exactly(f) for f in counted),
    )


def is_error(finding: Finding) -> bool:
    """Whether the model does not fit because of it: an error that a rule is sure of and nobody has suppressed."""
    return finding.severity is Severity.ERROR and finding.outcome is Outcome.FAIL and finding.suppressed is None


def mended_exactly(finding: Finding) -> bool:
    """Whether `fix` removes it by a form that computes the same, without being asked for more."""
    return _exactly(finding) and finding.remedy is not None and not finding.remedy.option


def _exactly(finding: Finding) -> bool:
    return finding.remedy is not None and finding.remedy.exactness == "exact"


def word(finding: Finding) -> str:
    """`error`, `warning`, `note` or `undecided`."""
    return "undecided" if finding.outcome is Outcome.UNDECIDED else finding.severity.value


def level(finding: Finding) -> str:
    """`error`, `warning` or `note`, for formats that know no more: what nobody could decide is no error there."""
    undecided_error = finding.outcome is Outcome.UNDECIDED and finding.severity is Severity.ERROR
    return "warning" if undecided_error else finding.severity.value


def message(finding: Finding) -> str:
    """What the rule says; of what it could not decide, it says so first."""
    told = finding.outcome is Outcome.FAIL or finding.message.startswith(UNDECIDED)
    return finding.message if told else f"{UNDECIDED}: {finding.message}"


def counts_as_failure(finding: Finding, fail_on: str) -> bool:
    """Whether a finding takes part in the model's verdict. `never` changes the exit code alone."""
    limit = Severity.ERROR if fail_on == "never" else Severity(fail_on)
    return finding.suppressed is None and finding.severity.rank >= limit.rank


def verdict(findings: Iterable[Finding], fail_on: str) -> Verdict:
    """FAIL where a finding counts, UNDECIDED where nothing failed and a rule could not tell.

    `--fail-on never` changes the exit code and not the verdict: a model with errors never reads as a pass.
    """
    counted = [f for f in findings if counts_as_failure(f, fail_on)]
    if any(f.outcome is Outcome.FAIL for f in counted):
        return Verdict.FAIL
    return Verdict.UNDECIDED if counted else Verdict.PASS


def exit_code(report: Report) -> int:
    """The command line's exit code: the highest over the models."""
    codes = [0]
    for model in report.models:
        if model.verdict is Verdict.UNREADABLE:
            codes.append(3)
        elif report.fail_on != "never" and (
            model.verdict is Verdict.FAIL or (model.verdict is Verdict.UNDECIDED and not report.allow_undecided)
        ):
            codes.append(1)
        if model.crashes:
            codes.append(4)
    return max(codes)


def outcome(model: ModelReport) -> str:
    """Counts of a model, and how much of its work runs as it is."""
    counts = count(model.findings)
    silent = undocumented(model) if model.verdict is Verdict.PASS else 0
    words = counts.words() + (f" ({plural(silent, 'operator')} not documented)" if silent else "")
    if not model.totals.macs:
        return words
    share, documented = model.totals.npu_macs_percent, documented_percent(model)
    told = f", {percent(documented)} by the device's documents" if documented < share else ""
    known, rest = known_macs(model.totals.uncounted)
    open_ones = any(f.outcome is Outcome.UNDECIDED and f.severity is Severity.ERROR for f in counted_findings(model))
    run = "are known to run as they are" if open_ones and share < 100 else "run as they are"
    accepted = accepted_percent(model)
    told += f", {percent(accepted)} where a suppression accepts an error" if accepted else ""
    runs = f"all {known}, but not all operators," if share == 100 and counts.error else f"{percent(share)} of the {known}"
    return f"{words}; {runs} {run}{told}{rest}"


def accepted_percent(model: ModelReport) -> float:
    """Share of the MACs that counts as running because the settings accept the errors there; what a baseline knows does not."""
    held: dict[tuple[object, str], tuple[int, bool]] = {}
    for f in model.findings:
        if f.severity is Severity.ERROR:
            place = f.location.graph, f.location.output
            held[place] = f.macs, held.get(place, (0, True))[1] and f.suppressed is not None
    if not any(accepted for _, accepted in held.values()) or not model.totals.macs:
        return 0.0
    runs = model.totals.npu_macs_percent
    share = 100.0 * sum(macs for macs, _ in held.values()) / model.totals.macs
    return min(max(round(share - (100.0 - runs), 1), 0.0), runs)


def counted_findings(model: ModelReport) -> list[Finding]:
    """Those that nobody has suppressed."""
    return [f for f in model.findings if f.suppressed is None]


def known_macs(uncounted: int) -> tuple[str, str]:
    """What a share of the MACs is of, and what to add where operators of open shapes are not in it."""
    return ("known MACs", f"; {plural(uncounted, 'operator')} of open shape not counted") if uncounted else ("MACs", "")


def mending(findings: Sequence[Finding]) -> str:
    """`fixable`, of several `at least 3 fixable`, where it costs much `fixable with --warnings`; else empty.

    A check judges so many blocks and one pass of forms, and `fix` goes on: of a part it can only say the least.
    """
    number = sum(map(mended_exactly, findings))
    option = "" if number else " with --warnings"
    number = number or sum(map(_exactly, findings))
    which = "" if len(findings) == 1 else "all " if number == len(findings) else f"at least {number:,} "
    return f"{which}fixable{option}" if number else ""


_BOUNDS = {"multiple_of": "multiple of", "multiple": "multiple of", "max": "at most", "min": "at least", "below": "below",
           "rank": "rank"}  # fmt: skip


def allowed_words(evidence: Evidence) -> str:
    """What the device allows, so that it reads on its own: `multiple of 8`, `at most 17`, `1 or 2`."""
    value = evidence.allowed
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else f"{value:,}" if isinstance(value, int) else str(value)
    bound = evidence.limit.rpartition(".")[2]
    words = _BOUNDS.get(bound) or _BOUNDS.get(bound.rpartition("_")[2]) or _BOUNDS.get(bound.partition("_")[0])
    return f"{words} {text}" if words and isinstance(value, int | float) else text


def plural(count: int, word: str) -> str:
    """`1 error`, `2 errors`."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def si(number: int) -> str:
    """A count with an SI prefix and three digits: `1.82 G`."""
    value = float(number)
    for prefix in ("", "k", "M", "G", "T"):
        if value < 1000 or prefix == "T":
            digits = f"{value:.3g}" if value < 1000 else f"{value:.0f}"
            return f"{digits} {prefix}"
        value /= 1000
    raise AssertionError


def counted(number: int, noun: str) -> str:
    """`18.3 k parameters`, `1 parameter`."""
    return f"{si(number).rstrip()} {noun if number == 1 else f'{noun}s'}"


def percent(share: float) -> str:
    """A share with one decimal that says 100 and 0 only where it is all or nothing."""
    if 99.95 <= share < 100:
        return ">99.9 %"
    if 0 < share < 0.05:
        return "<0.1 %"
    return (
        f"{(round(100 * share) + 5) // 10 / 10:.1f} %"  # from the two decimals that JSON has: one number reads alike everywhere
    )


_NAMED = 3
"""Nodes of a rule that a sentence about a simplifier names."""


def simplified_words(done: Simplified) -> list[str]:
    """What a simplifier did before a model was judged, a sentence each."""
    verified = {"equal": ", verified equal to the file", "": ""}.get(done.verification, f", not verified ({done.reason})")
    left = f"{plural(done.nodes_before, 'operator')} before and {done.nodes_after} now"
    lines = [f"judged as {done.by} leaves it: {left}{verified}"]
    for moved, words in ((done.removes, "removes"), (done.adds, "adds")):
        if moved:
            lines.append(f"the simplifier alone {words} {plural(len(moved), 'finding')}: {_moved_words(moved)}")
    return lines


def _moved_words(moved: Sequence[Moved]) -> str:
    by_rule: dict[str, list[str]] = {}
    for one in moved:
        by_rule.setdefault(one.rule, []).append(printable(one.node, 60))
    words = []
    for rule, nodes in sorted(by_rule.items()):
        more = f" and {len(nodes) - _NAMED} more" if len(nodes) > _NAMED else ""
        words.append(f"{rule} at {', '.join(nodes[:_NAMED])}{more}")
    return "; ".join(words)
