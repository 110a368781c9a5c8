"""Many models against many devices, for whoever chooses a chip: one analysis each, a verdict for each pair."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from npu_guard.base.errors import ModelError, UsageError
from npu_guard.base.installation import VERSION
from npu_guard.checking import registry
from npu_guard.checking.engine import check
from npu_guard.pipeline.check import analysis_of, report_of
from npu_guard.pipeline.simplify import Judged, as_judged
from npu_guard.project.config import Config, project_root
from npu_guard.results.documented import documented_percent, undocumented
from npu_guard.results.findings import ModelReport, Outcome, Report, Verdict
from npu_guard.results.summary import count, counts_as_failure


class Cell(Struct, frozen=True):
    """One model on one device."""

    profile: str
    verdict: str
    error: int
    warning: int
    undecided: int
    npu_macs_percent: float
    rules: tuple[str, ...] = ()
    """Codes that decide the verdict, those with most findings first; none where it passes."""
    documented_macs_percent: float = 100.0
    """Share of the MACs on operators that run and of which the device's documents say so."""
    undocumented: int = 0
    """Operators that the device's documents do not name and that no error keeps off."""


class Row(Struct, frozen=True):
    """One model on all devices; no cells where it cannot be read, and then why."""

    path: str
    cells: tuple[Cell, ...]
    error: str | None = None


class Matrix(Struct, frozen=True):
    """All models on all devices, and what decides the exit code."""

    profiles: tuple[str, ...]
    rows: tuple[Row, ...]
    report: Report


def matrix_devices(profile: str | None, everything: bool) -> list[str]:
    """The devices of a matrix, none where `--profile` names a single one. Raises UsageError."""
    if not everything:
        return [name.strip() for name in profile.split(",") if name.strip()] if profile and "," in profile else []
    if profile:
        raise UsageError("--all-profiles and --profile exclude each other; several profiles are written as --profile A,B")
    return registry.profile_names()


def compare_devices(paths: Sequence[str], names: Sequence[str], config: Config) -> Matrix:
    """Check each model against each device. Raises UsageError for a profile; a model that cannot be read is a row."""
    with as_judged({path: path for path in paths}, config, compare=False) as judged:
        return _compare(paths, names, judged)


def _compare(paths: Sequence[str], names: Sequence[str], judged: Judged) -> Matrix:
    config = judged.config
    profiles = [registry.profile(name) for name in dict.fromkeys(names)]
    rows, reports = [], []
    for path in paths:
        try:
            judged.expect_simplified(path)
            analysis = analysis_of(judged.files[path], config)
            found = []
            for profile in profiles:
                checked = check(analysis, profile, registry.rules(), config, project_root(Path.cwd()))
                found.append(judged.told_of(report_of(path, profile, config, analysis, checked, "")))
        except ModelError as error:
            rows.append(Row(path, (), str(error)))
            reports.append(ModelReport(path, "", Verdict.UNREADABLE, error=(error.kind, str(error))))
            continue
        rows.append(Row(path, tuple(_cell(report, config.fail_on) for report in found)))
        reports += found
    whole = Report(VERSION, tuple(reports), config.fail_on, config.allow_undecided)
    return Matrix(tuple(p.name for p in profiles), tuple(rows), whole)


def _cell(report: ModelReport, fail_on: str) -> Cell:
    counts = count(report.findings)
    outcome = {Verdict.FAIL: Outcome.FAIL, Verdict.UNDECIDED: Outcome.UNDECIDED}.get(report.verdict)
    told = collections.Counter(f.rule for f in report.findings if f.outcome is outcome and counts_as_failure(f, fail_on))
    rules = tuple(rule for rule, _ in sorted(told.items(), key=lambda item: (-item[1], item[0])))
    share = report.totals.npu_macs_percent
    return Cell(
        report.profile, report.verdict.value, counts.error, counts.warning, counts.undecided, share, rules,
        documented_percent(report), undocumented(report),
    )  # fmt: skip
