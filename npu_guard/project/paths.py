"""Files as readers elsewhere can find them: relative to the project's root, with forward slashes, never absolute."""

from __future__ import annotations

import functools
import os
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from npu_guard.base.address import is_url
from npu_guard.project.config import project_root
from npu_guard.results.findings import Finding, ModelReport


def where(model: ModelReport, finding: Finding) -> tuple[str, int]:
    """File and line at which to show a finding: the line of Python, else the model file."""
    if finding.source is None:
        return in_project(model.path), 1
    return _inside(finding.source.file), max(1, finding.source.line)


def in_project(path: str) -> str:
    """A path from the command line, relative to the project's root; only the file's name where it lies outside."""
    return _in_project(path, Path.cwd()) or _inside(Path(path).name)


def in_project_or_named(path: str) -> str:
    """The same for commands: outside of the project a relative path is as named, which leads there and tells no folder."""
    outside = _in_project(path, Path.cwd()) is None and not is_url(path)
    return path if outside and not Path(path).is_absolute() else in_project(path)


def model_from_here(path: str) -> str:
    """A path from the command line as one reaches it from the current folder; as given where it lies outside of the project."""
    inside = _in_project(path, Path.cwd())
    return path if inside is None else _from_here(inside)


def where_from_here(model: ModelReport, finding: Finding) -> tuple[str, int] | None:
    """File and line of Python as one reaches it from the current folder; None where there is none that can be opened.

    A model from outside of the project names files of another one.
    """
    if finding.source is None:
        return None
    here, (file, line) = Path.cwd(), where(model, finding)
    if _in_project(model.path, here) is None and not os.path.isfile(project_root(here) / file):
        return None
    return _from_here(file), line


def python_from_here(file: str) -> str:
    """A file of Python that a model names, as one reaches it from the current folder; as it is where it is not here."""
    inside = _inside(file)
    return _from_here(inside) if os.path.isfile(project_root(Path.cwd()) / inside) else file


def _from_here(path: str) -> str:
    here = Path.cwd()
    return Path(os.path.relpath(project_root(here) / path, here)).as_posix()


@functools.lru_cache(maxsize=1024)
def _in_project(path: str, here: Path) -> str | None:
    for resolve in (os.path.normpath, os.path.realpath):
        try:
            return _inside(Path(resolve(here / path)).relative_to(project_root(here)).as_posix())
        except (ValueError, OSError):
            continue
    return None


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
