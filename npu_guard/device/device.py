"""A device as rules see it, put together from its file and those that it extends."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from npu_guard.base.errors import UsageError
from npu_guard.device.file import (
    Coverage,
    ProfileFile,
    RequirementEntry,
    Scope,
    Toolchain,
    Unlisted,
    flat_conditions,
    read_profile_file,
)
from npu_guard.device.keys import LIMITS, NOW, convert, limit_value, suggest
from npu_guard.device.partition import Given
from npu_guard.device.pattern import Pattern, pattern
from npu_guard.device.predicate import Clause, Predicate, bounds, clause
from npu_guard.device.requirement import CONSEQUENCES, Requirement, severity_of
from npu_guard.device.toolkit import in_range, version_of
from npu_guard.graph.plain import SAME
from npu_guard.graph.plain_names import INTEGERS, PLAIN
from npu_guard.results.findings import Severity

if TYPE_CHECKING:
    from npu_guard.analysis.facts import Facts
    from npu_guard.graph.graph import Node


class Limit(msgspec.Struct, frozen=True):
    """A device's limit with its source."""

    key: str
    value: Any
    source: str
    note: str = ""
    consequence: str = ""
    certain: bool = True
    variants: tuple[str, ...] = ()

    @property
    def severity(self) -> Severity | None:
        """How much it matters to be beyond it, None where the rule says so."""
        return severity_of(self.consequence or "compile-error", self.certain) if self.consequence or not self.certain else None

    @property
    def beyond(self) -> str:
        """What becomes of a node beyond it, as the end of a message."""
        words = f"; {CONSEQUENCES[self.consequence][0]}" if self.consequence else ""
        return words if self.certain else f"{words} (uncertain)"


class Operator(msgspec.Struct, frozen=True):
    """What a device's documents say of an operator: `supported`, `refused`, or `judged` by a rule of its own."""

    status: str
    source: str
    reason: str = ""
    only: Scope | None = None
    consequence: str = "compile-error"
    certain: bool = True


class Profile(msgspec.Struct, frozen=True):
    """One device."""

    name: str
    title: str
    source: str
    notes: tuple[str, ...]
    limits: Mapping[str, Limit]
    operators: Mapping[str, Operator]
    severity: Mapping[str, Severity]
    requirements: tuple[Requirement, ...] = ()
    """Limits of single operators."""
    unlisted: Unlisted | None = None
    toolchain: Toolchain | None = None
    variants: Mapping[str, str] = {}
    """Devices of the file, by name, where none of them was chosen; limits then hold for one of them at least."""
    coverage: Coverage | None = None
    partition: Given | None = None
    patterns: tuple[Pattern, ...] = ()
    """Groups of operators that the compiler takes as one."""
    faults: tuple[Pattern, ...] = ()
    """Groups of operators that do not fit together, and what becomes of them."""
    followers: frozenset[str] = frozenset()
    """Operators that leave the device with those that they stand beside."""
    files: tuple[Path, ...] = ()
    """Where it was read from, first the file that extends no other."""

    @property
    def unlisted_words(self) -> str:
        """What becomes of operators that the table does not have."""
        return "reported as not documented" if self.unlisted is None else f"refused: {self.unlisted.reason}"

    def groups(self, nodes: Iterable[Node], facts: Facts) -> Mapping[Node, tuple[Pattern, Node]]:
        """The pattern that takes each node, with the node that gives its result."""
        if not self.patterns:
            return {}
        from npu_guard.device.matching import taken  # few devices have any

        return taken(self.patterns, nodes, facts)

    def asks(self, metrics: Collection[str]) -> bool:
        """Whether a limit or a group of operators is about one of these metrics."""
        clauses = [c for r in self.requirements for c in (r.clause, *r.when, *(c for way in r.alternatives for c in way))]
        clauses += [c for p in (*self.patterns, *self.faults) for found in p.where.values() for c in found]
        return any(c.metric.text in metrics for c in clauses)

    def limit(self, key: str) -> Any:
        """The value of a limit, None where the device sets none."""
        assert key in LIMITS, key  # no rule reads a key that no profile could set
        found = self.limits.get(key)
        return None if found is None else found.value

    def operator(self, op: str) -> Operator | None:
        """What the documents say of an operator, under an old name of it too; None where they do not mention it."""
        return self.operators.get(op) or self.operators.get(NOW.get(op) or (PLAIN[op] if op in SAME or op in INTEGERS else ""))


