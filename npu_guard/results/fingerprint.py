"""Which finding is which: its identity, and the pairing of two models' findings.

A place is a module, an operator and the numbers that a rule compared; never a message, a line or a node's name, which
change with every export. Spellings of one operator are one family. Where no exporter said of which module a node is, the
tensor's shape takes the module's place.
"""

from __future__ import annotations

import collections
import json
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from npu_guard.base.digest import sha256
from npu_guard.results.findings import Dim, Finding, Number

_MAX_PAIRS = 10_000
"""Candidates to weigh against each other among findings that differ in the module path alone."""
_MAX_ALL_PAIRS = 100_000
"""The same for all findings of a model."""
_MAX_DIGITS = 9
"""A part of a path that is longer is no number of a layer."""


class Mark(Struct, frozen=True):
    """What tells one finding from another."""

    rule: str
    outcome: str
    family: str
    evidence: tuple[str, Number] | None
    scope: tuple[str, ...]
    shape: tuple[Dim, ...]
    """Without extents of 1, which simplifiers add and drop."""
    fingerprint: str = ""

    @property
    def kind(self) -> Hashable:
        """What is found, wherever it is."""
        return self.rule, self.outcome, self.family, self.evidence

    @property
    def location(self) -> tuple[Hashable, ...]:
        """What is found and in which module; all shapes of a module are one place, so that a new input size changes nothing."""
        return self.kind, self.scope, () if self.scope else self.shape


def mark(finding: Finding) -> Mark:
    """The mark of a finding."""
    evidence, tensor = finding.evidence, finding.tensor
    return make_mark(
        finding.rule,
        finding.outcome.value,
        finding.location.family or finding.location.op_type,
        None if evidence is None else (evidence.limit, evidence.measured),
        finding.location.scope,
        None if tensor is None else tensor.shape,
        finding.fingerprint,
    )


def make_mark(
    rule: str,
    outcome: str,
    family: str,
    evidence: tuple[str, Number] | None,
    scope: tuple[str, ...],
    shape: Sequence[Dim] | None,
    fingerprint: str = "",
) -> Mark:
    """A mark of what a report or a baseline says; spellings of one operator have one family."""
    extents = tuple(d for d in shape or () if d != 1)
    return Mark(rule, outcome, family, evidence, scope, extents, fingerprint)


