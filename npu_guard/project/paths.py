"""Files as readers elsewhere can find them: relative to the project's root, with forward slashes, never absolute."""

from __future__ import annotations

import functools
import os
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from npu_guard.project.config import project_root
from npu_guard.results.findings import Finding, ModelReport


def where(model: ModelReport, finding: Finding) -> tuple[str, int]:
    """File and line at which to show a finding: the line of Python, else the model file."""
    if finding.source is None:
        return in_project(model.path), 1
    return _inside(finding.source.file), max(1, finding.source.line)


def in_project(path: str) -> str:
    """A path from the command line, relative to the project's root; only the file's name where it lies outside."""
    return _in_project(path, Path.cwd())


@functools.lru_cache(maxsize=1024)
def _in_project(path: str, here: Path) -> str:
    for resolve in (os.path.normpath, os.path.realpath):
        try:
            return _inside(Path(resolve(here / path)).relative_to(project_root(here)).as_posix())
        except (ValueError, OSError):
            continue
    return _inside(Path(path).name)


def uri(path: str) -> str:
    """A relative URI; bytes of a name that is not UTF-8 stay what they are."""
    try:
        raw = path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raw = path.encode("utf-8", "backslashreplace")
    return quote(raw, safe="/")


def _inside(path: str) -> str:
    """A relative path that does not climb; what a file claims of its origin is data like any other."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or parts[0].endswith(":"):
        return parts[-1] if parts and parts[-1] not in ("/", "//", "..") else "model"
    return "/".join(parts)
