"""`npu-guard zoo`: the sample networks."""

from __future__ import annotations

from pathlib import Path

import click

from npu_guard import zoo as sample
from npu_guard.errors import UsageError
from npu_guard.printable import printable
from npu_guard.terminal import show


@click.command("zoo")
@click.argument("name", required=False)
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Where the model goes.")
@click.option(
    "--size", type=click.Choice(("full", "tiny")), default="full", show_default=True, help="Real widths, or small ones."
)
@click.option(
    "--exporter", type=click.Choice(("dynamo", "legacy")), default="dynamo", show_default=True, help="Which of torch's exporters."
)
def command(name: str | None, output: Path | None, size: str, exporter: str) -> None:
    """List the sample networks, or export one. Exporting needs the extra 'torch'."""
    if name is None:
        show(sample.listing())
        return
    if output is None:
        raise UsageError(f"zoo {name}: -o FILE says where the model goes")
    sample.export_system(name, output, size, exporter)
    click.echo(f"wrote {printable(str(output))}", err=True)
