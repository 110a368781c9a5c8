"""Lines for a terminal that is narrower than they are."""

from __future__ import annotations

from npu_guard.base.regex import regex

_PARTS = regex(r"(\x1b\[[0-9;]*m|[ ]+)")
_END = "\x1b[0m"
_ESCAPE = regex(r"\x1b\[[0-9;]*m")
_COLUMN = regex(r"\S[ ]{2,}(?=\S)")
_DEEPEST = (11, 26)
"""Column at which the last part of a line may begin for what is folded of it to stand below: at the margin, and indented."""
_COMMAND = "npu-guard "


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
