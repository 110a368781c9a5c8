"""`npu-guard scan`: thousands of models, on this machine or a cluster, with what was found kept."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from npu_guard.base.errors import UsageError
from npu_guard.base.terminal import complain, show_text, write_told
from npu_guard.base.text import printable
from npu_guard.checking import registry
from npu_guard.commands._shared import (
    config_of,
    simplify_asked,
    with_config,
    with_fail_on,
    with_profile,
    with_shapes,
    with_simplify,
)

if TYPE_CHECKING:
    from npu_guard.fleet.scan import Workers


@click.command("scan", short_help="Check many models, each once, and keep the results.")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=click.Path(path_type=str))
@with_profile
@click.option(
    "--store", metavar="FILE|URL", default="npu-guard.db", show_default=True,
    help="Where results are kept: an SQLite file, or a database as postgresql://...",
)  # fmt: skip
@click.option("--jobs", metavar="N", type=click.IntRange(1, 1024), help="Processes on this machine.  [default: one per core]")
@click.option("--address", metavar="ADDR", help="A Ray cluster instead: auto, or ray://HOST:10001.")
@click.option("--html", "page", metavar="FILE", type=click.Path(path_type=Path), help="Write the fleet report.")
@click.option("--parquet", metavar="FILE", type=click.Path(path_type=Path), help="Write a row for each model.")
@with_fail_on
@with_shapes
@partial(with_simplify, words="Refused, as it reads weights; --no-simplify where the settings ask for it.")
@with_config
def command(
    sources: tuple[str, ...], profile: str | None, store: str, jobs: int | None, address: str | None, page: Path | None,
    parquet: Path | None, fail_on: str | None, shapes: tuple[str, ...], config_file: Path | None,
) -> int:  # fmt: skip
    """Check many models, each once: files, folders, patterns, and URLs such as s3://bucket/models.

    Results are kept in the store by the model's structure, the device's profile and the version, so an unchanged model is not
    read again, and a scan that was interrupted goes on where it ended. From the second run on, the reports say what changed
    since the one before. Of objects in an object store only the structure is fetched.
    """
    try:
        from npu_guard.fleet.store import Store, without_password
    except ImportError as error:
        raise UsageError(f"scan needs the package {error.name}; pip install 'npu-guard[fleet]'") from None
    from npu_guard.fleet import report, scan

    config = config_of(config_file, profile=profile, fail_on=fail_on, shapes=shapes)
    if config.simplify:
        said = "--simplify" if simplify_asked() else "'simplify' in the settings"
        raise UsageError(f"scan: {said} reads weights, which a scan never does; --no-simplify scans models as they are")
    if jobs is not None and address is not None:
        raise UsageError("scan: --jobs is for this machine and --address for a cluster; give one of them")
    database = Store(store)
    try:
        with report.live() as progress:
            try:
                tally = scan.scan(sources, config, database, _workers(jobs, address), progress)
            except KeyboardInterrupt:
                complain(f"what was found is in {printable(without_password(store), 200)}; the same command goes on from there")
                raise
        fleet = report.Fleet.of(database, tally.run, tally)
        show_text(registry.renderer("text", "scan")(fleet), folded=True)
        if page is not None:
            write_told(page, registry.renderer("html", "scan")(fleet))
        if parquet is not None:
            report.write_parquet(fleet, parquet)
            complain(f"wrote {parquet}")
    finally:
        database.close()
    for name, row in fleet.internal():
        complain(f"{name}: {row.error or 'a rule crashed; npu-guard check names it'}")
    return fleet.exit_code(config.fail_on)


def _workers(jobs: int | None, address: str | None) -> Workers:
    if address is not None:
        from npu_guard.fleet.cluster import run_on_cluster

        return lambda run, tasks, lost: run_on_cluster(run, tasks, address, lost)
    from npu_guard.base.pool import run_in_pool

    count = jobs or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else jobs or os.cpu_count() or 1
    return lambda run, tasks, lost: run_in_pool(run, tasks, count, lost)
