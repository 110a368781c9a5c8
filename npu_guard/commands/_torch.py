"""`npu-guard fix --torch`: the fix as PyTorch modules."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from npu_guard.base.errors import UsageError
from npu_guard.base.installation import VERSION
from npu_guard.base.terminal import complain, show_text
from npu_guard.base.text import printable
from npu_guard.checking import registry
from npu_guard.fixing.driver import FixReport
from npu_guard.fixing.report import FixResult
from npu_guard.project.config import Config
from npu_guard.project.example import Input
from npu_guard.project.next_command import command_of
from npu_guard.project.target import is_target, load_target
from npu_guard.results.findings import Report
from npu_guard.results.summary import exit_code


def report_as(report: FixReport, name: str, config: Config) -> FixReport:
    """The report with the model's name in the place of the file that was made of it, and with how it was named."""
    before, after = (replace(model, path=name, command=command_of(config)) for model in (report.before, report.after))
    return dataclasses.replace(report, before=before, after=after)


def measured(measure: Callable[[Any], float], original: str, report: FixReport, config: Config) -> tuple[float, float]:
    """The user's own figure of the file before and after. Raises UsageError."""
    from npu_guard.analysis.analyze import analyze
    from npu_guard.file import load
    from npu_guard.file.document import Document
    from npu_guard.verification.file_model import FileModel
    from npu_guard.verification.run_limits import run_limits
    from npu_guard.verification.runtime import Runtime

    skeleton = load.load(original, config.limits)
    document = Document.of(skeleton)
    with Runtime(run_limits(config.limits, (document, analyze(skeleton, config.input_shapes)))) as runtime:
        first, second = (measure(FileModel(d, runtime)) for d in (document, report.document))
    return first, second


def landing(
    model: str, folder: Path, output: Path | None, config: Config, approximate: bool, warnings: bool, prefer: tuple[str, ...],
    calibration: Path | None, form: str, measure: Callable[[Any], float] | None = None,
) -> int:  # fmt: skip
    """Write the folder, and the fixed file where one is asked for, and report as `fix` does. Raises UsageError, NotVerified."""
    if not is_target(model):
        raise UsageError(f"fix: --torch needs the Python code, as package.module:callable, and {model} names none")
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
    report = report_as(done.landing.report, model, config)
    figures = None
    if measure is not None:
        from npu_guard.training import attach

        patched = attach.apply_folder(copy.deepcopy(network), folder)
        figures = measure(network.eval()), measure(patched.eval())
    show_text(
        registry.renderer(form, "fix")(FixResult(report, None, output, False, False, metric=figures)), folded=form == "text"
    )
    lines = summary(done.proof, done.manifest.blocks)
    for line in (f"wrote {printable(str(folder))}: {lines[0]}", *lines[1:], *(r.reason for r in done.manifest.refused)):
        complain(line)
    return exit_code(Report(VERSION, (report.after,), config.fail_on, config.allow_undecided))
