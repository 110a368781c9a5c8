"""`npu-guard quantize`: a network in integers, in the scheme that the device states, checked and compared."""

from __future__ import annotations

from pathlib import Path

import click

from npu_guard.base.errors import UsageError
from npu_guard.base.files import write_atomic
from npu_guard.base.installation import VERSION
from npu_guard.base.terminal import complain, show_text
from npu_guard.base.text import short
from npu_guard.checking import registry
from npu_guard.commands._shared import (
    config_of,
    progress_bar,
    with_config,
    with_format_of,
    with_held,
    with_profile,
    with_shapes,
)
from npu_guard.file.outputs import expect_apart
from npu_guard.pipeline.quantize import QuantizeResult, quantize_model
from npu_guard.results.findings import Report
from npu_guard.results.summary import exit_code

LEAST = 10.0
"""Noise of a tenth of the signal, in dB."""


@click.command("quantize", short_help="Make a network in integers as the device states, and check it.")
@click.argument("model", metavar="MODEL", type=click.Path(path_type=str))
@click.option(
    "--calibration", metavar="FILE.npz|DIR", type=click.Path(path_type=Path), required=True,
    help="Your data, an array for each input.",
)  # fmt: skip
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Where the quantized model goes.")
@with_profile
@click.option("--keep", metavar="NODE", multiple=True, help="An operator that is not quantized like the others. Repeatable.")
@click.option(
    "--keep-as", type=click.Choice(("float", "int16")), default="float", show_default=True,
    help="What such operators have instead.",
)  # fmt: skip
@click.option("--sensitivity", is_flag=True, help="Name the operators that lose most, each quantized alone.")
@click.option(
    "--minimum-snr", metavar="DB", type=float, default=LEAST, show_default=True,
    help="What every output has to reach against the original.",
)  # fmt: skip
@with_format_of("quantize")
@with_shapes
@with_held
@with_config
def command(
    model: str, calibration: Path, output: Path | None, profile: str | None, keep: tuple[str, ...], keep_as: str,
    sensitivity: bool, minimum_snr: float, form: str, shapes: tuple[str, ...], config_file: Path | None,
) -> int:  # fmt: skip
    """Quantize a model in the scheme that the device states, check it, and compare it with the original.

    Exit code 1 where the quantized model has findings, 5 where an output loses more than --minimum-snr; nothing is written then.
    """
    if output is None and not sensitivity:
        raise UsageError("quantize: -o FILE says where the quantized model goes (or --sensitivity to see what loses most)")
    expect_apart((output,), [model])
    config = config_of(config_file, profile=profile, shapes=shapes)
    device = registry.profile(config.profile)
    with progress_bar() as progress:
        found = quantize_model(
            model, device, config, calibration, keep=keep, wide=keep_as == "int16", sensitivity=sensitivity, progress=progress
        )  # fmt: skip
    lossy = QuantizeResult(found, minimum_snr, None).lossy
    written = None if lossy or not found.outputs else output
    if written is not None:
        write_atomic(written, [found.content])
    show_text(registry.renderer(form, "quantize")(QuantizeResult(found, minimum_snr, written)), folded=form == "text")
    for crash in found.report.crashes:
        complain(f"{model}: internal error in {crash.rule} at {crash.node}: {crash.error}; please report it")
    if lossy or not found.outputs:
        what = f"output {short(lossy[0])!r} keeps {found.outputs[lossy[0]]:.1f} dB" if lossy else "nothing was compared"
        more = "" if sensitivity or not lossy else "; --sensitivity names the operators that lose most"
        complain(f"{model}: {what}, and --minimum-snr wants {minimum_snr:g}; nothing was written{more}")
        return 5
    return exit_code(Report(VERSION, (found.report,), config.fail_on, config.allow_undecided))
