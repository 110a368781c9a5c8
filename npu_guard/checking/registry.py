"""Discover the packs: one file, one member. No list to keep."""

from __future__ import annotations

import functools
import importlib
import json
import os
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from npu_guard.base.errors import UsageError
from npu_guard.base.installation import ROOTS
from npu_guard.checking.rule import Rule
from npu_guard.device.keys import suggest
from npu_guard.device.toolkit import split_toolkit

if TYPE_CHECKING:
    from npu_guard.device import Profile


def pack(name: str) -> Path:
    """Folder of a pack: inside the package in a wheel, beside it in a checkout."""
    for root in ROOTS:
        folder = root / name
        if os.path.isdir(folder):
            return folder
    raise RuntimeError(f"the pack {name!r} is missing from this installation of npu-guard")


def members(name: str, folder: str = "") -> Iterator[str]:
    """Module names of a pack's members, or of those in one of its folders, sorted."""
    for file in sorted(os.listdir(pack(name) / folder)):
        if file.endswith(".py") and not file.startswith("_"):
            yield file[:-3]


def indexed(name: str, folder: str = "") -> dict[str, list[dict[str, Any]]]:
    """What the index of a pack says of its members without their being loaded, by module name; nothing where it has none."""
    file = os.path.join(pack(name), folder, "index.json")
    if not os.path.exists(file):
        return {}
    with open(file, encoding="utf-8") as index:
        found: dict[str, list[dict[str, Any]]] = json.load(index)
    return found


@functools.cache
def rules() -> tuple[Rule, ...]:
    """One instance of every rule, sorted by code."""
    for name in members("rules"):
        importlib.import_module(f"npu_guard.rules.{name}")
    classes: list[type[Rule]] = [Rule]
    for known in classes:  # grows by the subclasses of each
        classes += known.__subclasses__()
    shipped = [rule() for rule in classes if rule.__module__.startswith("npu_guard.rules.")]
    return tuple(sorted(shipped, key=attrgetter("code")))


@functools.cache
def rule_index() -> dict[str, list[dict[str, Any]]] | None:
    """What the index says of the rules, None where it does not name every file: a rule is being written."""
    known = indexed("rules")
    return known if known.keys() == set(members("rules")) else None


@functools.cache
def rule_codes() -> list[str]:
    """Codes of all rules, sorted; none is loaded for them."""
    known = rule_index()
    return sorted(facts["code"] for found in known.values() for facts in found) if known else [r.code for r in rules()]


def rule(code: str) -> Rule:
    """A rule by code or name. Raises UsageError."""
    for candidate in rules():
        if code.upper() == candidate.code or code == candidate.name:
            return candidate
    raise UsageError(f"no rule {code!r}{suggest(code, [n for r in rules() for n in (r.code, r.name)])}")


def profile_files() -> dict[str, Path]:
    """Files of the shipped profiles by name."""
    folder = pack("rules") / "profiles"
    return {name.removesuffix(".toml"): folder / name for name in sorted(os.listdir(folder)) if name.endswith(".toml")}


def profile(name: str) -> Profile:
    """One device: a shipped profile by name, or one by the path of its TOML file; `name:variant` where a file has several.

    `name@TOOL==VERSION` has the limits of that version of its compiler, as far as they are known.

    Raises UsageError.
    """
    found = device_file(name)
    if found.variants:
        choices = " or ".join(f"'{name}:{variant}'" for variant in found.variants)
        raise UsageError(f"profile {name} describes several devices; choose {choices}")
    return found


def device_file(name: str) -> Profile:
    """As `profile`, but a file that describes several devices may be named without one of them. Raises UsageError."""
    from npu_guard.device import load_profile  # settings alone do without onnx

    known = profile_files()
    given, toolkit = split_toolkit(name)
    base, _, variant = given.rpartition(":") if not given.endswith(".toml") else (given, "", "")
    base = base or given
    if base not in known and not base.endswith(".toml"):
        file = f"{base}.toml"
        meant = f"; did you mean {file!r}?" if os.path.isfile(file) else suggest(given, known) or suggest(given, profile_names())
        raise UsageError(f"no profile {given!r}; 'npu-guard profiles' lists them, a path to a .toml file works too{meant}")
    if base not in known:
        from npu_guard.device.validate import refuse_broken  # those that are shipped are tested

        refuse_broken(Path(base), known, rule_codes())
    found = load_profile(known.get(base) or Path(base), known, variant if base != given else None, toolkit)
    for code in found.severity:
        if code not in (codes := rule_codes()):
            raise UsageError(f"profile {name}: severity of {code!r}, which is no rule{suggest(code, codes)}")
    return found


def profile_names() -> list[str]:
    """Names of all shipped devices, those with variants as `name:variant`."""
    found = ((name, device_file(name).variants) for name in profile_files())
    return [each for name, variants in found for each in ([f"{name}:{v}" for v in variants] or [name])]


class Renderer(Protocol):
    """What a module in `reports/` offers as `render`. It takes a Report, or what another command comes to."""

    def __call__(self, report: Any, /, *, color: bool = False) -> str:
        """The whole result as text."""


def formats(command: str = "check") -> tuple[str, ...]:
    """Names of the formats in which a command shows its result: of `check` in `reports/`, of others in `reports/<command>/`."""
    names = tuple(members("reports" if command == "check" else f"reports/{command}"))
    return tuple(sorted(names, key=lambda name: name != "text"))


def renderer(name: str, command: str = "check") -> Renderer:
    """The `render` function of an output format."""
    folder = "reports" if command == "check" else f"reports.{command}"
    render: Renderer = importlib.import_module(f"npu_guard.{folder}.{name}").render
    return render


def shows_hashes(name: str) -> bool:
    """Whether an output format has a place for the SHA-256 of a model, which costs reading the whole file."""
    return bool(getattr(importlib.import_module(f"npu_guard.reports.{name}"), "HASHES", False))


def shows_remedies(name: str) -> bool:
    """Whether an output format says which substitution would remove a finding, which costs looking for it."""
    return bool(getattr(importlib.import_module(f"npu_guard.reports.{name}"), "REMEDIES", False))


def shows_layers(name: str) -> bool:
    """Whether an output format shows every operator, not only those with findings."""
    return bool(getattr(importlib.import_module(f"npu_guard.reports.{name}"), "LAYERS", False))
