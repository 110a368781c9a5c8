"""Lines for a terminal that is narrower than they are."""

from __future__ import annotations

from npu_guard.base.regex import regex

_PARTS = regex(r"(\x1b\[[0-9;]*m|[ ]+)")
_END = "\x1b[0m"


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
