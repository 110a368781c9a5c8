"""What a change makes of a folder of models: each pair by its path below the folder, and the models that one side alone has."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from npu_guard.file import sources
from npu_guard.gate.diff import Diff, compare_reports
from npu_guard.project import revision
from npu_guard.project.target import is_target
from npu_guard.results.findings import ModelReport, Report, Verdict
from npu_guard.results.summary import plural, verdict


class FolderDiff(Struct, frozen=True):
    """Two folders. Of `models`, each as it is in the head, those in `added` and `unread` are compared with nothing."""

    version: str
    base: str
    head: str
    models: Mapping[str, Diff]
    """By path below the folder, sorted."""
    added: tuple[str, ...]
    removed: tuple[str, ...]
    unread: tuple[str, ...]
    """Models whose base could not be read: all of their findings count."""
    fail_on: str
    allow_undecided: bool
    docs_url: str = ""
    renamed: Mapping[str, str] = {}
    """Models that have another path in the base, which they are compared with."""

    @property
    def report(self) -> Report:
        """What is new, as every format shows it."""
        models = tuple(diff.head for diff in self.models.values())
        return Report(self.version, models, self.fail_on, self.allow_undecided, docs_url=self.docs_url)

    @property
    def changed(self) -> Report:
        """The same, of models alone that have something new or could not be read."""
        report = self.report
        return replace(report, models=tuple(m for m in report.models if m.findings or m.error is not None or m.crashes))

    def totals(self) -> tuple[int, int, int]:
        """How many findings are new, fixed and unchanged."""
        found = self.models.values()
        return sum(len(d.head.findings) for d in found), sum(len(d.fixed) for d in found), sum(len(d.unchanged) for d in found)

    def words(self) -> str:
        """`2 new, 1 fixed, 9 unchanged`."""
        new, fixed, unchanged = self.totals()
        return Diff.counted(new, fixed, unchanged, sum(len(d.altered) for d in self.models.values()))

    def rows(self) -> list[tuple[str, str]]:
        """(model, what became of it) of every model that is not as it was."""
        told = dict.fromkeys(self.removed, "removed")
        for name, diff in self.models.items():
            if diff.head.error is not None:
                told[name] = "could not be read"
            elif name in self.added:
                told[name] = f"new model, {plural(len(diff.head.findings), 'finding')}"
            elif name in self.unread:
                told[name] = f"could not be read before, {plural(len(diff.head.findings), 'finding')}"
            elif name in self.renamed:
                told[name] = f"was {self.renamed[name]}, {diff.words()}"
            elif diff.head.findings or diff.fixed:
                told[name] = diff.words()
        return sorted(told.items())


def models_below(name: str) -> dict[str, str] | None:
    """Models of a folder, or of a folder of a revision of git, by their path below it; None where `name` is no folder.

    Raises UsageError where git cannot tell.
    """
    if os.path.isdir(name):
        return {Path(path).relative_to(name).as_posix(): path for path in sources.below(name)}
    found = None if is_target(name) else revision.parse(name)
    files = revision.files_of(found, sources.SUFFIX) if found is not None else None
    return None if files is None else {file: f"{name.rstrip('/')}/{file}" for file in files}


def renamed_below(names: tuple[str, str], before: Iterable[str], after: Iterable[str]) -> dict[str, str]:
    """Models that git takes for others of a revision under a new name, where a folder of one is compared with the working tree.

    From the path below the one folder to that below the other. Raises UsageError where git cannot tell.
    """
    added, gone = set(after) - set(before), set(before) - set(after)
    found = revision.parse(names[0])
    if not (added and gone) or found is None or not os.path.isdir(names[1]):
        return {}
    old, new = revision.rooted(found.path), revision.below_root(names[1])
    moved = revision.renamed_since(revision.commit_of(found.name))
    pairs = ((_below(path, new), _below(was, old)) for path, was in moved.items())
    return {path: was for path, was in pairs if path in added and was in gone}


def _below(path: str, folder: str) -> str:
    """The path as the folder counts it, empty where it lies elsewhere."""
    inside = "" if folder in ("", ".") else f"{folder}/"
    return path.removeprefix(inside) if path.startswith(inside) else ""


def compare_folders(
    names: tuple[str, str], sides: tuple[Mapping[str, ModelReport], Mapping[str, ModelReport]], settings: Report,
    renamed: Mapping[str, str] | None = None,
) -> FolderDiff:  # fmt: skip
    """Compare reports by path below the folders `names`, `renamed` ones with those of their old path.

    `settings` says what counts.
    """
    renamed = renamed or {}
    before, after = dict(sides[0]), sides[1]
    before.update({path: before.pop(was) for path, was in renamed.items()})
    models = {}
    for path, head in sorted(after.items()):
        base = before.get(path)
        if base is None or base.error is not None:
            base = ModelReport("", head.profile, Verdict.PASS)
        diff = compare_reports(base, head, settings)
        judged = diff.head.verdict if head.error is not None else verdict(diff.head.findings, settings.fail_on)
        models[path] = replace(diff, head=replace(diff.head, verdict=judged))
    return FolderDiff(
        settings.version, *names, models,
        added=tuple(path for path in models if path not in before),
        removed=tuple(path for path in sorted(before) if path not in after),
        unread=tuple(path for path in models if path in before and before[path].error is not None),
        fail_on=settings.fail_on, allow_undecided=settings.allow_undecided, docs_url=settings.docs_url, renamed=renamed,
    )  # fmt: skip