def with_fingerprints(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings with their fingerprints. Those at the same place are numbered in graph order."""
    seen: collections.Counter[Hashable] = collections.Counter()
    done = []
    for finding in findings:
        m = mark(finding)
        seen[m.location] += 1
        key = [m.rule, m.outcome, m.family, m.evidence, m.scope or ["", *map(str, m.shape)], seen[m.location]]
        digest = sha256(json.dumps(key).encode()).hexdigest()[:16]
        done.append(replace(finding, fingerprint=digest))
    return tuple(done)


def pair(before: Sequence[Mark], after: Sequence[Mark]) -> list[tuple[int, int]]:
    """Indices of the findings that two models have in common, each at most once; sorted.

    First those at the same place, then those whose module has been renumbered or wrapped (`blocks.3` is now `blocks.4` or
    `net.blocks.3`), last those of which one side does not know the module. Findings that agree in all of that are counted.
    """
    matching = _Matching(before, after)
    matching.same(lambda m: m.location)
    matching.moved()
    matching.unplaced()
    return sorted(matching.pairs)


def altered(before: Sequence[Mark], after: Sequence[Mark]) -> list[tuple[int, int]]:
    """Indices of findings that say the same of the same place with another number: a kernel of 19 taps that has 21 now.

    Only findings that `pair` leaves belong here; sorted by the first index.
    """
    matching = _Matching(before, after)
    matching.same(lambda m: (m.rule, m.outcome, m.family, m.evidence[0], *m.location[1:]) if m.evidence else None)
    return sorted(matching.pairs)


class _Matching:
    def __init__(self, before: Sequence[Mark], after: Sequence[Mark]) -> None:
        self.before = before
        self.after = after
        self.left = set(range(len(before)))
        self.right = set(range(len(after)))
        self.pairs: list[tuple[int, int]] = []
        self.paths: dict[tuple[str, ...], _Path] = {}
        """By scope, each worked out once."""

    def same(self, key: Callable[[Mark], Hashable | None]) -> None:
        """Pair the findings that agree in a key; among too many, those of the same shape go first."""
        for olds, news in self._groups(key):
            if len(olds) != len(news):
                self._same_in(olds, news, lambda m: m.shape)
            self._zip(olds, news)

    def moved(self) -> None:
        """Pair findings of renumbered or wrapped modules, by the change of path that explains the most of them."""
        options: dict[Hashable, list[tuple[int, int]]] = {}
        budget = _MAX_ALL_PAIRS
        for olds, news in self._groups(lambda m: (m.kind, m.shape) if m.scope else None):
            count = len(olds) * len(news)
            if count > min(budget, _MAX_PAIRS):
                self._same_in(olds, news, lambda m: self._path(m).masked)
                continue
            budget -= count
            paths = [(j, self._path(self.after[j])) for j in news]
            for i in olds:
                path = self._path(self.before[i])
                for j, other in paths:
                    change = _change(path, other)
                    if change is not None:
                        options.setdefault(change, []).append((i, j))
        for candidates in sorted(options.values(), key=len, reverse=True):
            for i, j in candidates:
                self._take(i, j)

    def _path(self, m: Mark) -> _Path:
        found = self.paths.get(m.scope)
        if found is None:
            found = self.paths[m.scope] = _Path.of(m.scope)
        return found

    def unplaced(self) -> None:
        """Pair what is left by its shape, where one of the two does not say in which module it is."""
        for olds, news in self._groups(lambda m: (m.kind, m.shape)):
            for old_placed, new_placed in ((False, False), (False, True), (True, False)):
                self._zip(
                    [i for i in olds if bool(self.before[i].scope) is old_placed],
                    [j for j in news if bool(self.after[j].scope) is new_placed],
                )

    def _groups(self, key: Callable[[Mark], Hashable | None]) -> list[tuple[list[int], list[int]]]:
        """Indices of unpaired findings that agree in a key, for keys that both sides have; None is no key."""
        old: dict[Hashable, list[int]] = {}
        new: dict[Hashable, list[int]] = {}
        for marks, free, found in ((self.before, self.left, old), (self.after, self.right, new)):
            for index in sorted(free):
                name = key(marks[index])
                if name is not None:
                    found.setdefault(name, []).append(index)
        return [(indices, new[name]) for name, indices in old.items() if name in new]

    def _same_in(self, olds: Sequence[int], news: Sequence[int], key: Callable[[Mark], Hashable]) -> None:
        found: dict[Hashable, tuple[list[int], list[int]]] = {}
        for i in olds:
            found.setdefault(key(self.before[i]), ([], []))[0].append(i)
        for j in news:
            found.setdefault(key(self.after[j]), ([], []))[1].append(j)
        for old, new in found.values():
            if len(old) != len(new):
                known = {self.after[j].fingerprint: j for j in new}
                for i in old:
                    if self.before[i].fingerprint in known:
                        self._take(i, known[self.before[i].fingerprint])
            self._zip(old, new)

    def _zip(self, olds: Iterable[int], news: Iterable[int]) -> None:
        for i, j in zip([i for i in olds if i in self.left], [j for j in news if j in self.right], strict=False):
            self._take(i, j)

    def _take(self, i: int, j: int) -> None:
        if i in self.left and j in self.right:
            self.left.remove(i)
            self.right.remove(j)
            self.pairs.append((i, j))


class _Path(NamedTuple):
    """A module path and its numbers."""

    scope: tuple[str, ...]
    masked: tuple[str | None, ...]
    """With None for each number."""
    numbers: tuple[int, ...]

    @staticmethod
    def of(scope: tuple[str, ...]) -> _Path:
        masked = tuple(None if part.isdecimal() and len(part) <= _MAX_DIGITS else part for part in scope)
        return _Path(scope, masked, tuple(int(a) for a, b in zip(scope, masked, strict=True) if b is None))


def _change(old: _Path, new: _Path) -> Hashable | None:
    """How a path has changed, None where it is another module: what was put before it or taken away, and by how much its
    numbers differ.
    """
    before, put = max(0, len(old.scope) - len(new.scope)), max(0, len(new.scope) - len(old.scope))
    tail = old.masked[before:]
    if tail != new.masked[put:]:
        return None
    count = tail.count(None)
    shift = tuple(b - a for a, b in zip(old.numbers[-count:], new.numbers[-count:], strict=True)) if count else ()
    if (before or put) and (any(shift) or count == len(tail)):
        return None
    return old.scope[:before], new.scope[:put], shift
