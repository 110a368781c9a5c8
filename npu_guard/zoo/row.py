"""One sample network through everything: build, export, check, fix, verify, partition, report. Its row in the seed table."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from npu_guard.base.errors import NpuGuardError
from npu_guard.base.installation import VERSION
from npu_guard.checking import registry
from npu_guard.device import Profile
from npu_guard.file.save import save_document
from npu_guard.fixing import catalog
from npu_guard.fixing.driver import FixReport
from npu_guard.pipeline.check import analysis_of, check_model
from npu_guard.pipeline.fix import fix_model
from npu_guard.project.config import Config
from npu_guard.results.findings import Applied, ModelReport, Report, Verdict
from npu_guard.results.proof import LABELS, SAMPLED
from npu_guard.results.summary import Counts, count
from npu_guard.rewriting.substitution import EXACT
from npu_guard.zoo import samples
from npu_guard.zoo.system import Expect, Fixed, counted, wanted

CLEAN, FIXED, PARTITIONED, FAILED = "clean", "fixed", "partitioned", "FAILED"
SEEDS = {"tiny": (0, 1, 2), "full": (0,)}
"""Seeds of the inputs with which results are compared, by size: three inputs for each."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run of the whole table has in common. `folder` is where the reports go."""

    size: str = "full"
    exporter: str = "dynamo"
    config: Config = field(default_factory=Config)
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the seed table. `pieces` are those of the fixed model on NPU and host; None where nothing was cut."""

    id: str
    name: str
    before: Counts = field(default_factory=Counts)
    substitutions: tuple[tuple[str, int], ...] = ()
    proofs: tuple[tuple[str, int], ...] = ()
    """What is known of the blocks that were replaced: labels, the best one first, and of how many."""
    after: Counts = field(default_factory=Counts)
    error: tuple[float, float] | None = None
    """Largest absolute difference to the original, and the worst ratio of signal to noise in dB; None where all is as it was."""
    pieces: tuple[int, int] | None = None
    npu_macs_percent: float = 0.0
    outcome: str = FAILED
    problem: str = ""
    """Why the system failed, or in which way the results are not those that it states."""


def make_row(entry: samples.Entry, settings: Settings, say: Say) -> Row:
    """Take one system through everything. What goes wrong is in the row; nothing is raised but bugs of the engine."""
    failed = Row(entry.id, entry.name)
    try:
        with tempfile.TemporaryDirectory(prefix="npu-guard-") as scratch:
            return _row(entry, settings, say, Path(scratch))
    except NpuGuardError as error:
        return replace(failed, problem=str(error))


def _row(entry: samples.Entry, settings: Settings, say: Say, scratch: Path) -> Row:
    profile = registry.profile(settings.config.profile)
    original, fixed = scratch / f"{entry.name}.onnx", scratch / f"{entry.name}.fixed.onnx"
    say("Building and exporting")
    samples.export_system(entry.name, original, settings.size, settings.exporter)
    exact = [s for s in catalog.substitutions() if s.exactness == EXACT]
    done = fix_model(
        str(original),
        profile,
        settings.config,
        exact,
        seeds=SEEDS[settings.size],
        progress=lambda what, *_: say(what),
        warnings=True,
    )
    verdict, reason = done.verification.verdict, done.verification.reason
    if done.applied:
        save_document(done.document, fixed)
    result = fixed if done.applied else original
    outcome = FIXED if done.applied else CLEAN
    pieces, share, problem = None, done.after.totals.npu_macs_percent, ""
    if count(done.after.findings).error:
        say("Cutting into pieces")
        outcome, (pieces, share, problem) = PARTITIONED, _cut(result, profile, settings)
    if settings.folder is not None:
        say("Writing the report")
        _report(settings.folder / f"{entry.id}-{entry.name}.html", original, result, profile, settings)
    if done.applied and verdict != "equal":
        problem = f"the fixed model was not verified ({reason or verdict})"
    outcome = FAILED if problem else outcome
    problem = problem or _deviation(samples.system(entry.name), done, profile, settings.size)
    return Row(
        id=entry.id,
        name=entry.name,
        before=count(done.before.findings),
        substitutions=tuple(sorted(Counter(a.substitution for a in done.applied).items())),
        proofs=_labels(done.applied),
        after=count(done.after.findings),
        error=_error(done),
        pieces=pieces,
        npu_macs_percent=share,
        outcome=outcome,
        problem=problem,
    )


def _labels(applied: Sequence[Applied]) -> tuple[tuple[str, int], ...]:
    """How many blocks have which label."""
    found = Counter(SAMPLED if a.verification.proof is None else a.verification.proof.label for a in applied)
    return tuple((label, found[label]) for label in LABELS if found[label])


def _cut(path: Path, profile: Profile, settings: Settings) -> tuple[tuple[int, int], float, str]:
    """Pieces on NPU and host, the NPU's share of MACs in percent, and what is wrong with the pieces, if something is."""
    from npu_guard.checking.engine import check
    from npu_guard.device.partition import partition_settings
    from npu_guard.file.document import Document
    from npu_guard.partitioning.files import write_partition
    from npu_guard.partitioning.partition import partition_model

    analysis = analysis_of(str(path), settings.config)
    checked = check(analysis, profile, registry.rules(), settings.config)
    found = partition_model(analysis, checked, profile, partition_settings(profile.partition, settings.config.partition))
    sides = [p.side for p in found.pieces]
    written = write_partition(
        Document.of(analysis.model.skeleton), found, path.with_suffix(".pieces"), seeds=SEEDS[settings.size]
    )
    problem = "" if written.verdict == "equal" else f"the pieces were not verified ({written.reason or written.verdict})"
    return (sides.count("npu"), sides.count("host")), found.npu_macs_percent, problem


