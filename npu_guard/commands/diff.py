"""`npu-guard diff`: what a change adds."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

import click
from msgspec.structs import replace

from npu_guard.base.errors import NpuGuardError, UsageError
from npu_guard.base.installation import VERSION
from npu_guard.base.terminal import complain, show_text, wants_colour, write_told
from npu_guard.checking import registry
from npu_guard.commands._shared import (
    config_of,
    date_of_run,
    with_config,
    with_dated,
    with_fail_on,
    with_format,
    with_profile,
    with_shapes,
)
from npu_guard.file.outputs import expect_apart
from npu_guard.file.sources import SUFFIX
from npu_guard.gate import baseline, diff, diff_folders
from npu_guard.gate.diff import Diff
from npu_guard.gate.diff_folders import FolderDiff
from npu_guard.pipeline.check import check_models
from npu_guard.project.config import Config
from npu_guard.project.target import exported
from npu_guard.results.findings import ModelReport, Report
from npu_guard.results.summary import exit_code, verdict


@click.command("diff", short_help="Say what a change adds: models, folders, revisions.")
@click.argument("base", metavar="BASE", type=click.Path(path_type=str))
@click.argument("head", metavar="HEAD", type=click.Path(path_type=str))
@with_profile
@with_format
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Write the result to a file.")
@with_fail_on
@with_dated
@click.option("--allow-undecided", is_flag=True, help="Exit with 0 where nothing new failed but a rule could not tell.")
@with_shapes
@with_config
def command(
    base: str, head: str, profile: str | None, form: str, fail_on: str | None, allow_undecided: bool,
    shapes: tuple[str, ...], config_file: Path | None, output: Path | None,
) -> int:  # fmt: skip
    """Compare the findings of two models, or of two folders: new, fixed and unchanged. Only new ones make the exit code 1.

    BASE and HEAD are models, also of a git revision (main:models/net.onnx), or baselines that 'check --write-baseline' wrote.
    Of two folders (models/, main:models/), models are compared that have the same path below them; all findings of a model
    that BASE does not have are new. Findings are matched by their place in the module tree, operator and numbers, so
    exporting anew, other node names, layers elsewhere and a simplifier change nothing. PACKAGE.MODULE:CALLABLE names Python
    code, which is then run, see 'npu-guard export --help'; main:PACKAGE.MODULE:CALLABLE is that code as it is at a revision.
    """
    config = config_of(config_file, profile=profile, fail_on=fail_on, allow_undecided=allow_undecided, shapes=shapes)
    folders = [diff_folders.models_below(name) for name in (base, head)]
    if output is not None:
        expect_apart([output], (name for name in (base, head) if os.path.isfile(name)))
    if any(found is not None for found in folders):
        base, head = (_folder_beside(name, *pair) for name, pair in ((base, folders), (head, folders[::-1])))
        folders = [diff_folders.models_below(name) for name in (base, head)]
        return _folders((base, head), folders, config, form, output)
    written = [(path, baseline.read_baseline(Path(path))) for path in (base, head) if baseline.is_baseline(path)]
    _expect_one_profile(written, registry.profile(config.profile).name, given=profile is not None)
    known_sides = dict(written)
    models = [path for path in (base, head) if path not in known_sides]
    layers = form in registry.formats("diff") and registry.shows_layers(f"diff.{form}")
    remedies = layers or registry.shows_remedies(form)
    with exported(models, config.input_shapes) as files:
        report = check_models(models, config, hashes=registry.shows_hashes(form), layers=layers, remedies=remedies, files=files)
    checked = dict(zip(models, report.models, strict=True))
    names = {r.code: r.name for r in registry.rules()}
    sides = [
        checked[path] if path in checked else _from(known_sides[path], path, names, checked, config.fail_on)
        for path in (base, head)
    ]
    if any(side.error is not None for side in sides):
        return _unreadable(sides, report)
    settings_of_run = Report(VERSION, (), config.fail_on, config.allow_undecided, date_of_run(), config.docs_url)
    found = diff.compare_reports(sides[0], sides[1], settings_of_run)
    found = replace(found, head=replace(found.head, verdict=verdict(found.head.findings, config.fail_on)))
    _show(found, found.report, form, "diff", output)
    _complain_of_crashes(sides)
    return max(exit_code(found.report), 4 if sides[0].crashes else 0)


def _folder_beside(name: str, found: dict[str, str] | None, other: dict[str, str] | None) -> str:
    """`main:models/` for `main:models` where the other side is a folder and the revision has one of that name."""
    if found is not None or other is None or ":" not in name or os.path.lexists(name):
        return name
    try:
        return f"{name}/" if diff_folders.models_below(f"{name}/") is not None else name
    except NpuGuardError:
        return name


def _folders(names: tuple[str, str], found: list[dict[str, str] | None], config: Config, form: str, output: Path | None) -> int:
    """Compare two folders. A model that could not be read ends with 3; one whose base could not, counts whole."""
    before, after = found
    if before is None or after is None:
        folder, other = names if after is None else reversed(names)
        what = "compare two models or two folders; a folder of a git revision ends in a slash, as in main:models/"
        raise UsageError(f"{folder} is a folder and {other} is none: {what}")
    if not before and not after:
        raise UsageError(f"{names[0]} and {names[1]}: have no {SUFFIX} files")
    if form not in registry.formats("diff_folders") and registry.shows_layers(form):
        raise UsageError(f"--format {form} shows one pair of models; name two models, or choose another format for folders")
    models = [*before.values(), *after.values()]
    with exported(models, config.input_shapes) as files:
        hashes, remedies = registry.shows_hashes(form), registry.shows_remedies(form)
        report = check_models(models, config, hashes=hashes, remedies=remedies, files=files)
    sides = dict(zip(before, report.models, strict=False))
    heads = dict(zip(after, report.models[len(before) :], strict=True))
    renamed = diff_folders.renamed_below(names, before, after)
    settings = replace(report, models=(), docs_url=config.docs_url)
    compared = diff_folders.compare_folders(names, (sides, heads), settings, renamed)
    _show(compared, compared.report, form, "diff_folders", output)
    for name in compared.unread:
        complain(f"{before[renamed.get(name, name)]}: could not be read, so all of {after[name]} counts")
    for model in heads.values():
        if model.error is not None:
            complain(model.error[1])
    _complain_of_crashes(report.models)
    return max(exit_code(compared.report), 4 if any(model.crashes for model in report.models) else 0)


def _show(found: Diff | FolderDiff, new: Report, form: str, pack: str, output: Path | None) -> None:
    """The comparison; where a format is made for findings alone, those that are new."""
    colour = output is None and form == "text" and wants_colour(sys.stdout.isatty())
    shown, render = (found, registry.renderer(form, pack)) if form in registry.formats(pack) else (new, registry.renderer(form))
    if output is not None:
        write_told(output, render(shown, color=False))
        return
    show_text(render(shown, color=colour), folded=form == "text")


def _complain_of_crashes(models: Iterable[ModelReport]) -> None:
    for model in models:
        for crash in model.crashes:
            complain(f"internal error in {crash.rule} at {crash.node}: {crash.error}")


def _expect_one_profile(written: list[tuple[str, baseline.Baseline]], profile: str, *, given: bool) -> None:
    """Raise UsageError where the two sides are about different devices; two baselines may be about any."""
    if len(written) == 2:
        (one, first), (two, second) = written
        if first.profile != second.profile:
            both = f"{one} was written for profile {first.profile!r} and {two} for {second.profile!r}"
            raise UsageError(f"{both}; compare baselines of one profile")
        if not given:
            return
    for path, found in written:
        baseline.expect_profile(Path(path), found, profile)


def _from(
    written: baseline.Baseline, path: str, names: dict[str, str], checked: dict[str, ModelReport], fail_on: str
) -> ModelReport:
    """A baseline as one side of the comparison."""
    other = next(iter(checked.values()), None)
    entries = written.of(other, 1) if other is not None else written.entries
    found = tuple(baseline.findings(entries, lambda code: names.get(code, code)))
    return ModelReport(path, written.profile, verdict(found, fail_on), findings=found)


def _unreadable(sides: list[ModelReport], report: Report) -> int:
    for message in dict.fromkeys(side.error[1] for side in sides if side.error is not None):
        complain(message)
    return exit_code(report)
