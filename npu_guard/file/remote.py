"""Models in object stores, through fsspec: listed, and read in the few ranges that the structure takes.

Weights lie between the parts of the structure, so a reader that skips them needs a small part of the object.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Callable
from importlib.metadata import metadata
from typing import TYPE_CHECKING, Any, TypeVar

from npu_guard.base.errors import ModelError, UsageError
from npu_guard.base.text import printable
from npu_guard.file.source import ModelSource

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

T = TypeVar("T")
PIECE = 1 << 15
"""Bytes of a request behind a jump: the header of a weight and what stands around it."""
LARGEST = 1 << 20
KEPT = 1 << 26
"""Bytes of structure that are remembered; more than that is fetched again when it is wanted again."""
_DENIALS = frozenset({401, 403, *range(500, 600)})
"""What a server answers that may have the object and does not give it."""
_MARKS = ("ETag", "etag", "md5", "md5Hash", "sha256", "LastModified", "last_modified", "mtime", "updated", "oid", "blob_id")


def filesystem(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system of a URL and the path in it. Raises UsageError where a package is missing."""
    try:
        import fsspec
    except ImportError:
        raise UsageError(f"{url}: reading from there needs the package fsspec; pip install 'npu-guard[fleet]'") from None
    try:
        fs, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise _missing_package(url, error) from None
    except ValueError as error:
        raise UsageError(f"{url}: is no address that fsspec knows ({printable(str(error), 200)})") from None
    return fs, str(path)


def listing(url: str, suffix: str) -> list[ModelSource]:
    """Objects with this suffix at, below or matching a URL, sorted. Raises ModelError where there are none."""
    fs, path = filesystem(url)

    def find() -> dict[str, dict[str, Any]]:
        if any(c in path for c in "*?["):
            return dict(fs.glob(path, detail=True))
        found = dict(fs.find(path, detail=True))
        return found or {path: fs.info(path)}

    entries = _asking(url, find)
    made = []
    for name, info in sorted(entries.items()):
        if info.get("type", "file") == "file" and name.lower().endswith(suffix):
            made.append(ModelSource(_url(fs, name), int(info.get("size") or 0), _mark(info)))
    if not made:
        raise ModelError("missing", f"{url}: has no {suffix} files")
    return made


def _url(fs: AbstractFileSystem, name: str) -> str:
    url: str = fs.unstrip_protocol(name)
    return url


def _mark(info: dict[str, Any]) -> str:
    parts = [str(info.get("size"))] + [f"{key}={info[key]}" for key in _MARKS if info.get(key)]
    return hashlib.sha256("\n".join(parts).encode("utf-8", "backslashreplace")).hexdigest()[:32]


def _asking(url: str, ask: Callable[[], T]) -> T:
    """What the store answers; whatever it refuses is one sentence. Stores raise exceptions of many libraries."""
    try:
        return ask()
    except FileNotFoundError as error:
        # The file system for HTTP says so of a server that cannot be reached, or refuses, as well; the cause tells them apart.
        cause = error.__cause__
        if getattr(cause, "status", 0) in _DENIALS or (isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError)):
            raise _unreadable(url, cause) from None
        raise ModelError("missing", f"{url}: no such object") from None
    except (UsageError, ModelError):
        raise
    except ImportError as error:
        raise _missing_package(url, error) from None
    except Exception as error:
        raise _unreadable(url, error) from None


def _unreadable(url: str, error: BaseException | None) -> ModelError:
    return ModelError("unreadable", f"{url}: cannot be read ({type(error).__name__}: {printable(str(error), 200)})")


def _missing_package(url: str, error: ImportError) -> UsageError:
    """What to install: fsspec has an extra for each kind of address, and HTTPS is HTTP there."""
    kind = url.partition(":")[0].lower()
    extra = "http" if kind == "https" else kind
    known = extra in (metadata("fsspec").get_all("Provides-Extra") or ())
    todo = f"; pip install 'fsspec[{extra}]'" if known else ""
    return UsageError(f"{url}: reading from there needs a package that is missing ({printable(str(error), 200)}){todo}")


class Ranged:
    """An object as a buffer: `buffer[i]`, `buffer[i:j]` and `len(buffer)`, fetched where it is touched.

    What follows directly on what was fetched last is structure that goes on, and is fetched in larger and larger pieces.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._fs, self._path = filesystem(url)
        info = _asking(url, lambda: self._fs.info(self._path))
        if info.get("type") == "directory":
            raise ModelError("unreadable", f"{url}: is a directory; name an .onnx file")
        if info.get("size") is None:
            raise ModelError("unreadable", f"{url}: the server does not tell how large it is; download the file")
        self._size = int(info["size"])
        self.requests = 0
        self.fetched = 0
        """Bytes that were sent."""
        self._starts: list[int] = []  # of the pieces that are kept, sorted
        self._pieces: dict[int, bytes] = {}
        self._step = PIECE
        self._start = self._end = 0  # of the piece that was touched last
        self._current = b""

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            start, end, _ = at.indices(self._size)
            return self._bytes(start, end)
        if not self._start <= at < self._end:
            if not 0 <= at < self._size:
                raise IndexError(at)
            self._turn_to(at)
        return self._current[at - self._start]

    def _bytes(self, start: int, end: int) -> bytes:
        parts = []
        while start < end:
            if not self._start <= start < self._end:
                self._turn_to(start, end - start)
            part = self._current[start - self._start : end - self._start]
            parts.append(part)
            start += len(part)
        return b"".join(parts)

    def _turn_to(self, at: int, wanted: int = 0) -> None:
        """Make the piece that holds a byte the current one, fetched where it is not kept."""
        index = bisect.bisect_right(self._starts, at) - 1
        start = self._starts[index] if index >= 0 else -1
        if index < 0 or at >= start + len(self._pieces[start]):
            self._step = min(2 * self._step, LARGEST) if at == self._end else PIECE
            following = self._starts[index + 1] if index + 1 < len(self._starts) else self._size
            start, end = at, min(at + max(self._step, wanted), following)
            if sum(map(len, self._pieces.values())) > KEPT:
                self._starts.clear()
                self._pieces.clear()
            data = self._ask(start, end)
            if len(data) > end - start:  # a server that knows no ranges sends everything, which then is asked for once
                self._starts.clear()
                self._pieces.clear()
                start = 0
            self._pieces[start] = data
            bisect.insort(self._starts, start)
        self._current = self._pieces[start]
        self._start, self._end = start, start + len(self._current)

    def _ask(self, start: int, end: int) -> bytes:
        data = _asking(self._url, lambda: bytes(self._fs.cat_file(self._path, start=start, end=end)))
        self.requests += 1
        self.fetched += len(data)
        if len(data) not in (end - start, self._size):
            raise ModelError("unreadable", f"{self._url}: has changed while it was read; check it again")
        return data
