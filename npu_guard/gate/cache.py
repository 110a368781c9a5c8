"""Reports of `check` kept in a folder, so that a model that has not changed is neither parsed nor judged again.

An entry is named after the model's structure and the stamp of all that else decides, says both, and carries a hash of
itself. What is damaged, foreign or larger than it should be counts as missing. A folder that strangers can write is still
no place for it: they can make an entry as well as we do, unless there is a secret (`NPU_GUARD_CACHE_KEY`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from npu_guard.base.address import is_url
from npu_guard.base.checkout import relative_path
from npu_guard.base.errors import ModelError
from npu_guard.base.files import read_small
from npu_guard.base.limits import Limits
from npu_guard.base.regex import regex
from npu_guard.file import external_data, load
from npu_guard.gate.stamp import stamp
from npu_guard.project.config import Config, project_root
from npu_guard.results.dependencies import Dependencies
from npu_guard.results.findings import ModelReport
from npu_guard.results.summary import verdict

LARGEST = 32 << 20
"""Bytes of an entry. What would be larger is not kept: reading it would cost as much as checking again."""
ENTRIES = 2000
BYTES = 256 << 20
"""What a folder may hold; beyond, what was not used for longest goes first."""
_DIGEST = 32
_NAME = regex(r"[0-9a-f]{64}\.report")
_REST = regex(r"\.[0-9a-f]{64}\.\w+")
"""What a process that was killed leaves behind."""


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal["npu-guard check 1"]
    stamp: str
    dependencies: Dependencies
    report: ModelReport


class Cache:
    """A folder of reports that hold under one stamp. Trouble with it is a word in `problem` and never an exception."""

    def __init__(self, folder: Path, config: Config, *, hashes: bool, layers: bool, remedies: bool) -> None:
        self.folder = folder
        self.stamp = stamp(config, layers, remedies)
        self.limits: Limits = config.limits
        self.fail_on = config.fail_on
        self.hashes = hashes
        self.problem = ""
        self._written = False
        self._secret = hashlib.sha256(os.environb.get(b"NPU_GUARD_CACHE_KEY", b"")).digest() if _secret() else b""

    def known(self, paths: Iterable[str]) -> dict[str, ModelReport]:
        """The reports that are there, by path of the model."""
        found = ((path, self.get(path)) for path in dict.fromkeys(paths))
        return {path: report for path, report in found if report is not None}

    def get(self, path: str) -> ModelReport | None:
        """The report of a model, where it was kept and everything that it rests on is still so."""
        if is_url(path):
            return None
        try:
            key = load.read_content(path, self.limits).key
            entry = self._read(key)
            if entry is None or not _holds(entry.dependencies, Path(path).parent):
                return None
            digest = load.sha256(path) if self.hashes else ""
        except (ModelError, OSError):  # a check of it says more
            return None
        return msgspec.structs.replace(entry.report, path=path, sha256=digest)

    def entry(self, report: ModelReport, dependencies: Dependencies | None) -> bytes | None:
        """A report as it is kept; None for one that is no finished result, or that would not come back as it is."""
        if dependencies is None or report.error is not None or report.crashes:
            return None
        bare = msgspec.structs.replace(report, path="", sha256="")
        try:
            content = msgspec.msgpack.encode(_Entry("npu-guard check 1", self.stamp, dependencies, bare))
            back = msgspec.msgpack.decode(content, type=_Entry)
        except (ValueError, OverflowError):  # half of a surrogate pair in a name, a number beyond 64 bits, a type of numpy's
            return None
        if msgspec.msgpack.encode(back) != content or len(content) > LARGEST - _DIGEST:
            return None
        return self._digest(content) + content

    def keep(self, key: str, content: bytes) -> None:
        """Write the entry of a model."""
        if not self.problem:  # said once
            with self._trouble():
                _prepare(self.folder)
                _replace(self.folder / self._name(key), content)
                self._written = True

    def close(self) -> None:
        """Remove what is too much, where something was added."""
        if self._written:
            with self._trouble():
                _trim(self.folder)

    @contextlib.contextmanager
    def _trouble(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            self.problem = f"cache {self.folder}: cannot be written ({reason}); nothing more is kept"

    def _name(self, key: str) -> str:
        return hashlib.sha256(f"{self.stamp} {key}".encode()).hexdigest() + ".report"

    def _digest(self, content: bytes) -> bytes:
        return hashlib.blake2b(content, key=self._secret, digest_size=_DIGEST).digest()

    def _read(self, key: str) -> _Entry | None:
        path = self.folder / self._name(key)
        try:
            raw = read_small(path, LARGEST)
        except OSError:
            return None
        content = memoryview(raw)[_DIGEST:]
        if raw[:_DIGEST] != self._digest(content):  # type: ignore[arg-type]
            return None
        try:
            entry = msgspec.msgpack.decode(content, type=_Entry)
        except (ValueError, RecursionError):
            return None
        report = entry.report
        finished = report.error is None and not report.crashes and not report.path and not report.sha256
        if (entry.stamp, entry.dependencies.key) != (self.stamp, key) or not finished:
            return None
        if report.verdict is not verdict(report.findings, self.fail_on):
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # it was of use
        return entry


def _secret() -> bool:
    return bool(os.environ.get("NPU_GUARD_CACHE_KEY"))


def _holds(dependencies: Dependencies, folder: Path) -> bool:
    """Whether what was looked up outside of the model is still what it was. Raises ModelError where files are gone."""
    project = project_root(Path.cwd())
    if any(relative_path(file, project) != said for file, said in dependencies.files.items()):
        return False
    return all(external_data.locate(folder, location, "")[1] == size for location, size in dependencies.beside.items())


def _prepare(folder: Path) -> None:
    if os.path.isdir(folder):
        return
    folder.mkdir(parents=True)
    # Neither committed nor backed up.
    (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    (folder / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n# Made by npu-guard.\n", encoding="utf-8")


def _replace(path: Path, content: bytes) -> None:
    """Put a file there, whole or not at all. Of a link, the link itself is replaced, so nothing outside is written."""
    temporary = path.parent / f".{path.stem}.{os.getpid()}_{time.time_ns()}"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        with os.fdopen(handle, "wb") as file:  # not synced: what a loss of power leaves does not go with its hash
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _trim(folder: Path) -> None:
    """Remove what was not used for longest beyond the bounds, and what is left of processes that were killed."""
    kept: list[tuple[float, int, str]] = []
    with os.scandir(folder) as listed:
        for file in listed:
            with contextlib.suppress(OSError):  # another process is at it too
                status = file.stat(follow_symlinks=False)
                if _NAME.fullmatch(file.name):
                    kept.append((status.st_mtime, status.st_size, file.path))
                elif _REST.fullmatch(file.name) and status.st_mtime < time.time() - 3600:
                    os.unlink(file.path)
    total = 0
    for count, (_, size, path) in enumerate(sorted(kept, reverse=True), 1):
        total += size
        if count > ENTRIES or total > BYTES:
            with contextlib.suppress(OSError):
                os.unlink(path)
