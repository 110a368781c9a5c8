"""What `check` does with findings once they are known: compare them with the baseline, keep it, save repros."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from npu_guard.base import clock
from npu_guard.base.terminal import write_result
from npu_guard.checking import registry
from npu_guard.gate import baseline
from npu_guard.gate.repro_folder import Folder
from npu_guard.gate.since import without_known
from npu_guard.pipeline.check import analysis_of, check_models
from npu_guard.pipeline.simplify import as_judged
from npu_guard.project import revision
from npu_guard.project.config import Config
from npu_guard.project.target import exported
from npu_guard.results.findings import Report
from npu_guard.results.summary import plural, verdict

if TYPE_CHECKING:
    from npu_guard.gate.cache import Cache


def check_with_gate(
    models: Sequence[str], config: Config, known: Path | None, target: Path | None, repros: Path | None, *,
    hashes: bool, layers: bool, remedies: bool = False, jobs: int = 1, cache: Cache | None = None, since: str | None = None,
    verify: bool = False,
) -> tuple[Report, list[str]]:  # fmt: skip
    """Check models, or Python code that makes them, with all that is asked for besides; lines for people come with it."""
    device = registry.profile(config.profile).name  # all that may be mistyped is read before code is run, which takes time
    if known is not None:
        baseline.read_baseline(known, device)
    if since is not None:
        revision.commit_of(since)
    folder = None if repros is None else repro_folder(repros, config)
    with exported(models, config.input_shapes) as files, as_judged(files, config, verify=verify) as judged:
        report = check_models(
            models, judged.config, hashes=hashes, layers=layers, remedies=remedies, files=judged.files, jobs=jobs, cache=cache
        )
        report = judged.told(report)
        report, lines = with_baseline(report, device, known, target)
        if since is not None:
            report, more = without_known(report, since, config, files)
            lines += more
        if folder is not None:
            lines.append(save_repros(folder, report, judged.config, judged.files))
    lines += [f"{name}: what onnxsim leaves was not verified ({why})" for name, why in judged.not_verified().items()]
    return report, lines


def with_baseline(report: Report, profile: str, known: Path | None, target: Path | None) -> tuple[Report, list[str]]:
    """The report with what the baseline knows suppressed, and lines for people. `target` is written first and then counts
    too; what people wrote into it, or into `known`, stays. Raises UsageError.
    """
    if known is None and target is None:
        return report, []
    lines = []
    found = baseline.read_baseline(known, profile) if known is not None else None
    if target is not None:
        older = baseline.read_baseline(target, profile) if os.path.exists(target) else found
        found = baseline.make_baseline(report, profile, older)
        write_result(target, baseline.baseline_text(found))
        lines.append(f"wrote {target} with {len(found.entries)} entr{'y' if len(found.entries) == 1 else 'ies'}")
    assert found is not None
    applied = baseline.apply_baseline(report, found, lambda f: verdict(f, report.fail_on), clock.today())
    lines += baseline.fixed_lines(applied, "the baseline")
    if applied.fixed:
        lines.append(f"write the baseline anew with --write-baseline {known or target} to keep it so")
    return applied.report, lines


def save_repros(folder: Folder, report: Report, config: Config, files: Mapping[str, str]) -> str:
    """Every finding that counts as a model of its own; returns a line for people."""
    for model in report.models:
        if model.error is None:
            folder.add(model, analysis_of(files[model.path], config))
    return f"wrote {plural(folder.close(), 'model')} and {folder.path / 'README.md'}"


def repro_folder(path: Path, config: Config) -> Folder:
    """The folder for repros, made empty. What is checked again there is checked as the models are, but for input shapes."""
    alone = replace(config, input_shapes={}, suppress=())
    return Folder(path, lambda file: check_models([file], alone).models[0].findings)
