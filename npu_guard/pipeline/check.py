"""The whole flow on one page: load -> analyze -> check -> report."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from msgspec.structs import replace

from npu_guard.analysis import shapes
from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.analysis.cost import uncounted
from npu_guard.analysis.quantized.reading import read
from npu_guard.base.errors import ModelError
from npu_guard.base.installation import VERSION
from npu_guard.checking import registry
from npu_guard.checking.engine import Checked, check, macs_share
from npu_guard.checking.listed import listed_rules
from npu_guard.device import Profile
from npu_guard.file import load
from npu_guard.fixing.severities import fails
from npu_guard.graph.graph import is_known
from npu_guard.project.config import Config, project_root
from npu_guard.project.next_command import command_of
from npu_guard.results import summary
from npu_guard.results.dependencies import Dependencies
from npu_guard.results.findings import LayerRow, ModelReport, Report, Totals, Verdict
from npu_guard.results.prospect import Prospect

if TYPE_CHECKING:
    from npu_guard.file.document import Document
    from npu_guard.file.skeleton import Skeleton
    from npu_guard.fixing.known import Known


class Cache(Protocol):
    """Keeps reports of models that have not changed."""

    def known(self, paths: Iterable[str]) -> dict[str, ModelReport]:
        """Reports that are kept of these files."""

    def entry(self, report: ModelReport, dependencies: Dependencies | None) -> bytes | None:
        """What to keep of a report, None where it must not be kept."""

    def keep(self, key: str, entry: bytes) -> None:
        """Keep an entry under the key of its model."""

    def close(self) -> None:
        """Remove what is too much."""


Fresh = tuple[ModelReport, str, bytes | None]
"""A report that was made now; with a cache, the model's key and the entry to keep."""


def check_models(
    paths: Sequence[str], config: Config, *, hashes: bool = False, layers: bool = False, files: Mapping[str, str] | None = None,
    remedies: bool = False, jobs: int = 1, cache: Cache | None = None, known: Mapping[str, ModelReport] | None = None,
) -> Report:  # fmt: skip
    """Check each model against the configured profile. A model that cannot be read is a result like others.

    `hashes` adds the SHA-256 of each file, which costs reading it whole; `layers` adds a row for each operator; `remedies`
    names what would remove each finding; `files` are those to read for models that are no files themselves; `jobs` is how
    many processes share the work; `cache` keeps reports, and `known` are those that were looked up there already.
    Raises UsageError.
    """
    profile = registry.profile(config.profile)
    read = {path: files.get(path, path) if files is not None else path for path in paths}
    work = partial(_fresh, profile=profile, config=config, hashes=hashes, layers=layers, remedies=remedies, cache=cache)
    if known is None:
        known = cache.known(read.values()) if cache is not None else {}
    checked = dict(known)
    new = [file for file in dict.fromkeys(read.values()) if file not in checked]
    for report, key, entry in _in_parallel(work, new, profile, jobs) if jobs > 1 and len(new) > 1 else map(work, new):
        checked[report.path] = report
        if cache is not None and entry is not None:
            cache.keep(key, entry)
    shapes.rest()
    if cache is not None:
        cache.close()
    reports, command = [], command_of(config)
    for path in paths:
        file = read[path]
        report = replace(checked[file], command=command)
        error = report.error and (report.error[0], report.error[1].replace(file, path))
        reports.append(report if file == path else replace(report, path=path, error=error))
    return Report(VERSION, tuple(reports), config.fail_on, config.allow_undecided)


def _in_parallel(work: Callable[[str], Fresh], paths: Iterable[str], profile: Profile, jobs: int) -> Iterator[Fresh]:
    from npu_guard.base.pool import run_in_pool

    def lost(path: str) -> Fresh:
        error = ("crashed", f"{path}: the process that checked it died, each time")
        return ModelReport(path, profile.name, Verdict.UNREADABLE, error=error), "", None

    return run_in_pool(work, paths, jobs, lost)


def _fresh(
    path: str, profile: Profile, config: Config, *, hashes: bool, layers: bool, remedies: bool, cache: Cache | None
) -> Fresh:  # fmt: skip
    keyed = cache is not None
    report, dependencies = _checked(path, profile, config, hashes=hashes, layers=layers, remedies=remedies, keyed=keyed)
    entry = cache.entry(report, dependencies) if cache is not None else None
    return report, dependencies.key if dependencies is not None else "", entry


