"""`npu-guard check`: the pull-request gate."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import click
from msgspec.structs import replace

from npu_guard.base.errors import UsageError
from npu_guard.base.installation import VERSION
from npu_guard.base.terminal import complain, show_text, terminal_width, wants_colour, write_result, write_told
from npu_guard.base.text import printable
from npu_guard.checking import registry
from npu_guard.commands._shared import (
    FORMATS,
    complete_rules,
    config_of,
    date_of_run,
    expect_no_toolkit,
    report_target,
    with_config,
    with_fail_on,
    with_format,
    with_held,
    with_profile,
    with_shapes,
    with_simplify,
)
from npu_guard.file import sources
from npu_guard.results.findings import Report
from npu_guard.results.summary import exit_code, plural

if TYPE_CHECKING:
    from npu_guard.fleet.matrix import Matrix
    from npu_guard.project.config import Config


@click.command("check")
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, type=click.Path(path_type=str))
@with_profile
@with_format
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Write the result to a file.")
@click.option("--report", "reports", metavar="FORMAT:FILE", multiple=True, help="Write one more result; may be repeated.")
@with_fail_on
@click.option("--allow-undecided", is_flag=True, help="Exit with 0 where nothing failed but a rule could not tell.")
@click.option(
    "--select",
    metavar="CODES",
    shell_complete=complete_rules,
    help="Only these rules: codes, beginnings of codes or names, with commas.",
)
@click.option("--ignore", metavar="CODES", shell_complete=complete_rules, help="Not these rules.")
@with_shapes
@with_held
@with_simplify
@click.option("--verify", is_flag=True, help="With --simplify: run both models, and exit with 5 where they differ.")
@click.option("--baseline", metavar="FILE", type=click.Path(path_type=Path), help="Findings that are known; only others count.")
@click.option("--write-baseline", metavar="FILE", type=click.Path(path_type=Path), help="Write the findings as the new baseline.")
@click.option("--since", metavar="REV", help="Findings that the models have at a revision of git are known; only others count.")
@click.option("--save-repro", metavar="DIR", type=click.Path(path_type=Path), help="Write each finding as a minimal ONNX file.")
@click.option(
    "--jobs", metavar="N", type=click.IntRange(1, 1024), default=1, help="Processes that share many models.  [default: 1]"
)
@click.option("--cache", metavar="DIR", type=click.Path(path_type=Path), help="Keep results here and take up what is known.")
@click.option("--no-cache", is_flag=True, help="Not the cache that the settings name.")
@click.option("-v", "--verbose", is_flag=True, help="Every place and every node in the text, not only what fits a screen.")
@click.option("--statistics", is_flag=True, help="Counts by rule and operator in place of the findings.")
@click.option("--remove-unused", is_flag=True, help="Take suppressions that accept nothing out of the settings.")
@click.option("--all-profiles", is_flag=True, help="Compare all devices; --profile A,B compares some.")
@with_config
def command(
    models: tuple[str, ...], profile: str | None, form: str, output: Path | None, reports: tuple[str, ...], fail_on: str | None,
    allow_undecided: bool, select: str | None, ignore: str | None, shapes: tuple[str, ...], config_file: Path | None,
    baseline: Path | None, write_baseline: Path | None, save_repro: Path | None, jobs: int, cache: Path | None, no_cache: bool,
    verbose: bool, statistics: bool, all_profiles: bool, since: str | None, remove_unused: bool, verify: bool,
) -> int:  # fmt: skip
    """Check models against a device's limits. Weights are never read, but for --simplify.

    A MODEL is an ONNX file, a folder or pattern of them, a URL that fsspec knows (s3://bucket/net.onnx), or Python code as
    PACKAGE.MODULE:CALLABLE, which is imported and run and its module exported; example inputs come from --input-shape or its
    inputs(), see 'npu-guard export --help'. No file ever runs code.
    """
    extra = [report_target(entry, FORMATS) for entry in reports]
    config = config_of(
        config_file,
        profile=profile,
        fail_on=fail_on,
        allow_undecided=allow_undecided,
        select=select,
        ignore=ignore,
        shapes=shapes,
    )
    if cache is not None and config.simplify:
        raise UsageError(
            "--cache: what --simplify leaves depends on weights, so such results are never kept; leave out one of them"
        )
    if verify and not config.simplify:
        raise UsageError("--verify compares what --simplify leaves with the file; a check alone changes nothing to verify")
    config = replace(config, cache=None if no_cache or config.simplify else cache or config.cache)
    names = sources.names(models)
    if outputs := [path for path in (output, write_baseline, *(path for _, path in extra)) if path is not None]:
        from npu_guard.file.outputs import expect_apart

        expect_apart(outputs, (name for name in names if os.path.isfile(name)))
    if all_profiles or (profile and "," in profile):
        from npu_guard.fleet import matrix

        several = matrix.matrix_devices(profile, all_profiles)
        expect_no_toolkit("several")
        if extra or baseline or write_baseline or save_repro or cache or since or verify:
            lone = "--report, --baseline, --write-baseline, --since, --save-repro, --cache and --verify"
            raise UsageError(f"{lone} go with a single profile")
        return _matrix(matrix.compare_devices(names, several, config), form, output)
    wanted = (form, *(name for name, _ in extra))
    asked = _Asked(
        hashes=any(registry.shows_hashes(name) for name in wanted),
        layers=any(registry.shows_layers(name) for name in wanted),
        remedies=any(registry.shows_remedies(name) for name in wanted),
    )
    gate = (baseline, write_baseline, save_repro)
    report, lines = _checked(names, config, asked, gate, since, jobs, verify=verify)
    if remove_unused:
        lines.append(_remove_unused(report, config, config_file))
    elif config.suppress:
        from npu_guard.checking.suppressions import with_settings_findings

        report = with_settings_findings(report, config)
    report = replace(report, date=date_of_run(), docs_url=config.docs_url)
    written = [*extra, *([] if output is None else [(form, output)])]
    render = _renderer(form, verbose, statistics)
    for name, path in written:
        write_result(path, (render if path is output else registry.renderer(name))(report, color=False))
    if output is None:
        colour = form == "text" and wants_colour(sys.stdout.isatty())
        show_text(render(report, color=colour), folded=form == "text")
    told = (
        {f"{printable(m.path)}: {note}" for m in report.models for note in m.notes} if form == "text" and output is None else ()
    )
    for line in (*(f"wrote {path}" for _, path in written), *(line for line in lines if line not in told)):
        complain(line)
    for model in report.models:
        if model.error is not None:
            complain(model.error[1])
        for crash in model.crashes:
            complain(f"internal error in {crash.rule} at {crash.node}: {crash.error}")
    return 5 if any(m.simplified and m.simplified.verification not in ("", "equal") for m in report.models) else exit_code(report)


class _Asked(TypedDict):
    """What the formats show besides findings."""

    hashes: bool
    layers: bool
    remedies: bool


def _checked(
    names: list[str],
    config: Config,
    asked: _Asked,
    gate: tuple[Path | None, Path | None, Path | None],
    since: str | None,
    jobs: int,
    *,
    verify: bool = False,
) -> tuple[Report, list[str]]:
    """The report, and lines for people. What is all known, and what asks for less, does without what the rest needs."""
    store = None
    if config.cache is not None:
        from npu_guard.gate.cache import Cache

        store = Cache(config.cache, config, **asked)
    if config.simplify or any(gate) or since is not None or any(":" in name for name in names):
        from npu_guard.gate.gate import check_with_gate

        report, lines = check_with_gate(names, config, *gate, **asked, jobs=jobs, cache=store, since=since, verify=verify)
    else:
        known = store.known(names) if store is not None else {}
        if len(known) == len(names):
            models = tuple(known[name] for name in names)
            return Report(VERSION, models, config.fail_on, config.allow_undecided), []
        from npu_guard.pipeline.check import check_models

        report, lines = check_models(names, config, **asked, jobs=jobs, cache=store, known=known), []
    return report, [*lines, *([store.problem] if store is not None and store.problem else [])]


def _remove_unused(report: Report, config: Config, config_file: Path | None) -> str:
    """Edit the settings, and say so."""
    from npu_guard.checking.suppressions import unused_in
    from npu_guard.project.config import find_config
    from npu_guard.project.edit_settings import remove_suppressions

    file = config_file or find_config(Path.cwd())
    if file is None:
        raise UsageError("--remove-unused: there are no settings here; --config FILE names them")
    if any(model.error is not None or model.crashes for model in report.models):
        return f"{file.name}: nothing was removed, as a model was not checked to the end"
    unused = {id(entry) for entry in unused_in(report, config)}
    numbers = [number for number, entry in enumerate(config.suppress) if id(entry) in unused]
    if numbers:
        remove_suppressions(file, numbers)
    return f"{file.name}: {plural(len(numbers), 'suppression')} removed"


def _matrix(found: Matrix, form: str, output: Path | None) -> int:

    if form not in registry.formats("matrix"):
        known = ", ".join(registry.formats("matrix"))
        raise UsageError(f"--format {form}: several profiles at once are shown as {known}")
    render: Callable[..., str] = registry.renderer(form, "matrix")
    if output is not None:
        write_told(output, render(found))
    else:
        show_text(render(found, width=terminal_width()) if form == "text" else render(found), folded=form == "text")
    for row in found.rows:
        if row.error is not None:
            complain(row.error)
    for crash in (crash for model in found.report.models for crash in model.crashes):
        complain(f"internal error in {crash.rule} at {crash.node}: {crash.error}")
    return exit_code(found.report)


def _renderer(form: str, verbose: bool, statistics: bool) -> Callable[..., str]:
    render: Callable[..., str] = registry.renderer(form)
    if form == "text":
        return partial(render, verbose=verbose, statistics=statistics)
    if verbose or statistics:
        raise UsageError("--verbose and --statistics go with the format text; other formats have everything")
    return render
