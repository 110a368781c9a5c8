"""`npu-guard profiles`: the devices and their limits."""

from __future__ import annotations

import click

from npu_guard import manual, registry
from npu_guard.terminal import show, show_markdown


@click.command("profiles")
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """List the device profiles, or show one with the source of each limit."""
    if name is None:
        show(manual.profile_list())
    else:
        show_markdown(manual.profile_page(registry.profile(name)))
