"""Paths of files of Python, as others recorded them, in the checkout at hand."""

from __future__ import annotations

import functools
import os
from pathlib import Path, PurePosixPath

from npu_guard.base.regex import regex

_DRIVE = regex(r"^[A-Za-z]:/")
_MAX_FOLDERS = 20
"""How deep in the project a file may lie that is to be found there."""


@functools.lru_cache(maxsize=4096)
def relative_path(file: str, root: Path | None) -> tuple[str, bool]:
    """A path that is valid in this checkout, also for a model exported in a checkout elsewhere, and whether it is there."""
    path = PurePosixPath(file)
    absolute = path.is_absolute() or _DRIVE.match(file) is not None
    parts = [part for part in (path.parts[1:] if absolute else path.parts) if part not in ("..", ".")]
    if root is not None:
        # The longest end of the path that exists here; a relative path is one already.
        first = max(0, len(parts) - _MAX_FOLDERS)
        for start in range(first, len(parts)) if absolute else range(min(1, len(parts))):
            candidate = PurePosixPath(*parts[start:])
            try:
                if os.path.isfile(root / candidate):
                    return str(candidate), True
            except (OSError, ValueError):  # too long, or with a null byte
                break
    return str(PurePosixPath(*(parts[-2:] if absolute else parts))) if parts else "unknown", False
