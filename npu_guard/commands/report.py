"""`npu-guard report`: everything about models as one page for people."""

from __future__ import annotations

import os
from pathlib import Path

import click

from npu_guard.base.errors import UsageError
from npu_guard.commands import check
from npu_guard.commands._shared import with_config, with_dated, with_held, with_profile, with_shapes, with_simplify

_OURS = b'<meta name="generator" content="npu-guard '


@click.command("report")
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

    Exit codes are those of 'npu-guard check'.
    """
    if not force:
        _expect_ours(output)
    code: int = context.invoke(
        check.command, models=models, form="html", output=output, profile=profile, shapes=shapes, config_file=config_file
    )
    return code


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
