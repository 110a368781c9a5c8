"""`npu-guard compile`: the vendor's compiler beside the rules."""

from __future__ import annotations

from pathlib import Path

import click
from msgspec.structs import replace

from npu_guard.base.errors import UsageError
from npu_guard.base.terminal import complain, show_text, write_told
from npu_guard.checking import registry
from npu_guard.commands._shared import config_of, with_config, with_format_of, with_profile, with_shapes
from npu_guard.pipeline.check import check_model
from npu_guard.results.findings import Verdict


@click.command("compile", short_help="Compare the rules with the vendor's own compiler.")
@click.argument("model", required=False, type=click.Path(path_type=str))
@with_profile
@click.option("--compiler", metavar="NAME", help="Which compiler; the profile's own if it is left out.")
@click.option("--compiler-python", "python", metavar="PATH", help="The interpreter of the compiler's environment.")
@with_format_of("compile")
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Write the result to a file.")
@click.option(
    "--fail-on", type=click.Choice(("refused", "disagreement", "never")), default="refused", show_default=True,
    help="What makes the exit code 1: that the compiler refuses, or that the two differ.",
)  # fmt: skip
@with_shapes
@with_config
@click.option("--recipe", metavar="NAME", help="Print how to make a compiler's environment, and end.")
def command(
    model: str | None, profile: str | None, compiler: str | None, python: str | None, form: str, output: Path | None,
    fail_on: str, shapes: tuple[str, ...], config_file: Path | None, recipe: str | None,
) -> int:  # fmt: skip
    """Run the vendor's compiler on a model and compare its verdict, node by node, with that of the rules.

    npu-guard knows rknn, qnn and vela; others are described in [tool.npu-guard.compiler.NAME]. A compiler is never installed
    by npu-guard, and its licence is yours to accept. What falls back to the CPU counts as refused, what the compiler
    splits up on the NPU as accepted.

    Exit codes: 0 the compiler takes the whole model; 1 it refuses some of it, or could not run, which is no opinion and never
    agreement; 2 usage, configuration, or a compiler that is not there; 3 a model that cannot be read.
    """
    from npu_guard.compilers import adapter, compare
    from npu_guard.compilers.builtin import BUILTINS
    from npu_guard.file.outputs import expect_apart

    if recipe is not None:
        if recipe not in BUILTINS:
            raise UsageError(f"--recipe {recipe!r}: npu-guard knows {', '.join(BUILTINS)}")
        show_text(BUILTINS[recipe].recipe(f".compilers/{recipe}"))
        return 0
    if model is None:
        raise UsageError("compile: name a MODEL")
    expect_apart((output,), [model])
    config = config_of(config_file, profile=profile, shapes=shapes)
    device = registry.profile(config.profile)
    name, settings = adapter.choose(compiler, device.name, config.compilers, python)
    # The profile's own words: what a project ignores or suppresses is no agreement.
    plain = replace(config, select=(), ignore=(), suppress=(), severity={})
    report = check_model(model, device, plain, layers=True)
    if report.verdict is Verdict.UNREADABLE:
        assert report.error is not None
        complain(report.error[1])
        return 3
    for crash in report.crashes:
        complain(f"internal error in {crash.rule} at {crash.node}: {crash.error}")
    found = compare.compare_answers(report, adapter.ask(name, settings, model, device.name))
    content = registry.renderer(form, "compile")(found)
    if output is not None:
        write_told(output, content)
    else:
        show_text(content, folded=form == "text")
    return 4 if report.crashes else found.exit_code(fail_on)
