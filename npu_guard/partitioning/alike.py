"""Modules of a network that are alike: blocks that differ in their numbers alone, which whoever writes it mends in one place."""

from __future__ import annotations

from npu_guard.graph.origin import scope_of
from npu_guard.partitioning.units import Units

Path = tuple[str, ...]


def modules_of(units: Units) -> dict[tuple[int, ...], str]:
    """Refused units of each kind of module, with those inside it, and the path of the modules, `stages.*.eca`."""
    families: dict[Path, dict[int, Path]] = {}
    for unit, blocked in enumerate(units.blocked):
        if blocked:
            scope = scope_of(units.members[unit][0])
            kind = tuple("*" if part.isdigit() else part for part in scope)
            for length in range(1, len(scope) + 1):
                families.setdefault(kind[:length], {})[unit] = scope[:length]
    found: dict[tuple[int, ...], str] = {}
    for members in families.values():  # of nested ones with the same units, the innermost has the name
        parts = [part[0] if len(set(part)) == 1 else "*" for part in zip(*members.values(), strict=True)]
        found[tuple(members)] = ".".join(parts)
    return found
