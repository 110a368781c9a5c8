"""The substitutions of the pack."""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING

from npu_guard.checking.registry import pack

if TYPE_CHECKING:
    from npu_guard.rewriting.substitution import Substitution


@functools.cache
def substitutions() -> tuple[Substitution, ...]:
    """One instance of every substitution, exact ones first, then by name."""
    from npu_guard.rewriting.substitution import EXACT  # `check` does without

    files = sorted((pack("rules") / "substitutions").glob("*.py"))
    found = [s for file in files if not file.stem.startswith("_") for s in _substitution(file.stem)]
    return tuple(sorted(found, key=lambda s: (s.exactness != EXACT, s.name)))


@functools.cache
def _substitution(stem: str) -> tuple[Substitution, ...]:
    from npu_guard.rewriting.substitution import Substitution

    module = importlib.import_module(f"npu_guard.rules.substitutions.{stem}")
    members = (m for m in vars(module).values() if isinstance(m, type) and issubclass(m, Substitution))
    return tuple(member() for member in members if member.__module__ == module.__name__)