def load_profile(path: Path, known: Mapping[str, Path], variant: str | None = None, toolkit: str = "") -> Profile:
    """Read a profile and those that it extends; `known` maps names to files. Raises UsageError.

    Of a file with variants, the limits of one of them; of all of them where `variant` is None. `toolkit` is the compiler that a
    user has, NAME==VERSION, where it is not that of the file.
    """
    paths, chain = _chain(path, known)
    last = chain[-1]
    variants = next((f.variants for f in reversed(chain) if f.variants), {})
    if variant is not None and variant not in variants:
        there = f"; it has {', '.join(variants)}" if variants else ""
        raise UsageError(f"profile {last.name} has no variant {variant!r}{suggest(variant, variants) or there}")
    made = _Merger(path.name, chain, variants, variant, toolkit).profile()
    return msgspec.structs.replace(made, files=paths)


def _chain(path: Path, known: Mapping[str, Path]) -> tuple[tuple[Path, ...], list[ProfileFile]]:
    """The file and what it extends, first the one that extends nothing: where they are, and what they say."""
    files: list[ProfileFile] = []
    paths: list[Path] = []
    where = path
    while True:
        file = read_profile_file(where)
        if file.name in (f.name for f in files):
            raise UsageError(f"profile {where.name}: extends itself by way of {' -> '.join(f.name for f in files)}")
        files.append(file)
        paths.append(where)
        if not file.extends:
            return tuple(paths[::-1]), files[::-1]
        if file.extends not in known:
            raise UsageError(f"profile {where.name}: extends {file.extends!r}, which is no profile{suggest(file.extends, known)}")
        where = known[file.extends]


class _Merger:
    def __init__(
        self, file_name: str, chain: list[ProfileFile], variants: Mapping[str, str], variant: str | None, toolkit: str
    ) -> None:
        self.where = f"profile {file_name}"
        self.chain = chain
        self.variants = variants
        self.variant = variant
        self.toolchain = next((f.toolchain for f in reversed(chain) if f.toolchain), None)
        self.toolkit = toolkit
        self.measured = self.toolchain.version if self.toolchain else ""
        if toolkit:
            version = version_of(toolkit, self.toolchain.name if self.toolchain else "", self.where)
            assert self.toolchain is not None
            self.toolchain = msgspec.structs.replace(self.toolchain, version=version)

    def profile(self) -> Profile:
        """All files of the chain, later ones over earlier ones. Raises UsageError."""
        last = self.chain[-1]
        limits: dict[str, Limit] = {}
        operators: dict[str, Operator] = {}
        severity: dict[str, Severity] = {}
        requirements: list[Requirement] = []
        patterns: list[Pattern] = []
        for file in self.chain:
            for name in file.without:
                left = {r.id for r in requirements} | set(limits)
                if name not in left:
                    raise UsageError(f"{self.where}: leaves out {name!r}, which it does not inherit{suggest(name, left)}")
                limits.pop(name, None)
                requirements = [r for r in requirements if r.id != name]
            self._limits(file, limits)
            mine = [r for i, entry in enumerate(file.limit, 1) for r in self._requirements(i, entry, file)]
            replaced = {r.id for r in mine if r.id}
            requirements = [r for r in requirements if r.id not in replaced] + mine
            self._operators(file, operators)
            patterns += self._patterns(file)
            severity |= {code: Severity(word) for code, word in file.severity.items()}
        title = last.title if self.variant is None else self.variants[self.variant]
        name = last.name if self.variant is None else f"{last.name}:{self.variant}"
        notes = tuple(n for f in self.chain for n in f.notes)
        if self.toolkit and self.toolchain and self.toolchain.version != self.measured:
            notes = (*notes, f"Limits are of {self.toolchain.name} {self.measured} where no other version is known to differ.")
        return Profile(
            f"{name}@{self.toolkit}" if self.toolkit else name, title, last.source, notes, limits, operators, severity,
            tuple(requirements), next((f.unlisted for f in reversed(self.chain) if f.unlisted), None), self.toolchain,
            self.variants if self.variant is None else {}, last.coverage,
            next((f.partition for f in reversed(self.chain) if f.partition), None),
            tuple(p for p in patterns if not p.consequence), tuple(p for p in patterns if p.consequence),
            frozenset(op for f in self.chain for op in f.followers),
        )  # fmt: skip

    def _limits(self, file: ProfileFile, limits: dict[str, Limit]) -> None:
        for key, entry in file.limits.items():
            value = limit_value(self.where, key, entry.value)
            if self._chosen(entry.variants, f"limit {key!r}"):
                limits[key] = Limit(
                    key, value, entry.source or file.source, entry.note, entry.consequence or "",
                    entry.certainty != "uncertain", entry.variants,
                )  # fmt: skip

    def _operators(self, file: ProfileFile, operators: dict[str, Operator]) -> None:
        for group in file.operators:
            if not self._chosen(group.variants, "[[operators]]") or not self._current(group.toolchain, "[[operators]]"):
                continue
            for op in group.names:
                operators[op] = Operator(
                    group.status, group.source or file.source, group.reason, group.only, group.consequence,
                    group.certainty != "uncertain",
                )  # fmt: skip

    def _patterns(self, file: ProfileFile) -> list[Pattern]:
        found = []
        for index, entry in enumerate(file.pattern, 1):
            where = f"[[pattern]] {index} ({entry.name})"
            made = pattern(entry, file.source, f"{self.where}, {where}")
            if self._chosen(entry.variants, where) and self._current(entry.toolchain, where):
                found.append(made)
        return found

    def _requirements(self, index: int, entry: RequirementEntry, file: ProfileFile) -> Iterable[Requirement]:
        where = f"[[limit]] {index} ({entry.id or entry.metric or 'constant'})"
        found = requirements(f"{self.where}, {where}", entry, file.source)
        tool = self.toolchain.name if self.toolchain else ""
        if entry.reported:
            met = self._current(entry.reported, where)  # which says what is wrong with how it is written, too
            if self.toolkit and not met:
                return ()
            met_with = f"{tool} {entry.reported}"
            change = {"reported": "", "of": met_with} if self.toolkit else {"reported": met_with}
            found = tuple(msgspec.structs.replace(r, **change) for r in found)
        elif entry.toolchain:
            found = tuple(msgspec.structs.replace(r, of=f"{tool} {entry.toolchain}") for r in found)
        if self._chosen(entry.variants, where) and self._current(entry.toolchain, where):
            return found
        return ()

    def _chosen(self, variants: tuple[str, ...], where: str) -> bool:
        for name in variants:
            if name not in self.variants:
                raise UsageError(f"{self.where}, {where}: no variant {name!r}{suggest(name, self.variants)}")
        return not variants or self.variant is None or self.variant in variants

    def _current(self, versions: str, where: str) -> bool:
        if not versions:
            return True
        if self.toolchain is None or not self.toolchain.version:
            raise UsageError(f"{self.where}, {where}: toolchain = {versions!r} needs a [toolchain] with a version")
        return in_range(versions, self.toolchain.version, f"{self.where}, {where}")


