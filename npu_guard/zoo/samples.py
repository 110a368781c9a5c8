"""List and export the sample networks of the `models` pack. Listing reads their docstrings and imports no torch."""

from __future__ import annotations

import ast
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npu_guard.base.errors import UsageError
from npu_guard.checking import registry
from npu_guard.device import suggest


@dataclass(frozen=True, slots=True)
class Entry:
    """One sample network."""

    name: str
    id: str
    summary: str


def entries() -> tuple[Entry, ...]:
    """All sample networks, sorted by the letter and number of their id."""
    found = []
    for stem in registry.members("models"):
        tree = ast.parse((registry.pack("models") / f"{stem}.py").read_text(encoding="utf-8"))
        constants = {
            node.targets[0].id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Constant)
        }
        summary = (ast.get_docstring(tree) or "").splitlines()[0]
        found.append(Entry(stem.replace("_", "-"), str(constants["ID"]), summary))
    return tuple(sorted(found, key=lambda e: (e.id[0], int("".join(c for c in e.id if c.isdigit())), e.id)))


def listing() -> str:
    """A table for the terminal."""
    found = entries()
    width = max(len(e.name) for e in found)
    return "".join(f"{e.id:<5}{e.name:<{width}}  {e.summary}\n" for e in found)


def system(name: str) -> Any:
    """The module of a sample network, by name or id. Raises UsageError, also where torch is missing."""
    known = {key: e for e in entries() for key in (e.name, e.id, e.name.replace("-", "_"))}
    if name not in known:
        raise UsageError(f"no sample network {name!r}; 'npu-guard zoo' lists them{suggest(name, known)}")
    try:
        return importlib.import_module(f"npu_guard.models.{known[name].name.replace('-', '_')}")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise UsageError("the sample networks need torch: pip install 'npu-guard[torch]'") from None


def export_system(name: str, path: Path, size: str, exporter: str) -> None:
    """Build a sample network and export it."""
    from npu_guard.project.export import export

    module = system(name)
    export(module.build(size), module.inputs(size), path, exporter=exporter, root=registry.pack("models").parent)
