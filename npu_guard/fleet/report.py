"""What a run over a fleet comes to, as the formats in `reports/scan/` show it, and Parquet with a row for each model."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npu_guard.base.errors import UsageError
from npu_guard.base.files import write_atomic
from npu_guard.base.installation import VERSION
from npu_guard.checking import registry
from npu_guard.fleet.scan import Progress, Tally
from npu_guard.fleet.store import Run, Store
from npu_guard.fleet.work import VERDICTS, Done, Row

_BADNESS = ("pass", "undecided", "fail", "unreadable", "internal")
KINDS = ("worse", "new", "better", "gone")


@dataclass(frozen=True, slots=True)
class Affected:
    """One rule over the fleet."""

    code: str
    name: str
    models: int
    errors: int
    warnings: int
    undecided: int


@dataclass(frozen=True, slots=True)
class Point:
    """One run over the same device and sources, for the trend."""

    run: Run
    verdicts: dict[str, int]
    total: int
    errors: int


@dataclass(frozen=True, slots=True)
class Change:
    """A model that is not as it was in the run before; None where it is not in it."""

    name: str
    before: str | None
    after: str | None

    @property
    def kind(self) -> str:
        """`worse`, `better`, `new` or `gone`."""
        if self.before is None or self.after is None:
            return "new" if self.before is None else "gone"
        return "worse" if _BADNESS.index(self.after) > _BADNESS.index(self.before) else "better"


@dataclass(frozen=True, slots=True)
class Fleet:
    """What one run found, and those before it."""

    run: Run
    rows: tuple[tuple[str, int, Row], ...]
    trend: tuple[Point, ...]
    changes: tuple[Change, ...] = ()
    """Since the run before, the worst first; nothing in the first run."""
    tally: Tally | None = None
    """What the run did, where it is this one."""

    @staticmethod
    def of(store: Store, run: int, tally: Tally | None = None) -> Fleet:
        """Read a run from the store."""
        runs = store.runs()
        this = next(r for r in runs if r.id == run)
        alike = [r for r in runs if r.sources == this.sources and r.profile == this.profile and (r.finished or r.id == run)]
        rows = tuple(store.rows(this))
        points = tuple(_point(r, store.rows(r)) for r in alike[-12:])
        before = max((r for r in alike if r.id < run), key=lambda r: r.id, default=None)
        then = {name: row.verdict for name, _, row in store.rows(before)} if before is not None else None
        changes = () if then is None else _changes(then, {name: row.verdict for name, _, row in rows})
        return Fleet(this, rows, points, changes, tally)

    @property
    def verdicts(self) -> dict[str, int]:
        """Models by verdict."""
        return _verdicts(self.rows)

    def affected(self) -> list[Affected]:
        """Rules by the number of models that they hold back."""
        names = {r.code: r.name for r in registry.rules()}
        sums: dict[str, list[int]] = {}
        for _, _, row in self.rows:
            for code, counts in row.rules.items():
                entry = sums.setdefault(code, [0, 0, 0, 0])
                for i, n in enumerate((1, *counts)):
                    entry[i] += n
        found = [Affected(code, names.get(code, ""), *counts) for code, counts in sums.items()]
        return sorted(found, key=lambda a: (-a.models, a.code))

    def internal(self) -> Iterator[tuple[str, Row]]:
        """Models at which a bug of ours showed."""
        yield from ((name, row) for name, _, row in self.rows if row.verdict == "internal" or row.error_kind == "internal")

    def exit_code(self, fail_on: str) -> int:
        """As of `check`: the highest over the models."""
        seen = self.verdicts
        codes = [0]
        if any(True for _ in self.internal()):
            codes.append(4)
        if seen["unreadable"]:
            codes.append(3)
        if fail_on != "never" and (seen["fail"] or seen["undecided"]):
            codes.append(1)
        return max(codes)


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Change, ...]:
    found = [Change(name, before.get(name), verdict) for name, verdict in after.items() if before.get(name) != verdict]
    found += [Change(name, verdict, None) for name, verdict in before.items() if name not in after]
    return tuple(sorted(found, key=lambda c: (KINDS.index(c.kind), c.name)))


def _verdicts(rows: Iterable[tuple[str, int, Row]]) -> dict[str, int]:
    counts = dict.fromkeys(VERDICTS, 0)
    for _, _, row in rows:
        counts[row.verdict] += 1
    return counts


def _point(run: Run, rows: Iterable[tuple[str, int, Row]]) -> Point:
    errors = 0

    def counted() -> Iterator[tuple[str, int, Row]]:  # a million rows go by and are not kept
        nonlocal errors
        for name, size, row in rows:
            errors += row.counts[0]
            yield name, size, row

    verdicts = _verdicts(counted())
    return Point(run, verdicts, sum(verdicts.values()), errors)


@contextlib.contextmanager
def live() -> Iterator[Progress]:
    """A bar with the verdicts so far, on standard error while somebody looks at it."""
    if not sys.stderr.isatty():
        yield lambda done, count, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Checking", total=None)
        seen: dict[str, int] = {}

        def update(done: Done | None, count: int, total: int) -> None:
            if done is not None:
                seen[done.row.verdict] = seen.get(done.row.verdict, 0) + 1
            words = "  ".join(f"{n} {verdict}" for verdict, n in sorted(seen.items()))
            bar.update(task, completed=count, total=total, description=words or "Checking")

        yield update


def write_parquet(fleet: Fleet, path: Path) -> None:
    """A row for each model, for whatever reads Parquet. Raises UsageError where pyarrow is missing."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UsageError("--parquet needs the package pyarrow; pip install 'npu-guard[fleet]'") from None
    columns: dict[str, list[Any]] = {
        "model": [name for name, _, _ in fleet.rows],
        "profile": [fleet.run.profile] * len(fleet.rows),
        "bytes": [size for _, size, _ in fleet.rows],
    }
    for field in ("key", "verdict", "error_kind", "error", "nodes", "params", "macs", "npu_macs_percent", "seconds", "fetched"):
        columns[field] = [getattr(row, field) for _, _, row in fleet.rows]
    for i, field in enumerate(("errors", "warnings", "undecided")):
        columns[field] = [row.counts[i] for _, _, row in fleet.rows]
    columns["rules"] = [sorted(row.rules) for _, _, row in fleet.rows]
    table = pa.table(columns, metadata={"npu_guard": VERSION, "run": str(fleet.run.id), "stamp": fleet.run.stamp})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    write_atomic(path, [sink.getvalue().to_pybytes()])
