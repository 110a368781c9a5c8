"""All that is wrong with a device file at once, each with its line, for whoever writes one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import onnx

from npu_guard.base.conversion import explain
from npu_guard.base.errors import UsageError
from npu_guard.base.files import MOST_SETTINGS, read_small, toml
from npu_guard.device import kinds, ranks
from npu_guard.device.device import load_profile, requirements
from npu_guard.device.file import (
    Coverage,
    LimitEntry,
    OperatorsEntry,
    ProfileFile,
    RequirementEntry,
    Toolchain,
    Unlisted,
    name_problem,
    plain,
)
from npu_guard.device.keys import EVERY, LIMITS, convert, limit_value, suggest
from npu_guard.device.limit_words import words_of
from npu_guard.device.measure_tensor import formal_index, formal_inputs
from npu_guard.device.partition import Given
from npu_guard.device.pattern import PatternEntry, pattern
from npu_guard.device.requirement import Requirement
from npu_guard.device.toml_lines import Lines
from npu_guard.graph.ops import find_operator

PathInFile = tuple[str | int, ...]
_TABLES: dict[str, type[msgspec.Struct]] = {
    "toolchain": Toolchain,
    "unlisted": Unlisted,
    "coverage": Coverage,
    "partition": Given,
}


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong, at a line counted from 1."""

    line: int
    message: str


