"""The substitutions of the pack."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from npu_guard.checking.context import Context
from npu_guard.checking.registry import indexed, members
from npu_guard.graph.graph import Node
from npu_guard.rewriting.substitution import EXACT, Match, Substitution

FOLDER = "substitutions"
LISTED = ("name", "exactness", "roots", "alone", "rank")


@functools.cache
def substitutions() -> tuple[Substitution, ...]:
    """One instance of every substitution, exact ones first, then by name."""
    return _sorted([s for stem in members("rules", FOLDER) for s in _of_file(stem)])


@functools.cache
def listed() -> tuple[Substitution, ...]:
    """As `substitutions`, for whoever only asks for matches: files whose roots never occur are not loaded.

    What the index of the folder says of them is taken for true; a file that it does not name is loaded.
    """
    known = indexed("rules", FOLDER)
    found: list[Substitution] = []
    for stem in members("rules", FOLDER):
        found += [_Listed(stem, i, entry) for i, entry in enumerate(known[stem])] if stem in known else _of_file(stem)
    return _sorted(found)


def index() -> dict[str, list[dict[str, Any]]]:
    """What `listed` needs to know of each file: those of `LISTED` that its substitutions state."""
    files = {stem: _of_file(stem) for stem in members("rules", FOLDER)}
    return {stem: [{key: value for key in LISTED if (value := getattr(s, key))} for s in found] for stem, found in files.items()}


class _Listed(Substitution):
    """A substitution that is loaded when it is first asked about a node. Its matches are those of the loaded one."""

    def __init__(self, stem: str, position: int, facts: Mapping[str, Any]) -> None:
        self._stem, self._position = stem, position
        vars(self).update(facts)

    def match(self, node: Node, ctx: Context) -> Match | Sequence[Match] | None:
        return _of_file(self._stem)[self._position].match(node, ctx)


def _sorted(found: Sequence[Substitution]) -> tuple[Substitution, ...]:
    return tuple(sorted(found, key=lambda s: (s.exactness != EXACT, s.name)))


@functools.cache
def _of_file(stem: str) -> tuple[Substitution, ...]:
    module = importlib.import_module(f"npu_guard.rules.{FOLDER}.{stem}")
    classes = (m for m in vars(module).values() if isinstance(m, type) and issubclass(m, Substitution))
    return tuple(member() for member in classes if member.__module__ == module.__name__)
