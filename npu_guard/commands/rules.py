"""`npu-guard rules`: the rules and their manual pages."""

from __future__ import annotations

import click

from npu_guard.base.terminal import show_markdown, show_text
from npu_guard.checking import manual, registry


@click.command("rules")
@click.argument("code", required=False)
def command(code: str | None) -> None:
    """List the rules, or show the manual page of one (by code or name)."""
    if code is None:
        show_text(manual.rule_list())
    else:
        show_markdown(manual.page(registry.rule(code)))
