"""Jinja templates as Python's code, kept beside them: taking the page's apart takes as long as filling it in for thousands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from jinja2.bccache import Bucket

from npu_guard.reports.blocks import keeping


def environment(folder: Path, **options: Any) -> jinja2.Environment:
    """Templates of a folder; `options` are those of jinja2.Environment."""
    kept = _Beside(folder, {name: getattr(value, "__qualname__", value) for name, value in options.items()})
    return jinja2.Environment(loader=jinja2.FileSystemLoader(folder), bytecode_cache=kept, **options)


class _Beside(jinja2.BytecodeCache):
    """Code that another template, other options or another Jinja made is made again."""

    def __init__(self, folder: Path, options: Mapping[str, object]) -> None:
        self._folder = folder
        self._made_with = jinja2.__version__, sorted(options.items())

    def get_cache_key(self, name: str, filename: str | None = None) -> str:
        """The file of the template."""
        return str(self._folder / name)

    def get_source_checksum(self, source: str) -> str:
        """What the code of a template is made from."""
        return keeping.digest(self._made_with, source)

    def load_bytecode(self, bucket: Bucket) -> None:
        """Take what was kept."""
        bucket.code = keeping.read(Path(bucket.key), bucket.checksum)

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep what was made."""
        keeping.write(Path(bucket.key), bucket.checksum, bucket.code)
