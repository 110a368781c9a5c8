"""What the user names becomes models: files, folders, patterns and URLs of object stores."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from npu_guard.base.address import is_url
from npu_guard.base.errors import ModelError
from npu_guard.file.source import ModelSource

SUFFIX = ".onnx"


def names(given: Iterable[str]) -> list[str]:
    """Model names, each once: what is neither a folder nor a pattern stays as it is. Raises ModelError where one has none."""
    found: dict[str, None] = {}
    for name in given:
        if is_url(name) and (_is_pattern(name) or not name.lower().endswith(SUFFIX)):
            found.update(dict.fromkeys(s.name for s in _remote(name)))
        elif not is_url(name) and (os.path.isdir(name) or (_is_pattern(name) and not os.path.lexists(name))):
            found.update(dict.fromkeys(_some(name, _local(name))))
        else:
            found[name] = None
    return list(found)


def _is_pattern(name: str) -> bool:
    return "*" in name or "?" in name or "[" in name


def sources(given: Iterable[str]) -> Iterator[ModelSource]:
    """Models with size and mark, in a fixed order, each name once. Raises ModelError."""
    seen: set[str] = set()
    for name in given:
        for source in _remote(name) if is_url(name) else map(_stat, _some(name, _local(name))):
            if source.name not in seen:
                seen.add(source.name)
                yield source


def below(folder: str) -> list[str]:
    """The .onnx files below a folder, in a fixed order. Links to folders are not followed."""
    found = []
    for place, folders, files in os.walk(folder):
        folders.sort()
        found += [os.path.join(place, file) for file in sorted(files) if file.lower().endswith(SUFFIX)]
    return found


def _local(name: str) -> list[str]:
    """The .onnx files below a folder, or what a pattern (`**` for any depth) gives."""
    if os.path.isdir(name):
        return below(name)
    if _is_pattern(name) and not os.path.lexists(name):
        return sorted(f for f in glob.glob(name, recursive=True) if os.path.isfile(f))
    return [name]


def _some(name: str, found: list[str]) -> list[str]:
    if not found:
        what = f"has no {SUFFIX} files" if os.path.isdir(name) else "matches no file"
        raise ModelError("missing", f"{name}: {what}")
    return found


def _stat(name: str) -> ModelSource:
    try:
        status = Path(name).stat()
    except OSError:
        return ModelSource(name, 0, "")  # the check says what is wrong with it
    return ModelSource(name, status.st_size, f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}")


def _remote(url: str) -> list[ModelSource]:
    from npu_guard.file import remote

    return remote.listing(url, SUFFIX)
