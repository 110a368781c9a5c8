"""Findings that a project knows of already: a JSON file that `check` writes, reads, and people annotate.

Version 1. Sorted and without time stamps, so that its diff in a pull request shows what has changed and nothing else.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from npu_guard.base.errors import UsageError
from npu_guard.base.files import read_small
from npu_guard.base.text import printable
from npu_guard.device import convert
from npu_guard.graph.ops import family_of
from npu_guard.project import paths
from npu_guard.results import fingerprint
from npu_guard.results.findings import Evidence, Finding, Location, ModelReport, Outcome, Report, Severity, Tensor

VERSION = 1
MAX_BYTES = 64 << 20
_LISTED = 20
"""Entries that are named as fixed."""
REWRITE = "write a new one with 'npu-guard check MODEL --write-baseline FILE'"


class Numbers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a rule measured, of which limit."""

    limit: str
    measured: int | float | str | tuple[int, ...]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One finding. `reason` and `expires` are for people to write; the message is for them to read and takes no part."""

    fingerprint: str
    rule: str
    severity: Literal["error", "warning", "note"]
    scope: tuple[str, ...]
    op_type: str
    message: str
    model: str = ""
    outcome: Literal["fail", "undecided"] = "fail"
    evidence: Numbers | None = None
    shape: tuple[int | str | None, ...] | None = None
    reason: str = ""
    expires: str = ""

    def expired(self, today: datetime.date) -> bool:
        """Whether the entry has lost its force; it keeps it through the day that it names."""
        return bool(self.expires) and today > datetime.date.fromisoformat(self.expires)


class _Tool(msgspec.Struct, frozen=True):
    name: str = "npu-guard"
    version: str = ""


class Baseline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file."""

    schema_version: int
    profile: str
    entries: tuple[Entry, ...]
    tool: _Tool = _Tool()

    def of(self, model: ModelReport, models: int) -> tuple[Entry, ...]:
        """Entries of a model: by its path, or all of them where both the file and the run are about one model only."""
        name = paths.in_project(model.path)
        names = {entry.model for entry in self.entries}
        if models == 1 and len(names) == 1:
            return self.entries
        return tuple(entry for entry in self.entries if entry.model == name)


@dataclass(frozen=True, slots=True)
class Applied:
    """A report after the baseline, and what the baseline has that the models have no longer."""

    report: Report
    fixed: tuple[Entry, ...]
    altered: tuple[tuple[Entry, Finding], ...] = ()
    """What is at its place with another number now, such as a kernel of 21 taps that had 19; it counts as new."""


def is_baseline(path: str) -> bool:
    """Whether a file is JSON that says which version of a schema of ours it has; any other is a model, if an unreadable one."""
    try:
        if not os.path.isfile(path):
            return False
        with open(path, "rb") as file:
            head = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
            return head.startswith(b"{") and b'"schema_version"' in head + file.read(MAX_BYTES)
    except (OSError, ValueError):
        return False


def read_baseline(path: Path, profile: str | None = None) -> Baseline:
    """A baseline from its file; `profile` is the one it must have been written for. Raises UsageError."""
    data = _parse(path)
    if not isinstance(data, dict) or not {"schema_version", "entries"} <= data.keys():
        what = "a report of 'check --format json'" if isinstance(data, dict) and "models" in data else "no baseline"
        raise UsageError(f"{path}: is {what}; {REWRITE}")
    version = data["schema_version"]
    if isinstance(version, int) and version > VERSION:
        newest = f"and this npu-guard reads up to {VERSION}; upgrade npu-guard, or {REWRITE}"
        raise UsageError(f"{path}: is a baseline of schema version {version}, {newest}")
    baseline: Baseline = convert(data, Baseline, str(path))
    if baseline.schema_version != VERSION:
        raise UsageError(f"{path}: there is no baseline of schema version {baseline.schema_version}; {REWRITE}")
    for number, entry in enumerate(baseline.entries, 1):
        _expect_date(path, number, entry)
    if profile is not None:
        expect_profile(path, baseline, profile)
    return baseline


