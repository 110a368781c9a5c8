"""What is made from files of this package alone, kept as Python keeps its modules: in `__pycache__`, never where it may not."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import marshal
import sys
from pathlib import Path
from typing import Any

from npu_guard.base.errors import UsageError
from npu_guard.base.files import write_atomic


def digest(*made_from: object) -> str:
    """One text for all that something was made from, this Python included."""
    return hashlib.sha256(repr((sys.version, *made_from)).encode()).hexdigest()


def read(source: Path, made_from: str) -> Any:
    """What was kept for a file if it was made from the same; None for whatever else is there."""
    with contextlib.suppress(OSError, EOFError, ValueError, TypeError):
        stated, kept = Path(importlib.util.cache_from_source(str(source))).read_bytes().split(b"\n", 1)
        if stated == made_from.encode():
            return marshal.loads(kept)  # as Python does with what it keeps in this folder
    return None


def write(source: Path, made_from: str, value: Any) -> None:
    """Keep a value, where the folder can be written and Python itself would keep some."""
    if sys.dont_write_bytecode:
        return
    with contextlib.suppress(OSError, UsageError):
        file = Path(importlib.util.cache_from_source(str(source)))
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, [made_from.encode(), b"\n", marshal.dumps(value)])
