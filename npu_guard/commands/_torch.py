"""`npu-guard fix --torch`: the fix as PyTorch modules."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from msgspec.structs import replace

from npu_guard.base.errors import UsageError
from npu_guard.base.installation import VERSION
from npu_guard.base.terminal import complain, show_text
from npu_guard.base.text import printable
from npu_guard.checking import registry
from npu_guard.fixing.driver import FixReport
from npu_guard.fixing.report import FixResult
from npu_guard.project.config import Config
from npu_guard.project.target import Input, is_target, load_target
from npu_guard.results.findings import Report
from npu_guard.results.summary import exit_code


def report_as(report: FixReport, name: str) -> FixReport:
    """The report with the model's name in the place of the file that was made of it."""
    return dataclasses.replace(report, before=replace(report.before, path=name), after=replace(report.after, path=name))


def landing(
    model: str, folder: Path, output: Path | None, config: Config, approximate: bool, warnings: bool, prefer: tuple[str, ...],
    calibration: Path | None, form: str,
) -> int:  # fmt: skip
    """Write the folder, and the fixed file where one is asked for, and report as `fix` does. Raises UsageError, NotVerified."""
    if not is_target(model):
        raise UsageError("fix: --torch needs the Python code, as package.module:callable, and not an ONNX file")
    network, example = load_target(model, [Input(n, tuple(s)) for n, s in config.input_shapes.items()], option="--input-shape")
    try:
        import safetensors  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError("fix: --torch needs safetensors: pip install 'npu-guard[torch]'") from error
    from npu_guard.training.landing import Options
    from npu_guard.training.proving import summary
    from npu_guard.training.steps import land_in

    options = Options(replace(config, input_shapes={}), approximate, calibration, prefer, warnings)
    done = land_in(network, example, folder, options, output)
    report = report_as(done.landing.report, model)
    show_text(registry.renderer(form, "fix")(FixResult(report, None, output, False, False)))
    lines = summary(done.proof, done.manifest.blocks)
    for line in (f"wrote {printable(str(folder))}: {lines[0]}", *lines[1:], *(r.reason for r in done.manifest.refused)):
        complain(line)
    return exit_code(Report(VERSION, (report.after,), config.fail_on, config.allow_undecided))
