"""What a shell completes besides commands, options and files: devices, and rules in lists with commas."""

from __future__ import annotations

from click.shell_completion import CompletionItem

from npu_guard.checking import registry


def profiles(incomplete: str) -> list[CompletionItem]:
    """Names of devices, also behind a comma; TOML files where no name begins so."""
    first, comma, last = incomplete.rpartition(",")
    found = [CompletionItem(f"{first}{comma}{name}") for name in registry.profile_names() if name.startswith(last)]
    return found or [CompletionItem(incomplete, type="file")]


def rules(incomplete: str) -> list[CompletionItem]:
    """Codes with their names as a remark; names where letters of one stand there."""
    first, comma, last = incomplete.rpartition(",")
    known = registry.rules()
    codes = [CompletionItem(f"{first}{comma}{r.code}", help=r.name) for r in known if r.code.startswith(last.upper())]
    names = [CompletionItem(f"{first}{comma}{r.name}", help=r.code) for r in known if last and r.name.startswith(last)]
    return [*codes, *names]
