"""`npu-guard report`: everything about models as one page for people."""

from __future__ import annotations

import os
from pathlib import Path

import click
from msgspec.structs import replace

from npu_guard.base.errors import UsageError
from npu_guard.base.terminal import complain, write_told
from npu_guard.checking import registry
from npu_guard.commands import check
from npu_guard.commands._shared import (
    config_of,
    date_of_run,
    expect_no_toolkit,
    with_config,
    with_dated,
    with_held,
    with_profile,
    with_shapes,
    with_simplify,
)
from npu_guard.file import sources
from npu_guard.file.outputs import expect_apart
from npu_guard.gate.gate import check_with_gate
from npu_guard.project.config import Config
from npu_guard.results.summary import exit_code

_OURS = b'<meta name="generator" content="npu-guard '


@click.command("report", short_help="Write one HTML page about models.")
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, type=click.Path(path_type=str))
@click.option("-o", "--output", metavar="FILE", required=True, type=click.Path(path_type=Path), help="Where the page goes.")
@with_profile
@with_shapes
@with_held
@with_simplify
@with_config
@with_dated
@click.option("--force", is_flag=True, help="Replace a file that is no report of npu-guard.")
@click.pass_context
def command(
    context: click.Context, models: tuple[str, ...], output: Path, profile: str | None, shapes: tuple[str, ...],
    config_file: Path | None, force: bool,
) -> int:  # fmt: skip
    """Check models and write one HTML page: verdict, findings, graph and layers. It needs no network and no other file.

    With --profile A,B the page has one model on both devices beside each other. Exit codes are those of 'npu-guard check'.
    """
    if not force:
        _expect_ours(output)
    devices = [name.strip() for name in (profile or "").split(",") if name.strip()]
    names = sources.names(models)
    if len(devices) == 2 and len(names) == 1:
        expect_no_toolkit("two devices")
        return _on_two_devices(names[0], devices, config_of(config_file, shapes=shapes), output)
    code: int = context.invoke(
        check.command, models=models, form="html", output=output, profile=profile, shapes=shapes, config_file=config_file
    )
    return code


def _on_two_devices(name: str, devices: list[str], config: Config, output: Path) -> int:
    expect_apart([output], [name])
    one, two = (
        check_with_gate([name], replace(config, profile=device), None, None, None, hashes=True, layers=True, remedies=True)[0]
        for device in devices
    )
    report = replace(one, models=(*one.models, *two.models), date=date_of_run(), docs_url=config.docs_url)
    for message in dict.fromkeys(model.error[1] for model in report.models if model.error is not None):
        complain(message)
    for crash in (crash for model in report.models for crash in model.crashes):
        complain(f"internal error in {crash.rule} at {crash.node}: {crash.error}")
    if all(model.error is None for model in report.models):
        write_told(output, registry.renderer("html", "devices")(report))
    return exit_code(report)


def _expect_ours(path: Path) -> None:
    """Raise UsageError where a file exists that is no report of ours."""
    if not os.path.exists(path):
        return
    if os.path.isfile(path):
        try:
            with path.open("rb") as file:
                if _OURS in file.read(4096):
                    return
        except OSError as error:
            raise UsageError(f"{path}: exists and cannot be read ({error.strerror or error})") from None
    raise UsageError(f"{path}: exists and is no report of npu-guard; choose another name, or replace it with --force")
