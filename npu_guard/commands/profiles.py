"""`npu-guard profiles`: the devices and their limits, and help for whoever writes a device file."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import click

from npu_guard.base.errors import UsageError
from npu_guard.base.terminal import complain, show_markdown, show_text, write_result
from npu_guard.base.text import inert, printable
from npu_guard.checking import manual, registry


class _Named(click.Group):
    """A group whose first argument may also be the name of a profile, which is then shown."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            return "show", self.commands["show"], args
        return super().resolve_command(ctx, args)


@click.group("profiles", cls=_Named, invoke_without_command=True, subcommand_metavar="[NAME | COMMAND [ARGS]...]")
@click.pass_context
def command(ctx: click.Context) -> None:
    """List the device profiles, or show one (NAME, NAME:VARIANT or a TOML file) with the source of each limit."""
    if ctx.invoked_subcommand is None:
        show_text(manual.profile_list())


@command.command("show", hidden=True)
@click.argument("name")
def show_one(name: str) -> None:
    """Show a profile."""
    show_markdown(manual.profile_page(registry.device_file(name)))


@command.command("validate")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
def validate(files: tuple[Path, ...]) -> int:
    """Say all that is wrong with device files, with the line and the right key; exit code 2 if anything is."""
    from npu_guard.device.validate import problems

    codes = [rule.code for rule in registry.rules()]
    wrong = 0
    for file in files:
        found = problems(file, registry.profile_files(), codes)
        wrong += len(found)
        show_text("".join(f"{printable(str(file))}:{p.line}: {printable(p.message, 2000)}\n" for p in found))
        if not found:
            profile = registry.device_file(str(file) if file.suffix == ".toml" else f"{file}.toml")
            limits = len(profile.limits) + len(profile.requirements)
            show_text(f"{printable(str(file))}: {limits} limits and {len(profile.operators)} operators, nothing wrong\n")
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
def diff(before: str, after: str) -> None:
    """List the limits and operators that differ between two devices or two versions of a device file."""
    from npu_guard.device.compare import differences

    lines = differences(registry.device_file(before), registry.device_file(after))
    show_text(inert("".join(f"{line}\n" for line in lines)) or "no difference\n")