def analysis_of(path: str, config: Config) -> Analysis:
    """What is known of a model, for whoever works on findings once they are known. Raises ModelError."""
    skeleton = load.load(path, config.limits)
    _hold_inputs(skeleton, config)
    return analyze(skeleton, config.input_shapes)


def _hold_inputs(skeleton: Skeleton, config: Config) -> None:
    if config.held.freeze_weights or config.held.values:
        from npu_guard.analysis.interface import hold_inputs

        hold_inputs(skeleton, config.held)


def judged(path: str, profile: Profile, config: Config) -> tuple[Document, Analysis, Checked]:
    """A model that can be written, with what is known and said of it, for whoever works on its nodes. Raises ModelError."""
    from npu_guard.analysis.opening import open_to_write

    document, analysis = open_to_write(path, config.input_shapes, config.limits, config.held)
    return document, analysis, check(analysis, profile, listed_rules(), config, project_root(Path.cwd()))


def check_model(
    path: str, profile: Profile, config: Config, *, hashes: bool = False, layers: bool = False, remedies: bool = False
) -> ModelReport:
    """Check one model against one profile."""
    return _checked(path, profile, config, hashes=hashes, layers=layers, remedies=remedies)[0]


def _checked(
    path: str, profile: Profile, config: Config, *, hashes: bool, layers: bool, remedies: bool, keyed: bool = False
) -> tuple[ModelReport, Dependencies | None]:
    digest = ""
    try:
        skeleton = load.load(path, config.limits, keyed=keyed)
        if hashes:
            digest = load.sha256(path)
        return check_skeleton(skeleton, profile, config, digest, layers=layers, remedies=remedies)
    except ModelError as error:
        return ModelReport(path, profile.name, Verdict.UNREADABLE, sha256=digest, error=(error.kind, str(error))), None


def check_skeleton(
    skeleton: Skeleton, profile: Profile, config: Config, digest: str = "", *, layers: bool = False, remedies: bool = False
) -> tuple[ModelReport, Dependencies | None]:
    """Check a model that is loaded already; of one with a key comes also what the report rests on.

    Raises ModelError where it is none that could run.
    """
    _hold_inputs(skeleton, config)
    analysis = analyze(skeleton, config.input_shapes)
    root = project_root(Path.cwd())

    def asked(analysis: Analysis) -> Checked:
        return check(analysis, profile, listed_rules(), config, root)

    checked, prospect = asked(analysis), Prospect()
    if remedies:
        checked, prospect = _foreseen(checked, analysis, profile, asked, config)
    report = report_of(skeleton.path, profile, config, analysis, checked, digest, layers=layers)
    if remedies:
        report = replace(report, prospect=prospect)
    if not skeleton.key:
        return report, None
    return report, Dependencies(skeleton.key, checked.files, analysis.beside)


def _foreseen(
    checked: Checked, analysis: Analysis, profile: Profile, again: Callable[[Analysis], Checked], config: Config
) -> tuple[Checked, Prospect]:
    """The findings with remedies, and what `fix` would do: it takes weights that a caller may override as they are."""
    if not any(map(fails, checked.findings)):
        return checked, Prospect()
    from npu_guard.pipeline.frozen import with_weights_held

    if (held := with_weights_held(analysis, config)) is None:
        done, prospect = remedied(checked, analysis, profile, again, factor=config.max_cost)
    else:
        from npu_guard.fixing.twin import with_same_remedies

        others, prospect = remedied(again(held), held, profile, again, factor=config.max_cost)
        done = replace(checked, findings=with_same_remedies(checked.findings, others.findings))
    return done, replace(prospect, ends="" if prospect.untried else _ends(analysis, done))


def remedied(
    checked: Checked, analysis: Analysis, profile: Profile, again: Callable[[Analysis], Checked], known: Known | None = None,
    *, factor: float = math.inf, original: Analysis | None = None,
) -> tuple[Checked, Prospect]:  # fmt: skip
    """The findings with the substitution that would remove each, where there is one; and what `fix` would do. Reads no weights.

    `again` asks the same rules about what would be written; `known` is what was judged before. With remedies, a model
    costs at most `factor` times what the `original` does, which is the model itself where none is given.
    """
    if not any(map(fails, checked.findings)):
        return checked, Prospect()
    from npu_guard.fixing import catalog, remedies  # what has nothing to mend starts faster without
    from npu_guard.fixing.ceiling import Ceiling

    if read(analysis):
        from npu_guard.fixing.twin import of_analysis, with_same_remedies, without_scheme

        if (twin := of_analysis(analysis)) is not None:  # `fix` works on it
            again = without_scheme(again, twin)
            first = of_analysis(original) if original is not None else None
            most = Ceiling.over(first or twin, factor)
            others, prospect = remedies.with_remedies(again(twin).findings, twin, profile, again, catalog.listed(), known, most)
            return replace(checked, findings=with_same_remedies(checked.findings, others)), Prospect(prospect.untried)
    most = Ceiling.over(original or analysis, factor)
    findings, prospect = remedies.with_remedies(checked.findings, analysis, profile, again, catalog.listed(), known, most)
    return replace(checked, findings=findings), prospect


