"""`npu-guard check`: the pull-request gate."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from npu_guard import matrix, pipeline, registry, sources
from npu_guard.commands._shared import FORMATS, config_of, with_config, with_fail_on, with_format, with_profile, with_shapes
from npu_guard.errors import UsageError
from npu_guard.terminal import complain, show, write


@click.command("check")
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, type=click.Path(path_type=str))
@with_profile
@with_format
@click.option("--output", metavar="FILE", type=click.Path(path_type=Path), help="Write the result to a file.")
@click.option("--report", "reports", metavar="FORMAT:FILE", multiple=True, help="Write one more result; may be repeated.")
@with_fail_on
@click.option("--allow-undecided", is_flag=True, help="Exit with 0 where nothing failed but a rule could not tell.")
@click.option("--select", metavar="CODES", help="Only these rules: codes, beginnings of codes or names, with commas.")
@click.option("--ignore", metavar="CODES", help="Not these rules.")
@with_shapes
@click.option("--baseline", metavar="FILE", type=click.Path(path_type=Path), help="Findings that are known; only others count.")
@click.option("--write-baseline", metavar="FILE", type=click.Path(path_type=Path), help="Write the findings as the new baseline.")
@click.option("--save-repro", metavar="DIR", type=click.Path(path_type=Path), help="Write each finding as a minimal ONNX file.")
@click.option(
    "--jobs", metavar="N", type=click.IntRange(1, 1024), default=1, help="Processes that share many models.  [default: 1]"
)
@click.option("--all-profiles", is_flag=True, help="Compare all devices; --profile A,B compares some.")
@with_config
def command(
    models: tuple[str, ...], profile: str | None, form: str, output: Path | None, reports: tuple[str, ...], fail_on: str | None,
    allow_undecided: bool, select: str | None, ignore: str | None, shapes: tuple[str, ...], config_file: Path | None,
    baseline: Path | None, write_baseline: Path | None, save_repro: Path | None, jobs: int, all_profiles: bool,
) -> int:  # fmt: skip
    """Check models against a device's limits. Weights are never read.

    A MODEL is an ONNX file, a folder or pattern of them, a URL that fsspec knows (s3://bucket/net.onnx), or Python code as
    PACKAGE.MODULE:CALLABLE, which is imported and run and its module exported; example inputs come from --input-shape or its
    inputs(), see 'npu-guard export --help'. No file ever runs code.
    """
    extra = [_report_target(entry) for entry in reports]
    config = config_of(
        config_file,
        profile=profile,
        fail_on=fail_on,
        allow_undecided=allow_undecided,
        select=select,
        ignore=ignore,
        shapes=shapes,
    )
    names = sources.names(models)
    if several := matrix.devices(profile, all_profiles):
        if extra or baseline or write_baseline or save_repro:
            raise UsageError("--report, --baseline, --write-baseline and --save-repro go with a single profile")
        return _matrix(matrix.compare(names, several, config), form, output)
    wanted = (form, *(name for name, _ in extra))
    hashes = any(registry.shows_hashes(name) for name in wanted)
    layers = any(registry.shows_layers(name) for name in wanted)
    remedies = any(registry.shows_remedies(name) for name in wanted)
    lines: list[str] = []
    if baseline is None and write_baseline is None and save_repro is None and not any(":" in name for name in names):
        report = pipeline.check_models(names, config, hashes=hashes, layers=layers, remedies=remedies, jobs=jobs)
    else:
        from npu_guard import gate  # the plain case does without what this needs

        report, lines = gate.check(
            names, config, baseline, write_baseline, save_repro, hashes=hashes, layers=layers, remedies=remedies, jobs=jobs
        )
    for name, path in extra:
        write(path, registry.renderer(name)(report, color=False))
    render = registry.renderer(form)
    if output is not None:
        write(output, render(report, color=False))
    else:
        colour = form == "text" and sys.stdout.isatty() and "NO_COLOR" not in os.environ
        show(render(report, color=colour))
    for line in lines:
        complain(line)
    for model in report.models:
        if model.error is not None:
            complain(model.error[1])
        for crash in model.crashes:
            complain(f"internal error in {crash.rule} at {crash.node}: {crash.error}")
    return pipeline.exit_code(report)


def _matrix(found: matrix.Matrix, form: str, output: Path | None) -> int:
    text = matrix.render(found, form)
    if output is not None:
        write(output, text)
    else:
        show(text)
    for row in found.rows:
        if row.error is not None:
            complain(row.error)
    for crash in (crash for model in found.report.models for crash in model.crashes):
        complain(f"internal error in {crash.rule} at {crash.node}: {crash.error}")
    return pipeline.exit_code(found.report)


def _report_target(entry: str) -> tuple[str, Path]:
    form, _, path = entry.partition(":")
    if form not in FORMATS or not path:
        raise UsageError(f"--report {entry!r}: write it as FORMAT:FILE with a format of {', '.join(FORMATS)}")
    return form, Path(path)
