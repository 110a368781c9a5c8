"""Modules inside of a network that torch.compile holds: they are found, named and replaced as those that it does not.

What torch.compile returns for a module is another one that has it as `_orig_mod`, a part of all paths and names behind it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn

HELD = "_orig_mod"
Place = tuple[nn.Module, str, nn.Module]
"""A parent, the name of a child, and what holds that child."""


def inside(module: nn.Module) -> nn.Module | None:
    """The module that torch.compile was given, where this is what it returned."""
    return module.__dict__.get("_modules", {}).get(HELD) if type(module).__name__ == "OptimizedModule" else None


def unwrap(network: nn.Module) -> list[Place]:
    """Put the modules that are held in the place of what holds them, and return the places."""
    places = []
    for parent in list(network.modules()):
        for name, child in parent._modules.items():
            if child is not None and inside(child) is not None:
                places.append((parent, name, child))
    for parent, name, holder in places:
        parent._modules[name] = _held(holder)
    return places


@contextlib.contextmanager
def looked_through(network: nn.Module, before: str) -> Iterator[None]:
    """The network without what holds its modules, for the time being.

    They are held again afterwards, also by parents that have become blocks meanwhile, and in what those keep, in their attribute
    `before`, of the time when they were none.
    """
    places = unwrap(network)
    try:
        yield
    finally:
        for parent, name, holder in places:
            kept = parent.__dict__[before][1]["_modules"] if before in parent.__dict__ else {}
            for children in (parent._modules, kept):
                if children.get(name) is _held(holder):
                    children[name] = holder


def plain_names(names: Iterable[Any]) -> tuple[dict[Any, Any], set[str]]:
    """Names of weights without those parts, each with the name that it had; and what stands before such parts, with its dot."""
    plain, holders = dict[Any, Any](), set[str]()
    for name in names:
        if not isinstance(name, str):  # whoever reads them says so
            plain[name] = name
            continue
        kept = list[str]()
        for part in name.split("."):
            if part == HELD:
                holders.add("".join(f"{k}." for k in kept))
            else:
                kept.append(part)
        plain[".".join(kept)] = name
    return plain, holders


def held_name(name: str, holders: Iterable[str]) -> str:
    """The name of a weight with those parts, the opposite of a plain one."""
    for holder in sorted(holders, key=len, reverse=True):
        if name.startswith(holder):
            name = f"{holder}{HELD}.{name.removeprefix(holder)}"
    return name


def _held(holder: nn.Module) -> nn.Module:
    while (inner := inside(holder)) is not None:
        holder = inner
    return holder
