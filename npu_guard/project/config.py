"""Settings of a project and of a run: `[tool.npu-guard]` in pyproject.toml, or `npu-guard.toml`, then flags."""

from __future__ import annotations

import datetime
import fnmatch
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct, field

from npu_guard.base import clock
from npu_guard.base.errors import UsageError
from npu_guard.base.files import MOST_SETTINGS, read_small, toml
from npu_guard.base.limits import DEFAULT, Limits
from npu_guard.compilers.settings import CompilerSettings, validate_settings
from npu_guard.device.keys import convert, suggest
from npu_guard.device.partition import Given
from npu_guard.file.constant_inputs import Held
from npu_guard.results.findings import Location, Severity

DEFAULT_PROFILE = "aimotive-aiware"
Level = Literal["error", "warning", "note"]
LEVELS_OF_FAILURE = ("error", "warning", "never")


class Suppression(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Findings that a project accepts. `node` is a glob over node names, output names and dotted module paths."""

    rule: str
    """A code, the beginning of one, or the name of a rule."""
    reason: str
    """Why the finding is accepted; reports repeat it."""
    node: str = "*"
    """A glob over node names, output names and dotted module paths; `context.*` is the module `context` and all in it."""
    expires: str = ""
    """The last day on which it counts, as YYYY-MM-DD; empty where it always does."""

    def concerns(self, code: str, name: str) -> bool:
        """Whether it is about this rule."""
        return _matches(self.rule, code, name)

    def covers(self, code: str, name: str, location: Location) -> bool:
        """Whether it is about this rule and place, expired or not."""
        module = ".".join(location.scope)
        names = (location.node, location.output, module)
        return self.concerns(code, name) and (
            any(fnmatch.fnmatchcase(n, self.node) for n in names)
            or (self.node.endswith(".*") and fnmatch.fnmatchcase(module, self.node.removesuffix(".*")))
        )

    def expired(self) -> bool:
        """Whether it has lost its force; it keeps it through the day that it names."""
        return bool(self.expires) and clock.today() > datetime.date.fromisoformat(self.expires)


class SettingsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """The settings as a file has them."""

    profile: str = DEFAULT_PROFILE
    """The device: a name from `npu-guard profiles`, or the path of a TOML file."""
    select: tuple[str, ...] = ()
    """Only these rules: codes, beginnings of codes or names."""
    ignore: tuple[str, ...] = ()
    """Not these rules."""
    fail_on: Literal["error", "warning", "never"] = "error"
    """What makes the exit code 1."""
    allow_undecided: bool = False
    """Whether the exit code is 0 where nothing failed but a rule could not tell."""
    max_cost: float = math.inf
    """How many times the MACs and the activation bytes of the original a fixed model may have; `inf` is no limit."""
    severity: dict[str, Level] = {}
    """Severity of rules, by code, beginning of a code or name."""
    suppress: tuple[Suppression, ...] = ()
    """Findings that the project accepts, a table each."""
    limits: Limits = DEFAULT
    """How much a model may claim of the machine."""
    partition: dict[str, int | float] = {}
    """What a cut between NPU and host costs, over what the device file says."""
    compiler: dict[str, CompilerSettings] = {}
    """Vendors' compilers that `npu-guard compile` starts, by name."""
    cache: str = ""
    """A folder of results that `check` takes up again and adds to, relative to the settings."""
    simplify: bool = False
    """Whether `check`, `fix` and `report` judge models as onnx-simplifier leaves them, as `--simplify` does."""
    docs_url: str = ""
    """Where these pages are on the web, for links to rules: `/rules/CODE/` is added, or put `{code}` where the code goes."""


class Config(Struct, frozen=True):
    """Everything that decides what a run checks and how it ends."""

    profile: str = DEFAULT_PROFILE
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    fail_on: str = "error"
    allow_undecided: bool = False
    max_cost: float = math.inf
    """How many times the MACs and activation bytes of the original a fixed model may have."""
    severity: Mapping[str, Severity] = field(default_factory=dict)
    suppress: tuple[Suppression, ...] = ()
    input_shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    held: Held = Held()
    """Inputs that count as constants."""
    limits: Limits = DEFAULT
    partition: Given | None = None
    compilers: Mapping[str, CompilerSettings] = field(default_factory=dict)
    cache: Path | None = None
    """A folder of results that `check` takes up again and adds to."""
    simplify: bool = False
    """Whether models are judged as onnx-simplifier leaves them."""
    docs_url: str = ""
    """Where the manual is on the web; empty where it is nowhere."""
    file: str = ""
    """Where the settings are, if somebody named a file for them."""

    def selects(self, code: str, name: str) -> bool:
        """Whether a rule runs. Entries are codes, beginnings of codes (`NPU1`) or names."""
        chosen = not self.select or any(_matches(entry, code, name) for entry in self.select)
        return chosen and not any(_matches(entry, code, name) for entry in self.ignore)

    def suppression(self, code: str, name: str, location: Location) -> Suppression | None:
        """The suppression that accepts a finding at this place; one that has expired only where no other is left."""
        entries = [entry for entry in self.suppress if entry.covers(code, name, location)]
        return next((entry for entry in entries if not entry.expired()), entries[0] if entries else None)


def _matches(entry: str, code: str, name: str) -> bool:
    return entry == name or code.startswith(entry.upper())


def find_config(start: Path) -> Path | None:
    """The configuration file that counts in a folder: the nearest one upwards, up to the repository's root."""
    for folder in (start, *start.parents):
        own = folder / "npu-guard.toml"
        if os.path.isfile(own):
            return own
        project = folder / "pyproject.toml"
        if os.path.isfile(project) and _section(project) is not None:
            return project
        if os.path.exists(folder / ".git"):
            return None
    return None


def project_root(start: Path) -> Path:
    """Root of the project around a folder: where `.git` is, else the folder itself."""
    return next((folder for folder in (start, *start.parents) if os.path.exists(folder / ".git")), start)


def read_config(path: Path, rules: Iterable[tuple[str, str]]) -> Config:
    """Settings from a file; `rules` are (code, name) of the rules that exist. Raises UsageError."""
    section = _section(path)
    if section is None:
        raise UsageError(f"{path.name}: has no table [tool.npu-guard]")
    file: SettingsFile = convert(section, SettingsFile, path.name)
    # Settings that name no rule are read without importing any.
    known = list(rules) if any((file.select, file.ignore, file.severity, file.suppress)) else []
    for entry in (*file.select, *file.ignore, *file.severity, *(s.rule for s in file.suppress)):
        expect_rule(entry, known, path.name)
    for accepted in file.suppress:
        if not accepted.reason.strip():
            raise UsageError(f"{path.name}: the suppression of {accepted.rule} gives no reason; say why the finding is accepted")
        try:
            _ = accepted.expires and datetime.date.fromisoformat(accepted.expires)
        except ValueError:
            said = f"the suppression of {accepted.rule} expires {accepted.expires!r}"
            raise UsageError(f"{path.name}: {said}; write the date as YYYY-MM-DD") from None
    validate_settings(file.compiler, path.name)
    expect_docs_url(file.docs_url, f"{path.name}: docs-url")
    expect_max_cost(file.max_cost, f"{path.name}: max-cost")
    costs = {key.replace("-", "_"): value for key, value in file.partition.items()}
    severity = {
        code: Severity(level) for entry, level in file.severity.items() for code, name in known if _matches(entry, code, name)
    }
    return Config(
        file.profile, file.select, file.ignore, file.fail_on, file.allow_undecided, file.max_cost, severity, file.suppress,
        limits=file.limits,
        partition=convert(costs, Given, f"{path.name}, table partition") if costs else None, compilers=file.compiler,
        cache=path.parent / file.cache if file.cache else None, simplify=file.simplify, docs_url=file.docs_url,
    )  # fmt: skip


def expect_docs_url(value: str, where: str) -> None:
    """Raise UsageError where links to the manual would lead to no page on the web; empty is none."""
    plain = value.replace("{code}", "")
    if value and not (
        value.startswith(("https://", "http://")) and plain.isprintable() and not set(plain) & set(" <>\"'`{}|\\^()[]")
    ):
        raise UsageError(f"{where} is {value!r}; it must be an address such as https://example.com/npu-guard")


def expect_max_cost(value: float, where: str) -> None:
    """Raise UsageError where not even the original would keep to the factor."""
    if not value >= 1:  # as is nan
        raise UsageError(f"{where} is {value:g}; it must be a number from 1 on, such as 1.5, or inf for no limit")


def expect_rule(entry: str, known: Sequence[tuple[str, str]], where: str) -> None:
    """Raise UsageError where an entry of select, ignore or suppress means no rule."""
    if not entry or not any(_matches(entry, code, name) for code, name in known):
        words = [word for pair in known for word in pair]
        raise UsageError(f"{where}: no rule {entry!r}{suggest(entry, words)}")


def _section(path: Path) -> object | None:
    try:
        data = toml(read_small(path, MOST_SETTINGS).decode())
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path.name}: cannot be read ({error})") from None
    except ValueError as error:
        raise UsageError(f"{path.name}: not valid TOML: {error}") from None
    tool = data.get("tool", {})
    if isinstance(tool, dict) and "npu_guard" in tool:
        raise UsageError(f"{path.name}: nobody reads [tool.npu_guard]; write [tool.npu-guard]")
    section: object | None = tool.get("npu-guard") if isinstance(tool, dict) else None
    return data if section is None and path.name != "pyproject.toml" else section
