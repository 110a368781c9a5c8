"""`npu-guard export`: a torch module that is named as Python code, as ONNX with source lines."""

from __future__ import annotations

from pathlib import Path

import click

from npu_guard.base.errors import UsageError
from npu_guard.base.text import printable
from npu_guard.project.example import parse_input
from npu_guard.project.target import export_target


@click.command("export", short_help="Export a torch module to ONNX, with its lines of Python.")
@click.argument("target", metavar="PACKAGE.MODULE:CALLABLE")
@click.option("-o", "--output", metavar="FILE", required=True, type=click.Path(path_type=Path), help="Where the model goes.")
@click.option("--input", "inputs", metavar="NAME:1,3,384,640", multiple=True,
              help="Shape of an input, float32; NAME:int64:1,16 for other types.  [default: what inputs() gives]")  # fmt: skip
@click.option(
    "--exporter", type=click.Choice(("dynamo", "legacy")), default="dynamo", show_default=True, help="Which of torch's exporters."
)
@click.option("--opset", type=click.IntRange(min=9), help="Version of the ONNX operators.  [default: the exporter's]")
def command(target: str, output: Path, inputs: tuple[str, ...], exporter: str, opset: int | None) -> None:
    """Export a torch module to ONNX, with the lines of Python that made each operator.

    This imports and runs the Python code that you name, with all rights that you have; so do 'check', 'diff', 'fix', 'verify'
    and 'partition' for such a name. No other command, and no model file, ever runs code.

    CALLABLE is an nn.Module, its class, or a function that returns one, without parameters. Example inputs come from
    --input, or from a function inputs() in the same module that returns tensors: a dict by input name, a tuple, or one.
    The current folder is on Python's path. Needs the extra 'torch'.
    """
    example = [parse_input(entry) for entry in inputs]
    names = [i.name for i in example]
    if len(set(names)) < len(names):
        raise UsageError("--input: one name is given twice; each input has one shape")
    export_target(target, output, example, exporter=exporter, opset=opset)
    click.echo(f"wrote {printable(str(output))}", err=True)