def requirements(where: str, data: Mapping[str, Any] | RequirementEntry, source: str) -> tuple[Requirement, ...]:
    """The requirements of one `[[limit]]`, as a file or an example writes it. Raises UsageError."""
    entry = data if isinstance(data, RequirementEntry) else convert(flat_conditions(data), RequirementEntry, where)
    given = bounds(entry)
    ways = [bool(given), bool(entry.any_of), bool(entry.constant)]
    if sum(ways) != 1 or bool(entry.metric) == bool(entry.constant):
        raise UsageError(f"{where}: give 'metric' with a bound such as max, 'metric' with 'any_of', or 'constant'")
    if not entry.ops:
        raise UsageError(f"{where}: 'ops' is empty; \"*\" means all operators")
    when = _clauses(entry.when, f"{where}, when")
    alternatives = tuple(_clauses(a, f"{where}, any_of") for a in entry.any_of)
    if entry.constant:
        clauses = [clause(f"constant.{name}", True, where) for name in entry.constant]
    elif alternatives:
        clauses = [Clause(clause(entry.metric, True, where).metric, ())]
    else:
        plain = Predicate(**{f: getattr(entry, f) for f in Predicate.__struct_fields__})
        clauses = [clause(entry.metric, plain, where)]
    return tuple(
        Requirement(
            entry.ops, c, entry.source or source, when, alternatives, entry.consequence, entry.certainty,
            entry.note, entry.id, entry.reported, entry.variants, as_written=entry.as_written,
        )
        for c in clauses
    )  # fmt: skip


def _clauses(table: Mapping[str, Any], where: str) -> tuple[Clause, ...]:
    return tuple(clause(name, condition, where) for name, condition in table.items())
