"""One order to `fix` a file, as its steps share it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from npu_guard.analysis.analyze import Analysis
from npu_guard.checking import registry
from npu_guard.checking.engine import Checked, check
from npu_guard.device import Profile
from npu_guard.file.document import Document
from npu_guard.fixing import rollback
from npu_guard.fixing.driver import FixReport, Progress
from npu_guard.fixing.judge import CheckModel
from npu_guard.fixing.plan import Plan
from npu_guard.pipeline.check import report_of
from npu_guard.project.config import Config
from npu_guard.results.findings import ModelReport, RefusedMatch
from npu_guard.rewriting.substitution import Substitution

Without = Mapping[rollback.Key, RefusedMatch]
"""Blocks that stay as they are, and why."""
FixFloats = Callable[[Document, Analysis, CheckModel, Without], FixReport]
"""What fixes a model of which forms take all numbers as they are written."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is asked of a run of `fix`; `fix_model` says what the fields mean."""

    path: str
    digest: str
    """Of the file that a report and a plan name."""
    profile: Profile
    config: Config
    substitutions: Sequence[Substitution]
    calibration: Path | None
    seeds: Sequence[int]
    check_numbers: bool
    progress: Progress
    prefer: Sequence[str]
    plan: Plan | None
    warnings: bool
    layers: bool
    root: Path
    """The project's folder."""

    def checked(self, analysis: Analysis) -> Checked:
        """What the device refuses of a model."""
        return check(analysis, self.profile, registry.rules(), self.config, self.root)

    def report(self, analysis: Analysis, checked: Checked, digest: str) -> ModelReport:
        """The same as a report on the file."""
        return report_of(self.path, self.profile, self.config, analysis, checked, digest, layers=self.layers)