def problems(path: Path, known: Mapping[str, Path], codes: Iterable[str]) -> list[Problem]:
    """What is wrong with a file, in the order of its lines; `codes` are those of the rules. Raises UsageError if unreadable."""
    try:
        text = read_small(path, MOST_SETTINGS).decode("utf-8")
    except FileNotFoundError:
        raise UsageError(f"profile {path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"profile {path}: cannot be read ({error})") from None
    try:
        data = toml(text)
    except ValueError as error:
        at = re.search(r"line (\d+)", str(error))
        return [Problem(int(at[1]) if at else max(len(text.splitlines()), 1), f"not valid TOML: {error}")]
    lines = Lines(text)
    found = sorted({Problem(lines.of(where), message) for where, message in _Checker(data, known, list(codes)).all()})
    if not found:
        try:
            load_profile(path, known)
        except UsageError as error:
            found = [Problem(1, str(error).partition(": ")[2] or str(error))]
    return found


def refuse_broken(path: Path, known: Mapping[str, Path], codes: Iterable[str]) -> None:
    """Raise UsageError with the first that is wrong with a file, as `npu-guard profiles validate` words it."""
    found = problems(path, known, codes)
    if found:
        more = f" (and {len(found) - 1} more; 'npu-guard profiles validate {path}' lists them)" if len(found) > 1 else ""
        raise UsageError(f"profile {path}:{found[0].line}: {found[0].message}{more}")


class _Checker:
    def __init__(self, data: dict[str, Any], known: Mapping[str, Path], codes: list[str]) -> None:
        self.raw = data
        self.data = plain(data)
        self.known = known
        self.codes = codes

    def all(self) -> Iterator[tuple[PathInFile, str]]:
        """Each problem with the place in the file where it is."""
        yield from self._keys((), self.data, ProfileFile)
        for key in ("name", "title", "source"):
            if key not in self.data:
                yield (), f"{key!r} is missing"
            elif not isinstance(self.data[key], str) or (not self.data[key] and key != "name"):
                yield (key,), f"{key!r} must be words in quotes"
        for name in (self.data.get("name"), *self._table("variants")):
            if isinstance(name, str) and (problem := name_problem(name)):
                yield ("variants", name) if name in self._table("variants") else ("name",), problem
        if (extends := str(self.data.get("extends", ""))) and extends not in self.known:
            yield ("extends",), f"extends {extends!r}, which is no profile{suggest(extends, self.known)}"
        for key, kind in _TABLES.items():
            if key in self.data:
                yield from self._entry((key,), self.data[key], kind)
        yield from _unfilled(self.raw, ())
        yield from self._limits()
        for index, entry in enumerate(self._list("limit")):
            yield from self._requirement(("limit", index), entry)
        for index, entry in enumerate(self._list("pattern")):
            yield from self._pattern(("pattern", index), entry)
        for name in _strings(self.data.get("followers")):
            if "::" not in name and name not in operators():
                yield ("followers",), f"{name!r} is no ONNX operator{suggest(name, operators())}"
        for index, entry in enumerate(self._list("operators")):
            where = ("operators", index)
            yield from self._entry(where, entry, OperatorsEntry)
            yield from self._names(where, entry, "names")
        for code, word in self._table("severity").items():
            if code not in self.codes:
                yield ("severity", code), f"severity of {code!r}, which is no rule{suggest(code, self.codes)}"
            elif word not in ("error", "warning", "note"):
                yield ("severity", code), f"severity of {code!r} is {word!r}; it must be error, warning or note"

    def _list(self, key: str) -> list[Any]:
        found = self.data.get(key, [])
        return found if isinstance(found, list) else []

    def _table(self, key: str) -> dict[str, Any]:
        found = self.data.get(key, {})
        return found if isinstance(found, dict) else {}

    def _keys(self, where: PathInFile, entry: Any, kind: type[msgspec.Struct]) -> Iterator[tuple[PathInFile, str]]:
        names = [f.encode_name for f in msgspec.structs.fields(kind)]
        for key in entry:
            if key not in names:
                yield (*where, key), f"unknown key {key!r}{suggest(key, names) or '; known are ' + ', '.join(names)}"

    def _entry(self, where: PathInFile, entry: Any, kind: type[msgspec.Struct]) -> Iterator[tuple[PathInFile, str]]:
        """Unknown keys, then what msgspec says of the others."""
        if not isinstance(entry, dict):
            yield where, f"{where[0]!r} must be a table"
            return
        yield from self._keys(where, entry, kind)
        names = {f.encode_name for f in msgspec.structs.fields(kind)}
        given = {k: v for k, v in entry.items() if k in names}
        try:
            msgspec.convert(given, kind)
        except msgspec.ValidationError as error:
            refused = explain(error, given, kind, suggest)
            yield (*where, *refused.place[:1]), refused.message
        for name in _strings(entry.get("variants")):
            if name not in self._table("variants") and "extends" not in self.data:
                yield (*where, "variants"), f"no variant {name!r}{suggest(name, self._table('variants'))}"

    def _limits(self) -> Iterator[tuple[PathInFile, str]]:
        limits = self.data.get("limits")
        if not isinstance(limits, dict):
            yield ("limits",), "'limits' must be a table; limits of single operators are written as [[limit]]"
            return
        for key, entry in limits.items():
            where = ("limits", *key.split("."))
            if key not in LIMITS:
                yield where, f"unknown limit {key!r}{suggest(key, LIMITS)}"
            elif not isinstance(entry, dict):
                yield where, f"limit {key!r} is {entry!r}; write {key.split('.')[-1]} = {{ value = {entry!r} }}"
            else:
                yield from self._entry(where, entry, LimitEntry)
                try:
                    if "value" in entry:
                        limit_value("", key, entry["value"])
                except UsageError as error:
                    yield where, str(error).removeprefix(": ")
                else:
                    yield from ((where, message) for message in words_of(key, entry.get("value"), operators()))

    def _rank_max(self) -> int | None:
        """What the file says of the rank of all tensors, None where it says nothing."""
        limits = self._table("limits")
        tensor = limits.get("tensor.rank_max", {})
        most = tensor.get("value") if isinstance(tensor, dict) else None
        return most if isinstance(most, int) else None

    def _requirement(self, where: PathInFile, entry: Any) -> Iterator[tuple[PathInFile, str]]:
        found = list(self._entry(where, entry, RequirementEntry))
        yield from found
        if not isinstance(entry, dict):
            return
        yield from self._names(where, entry, "ops")
        if found:
            return
        try:
            required = requirements("", entry, str(self.data.get("source", "")))
        except UsageError as error:
            message = str(error).removeprefix(", ").removeprefix(": ")
            part = next((p for p in ("when", "any_of") if message.startswith(f"{p}: ")), "metric")
            yield (*where, part), message.removeprefix(f"{part}: ")
            return
        for requirement in required:
            yield from (((*where, *place), message) for place, message in unknown_names(requirement))
            yield from (((*where, *place), message) for place, message in kinds.problems(requirement))
            yield from (((*where, *place), message) for place, message in ranks.problems(requirement, self._rank_max()))
        for place, flag in _false_flags(entry):
            yield (*where, *place), f"{flag} = false says nothing; leave it out"

    def _pattern(self, where: PathInFile, entry: Any) -> Iterator[tuple[PathInFile, str]]:
        problems = list(self._entry(where, entry, PatternEntry))
        yield from problems
        if problems:
            return
        try:
            made = pattern(convert(entry, PatternEntry, ""), "", "")
        except UsageError as error:
            yield (*where, "graph"), str(error).removeprefix(": ")
            return
        for line in made.lines.values():
            if "::" not in line.op and line.op not in operators():
                yield (*where, "graph"), f"{line.op!r} is no ONNX operator{suggest(line.op, operators())}"

    def _names(self, where: PathInFile, entry: Any, key: str) -> Iterator[tuple[PathInFile, str]]:
        if isinstance(entry, dict):
            for name in _strings(entry.get(key)):
                if "::" not in name and name != EVERY and name not in operators():
                    yield (*where, key), f"{name!r} is no ONNX operator{suggest(name, operators())}"


def _unfilled(data: Any, where: PathInFile) -> Iterator[tuple[PathInFile, str]]:
    """Values that the template of `profiles new` leaves to its reader."""
    if isinstance(data, str) and data.startswith("FILL IN"):
        yield where, f"{where[-1]!r} is not filled in: {data}"
    for key, value in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield from _unfilled(value, (*where, key))


def _false_flags(entry: Any, where: PathInFile = ()) -> Iterator[tuple[PathInFile, str]]:
    """Flags of a bound that are false, in a `[[limit]]` and in the conditions in it."""
    for name in kinds.FLAGS:
        if entry.get(name) is False:
            yield (*where, name), name
    for key in ("when", "any_of"):
        for table in [entry[key]] if isinstance(entry.get(key), dict) else entry.get(key, ()):
            for metric, condition in table.items():
                if isinstance(condition, dict):
                    yield from _false_flags(condition, (key, metric))


def unknown_names(requirement: Requirement) -> Iterator[tuple[PathInFile, str]]:
    """Inputs and attributes in a limit that its operators do not have."""
    text = requirement.clause.metric.text
    own = "constant" if text.startswith("constant.") else "metric"
    places = [((own,), requirement.clause), *((("when",), c) for c in requirement.when)]
    places += [(("any_of",), c) for alternative in requirement.alternatives for c in alternative]
    for place, clause in places:
        for term in clause.metric.terms:
            if not term.argument:
                continue
            kind = "attribute" if term.base.named == "attribute" else "input"
            for op in (op for op in requirement.ops if op in operators()):
                names = attributes(op) if kind == "attribute" else list(formal_inputs(op))
                if kind == "input" and term.name.startswith("value."):
                    names += attributes(op)  # which is what some inputs were once
                if term.argument not in names and (kind == "attribute" or formal_index(find_operator(op), term.argument) is None):
                    there = suggest(term.argument, names) or f"; it has {', '.join(names) or 'none'}"
                    yield place, f"{op} has no {kind} {term.argument!r}{there}"


def operators() -> frozenset[str]:
    """Names of all operators that ONNX has or had."""
    return frozenset(_schemas())


def attributes(op: str) -> list[str]:
    """Attributes that an operator has or had."""
    return sorted(_schemas()[op])


_CACHE: dict[str, set[str]] = {}


def _schemas() -> dict[str, set[str]]:
    if not _CACHE:
        for schema in onnx.defs.get_all_schemas_with_history():
            if not schema.domain:
                _CACHE.setdefault(schema.name, set()).update(schema.attributes)
    return _CACHE


def _strings(value: Any) -> list[str]:
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else []
