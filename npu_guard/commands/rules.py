"""`npu-guard rules`: the rules and their manual pages."""

from __future__ import annotations

import click

from npu_guard.base.terminal import show_markdown, show_text, terminal_width
from npu_guard.checking import manual, registry
from npu_guard.commands._shared import complete_rules


@click.command("rules", short_help="List the rules, or show the manual page of one.")
@click.argument("code", required=False, shell_complete=complete_rules)
def command(code: str | None) -> None:
    """List the rules, those whose code or name begins so (NPU2), or show the manual page of one (by code or name)."""
    known = {word for rule in registry.rules() for word in (rule.code, rule.name)}
    if code is None or (code.upper() not in known and code not in known and manual.rule_list(code)):
        show_text(manual.rule_list(code or "", terminal_width()))
    else:
        show_markdown(manual.page(registry.rule(code)))