def _error(done: FixReport) -> tuple[float, float] | None:
    outputs = done.verification.outputs
    return (max(o.max_abs for o in outputs), min(o.snr_db for o in outputs)) if done.applied and outputs else None


def _report(path: Path, original: Path, result: Path, profile: Profile, settings: Settings) -> None:
    """A page with the model as exported and, where something was replaced, as it is then."""
    models = []
    for file in dict.fromkeys((original, result)):
        checked = check_model(str(file), profile, settings.config, hashes=True, layers=True)
        models.append(msgspec.structs.replace(checked, path=file.name))
    report = Report(VERSION, tuple(models), settings.config.fail_on, settings.config.allow_undecided)
    from npu_guard.base.files import write_atomic

    write_atomic(path, [registry.renderer("html")(report, color=False).encode("utf-8", "backslashreplace")])


def _deviation(system: Any, done: FixReport, profile: Profile, size: str) -> str:
    """In which way the findings are not those that the system states for this profile; nothing where it states none."""
    expected: tuple[Expect, ...] | None = system.EXPECTED.get(profile.name)
    if expected is not None and (text := _difference(done.before, expected)):
        return f"findings are not those expected: {text}"
    fixed: Fixed | None = getattr(system, "FIXED", {}).get(profile.name)
    if size == "full":
        fixed = getattr(system, "FIXED_FULL", {}).get(profile.name, fixed)
    if fixed is None:
        return ""
    if text := _difference(done.after, fixed.findings):
        return f"findings of the fixed model are not those expected: {text}"
    applied = {a.substitution for a in done.applied}
    if applied != set(fixed.substitutions):
        return f"expected the substitutions {_names(fixed.substitutions)}; these applied: {_names(applied)}"
    return ""


def _names(names: Any) -> str:
    return ", ".join(sorted(names)) or "none"


def _difference(report: ModelReport, expected: tuple[Expect, ...]) -> str:
    if report.verdict is Verdict.UNREADABLE or report.crashes:
        return report.error[1] if report.error else f"rule {report.crashes[0].rule} crashed: {report.crashes[0].error}"
    found, want = counted(report.findings), wanted(expected)
    parts = [(found - want, "more"), (want - found, "missing")]
    return "; ".join(
        f"{n} {what} {rule} {severity}{'' if measured is None else f' {measured}'}"
        for difference, what in parts
        for (rule, severity, measured, _), n in sorted(difference.items(), key=str)
    )
