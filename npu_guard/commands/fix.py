"""`npu-guard fix`: a model that fits, and what is known of whether it computes the same."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import click

from npu_guard.base.errors import UsageError
from npu_guard.base.installation import VERSION
from npu_guard.base.terminal import complain, show_text, write_result
from npu_guard.base.text import printable
from npu_guard.checking import registry
from npu_guard.commands._shared import (
    config_of,
    date_of_run,
    progress_bar,
    report_target,
    simplify_asked,
    with_calibration,
    with_config,
    with_dated,
    with_format_of,
    with_held,
    with_profile,
    with_require,
    with_shapes,
    with_simplify,
)
from npu_guard.commands._torch import landing, measured, report_as
from npu_guard.device import suggest
from npu_guard.file.outputs import expect_apart, is_same_file
from npu_guard.fixing import catalog
from npu_guard.fixing.driver import FixReport
from npu_guard.fixing.plan import plan_text, read_plan
from npu_guard.fixing.proving import shortfall
from npu_guard.fixing.report import FixResult
from npu_guard.pipeline.fix import fix_model
from npu_guard.pipeline.frozen import told_frozen, with_frozen_weights
from npu_guard.pipeline.simplify import as_judged
from npu_guard.project.target import exported, load_metric
from npu_guard.results.findings import Report
from npu_guard.results.summary import exit_code
from npu_guard.rewriting.substitution import EXACT, Substitution
from npu_guard.verification.int8 import KEPT, compare_int8_fixed


@click.command("fix", short_help="Replace what does not fit by what does, and verify it.")
@click.argument("model", metavar="MODEL", type=click.Path(path_type=str))
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Where the fixed model goes; the input is never touched.",
)
@with_profile
@click.option(
    "--allow", type=click.Choice(("approximate",)), help="Also replace blocks by what only comes close and needs fine-tuning."
)
@click.option("--warnings", is_flag=True, help="Also replace what the device only warns of, whatever that costs.")
@click.option(
    "--max-cost", metavar="FACTOR", type=float,
    help="Most that the result may have of the original's MACs and of its activation bytes, such as 1.5 times."
    "  [default: no limit]",
)  # fmt: skip
@click.option("--prefer", metavar="NAME", multiple=True, help="Substitution that goes first where several fit.")
@with_calibration
@click.option("--int8", is_flag=True, help="Also quantize both models with the same calibration, and say what precision is lost.")
@click.option(
    "--torch", "torch_folder", metavar="DIR", type=click.Path(path_type=Path),
    help="Also write PyTorch modules that take the place of the old ones, for MODEL as Python code.",
)  # fmt: skip
@click.option(
    "--metric", metavar="FUNCTION", help="package.module:function of yours, which is run: a number for each model, old and new."
)
@click.option("--dry-run", is_flag=True, help="Print the plan, with all passes, and write no model.")
@click.option(
    "--plan", "plan_file", metavar="FILE", type=click.Path(path_type=Path), help="Write the plan as TOML, for you to edit."
)
@click.option(
    "--apply", "apply_file", metavar="FILE", type=click.Path(path_type=Path), help="Carry out such a plan, and no more."
)
@with_format_of("fix")
@click.option("--report", "reports", metavar="FORMAT:FILE", multiple=True, help="Write one more result, such as html:fix.html.")
@with_dated
@with_require
@click.option("-v", "--verbose", is_flag=True, help="Every place in the text, not only what fits a screen.")
@with_shapes
@with_held
@with_simplify
@with_config
def command(
    model: str, output: Path | None, profile: str | None, allow: str | None, warnings: bool, prefer: tuple[str, ...],
    calibration: Path | None, int8: bool, dry_run: bool, plan_file: Path | None, apply_file: Path | None, form: str,
    reports: tuple[str, ...], require: str | None, verbose: bool, shapes: tuple[str, ...], config_file: Path | None,
    torch_folder: Path | None, metric: str | None, max_cost: float | None,
) -> int:  # fmt: skip
    """Replace blocks that do not fit by compatible ones, verify each with ONNX Runtime, and write the result.

    MODEL is an ONNX file, or PACKAGE.MODULE:CALLABLE: Python code, which is then run, see 'npu-guard export --help'. With
    --torch, the replaced blocks become PyTorch modules with weights, and are put into the network and compared; see
    docs/training.md. --metric imports and runs a function as well: it is called with each model, a torch module with --torch
    and else something that is called like one and runs the file, and its numbers are reported.
    """
    measure = None if metric is None else load_metric(metric)
    if torch_folder is not None:
        if int8 or dry_run or plan_file or apply_file or require or reports or form == "html" or simplify_asked():
            lone = "--int8, --dry-run, --plan, --apply, --require, --report, --simplify and html"
            raise UsageError(f"fix: --torch goes without {lone}")
        config = config_of(config_file, profile=profile, shapes=shapes, max_cost=max_cost)
        _substitutions(allow is not None, prefer)  # the names, before anything runs
        return landing(model, torch_folder, output, config, allow is not None, warnings, prefer, calibration, form, measure)
    dry_run = dry_run or (output is None and plan_file is not None)
    if output is None and not dry_run:
        raise UsageError("fix: -o FILE says where the fixed model goes (or --dry-run to see the plan)")
    extra = [report_target(entry, registry.formats("fix")) for entry in reports]
    expect_apart((output, plan_file, *(path for _, path in extra)), [model])
    if output is not None and plan_file is not None and is_same_file(output, plan_file):
        raise UsageError(f"{output}: is to be the model and the plan; name another file for one of them")
    config = config_of(config_file, profile=profile, shapes=shapes, max_cost=max_cost)
    chosen = _substitutions(allow is not None, prefer)
    device = registry.profile(config.profile)
    steps = None if apply_file is None else read_plan(apply_file, [s.name for s in catalog.substitutions()])
    with contextlib.ExitStack() as opened:
        files = opened.enter_context(exported([model], config.input_shapes))
        with progress_bar() as progress:
            config, frozen = with_frozen_weights(files[model], config)
            judged = opened.enter_context(as_judged(files, config, verify=True))
            judged.expect_simplified(model)
            report = fix_model(
                judged.files[model],
                device,
                judged.config,
                chosen,
                calibration=calibration,
                progress=progress,
                prefer=prefer,
                plan=steps,
                warnings=warnings,
                origin=files[model],
                layers=any(registry.shows_layers(f"fix.{name}") for name in (form, *(name for name, _ in extra))),
            )
        report = report_as(report, model, config)
        report = dataclasses.replace(report, before=judged.told_of(report.before))
        unlike = judged.not_verified().get(model, "")
        if plan_file is not None:
            write_result(plan_file, plan_text(model, report.before.sha256, device.name, report.applied, report.refused))
        failed = report.applied and report.verification.verdict not in ("equal", "close")
        lacking = ""
        if require is not None and report.applied and not failed:
            lacking = shortfall(report.applied, report.verification, require.replace("-", " "))
        integers = None
        if int8 and not failed:
            integers = compare_int8_fixed(files[model], report.document, config.input_shapes, calibration, config.limits)
        lossy = report.applied and integers is not None and integers.verdict != KEPT
        figures = None if measure is None or failed else measured(measure, files[model], report, config)
        written = None if dry_run or failed or lossy or lacking or unlike else output
        if written is not None:
            from npu_guard.file.save import save_document

            save_document(report.document, written)
    result = FixResult(report, integers, written, dry_run, verbose, date_of_run(), figures)
    for name, path in extra:
        write_result(path, registry.renderer(name, "fix")(result))
    show_text(registry.renderer(form, "fix")(result), folded=form == "text")
    for told in (plan_file, *(path for _, path in extra)):
        if told is not None:
            complain(f"wrote {told}")
    if frozen:
        complain(f"{model}: {told_frozen(frozen, 'the fixed model')}")
    for line in _unused(prefer, report) if steps is None else ():
        complain(line)
    for crash in report.after.crashes:
        complain(f"{model}: internal error in {crash.rule} at {crash.node}: {crash.error}; please report it")
    if unlike:
        complain(f"{model}: what onnxsim leaves was not verified ({unlike}); nothing was written")
        return 5
    if failed:
        why = report.verification.reason or report.verification.verdict
        complain(f"{model}: the fixed model was not verified ({why}); nothing was written")
        return 5
    if lossy:
        complain(f"{model}: the fixed model does not keep its precision as int8, or that cannot be told; nothing was written")
        return 5
    if lacking:
        complain(f"{model}: {lacking}; nothing was written")
        return 5
    return exit_code(Report(VERSION, (report.after,), config.fail_on, config.allow_undecided))


def _unused(prefer: tuple[str, ...], report: FixReport) -> Iterator[str]:
    """A line for each preferred substitution that replaced nothing, with the reason."""
    used = {name for step in report.applied for name in (step.substitution, *step.chain)}
    for name in prefer:
        if name not in used:
            refused = [r for r in report.refused if r.substitution == name]
            node = f" (at {printable(refused[0].node, 60)})" if refused and refused[0].node else ""
            reason = f"{refused[0].reason}{node}" if refused else "no block of this model with a finding has its form"
            yield f"--prefer {name}: replaced nothing: {reason}"


def _substitutions(approximate: bool, prefer: tuple[str, ...]) -> list[Substitution]:
    """In the order in which they are tried: preferred ones, then exact ones, then approximate ones."""
    known = {s.name: s for s in catalog.substitutions()}
    for name in prefer:
        if name not in known:
            raise UsageError(f"--prefer: no substitution {name!r}{suggest(name, known)}")
        if known[name].exactness != EXACT and not approximate:
            raise UsageError(f"--prefer {name}: only comes close to what it replaces; --allow approximate permits that")
    allowed = [s for s in known.values() if approximate or s.exactness == EXACT]
    rank = {name: i for i, name in reversed([*enumerate(prefer)])}
    return sorted(allowed, key=lambda s: (rank.get(s.name, len(rank)), s.exactness != EXACT, s.name))
