"""`npu-guard profiles`: the devices and their limits, and help for whoever writes a device file."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import click
from msgspec.structs import replace

from npu_guard.base.errors import UsageError
from npu_guard.base.terminal import complain, show_markdown, show_text, terminal_width, write_result
from npu_guard.base.text import inert, printable
from npu_guard.checking import manual, registry
from npu_guard.commands._shared import config_of, progress_bar, with_config


class _Named(click.Group):
    """A group whose first argument may also be the name of a profile, which is then shown."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            return "show", self.commands["show"], args
        return super().resolve_command(ctx, args)


@click.group(
    "profiles",
    short_help="List the devices, or show every limit of one.",
    cls=_Named,
    invoke_without_command=True,
    subcommand_metavar="[NAME | COMMAND [ARGS]...]",
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List the device profiles, or show one (NAME, NAME:VARIANT or a TOML file) with the source of each limit."""
    if ctx.invoked_subcommand is None:
        show_text(manual.profile_list(terminal_width()))


@command.command("show", hidden=True)
@click.argument("name")
def show_one(name: str) -> None:
    """Show a profile."""
    show_markdown(manual.profile_page(registry.device_file(name)))


@command.command("validate")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
def validate(files: tuple[Path, ...]) -> int:
    """Say all that is wrong with device files, with the line and the right key; exit code 2 if anything is.

    A FILE may also be the name of a device that npu-guard has.
    """
    from npu_guard.device.validate import problems

    codes = [rule.code for rule in registry.rules()]
    wrong = 0
    shipped = registry.profile_files()
    for given in files:
        file = given if os.path.exists(given) else shipped.get(str(given), given)
        found = problems(file, shipped, codes)
        wrong += len(found)
        show_text("".join(f"{printable(str(given))}:{p.line}: {printable(p.message, 2000)}\n" for p in found))
        if not found:
            profile = registry.device_file(str(file) if file.suffix == ".toml" else f"{file}.toml")
            limits = len(profile.limits) + len(profile.requirements)
            show_text(f"{printable(str(given))}: {limits} limits and {len(profile.operators)} operators, nothing wrong\n")
    if wrong:
        complain(f"{wrong} problem{'s' if wrong > 1 else ''} in {len(files)} file{'s' if len(files) > 1 else ''}")
    return 2 if wrong else 0


@command.command("schema")
def schema() -> None:
    """Print the JSON Schema of device files, for editors that complete and check TOML."""
    from npu_guard.device.schema import profile_schema

    show_text(profile_schema())


@command.command("new")
@click.argument("name")
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Where it goes; NAME.toml if left out.")
def new(name: str, output: Path | None) -> None:
    """Write a device file with remarks, to be filled in from the vendor's document."""
    if not re.fullmatch(r"[a-z0-9]+([-._][a-z0-9]+)*", name):
        raise UsageError(f"profiles new {name!r}: a name has small letters, digits and dashes, such as 'vendor-chip'")
    target = output or Path(f"{name}.toml")
    if os.path.exists(target):
        raise UsageError(f"profiles new {name}: {target} is there already; -o FILE says another place")
    template = (Path(__file__).parents[1] / "project" / "templates" / "profile.toml").read_text(encoding="utf-8")
    write_result(target, template.replace("@NAME@", json.dumps(name)))
    complain(f"wrote {target}; 'npu-guard profiles validate {target}' checks it")


@command.command("diff")
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@click.option(
    "--reproducers", metavar="DIR", type=click.Path(path_type=Path),
    help="Models with a compiler's answers, as 'profiles learn' writes them: what A and B say of each.",
)  # fmt: skip
def diff(before: str, after: str, reproducers: Path | None) -> None:
    """List the limits and operators that differ between two devices or two versions of a device file.

    The last line is the recall: how many limits of A, on operators that B names, B states with the same bound.
    """
    from npu_guard.device.compare import differences, recall

    devices = registry.device_file(before), registry.device_file(after)
    lines = differences(*devices)
    said = [*lines, *filter(None, [recall(*devices) if lines else ""])]
    if reproducers is not None:
        from npu_guard.learning.reproducers import compare

        said += compare(reproducers, *devices)
    show_text(inert("".join(f"{line}\n" for line in said)) or "no difference\n")


@command.command("learn")
@click.argument("name")
@click.option("--compiler", metavar="NAME", help="Which compiler; that of the device if it is left out.")
@click.option("--compiler-python", "python", metavar="PATH", help="The interpreter of the compiler's environment.")
@click.option("--compiler-version", "stated", metavar="TEXT", help="The version to name where the compiler is your own.")
@click.option("--operator", "operators", metavar="OP", multiple=True, help="Learn this one; may be repeated.  [default: all]")
@click.option(
    "--compilations", metavar="N", type=click.IntRange(min=1), default=5000, show_default=True,
    help="Compile so many models at most; the same command goes on later.",
)  # fmt: skip
@click.option(
    "--seconds", metavar="N", type=click.FloatRange(min=1), default=60, show_default=True,
    help="For each compilation; one that takes longer has no answer.",
)  # fmt: skip
@click.option("--jobs", metavar="N", type=click.IntRange(min=1), help="Compilers at a time.  [default: what memory allows]")
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="NAME-learned.toml if left out.")
@with_config
def learn(
    name: str, compiler: str | None, python: str | None, stated: str | None, operators: tuple[str, ...], compilations: int,
    seconds: float, jobs: int | None, output: Path | None, config_file: Path | None,
) -> int:  # fmt: skip
    """Learn a device file from the answers of a compiler.

    NAME is the device as the compiler's options know it, such as ethos-u55. Models of one operator are compiled, each knob
    turned by doubling and halving, and what was found is tried with random models. Written are the device file, a folder of
    models that show each limit from both sides, a page of what was asked, and the answers, from which the same command goes on.

    Exit codes: 0 all was asked; 1 the budget is spent or the run was interrupted, and what is known is written; 2 usage, or a
    compiler that is not there.
    """
    from npu_guard.base.clock import report_date
    from npu_guard.compilers import adapter
    from npu_guard.compilers.builtin import BUILTINS
    from npu_guard.device import suggest
    from npu_guard.device.file import name_problem
    from npu_guard.learning import session, writing
    from npu_guard.learning.forms import FORMS
    from npu_guard.learning.oracle import Oracle, jobs_for

    if problem := name_problem(name):
        raise UsageError(problem)
    for op in operators:
        if op not in FORMS:
            raise UsageError(
                f"--operator {op!r}: nothing is known of how to ask about it; there are {', '.join(FORMS)}{suggest(op, FORMS)}"
            )
    target = output or Path(f"{name}-learned.toml")
    if target.suffix != ".toml":
        raise UsageError(f"-o {target}: a device file ends in .toml")
    chosen, settings = adapter.choose(compiler, name, config_of(config_file).compilers, python)
    settings = replace(settings, seconds=min(seconds, settings.seconds))
    tool = BUILTINS[chosen].package if chosen in BUILTINS and not settings.command else chosen
    version = stated or adapter.version(chosen, settings)
    with progress_bar() as progress:
        forms = [FORMS[op] for op in dict.fromkeys(operators or FORMS)]
        oracle = Oracle(chosen, settings, name, target.with_suffix(".answers.jsonl"), compilations, jobs or jobs_for(settings))
        found = session.run(
            forms,
            oracle,
            lambda done, asked: progress(f"{asked} compilations, {done} of {len(forms)} operators", asked, compilations),
        )
    written = writing.write(found, oracle, target, f"{name}-learned", tool, version, report_date(dated=True))
    shown = printable(str(target))
    complain(
        f"wrote {shown}: {written.limits} limits ({written.confirmed} confirmed) from {oracle.asked} compilations; "
        f"{written.supported} operators supported, {written.refused} refused, {written.unknown} without an answer"
    )
    if found.stopped:
        complain(f"{found.stopped}: {shown} has what is known so far; the same command goes on from there")
    return int(bool(found.stopped))
