"""What a shell completes besides commands, options and files: devices, and rules in lists with commas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_guard.checking import registry

if TYPE_CHECKING:
    import click
    from click.shell_completion import CompletionItem


def complete_profiles(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of devices, also behind a comma; TOML files where no name begins so."""
    from click.shell_completion import CompletionItem  # only where a shell asks

    first, comma, last = incomplete.rpartition(",")
    found = [CompletionItem(f"{first}{comma}{name}") for name in registry.profile_names() if name.startswith(last)]
    return found or [CompletionItem(incomplete, type="file")]


def complete_rules(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Codes with their names as a remark; names where letters of one stand there."""
    from click.shell_completion import CompletionItem

    first, comma, last = incomplete.rpartition(",")
    rules = registry.rules()
    codes = [CompletionItem(f"{first}{comma}{r.code}", help=r.name) for r in rules if r.code.startswith(last.upper())]
    names = [CompletionItem(f"{first}{comma}{r.name}", help=r.code) for r in rules if last and r.name.startswith(last)]
    return [*codes, *names]
