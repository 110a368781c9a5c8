"""What was found, kept: SQLite in a file, or any database that SQLAlchemy has a URL for.

A result belongs to a model's structure (`key`) and to what else decides it (`stamp`: version, device, settings), so it is
made once, whatever the model is called. That a name with a mark has a key spares reading the model again.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite

from npu_guard.base.errors import UsageError
from npu_guard.base.regex import regex
from npu_guard.base.text import printable
from npu_guard.fleet.work import VERDICTS, Done, Row

_NAME_BYTES = 1500
_WAIT = 60
"""Seconds for another process that writes to the same SQLite file."""
_PLAIN_POSTGRESQL = regex(r"^postgres(ql)?://")
_LOCK = 0x6E70755F67756172
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
        self._shown = printable(without_password(url), 200)
        where = url if "://" in url else f"sqlite:///{Path(url).absolute()}"
        where = _PLAIN_POSTGRESQL.sub("postgresql+psycopg://", where)  # else SQLAlchemy takes psycopg2
        wait = {"connect_args": {"timeout": _WAIT}} if where.startswith("sqlite") else {}
        try:
            self._engine = sql.create_engine(where, **wait)
        except (sql.exc.SQLAlchemyError, ImportError, ValueError) as error:
            hint = "; pip install 'npu-guard[postgresql]'" if "psycopg" in str(error) else ""
            raise UsageError(f"--store {self._shown}: cannot be used ({_reason(error)}){hint}") from None
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        """Make the tables. Two scans that do so at once wait for each other."""
        if self._engine.dialect.name == "sqlite":
            self._share()
        with self._transaction() as connection:
            if self._engine.dialect.name == "postgresql":
                connection.execute(sql.text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            elif self._engine.dialect.name == "sqlite":
                connection.exec_driver_sql("begin immediate")
            _META.create_all(connection)

    def _share(self) -> None:
        """Let readers and the writer of a file go on beside each other. SQLite does not wait for its turn to change that."""
        deadline = time.monotonic() + _WAIT
        while True:
            try:
                with self._engine.connect() as connection:
                    connection.exec_driver_sql("pragma journal_mode = wal")
                return
            except sql.exc.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise self._unusable(error) from None
                time.sleep(0.05)
            except sql.exc.SQLAlchemyError as error:
                raise self._unusable(error) from None

    def _unusable(self, error: BaseException) -> UsageError:
        return UsageError(f"--store {self._shown}: cannot be used ({_reason(error)})")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sql.Connection]:
        """All or nothing. Raises UsageError where the database does not answer, or not as it should."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except sql.exc.SQLAlchemyError as error:
            raise self._unusable(error) from None

    def close(self) -> None:
        """Release the database."""
        self._engine.dispose()

    def begin(self, profile: str, stamp: str, sources: Iterable[str]) -> int:
        """The number of an unfinished run over the same, to be gone on with, or of a new one."""
        text = "\n".join(map(stored, sources))
        same = (_RUNS.c.stamp == stamp) & (_RUNS.c.sources == text) & _RUNS.c.finished.is_(None)
        with self._transaction() as connection:
            found = connection.execute(sql.select(_RUNS.c.id).where(same).order_by(_RUNS.c.id.desc())).scalar()
            if found is None:
                values = {"started": _now(), "profile": stored(profile)[:200], "stamp": stamp, "sources": text}
                found = connection.execute(sql.insert(_RUNS).values(values).returning(_RUNS.c.id)).scalar_one()
        return int(found)

    def finish(self, run: int) -> None:
        """Mark a run as complete."""
        with self._transaction() as connection:
            connection.execute(sql.update(_RUNS).where(_RUNS.c.id == run).values(finished=_now()))

    def reported(self, run: int) -> set[str]:
        """Names of models that this run has a result for."""
        with self._transaction() as connection:
            return set(connection.execute(sql.select(_REPORTED.c.name).where(_REPORTED.c.run == run)).scalars())

    def known(self, stamp: str, name: str, mark: str) -> Row | None:
        """The result of a model that has not changed since, if it holds under this stamp; a damaged one is none."""
        join = sql.select(_RESULTS.c.row).join(_MODELS, _MODELS.c.key == _RESULTS.c.key)
        here = (_MODELS.c.name == stored(name)) & (_MODELS.c.mark == mark) & (_RESULTS.c.stamp == stamp)
        with self._transaction() as connection:
            row = connection.execute(join.where(here)).scalar()
        if row is None or not mark:
            return None
        with contextlib.suppress(UsageError):
            return _decoded(row)
        return None

    def add(self, run: int, stamp: str, done: Done) -> bool:
        """Record a result, once for each run and name: False where that was done before."""
        name, key = stored(done.name), done.row.key
        # The first statement writes: a transaction that reads first cannot go on where another scan has written since.
        with self._transaction() as connection:
            if not self._put(connection, _REPORTED, run=run, name=name, size=done.size, key=key):
                return False
            row = msgspec.json.encode(done.row)
            if not self._put(connection, _RESULTS, key=key, stamp=stamp, row=row):
                same = (_RESULTS.c.key == key) & (_RESULTS.c.stamp == stamp)
                connection.execute(sql.update(_RESULTS).where(same).values(row=row))
            if done.mark and not self._put(connection, _MODELS, name=name, mark=done.mark, key=key):
                here = (_MODELS.c.name == name) & (_MODELS.c.mark == done.mark)
                connection.execute(sql.update(_MODELS).where(here).values(key=key))
        return True

    def _put(self, connection: sql.Connection, table: sql.Table, **values: object) -> bool:
        """Insert a row; False where another scan, or an earlier one, has done so."""
        if self._engine.dialect.name in ("sqlite", "postgresql"):
            insert = sqlite.insert if self._engine.dialect.name == "sqlite" else postgresql.insert
            put = insert(table).values(**values).on_conflict_do_nothing().returning(sql.literal(1))
            return connection.execute(put).first() is not None
        same = [table.c[column.name] == values[column.name] for column in table.primary_key]
        if connection.execute(sql.select(sql.literal(1)).where(*same)).first() is not None:
            return False
        connection.execute(sql.insert(table).values(**values))
        return True

    def rows(self, run: Run) -> Iterator[tuple[str, int, Row]]:
        """(name, size in bytes, result) of every model of a run, sorted by name."""
        join = sql.select(_REPORTED.c.name, _REPORTED.c.size, _RESULTS.c.row).join(_RESULTS, _REPORTED.c.key == _RESULTS.c.key)
        chosen = join.where((_REPORTED.c.run == run.id) & (_RESULTS.c.stamp == run.stamp)).order_by(_REPORTED.c.name)
        with self._transaction() as connection:
            for name, size, row in connection.execute(chosen):
                yield name, size, _decoded(row)

    def runs(self) -> list[Run]:
        """All runs, oldest first."""
        with self._transaction() as connection:
            found = connection.execute(sql.select(_RUNS).order_by(_RUNS.c.id)).all()
        return [Run(r.id, r.started, r.finished, r.profile, r.stamp, tuple(r.sources.split("\n"))) for r in found]


def _decoded(content: bytes) -> Row:
    try:
        row = msgspec.json.decode(content, type=Row)
        if row.verdict not in VERDICTS:
            raise ValueError(f"a verdict {row.verdict!r}")
    except (ValueError, RecursionError) as error:
        reason = printable(str(error), 200)
        raise UsageError(f"the store of results holds one that npu-guard never wrote ({reason}); take another store") from None
    return row


def without_password(url: str) -> str:
    """A URL that may be shown."""
    return re.sub(r"(://[^/@:]*):.*@", r"\1:***@", url)


def _reason(error: BaseException) -> str:
    """The first line of what the driver says. Passwords are no part of it."""
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return printable(without_password(lines[0] if lines else type(error).__name__), 200)


def stored(name: str) -> str:
    """As a database takes it: a file name need not be UTF-8, and an index has no room for the longest ones."""
    raw = name.encode("utf-8", "backslashreplace")
    if len(raw) <= _NAME_BYTES:
        return raw.decode()
    return f"{raw[:_NAME_BYTES].decode('utf-8', 'ignore')}… ({hashlib.sha256(raw).hexdigest()[:32]})"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
