"""Discover the packs: one file, one member. No list to keep."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import npu_guard
from npu_guard.errors import UsageError
from npu_guard.profile import Profile, load_profile, suggest
from npu_guard.results import Report
from npu_guard.rule import Rule

if TYPE_CHECKING:
    from npu_guard.substitution import Substitution


def pack(name: str) -> Path:
    """Folder of a pack: inside the package in a wheel, beside it in a checkout."""
    for root in npu_guard.__path__:
        folder = Path(root) / name
        if folder.is_dir():
            return folder
    raise RuntimeError(f"the pack {name!r} is missing from this installation of npu-guard")


def members(name: str) -> Iterator[str]:
    """Module names of a pack's members, sorted."""
    for file in sorted(pack(name).glob("*.py")):
        if not file.stem.startswith("_"):
            yield file.stem


@functools.cache
def rules() -> tuple[Rule, ...]:
    """One instance of every rule, sorted by code."""
    found = []
    for name in members("rules"):
        module = importlib.import_module(f"npu_guard.rules.{name}")
        for member in vars(module).values():
            if isinstance(member, type) and issubclass(member, Rule) and member.__module__ == module.__name__:
                found.append(member())
    return tuple(sorted(found, key=lambda rule: rule.code))


@functools.cache
def substitutions() -> tuple[Substitution, ...]:
    """One instance of every substitution, exact ones first, then by name."""
    from npu_guard.substitution import EXACT, Substitution  # `check` does without

    found = []
    for file in sorted((pack("rules") / "substitutions").glob("*.py")):
        if not file.stem.startswith("_"):
            module = importlib.import_module(f"npu_guard.rules.substitutions.{file.stem}")
            for member in vars(module).values():
                if isinstance(member, type) and issubclass(member, Substitution) and member.__module__ == module.__name__:
                    found.append(member())
    return tuple(sorted(found, key=lambda s: (s.exactness != EXACT, s.name)))


def rule(code: str) -> Rule:
    """A rule by code or name. Raises UsageError."""
    for candidate in rules():
        if code.upper() == candidate.code or code == candidate.name:
            return candidate
    raise UsageError(f"no rule {code!r}{suggest(code, [n for r in rules() for n in (r.code, r.name)])}")


def profile_files() -> dict[str, Path]:
    """Files of the shipped profiles by name."""
    return {file.stem: file for file in sorted((pack("rules") / "profiles").glob("*.toml"))}


def profile(name: str) -> Profile:
    """A shipped profile by name, or one by the path of its TOML file. Raises UsageError."""
    known = profile_files()
    if name in known or name.endswith(".toml"):
        found = load_profile(known.get(name) or Path(name), known)
        codes = [r.code for r in rules()]
        for code in found.severity:
            if code not in codes:
                raise UsageError(f"profile {name}: severity of {code!r}, which is no rule{suggest(code, codes)}")
        return found
    raise UsageError(
        f"no profile {name!r}{suggest(name, known)}; 'npu-guard profiles' lists them, a path to a .toml file works too"
    )


class Renderer(Protocol):
    """What a module in `reports/` offers as `render`."""

    def __call__(self, report: Report, *, color: bool) -> str:
        """The whole report as text."""


def renderer(name: str) -> Renderer:
    """The `render` function of an output format."""
    render: Renderer = importlib.import_module(f"npu_guard.reports.{name}").render
    return render


def shows_hashes(name: str) -> bool:
    """Whether an output format has a place for the SHA-256 of a model, which costs reading the whole file."""
    return bool(getattr(importlib.import_module(f"npu_guard.reports.{name}"), "HASHES", False))


def shows_layers(name: str) -> bool:
    """Whether an output format shows every operator, not only those with findings."""
    return bool(getattr(importlib.import_module(f"npu_guard.reports.{name}"), "LAYERS", False))
