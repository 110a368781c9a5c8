"""Take suppressions out of a file of settings, and leave every other line of it as it is."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from npu_guard.base.errors import UsageError
from npu_guard.base.files import MOST_SETTINGS, read_small, toml, write_atomic
from npu_guard.base.regex import regex

_TABLE = regex(r"\s*\[")
_SUPPRESS = regex(r"""\s*\[\[\s*(?:tool\s*\.\s*(?:npu-guard|"npu-guard")\s*\.\s*)?suppress\s*\]\]\s*(?:#.*)?$""")


def remove_suppressions(path: Path, numbers: Collection[int]) -> None:
    """Remove the suppressions of these numbers, counted from 0 in the order of the file, with the comments right above them.

    Raises UsageError where the file cannot be written, or where they are not tables of their own (`[[tool.npu-guard.suppress]]`):
    the result is read again, and must be the file without just these entries.
    """
    text = read_small(path, MOST_SETTINGS).decode()
    lines = text.splitlines(keepends=True)
    starts = [i for i, line in enumerate(lines) if _SUPPRESS.match(line)]
    kept, end = [], 0
    for number, start in enumerate(starts):
        if number not in numbers:
            continue
        first = start
        while first > end and lines[first - 1].lstrip().startswith("#"):
            first -= 1
        kept += lines[end:first]
        end = next((i for i in range(start + 1, len(lines)) if _TABLE.match(lines[i])), len(lines))
        while end > start + 1 and lines[end - 1].lstrip().startswith("#"):  # what stands above the next table is about that one
            end -= 1
    result = "".join([*kept, *lines[end:]])
    wanted = toml(text)
    section: Any = wanted.get("tool", {}).get("npu-guard", wanted) if isinstance(wanted.get("tool", {}), dict) else wanted
    rest = [entry for i, entry in enumerate(section["suppress"]) if i not in numbers]
    if rest:
        section["suppress"] = rest
    else:
        del section["suppress"]
    try:
        same = toml(result) == wanted
    except ValueError:
        same = False
    if not same:
        raise UsageError(f"{path.name}: its suppressions are not tables of their own; remove the unused ones by hand")
    write_atomic(path, [result.encode()])
