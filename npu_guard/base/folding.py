"""Lines for a terminal that is narrower than they are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from npu_guard.base.regex import regex

_PARTS = regex(r"(\x1b\[[0-9;]*m|[ ]+)")
_END = "\x1b[0m"
_ESCAPE = regex(r"\x1b\[[0-9;]*m")
_COLUMN = regex(r"\S[ ]{2,}(?=\S)")
_DEEPEST = (11, 26)
"""Column at which the last part of a line may begin for what is folded of it to stand below: at the margin, and indented."""
_NARROW = 12
_COMMAND = "npu-guard "
_TOGETHER = "\N{NO-BREAK SPACE}%"


def fold_text(text: str, width: int) -> str:
    """Lines of at most `width` characters, what is folded below the last column of its line, or else indented.

    Commands stay whole, so that they can be copied.
    """
    lines: list[str] = []
    for line in text.split("\n"):
        if len(line) <= width:
            lines.append(line)
            continue
        plain = _ESCAPE.sub("", line)
        indent = len(plain) - len(plain.lstrip(" "))
        if plain.startswith(_COMMAND, indent):
            lines.append(line)
            continue
        columns = [found.end() for found in _COLUMN.finditer(plain, 0, width)]
        below = [column for column in columns if column <= _DEEPEST[indent > 0]]
        lines += fold(line, width, below[-1] if below else indent + 2)
    return "\n".join(lines)


def fit_columns(table: Sequence[Sequence[str]], room: int) -> list[int]:
    """Widths of columns that together fill at most `room` characters: as wide as they ask for where that fits.

    Else no column is narrower than its longest word while others are wider than theirs, and the rest is shared by what they ask.
    """
    columns = list(zip(*table, strict=True))
    wanted = [max(map(len, column)) for column in columns]
    if sum(wanted) <= room:
        return wanted
    least = [max((len(word) for cell in column for word in cell.split()), default=1) for column in columns]
    while sum(least) > room:  # then the longest words are cut, those of the first column last: it has the names
        widest = max(range(len(least)), key=lambda i: (i > 0 and least[i] > _NARROW, least[i]))
        least[widest] -= 1
    spare, asked = room - sum(least), sum(wanted) - sum(least)
    return [low + spare * (want - low) // max(asked, 1) for low, want in zip(least, wanted, strict=True)]


def columns_text(table: Sequence[Sequence[str]], room: int) -> list[str]:
    """Rows as lines of text; cells that are wider than their column take several lines."""
    import textwrap

    widths = fit_columns(table, room - 2 * (len(table[0]) - 1))
    lines = []
    for row in table:
        cells = [textwrap.wrap(cell.replace(" %", _TOGETHER), width) or [""] for cell, width in zip(row, widths, strict=True)]
        for parts in itertools.zip_longest(*cells, fillvalue=""):
            line = "  ".join(f"{part:<{width}}" for part, width in zip(parts, widths, strict=True))
            lines.append(line.rstrip().replace(_TOGETHER, " %"))
    return lines


def fold(line: str, width: int, hang: int) -> list[str]:
    """The words of a line in lines of at most `width` characters, those behind the first one `hang` deep.

    Escape sequences take no room, and end with their line. A word that is wider than the terminal stays whole.
    """
    if len(line) <= width:
        return [line]
    lines, current, length, style = [], "", 0, ""
    for part in filter(None, _PARTS.split(line)):
        if part[0] == "\x1b":
            style = "" if part == _END else part
            current += part
            continue
        blank = part[0] == " "
        if not blank and length + len(part) > width and length > hang:
            lines.append(current.rstrip(" ") + (_END if style else ""))
            current, length = " " * hang + style, hang
        if not (blank and lines and length == hang):
            current, length = current + part, length + len(part)
    return [*lines, current.rstrip(" ")]