def expect_profile(path: Path, baseline: Baseline, profile: str) -> None:
    """Raise UsageError where a baseline was written for another device: its findings say nothing of this one."""
    if baseline.profile != profile:
        raise UsageError(
            f"{path}: was written for profile {printable(baseline.profile)!r}, and this run is for {profile!r};"
            f" check with --profile {printable(baseline.profile)}, or keep one baseline for each profile"
        )


def _parse(path: Path) -> Any:
    try:
        return json.loads(read_small(path, MAX_BYTES).decode("utf-8-sig"), object_pairs_hook=_object)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; {REWRITE}") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from None
    except RecursionError:
        raise UsageError(f"{path}: is nested deeper than any baseline; {REWRITE}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is no baseline, which is JSON in UTF-8; {REWRITE}") from None
    except ValueError as error:  # JSONDecodeError, a key that is there twice, a number of thousands of digits
        raise UsageError(f"{path}: not valid JSON: {printable(str(error), 200)}; {REWRITE}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {printable(twice, 80)!r} is there twice in one object")
    return found


def _expect_date(path: Path, number: int, entry: Entry) -> None:
    try:
        if entry.expires:
            datetime.date.fromisoformat(entry.expires)
    except ValueError:
        said = f"entry {number} ({printable(entry.rule)}) expires {printable(entry.expires, 40)!r}"
        raise UsageError(f"{path}: {said}; write the date as YYYY-MM-DD") from None


def apply_baseline(
    report: Report, baseline: Baseline, judge: Callable[[Iterable[Finding]], Any], today: datetime.date,
    known: str = "in the baseline",
) -> Applied:  # fmt: skip
    """Suppress what the baseline knows, with `known` as the reason; an expired entry suppresses nothing and is named.

    `judge` gives a model's verdict.
    """
    models, fixed, altered = [], [], []
    for model in report.models:
        if model.error is not None:
            models.append(model)
            continue
        entries = baseline.of(model, len(report.models))
        pairs = fingerprint.pair([mark(e) for e in entries], [fingerprint.mark(f) for f in model.findings])
        findings = list(model.findings)
        for i, j in pairs:
            findings[j] = _known(findings[j], entries[i], today, known)
        kept = {i for i, _ in pairs}
        if pairs or any(e.model == paths.in_project(model.path) for e in entries):  # else they are those of another model
            gone = [e for i, e in enumerate(entries) if i not in kept and e.rule in model.asked]
            there = {j for _, j in pairs}
            new = [f for j, f in enumerate(model.findings) if j not in there]
            again = dict(fingerprint.altered([mark(e) for e in gone], [fingerprint.mark(f) for f in new]))
            fixed += [e for i, e in enumerate(gone) if i not in again]
            altered += [(gone[i], new[j]) for i, j in again.items()]
        models.append(replace(model, findings=tuple(findings), verdict=judge(findings)))
    return Applied(replace(report, models=tuple(models)), tuple(fixed), tuple(altered))


def _known(finding: Finding, entry: Entry, today: datetime.date, known: str) -> Finding:
    if finding.suppressed is not None:
        return finding
    reason = f": {entry.reason}" if entry.reason else ""
    if entry.expired(today):
        return replace(finding, message=f"{finding.message} (the baseline's entry expired on {entry.expires}{reason})")
    return replace(finding, suppressed=f"{known}{reason}", known=known)


def fixed_lines(applied: Applied, since: str) -> list[str]:
    """What is known and no more in the model, or with another number, for people."""
    fixed = [f"fixed since {since}: {_what(entry)}" for entry in applied.fixed]
    altered = [f"changed since {since}: {_what(entry)}; now: {printable(f.message, 200)}" for entry, f in applied.altered]
    lines = []
    for words, all_of in (("fixed", fixed), ("changed", altered)):
        lines += [*all_of[:_LISTED], *([f"and {len(all_of) - _LISTED} more are {words}"] if len(all_of) > _LISTED else [])]
    return lines


