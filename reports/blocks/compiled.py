"""Jinja templates as Python's code, kept as Python keeps its modules: in `__pycache__` beside them, and never where it may not.

Taking the page's template apart takes as long as filling it in for some thousand operators.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import marshal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from jinja2.bccache import Bucket

from npu_guard.base.errors import UsageError
from npu_guard.base.files import write_atomic


def environment(folder: Path, **options: Any) -> jinja2.Environment:
    """Templates of a folder; `options` are those of jinja2.Environment."""
    kept = _Beside(folder, {name: getattr(value, "__qualname__", value) for name, value in options.items()})
    return jinja2.Environment(loader=jinja2.FileSystemLoader(folder), bytecode_cache=kept, **options)


class _Beside(jinja2.BytecodeCache):
    """Code that another template, other options, another Jinja or another Python made is made again."""

    def __init__(self, folder: Path, options: Mapping[str, object]) -> None:
        self._folder = folder
        self._made_with = repr((jinja2.__version__, sys.version, sorted(options.items())))

    def get_cache_key(self, name: str, filename: str | None = None) -> str:
        """The file."""
        return importlib.util.cache_from_source(str(self._folder / name))

    def get_source_checksum(self, source: str) -> str:
        """What the code in a file was made from."""
        return hashlib.sha256(f"{self._made_with}\n{source}".encode()).hexdigest()

    def load_bytecode(self, bucket: Bucket) -> None:
        """Read what is there; whatever is no such code counts for nothing."""
        with contextlib.suppress(OSError, EOFError, ValueError, TypeError):
            made_from, code = Path(bucket.key).read_bytes().split(b"\n", 1)
            if made_from == bucket.checksum.encode():
                bucket.code = marshal.loads(code)  # as Python does with what it keeps in this folder

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep code, where the folder can be written and Python itself would keep some."""
        if sys.dont_write_bytecode:
            return
        with contextlib.suppress(OSError, UsageError):
            file = Path(bucket.key)
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(file, [bucket.checksum.encode(), b"\n", marshal.dumps(bucket.code)])
