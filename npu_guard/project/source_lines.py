"""Lines of the user's Python, as reports quote them."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from npu_guard.base.files import read_small
from npu_guard.project.config import project_root
from npu_guard.results.findings import SourceLine

_MOST_BYTES = 1 << 20


def line_text(source: SourceLine) -> str | None:
    """The line that a finding names, without indentation; None where the project has no such file or line.

    A model from a stranger may name any file, so only regular files of Python inside the project are read.
    """
    lines = _lines(source.file, os.getcwd())
    return lines[source.line - 1].strip() or None if 0 < source.line <= len(lines) else None


@functools.lru_cache(maxsize=256)
def _lines(file: str, here: str) -> tuple[str, ...]:
    try:
        project = os.path.realpath(project_root(Path(here)))
        path = os.path.realpath(os.path.join(project, file))
        if path.endswith(".py") and os.path.commonpath((project, path)) == project:
            return tuple(read_small(path, _MOST_BYTES).decode("utf-8", "replace").splitlines())
    except (OSError, ValueError):  # a name that no system takes raises ValueError
        pass
    return ()