def _what(entry: Entry) -> str:
    module = ".".join(entry.scope) or "(top level)"
    return f"{entry.rule} {printable(entry.message, 200)} ({printable(entry.op_type)} in {printable(module)})"


def make_baseline(report: Report, profile: str, older: Baseline | None = None) -> Baseline:
    """A baseline of what a report counts. Entries of `older` that stay keep reason and date; those of rules that did not
    run, and of models that are not in the report, stay as they are. Raises UsageError for a report with gaps.
    """
    entries: list[Entry] = []
    claimed: set[int] = set()
    for model in report.models:
        if model.error is not None or model.crashes:
            raise UsageError(f"{model.path}: was not checked to the end, so no baseline was written")
        name = paths.in_project(model.path)
        known = older.of(model, len(report.models)) if older is not None else ()
        found = [f for f in model.findings if f.suppressed is None]
        pairs = {j: known[i] for i, j in fingerprint.pair([mark(e) for e in known], [fingerprint.mark(f) for f in found])}
        entries += [_entry(f, name, pairs.get(j)) for j, f in enumerate(found)]
        entries += [msgspec.structs.replace(e, model=name) for e in known if e.rule not in model.asked]
        claimed |= {id(e) for e in known}
    if older is not None:
        entries += [e for e in older.entries if id(e) not in claimed]
    return Baseline(VERSION, profile, tuple(sorted(entries, key=_order)), _Tool(version=report.version))


def baseline_text(baseline: Baseline) -> str:
    """The file's content."""
    data = msgspec.to_builtins(baseline)
    ordered = {key: data[key] for key in ("schema_version", "tool", "profile", "entries")}
    return json.dumps(ordered, indent=2) + "\n"


def _entry(f: Finding, model: str, older: Entry | None) -> Entry:
    evidence = None if f.evidence is None else Numbers(f.evidence.limit, f.evidence.measured)
    return Entry(
        fingerprint=f.fingerprint, rule=f.rule, severity=f.severity.value, scope=f.location.scope, op_type=f.location.op_type,
        message=f.message, model=model, outcome=f.outcome.value, evidence=evidence, shape=f.tensor.shape if f.tensor else None,
        reason=older.reason if older else "", expires=older.expires if older else "",
    )  # fmt: skip


def _order(entry: Entry) -> tuple[Any, ...]:
    evidence = "" if entry.evidence is None else f"{entry.evidence.limit} {entry.evidence.measured}"
    return entry.model, entry.rule, entry.scope, entry.op_type, evidence, entry.fingerprint


def mark(entry: Entry) -> fingerprint.Mark:
    """What tells an entry from others, as of the finding that it was made of."""
    evidence = None if entry.evidence is None else (entry.evidence.limit, entry.evidence.measured)
    family = family_of(entry.op_type)
    return fingerprint.make_mark(entry.rule, entry.outcome, family, evidence, entry.scope, entry.shape, entry.fingerprint)


def findings(entries: Sequence[Entry], names: Callable[[str], str]) -> Iterator[Finding]:
    """Entries as findings, for reports; `names` gives a rule's name. They know no node and no line."""
    for e in entries:
        tensor = None if e.shape is None else Tensor("", e.shape, None)
        evidence = None if e.evidence is None else Evidence(e.evidence.limit, e.evidence.measured, "")
        yield Finding(
            rule=e.rule, name=names(e.rule), severity=Severity(e.severity), outcome=Outcome(e.outcome),
            location=Location("", e.op_type, "", e.scope), message=e.message, tensor=tensor, evidence=evidence,
            fingerprint=e.fingerprint,
        )  # fmt: skip
