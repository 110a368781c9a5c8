"""The whole flow on one page: load -> analyze -> check -> report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import npu_guard
from npu_guard import load, registry
from npu_guard.analyze import Analysis, analyze
from npu_guard.check import Checked, check, macs_share
from npu_guard.config import Config
from npu_guard.config import root as project_root
from npu_guard.errors import ModelError
from npu_guard.layers import device, layer_rows
from npu_guard.profile import Profile
from npu_guard.results import Finding, ModelReport, Outcome, Report, Totals, Verdict
from npu_guard.summary import counts_as_failure


def check_models(
    paths: Sequence[str], config: Config, *, hashes: bool = False, layers: bool = False, files: Mapping[str, str] | None = None
) -> Report:
    """Check each model against the configured profile. A model that cannot be read is a result like others.

    `hashes` adds the SHA-256 of each file, which costs reading it whole; `layers` adds a row for each operator; `files` are
    those to read for models that are no files themselves. Raises UsageError.
    """
    profile = registry.profile(config.profile)
    reports = []
    for path in paths:
        file = files.get(path, path) if files is not None else path
        report = check_model(file, profile, config, hashes=hashes, layers=layers)
        error = report.error and (report.error[0], report.error[1].replace(file, path))
        reports.append(report if file == path else replace(report, path=path, error=error))
    return Report(npu_guard.__version__, tuple(reports), config.fail_on, config.allow_undecided)


def analysis_of(path: str, config: Config) -> Analysis:
    """What is known of a model, for whoever works on findings once they are known. Raises ModelError."""
    return analyze(load.load(path), config.input_shapes)


def check_model(path: str, profile: Profile, config: Config, *, hashes: bool = False, layers: bool = False) -> ModelReport:
    """Check one model against one profile."""
    digest = ""
    try:
        skeleton = load.load(path)
        if hashes:
            digest = load.sha256(path)
        analysis = analyze(skeleton, config.input_shapes)
        checked = check(analysis, profile, registry.rules(), config, project_root(Path.cwd()))
    except ModelError as error:
        return ModelReport(path, profile.name, Verdict.UNREADABLE, sha256=digest, error=(error.kind, str(error)))
    return report_of(path, profile, config, analysis, checked, digest, layers=layers)


def report_of(
    path: str, profile: Profile, config: Config, analysis: Analysis, checked: Checked, digest: str, *, layers: bool = False
) -> ModelReport:
    """The report of a model that was analysed and checked."""
    return ModelReport(
        path=path,
        profile=profile.name,
        verdict=verdict(checked.findings, config.fail_on),
        findings=checked.findings,
        crashes=checked.crashes,
        not_applicable=checked.not_applicable,
        totals=_totals(analysis, checked),
        notes=analysis.notes,
        unknown={value.name: reason for value, reason in analysis.unknown.items()},
        sha256=digest,
        opset=analysis.model.skeleton.opset,
        layers=layer_rows(analysis, profile, checked.findings) if layers else (),
        device=device(profile) if layers else None,
        asked=checked.asked,
    )


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


def _totals(analysis: Analysis, checked: Checked) -> Totals:
    costs = analysis.costs.values()
    return Totals(
        nodes=len(analysis.costs),
        params=sum(c.params for c in costs),
        macs=sum(c.macs for c in costs),
        activation_bytes=sum(c.output_bytes for c in costs),
        peak_bytes=max((c.live_bytes for c in costs), default=0),
        npu_macs_percent=_rounded(macs_share(analysis, checked.blocked)),
    )


def _rounded(share: float) -> float:
    """Two decimals; all and nothing stay reserved for all and nothing."""
    return share if share in (0.0, 100.0) else min(max(round(share, 2), 0.01), 99.99)
