"""Files of weights beside a model: where a location may point, judged without opening what it points to.

Models come from strangers. A location that leaves the model's folder, by `..`, an absolute path or a link, would make the
reader a way to any file of the machine (CVE-2022-25882, CVE-2024-27318, CVE-2026-27489, CVE-2026-34446 of onnx).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from npu_guard.base.errors import ModelError
from npu_guard.base.regex import regex
from npu_guard.base.text import short

_OUTSIDE = regex(r"^[/\\]|(^|[/\\])\.\.([/\\]|$)|^[A-Za-z][A-Za-z0-9+.-]*:|[\x00-\x1f\\]|/$|_ORT_MEM_ADDR_")
"""Locations that no reader may follow: absolute, upwards, a URL or drive, ONNX Runtime's pointers into memory."""


def well_formed(location: str, where: str) -> None:
    """Raise ModelError where a location could not be a file in the model's folder, wherever that is."""
    if not location or _OUTSIDE.search(location):
        raise ModelError("invalid", f"{where} keeps its data at {short(location)!r}, which is not a file in the model's folder")


def locate(folder: Path, location: str, where: str) -> tuple[Path, int]:
    """(path, size in bytes) of a plain file in `folder`. Only looks at directory entries. Raises ModelError."""
    well_formed(location, where)
    path = folder
    status: os.stat_result | None = None
    for part in Path(location).parts:
        path = path / part
        try:
            status = path.lstat()
        except FileNotFoundError:
            raise ModelError(
                "missing", f"{where} keeps its data in {short(location)!r}, which is missing; put it beside the model"
            ) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ModelError(
                "invalid", f"{where} keeps its data at {short(location)!r}, which cannot be a file ({reason})"
            ) from None
        if stat.S_ISLNK(status.st_mode):
            raise ModelError("invalid", f"{where} keeps its data at {short(location)!r}, behind a link, which is refused")
    if status is None or not stat.S_ISREG(status.st_mode):
        raise ModelError("invalid", f"{where} keeps its data at {short(location)!r}, which is not a regular file")
    if status.st_nlink > 1:
        raise ModelError(
            "invalid",
            f"{where} keeps its data at {short(location)!r}, which is a hard link to a file elsewhere, which is refused",
        )
    return path, status.st_size


def inside(offset: int, length: int, size: int, location: str, where: str) -> None:
    """Raise ModelError where bytes [offset, offset + length) are not all in a file of `size` bytes."""
    if offset < 0 or length < 0 or offset > size or length > size - offset:
        pointer = "; if it is a Git LFS pointer, run 'git lfs pull'" if size < 1024 else ""
        raise ModelError(
            "invalid",
            f"{where} keeps {length} bytes of data at offset {offset} of {short(location)!r}, which has {size} bytes{pointer}",
        )


def open_plain(path: Path) -> int:
    """A descriptor of a file that `locate` accepted; refuses what became a link since. Raises ModelError."""
    try:
        return os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        raise ModelError("unreadable", f"{path.name}: cannot be opened ({error.strerror})") from None
