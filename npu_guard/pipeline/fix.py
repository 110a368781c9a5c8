"""The flow of `fix` on one page: load -> analyze -> check -> substitute -> verify -> check again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.opening import open_to_write
from npu_guard.device import Profile
from npu_guard.file import load
from npu_guard.file.document import Document
from npu_guard.fixing.driver import FixReport, Progress, no_progress
from npu_guard.fixing.judge import CheckModel
from npu_guard.fixing.plan import Plan, expect_plan_for
from npu_guard.fixing.twin import twin_of
from npu_guard.pipeline.fix_floats import fix_floats
from npu_guard.pipeline.fix_integers import fix_integers
from npu_guard.pipeline.job import Job, Without
from npu_guard.project.config import Config, project_root
from npu_guard.rewriting.substitution import Substitution


def fix_model(
    path: str, profile: Profile, config: Config, substitutions: Sequence[Substitution], *,
    calibration: Path | None = None, seeds: Sequence[int] = (0, 1, 2), check_numbers: bool = True,
    progress: Progress = no_progress, prefer: Sequence[str] = (), plan: Plan | None = None,
    warnings: bool = False, layers: bool = False, origin: str = "",
) -> FixReport:  # fmt: skip
    """Replace what does not fit, or what a plan says, and verify it. The file is not touched; the result holds the new document.

    `warnings`: mend those alone whatever it costs, as where the project fails on them; `layers` adds a row for each operator to
    both reports; `origin` is the file that `path` was made of, whose hash a plan has.

    Raises ModelError where the model cannot be read, NotVerified where it cannot be fed, UsageError for another model's plan.
    """
    progress("Analysing the model", 0, 1)
    digest = load.sha256(origin or path)
    if plan is not None:
        expect_plan_for(plan, path, digest, profile.name)
    document, analysis = open_to_write(path, config.input_shapes, config.limits, config.held)
    job = Job(
        path, digest, profile, config, substitutions, calibration, seeds, check_numbers, progress, prefer, plan,
        warnings or config.fail_on == "warning", layers, project_root(Path.cwd()),
    )  # fmt: skip

    def fixed(document: Document, analysis: Analysis, check: CheckModel, without: Without) -> FixReport:
        return fix_floats(job, document, analysis, check, without)

    twin = twin_of(document, analysis, config.input_shapes)
    return fixed(document, analysis, job.checked, {}) if twin is None else fix_integers(job, twin, fixed)
