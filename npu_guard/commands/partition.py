"""`npu-guard partition`: what goes to the NPU, what stays on the host, and a model for each piece."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from npu_guard.base.terminal import complain, show_text
from npu_guard.checking import registry
from npu_guard.commands._shared import (
    config_of,
    with_calibration,
    with_config,
    with_format_of,
    with_held,
    with_profile,
    with_shapes,
)
from npu_guard.device.partition import Given, partition_settings
from npu_guard.file import load
from npu_guard.partitioning.partition import partition_model
from npu_guard.partitioning.report import PartitionReport
from npu_guard.pipeline.check import check_models, judged
from npu_guard.pipeline.frozen import told_frozen, with_frozen_weights
from npu_guard.project.target import exported
from npu_guard.results.next_steps import fixing_step

if TYPE_CHECKING:
    from npu_guard.project.config import Config


@click.command("partition")
@click.argument("model", metavar="MODEL", type=click.Path(path_type=str))
@click.option(
    "-o", "--output", metavar="DIR", type=click.Path(path_type=Path), help="Write each piece as an ONNX file, and a manifest."
)
@with_profile
@click.option("--min-macs", metavar="N", type=click.IntRange(min=0), help="Parts with fewer MACs go to the host.  [default: 0]")
@click.option("--max-pieces", metavar="N", type=click.IntRange(min=1), help="At most so many pieces.  [default: 64]")
@with_format_of("partition")
@with_calibration
@with_shapes
@with_held
@with_config
def command(
    model: str, output: Path | None, profile: str | None, min_macs: int | None, max_pieces: int | None, form: str,
    calibration: Path | None, shapes: tuple[str, ...], config_file: Path | None,
) -> int:  # fmt: skip
    """Cut a model into pieces for the NPU and for the host.

    MODEL is an ONNX file, or PACKAGE.MODULE:CALLABLE: Python code, which is then run, see 'npu-guard export --help'.
    Nodes with errors go to the host. With -o, each piece becomes a model, and running them in order is compared with running
    the whole; where that is not equal, nothing is written and the exit code is 5.
    """
    config = config_of(config_file, profile=profile, shapes=shapes)
    device = registry.profile(config.profile)
    costs = partition_settings(device.partition, config.partition, Given(min_macs=min_macs, max_pieces=max_pieces))
    with exported([model], config.input_shapes) as files:
        config, frozen = with_frozen_weights(files[model], config)
        document, analysis, checked = judged(files[model], device, config)
        found = partition_model(analysis, checked, device, costs)
        digest = load.sha256(files[model]) if form == "json" else ""
        mending = _mending(model, config, files) if checked.blocked and form != "json" else None
        report = PartitionReport(model, digest, found, mending=mending)
        if output is not None:
            from npu_guard.partitioning.files import write_partition

            result = write_partition(document, found, output, calibration=calibration)
            report = replace(report, verification=result, written=str(output) if result.verdict == "equal" else None)
    show_text(registry.renderer(form, "partition")(report), folded=form == "text")
    if frozen:
        complain(f"{model}: {told_frozen(frozen, 'each piece')}")
    for crash in checked.crashes:
        complain(f"internal error in {crash.rule} at {crash.node}: {crash.error}")
    if report.verification is not None and report.written is None:
        why = report.verification.reason or "they compute something else"
        complain(f"{model}: the pieces were not verified ({why}); nothing was written")
        return 5
    return 4 if checked.crashes else 0


def _mending(model: str, config: Config, files: Mapping[str, str]) -> tuple[str, str] | None:
    """What `fix` would mend of a model that has errors, with its command."""
    report = check_models([model], config, files=files, remedies=True)
    return fixing_step(report.models[0], model)