def _ends(analysis: Analysis, checked: Checked) -> str:
    """Where the errors are that no exact form removes, if the host can have these ends of the network."""
    rest = {f.location.output for f in checked.findings if summary.is_error(f) and not summary.mended_exactly(f)}
    if not rest:
        return ""
    from npu_guard.partitioning.ends import refused_ends

    return refused_ends(analysis, rest)


def report_of(
    path: str, profile: Profile, config: Config, analysis: Analysis, checked: Checked, digest: str, *, layers: bool = False
) -> ModelReport:
    """The report of a model that was analysed and checked."""
    rows: tuple[LayerRow, ...] = ()
    pieces = described = None
    if layers:
        from npu_guard.checking.rows import device, layer_rows

        described = device(profile)
        rows = layer_rows(analysis, profile, checked.findings, project_root(Path.cwd()), checked.followers)
        from npu_guard.partitioning.view import with_pieces  # a report without layers starts faster without

        pieces, rows = with_pieces(rows, analysis, checked, profile, config)
    return ModelReport(
        path=path,
        profile=profile.name,
        verdict=summary.verdict(checked.findings, config.fail_on),
        findings=checked.findings,
        crashes=checked.crashes,
        not_applicable=checked.not_applicable,
        totals=_totals(analysis, checked),
        notes=(*analysis.notes, *_simplifies(profile, config, checked), *_in_float(profile, analysis)),
        unknown={value.name: reason for value, reason in analysis.unknown.items()},
        sha256=digest,
        opset=analysis.model.skeleton.opset,
        layers=rows,
        device=described,
        pieces=pieces,
        asked=checked.asked,
        modes=_modes(analysis),
        open_inputs=tuple(
            (v.name, v.shape) for v in analysis.model.graph.inputs if v.initializer is None and not is_known(v.shape)
        ),
    )


def _modes(analysis: Analysis) -> tuple[tuple[str, str], ...]:
    if not analysis.model.has_bodies:
        return ()
    from npu_guard.analysis.modes import modes  # few models have an If

    return modes(analysis)


def _simplifies(profile: Profile, config: Config, checked: Checked) -> tuple[str, ...]:
    """What to say where the device's compiler does not get the model as it is in the file."""
    tool = profile.toolchain
    if tool is None or not tool.simplifies or config.simplify or not any(map(fails, checked.findings)):
        return ()
    return (f"{tool.name} runs onnx-simplifier first; --simplify judges what that leaves",)


def _in_float(profile: Profile, analysis: Analysis) -> tuple[str, ...]:
    """What to say of a model in floating point on a device that runs integers alone."""
    whole = profile.limits.get("quantization.whole")
    if whole is None or not whole.value or whole.consequence == "slow" or not analysis.costs or read(analysis):
        return ()  # where floats are merely slow, they run
    return ("in floating point; the device runs it once quantized, which is not judged here: npu-guard quantize",)


def _totals(analysis: Analysis, checked: Checked) -> Totals:
    costs = analysis.costs.values()
    return Totals(
        nodes=len(analysis.costs),
        params=sum(map(attrgetter("params"), costs)),
        macs=sum(map(attrgetter("macs"), costs)),
        activation_bytes=sum(map(attrgetter("output_bytes"), costs)),
        peak_bytes=max(map(attrgetter("live_bytes"), costs), default=0),
        npu_macs_percent=_rounded(macs_share(analysis, checked.blocked)),
        uncounted=uncounted(analysis.costs) if analysis.unknown else 0,
        integer_macs_percent=_integer_share(analysis),
    )


def _integer_share(analysis: Analysis) -> float | None:
    quantized = read(analysis)
    macs = sum(map(attrgetter("macs"), analysis.costs.values())) if quantized else 0
    return _rounded(100.0 * quantized.integer_macs() / macs) if macs else None


def _rounded(share: float) -> float:
    """Two decimals; all and nothing stay reserved for all and nothing."""
    return share if share in (0.0, 100.0) else min(max(round(share, 2), 0.01), 99.99)
