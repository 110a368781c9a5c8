"""`npu-guard zoo`: the sample networks."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from npu_guard.base.errors import UsageError
from npu_guard.base.terminal import complain, show_text
from npu_guard.base.text import printable
from npu_guard.checking import registry
from npu_guard.commands._shared import config_of, with_config, with_profile
from npu_guard.zoo import samples


@click.command("zoo", short_help="List the sample networks, or export one.")
@click.argument("name", required=False)
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Where the model goes.")
@click.option(
    "--size", type=click.Choice(("full", "tiny")), default="full", show_default=True, help="Real widths, or small ones."
)
@click.option(
    "--exporter", type=click.Choice(("dynamo", "legacy")), default="dynamo", show_default=True, help="Which of torch's exporters."
)
@click.option("--all", "everything", is_flag=True, help="Check, fix, verify and partition all of them, and print the seed table.")
@click.option("--report", metavar="DIR", type=click.Path(path_type=Path), help="With --all: a page for each of them goes here.")
@click.option("--jobs", metavar="N", type=click.IntRange(1), help="With --all: how many at once.  [default: 2, or the cores]")
@with_profile
@with_config
def command(
    name: str | None, output: Path | None, size: str, exporter: str, everything: bool, report: Path | None, jobs: int | None,
    profile: str | None, config_file: Path | None,
) -> int:  # fmt: skip
    """List the sample networks, export one, or take all of them through everything. All but listing needs the extra 'torch'.

    The exit code of --all is 1 where a system fails, or gives other findings than those that it states.
    """
    if everything:
        if name is not None or output is not None:
            raise UsageError("zoo --all: takes all sample networks; leave out the name and -o")
        return _all(size, exporter, report, jobs, profile, config_file)
    if report is not None or jobs is not None or profile is not None:
        raise UsageError("zoo: --report, --jobs and --profile go with --all")
    if name is None:
        show_text(samples.listing())
        return 0
    if output is None:
        raise UsageError(f"zoo {name}: -o FILE says where the model goes")
    samples.export_system(name, output, size, exporter)
    click.echo(f"wrote {printable(str(output))}", err=True)
    return 0


def _all(size: str, exporter: str, report: Path | None, jobs: int | None, profile: str | None, config_file: Path | None) -> int:
    from npu_guard.zoo.row import Settings
    from npu_guard.zoo.table import cells, display, markdown, processes, run_entries

    config = config_of(config_file, profile=profile)
    registry.profile(config.profile)
    entries = samples.entries()
    samples.system(entries[0].name)  # says at once where torch is missing
    if report is not None:
        try:
            report.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{report}: cannot be made a folder ({error.strerror})") from None
    settings = Settings(size, exporter, config, report)
    with display(len(entries), shown=sys.stderr.isatty()) as progress:
        rows = run_entries(entries, settings, jobs or processes(), progress)
    show_text(markdown([cells(row) for row in rows], size))
    for row in rows:
        if row.problem:
            complain(f"{row.id} {row.name}: {row.problem}")
    return int(any(row.problem for row in rows))
