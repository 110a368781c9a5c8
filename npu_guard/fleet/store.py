"""What was found, kept: SQLite in a file, or any database that SQLAlchemy has a URL for.

A result belongs to a model's structure (`key`) and to what else decides it (`stamp`: version, device, settings), so it is
made once, whatever the model is called. That a name with a mark has a key spares reading the model again.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import sqlalchemy as sql

from npu_guard.errors import UsageError
from npu_guard.fleet.work import Done, Row
from npu_guard.printable import printable

_META = sql.MetaData()
_RESULTS = sql.Table(
    "results", _META,
    sql.Column("key", sql.String(64), primary_key=True),
    sql.Column("stamp", sql.String(32), primary_key=True),
    sql.Column("row", sql.LargeBinary, nullable=False),
)  # fmt: skip
_MODELS = sql.Table(
    "models", _META,
    sql.Column("name", sql.Text, primary_key=True),
    sql.Column("mark", sql.String(128), primary_key=True),
    sql.Column("key", sql.String(64), nullable=False),
)  # fmt: skip
_RUNS = sql.Table(
    "runs", _META,
    sql.Column("id", sql.Integer, primary_key=True, autoincrement=True),
    sql.Column("started", sql.String(32), nullable=False),
    sql.Column("finished", sql.String(32)),
    sql.Column("profile", sql.String(200), nullable=False),
    sql.Column("stamp", sql.String(32), nullable=False),
    sql.Column("sources", sql.Text, nullable=False),
)  # fmt: skip
_REPORTED = sql.Table(
    "reported", _META,
    sql.Column("run", sql.Integer, primary_key=True),
    sql.Column("name", sql.Text, primary_key=True),
    sql.Column("size", sql.BigInteger, nullable=False),
    sql.Column("key", sql.String(64), nullable=False),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """One run over a fleet, as it was recorded."""

    id: int
    started: str
    finished: str | None
    profile: str
    stamp: str
    sources: tuple[str, ...]


class Store:
    """Open until closed; every `add` is a transaction, so a run that is killed loses what was being checked and no more."""

    def __init__(self, url: str) -> None:
        where = url if "://" in url else f"sqlite:///{Path(url).absolute()}"
        try:
            self._engine = sql.create_engine(where)
            with self._engine.connect() as connection:
                if self._engine.dialect.name == "sqlite":  # readers and the writer do not block each other
                    connection.exec_driver_sql("pragma journal_mode = wal")
            _META.create_all(self._engine)
        except (sql.exc.SQLAlchemyError, ImportError) as error:
            reason = printable(str(getattr(error, "orig", None) or error).splitlines()[0], 200)
            raise UsageError(f"--store {printable(url, 200)}: cannot be used ({reason})") from None

    def close(self) -> None:
        """Release the database."""
        self._engine.dispose()

    def begin(self, profile: str, stamp: str, sources: Iterable[str]) -> int:
        """The number of an unfinished run over the same, to be gone on with, or of a new one."""
        text = _text("\n".join(sources))
        same = (_RUNS.c.stamp == stamp) & (_RUNS.c.sources == text) & _RUNS.c.finished.is_(None)
        with self._engine.begin() as connection:
            found = connection.execute(sql.select(_RUNS.c.id).where(same).order_by(_RUNS.c.id.desc())).scalar()
            if found is None:
                values = {"started": _now(), "profile": profile, "stamp": stamp, "sources": text}
                found = connection.execute(sql.insert(_RUNS).values(values).returning(_RUNS.c.id)).scalar_one()
        return int(found)

    def finish(self, run: int) -> None:
        """Mark a run as complete."""
        with self._engine.begin() as connection:
            connection.execute(sql.update(_RUNS).where(_RUNS.c.id == run).values(finished=_now()))

    def reported(self, run: int) -> set[str]:
        """Names of models that this run has a result for."""
        with self._engine.connect() as connection:
            return set(connection.execute(sql.select(_REPORTED.c.name).where(_REPORTED.c.run == run)).scalars())

    def known(self, stamp: str, name: str, mark: str) -> Row | None:
        """The result of a model that has not changed since, if it holds under this stamp."""
        join = sql.select(_RESULTS.c.row).join(_MODELS, _MODELS.c.key == _RESULTS.c.key)
        here = (_MODELS.c.name == _text(name)) & (_MODELS.c.mark == mark) & (_RESULTS.c.stamp == stamp)
        with self._engine.connect() as connection:
            row = connection.execute(join.where(here)).scalar()
        return None if row is None or not mark else _decoded(row)

    def add(self, run: int, stamp: str, done: Done) -> bool:
        """Record a result, once for each run and name: False where that was done before."""
        name = _text(done.name)
        with self._engine.begin() as connection:
            again = (_REPORTED.c.run == run) & (_REPORTED.c.name == name)
            if connection.execute(sql.select(_REPORTED.c.run).where(again)).first() is not None:
                return False
            same = (_RESULTS.c.key == done.row.key) & (_RESULTS.c.stamp == stamp)
            if connection.execute(sql.select(_RESULTS.c.key).where(same)).first() is None:
                content = msgspec.json.encode(done.row)
                connection.execute(sql.insert(_RESULTS).values(key=done.row.key, stamp=stamp, row=content))
            if done.mark:
                here = (_MODELS.c.name == name) & (_MODELS.c.mark == done.mark)
                connection.execute(sql.delete(_MODELS).where(here))
                connection.execute(sql.insert(_MODELS).values(name=name, mark=done.mark, key=done.row.key))
            connection.execute(sql.insert(_REPORTED).values(run=run, name=name, size=done.size, key=done.row.key))
        return True

    def rows(self, run: Run) -> Iterator[tuple[str, int, Row]]:
        """(name, size in bytes, result) of every model of a run, sorted by name."""
        join = sql.select(_REPORTED.c.name, _REPORTED.c.size, _RESULTS.c.row).join(_RESULTS, _REPORTED.c.key == _RESULTS.c.key)
        chosen = join.where((_REPORTED.c.run == run.id) & (_RESULTS.c.stamp == run.stamp)).order_by(_REPORTED.c.name)
        with self._engine.connect() as connection:
            for name, size, row in connection.execute(chosen):
                yield name, size, _decoded(row)

    def runs(self) -> list[Run]:
        """All runs, oldest first."""
        with self._engine.connect() as connection:
            found = connection.execute(sql.select(_RUNS).order_by(_RUNS.c.id)).all()
        return [Run(r.id, r.started, r.finished, r.profile, r.stamp, tuple(r.sources.split("\n"))) for r in found]


def _decoded(content: bytes) -> Row:
    return msgspec.json.decode(content, type=Row)


def _text(name: str) -> str:
    """As a database takes it: a file name need not be UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode()


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
