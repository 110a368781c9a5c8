"""Write files whole or not at all, and read those that ought to be small."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from npu_guard.base.errors import UsageError
from npu_guard.base.regex import regex

MOST_SETTINGS = 4 << 20
"""Bytes of a TOML file; the largest of ours, a plan of a thousand steps, has a twentieth of that."""
MOST_DOTS = 500
"""In one line of a TOML file."""
SMALL = 64 << 20
"""Bytes: settings, profiles, baselines and plans are far below."""


def read_small(path: str | os.PathLike[str], most: int = SMALL) -> bytes:
    """A file of settings, whole; a pipe would hang and a device never end. Raises OSError, also for what is too large."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if status.st_size > most:
            raise OSError(errno.EFBIG, f"{status.st_size} bytes, more than {most >> 20} MiB")
        # Room is made for all that is asked for; files of the system say that they are empty.
        return file.read(min(most, max(status.st_size + 1, 1 << 16)))


def toml(text: str) -> dict[str, Any]:
    """Settings as a table, dates and times as text; a byte order mark before them is nothing.

    Raises ValueError, with a line where there is one, for whatever is none or is meant to take long.
    """
    import tomllib

    text = text.removeprefix("\ufeff")
    lines = text.splitlines() if text.count(".") > MOST_DOTS else ()
    for number, line in enumerate(lines, 1):
        if line.count(".") > MOST_DOTS:  # the parser takes the square of the parts of a key
            raise ValueError(f"more than {MOST_DOTS} dots (at line {number})")
    try:
        return _in_text(tomllib.loads(text)) if _DATE.search(text) else tomllib.loads(text)
    except RecursionError:
        raise ValueError("tables or lists are nested too deeply") from None
    except tomllib.TOMLDecodeError:
        raise
    except ValueError as error:  # a number of thousands of digits
        raise ValueError(str(error).partition(";")[0]) from None


_DATE = regex(r"=\s*\d+[-:]\d\d")


def _in_text(value: Any) -> Any:
    """A value of TOML, in which dates and times are words as if they stood in quotes."""
    if isinstance(value, dict):
        return {key: _in_text(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_in_text(inner) for inner in value]
    return value.isoformat() if hasattr(value, "isoformat") else value


def write_atomic(path: Path, content: Iterable[bytes]) -> None:
    """Replace `path` by the chunks; whatever fails, the old file stays. Raises UsageError where it cannot be written."""
    temporary = ""
    target = Path(os.path.realpath(path))  # a link stays one, and what it leads to is replaced
    try:
        if os.path.exists(target) and not os.path.isfile(target):  # /dev/stdout, a named pipe: nothing that could be replaced
            with target.open("wb") as stream:
                stream.writelines(content)
            return
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:40]}.")
        with os.fdopen(handle, "wb") as file:
            for chunk in content:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _mode(target))
        os.replace(temporary, target)
        temporary = ""
        _sync(target.parent)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise UsageError(f"{path}: cannot be written ({error.strerror or error})") from None


def _sync(folder: Path) -> None:
    """Make a rename last through a loss of power. Some file systems cannot, and the file is there all the same."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _mode(path: Path) -> int:
    """Permissions of the file that is replaced, else those that the umask leaves to a new one."""
    try:
        return path.stat().st_mode & 0o777
    except OSError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
