"""Text from files, made safe to show: names are data and must not move a cursor or forge a line.

Nearly all text needs nothing, which is seen without a regular expression; so most runs never compile one.
"""

from __future__ import annotations

import re

from npu_guard.base.regex import regex

_HIDES = (
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
    # What CI servers take for commands: `##vso[`, `##[error]`, `##teamcity[` anywhere in a line, `::error` at its start.
    r"|#(?=#\w*\[)|\A\s*:(?=:)"
)
_HIDDEN = regex(_HIDES)
# Markup, in case the text ends up in a page; Python's own names such as <lambda> are no tags.
_UNSAFE = regex(rf"{_HIDES}|<(?=[/!?a-zA-Z])(?!(?:lambda|module|locals|genexpr|listcomp)>)")
_OUTSIDE_ASCII = regex("[^\x00-\x7e]|<")  # a range up to the last character takes 3 ms to compile

_SHORT = 120


def text(value: str | bytes) -> str:
    """A name from a file; protobuf hands over invalid UTF-8 as bytes."""
    return value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")


def short(name: str) -> str:
    """A name cut for messages."""
    return name if len(name) <= _SHORT else f"{name[: _SHORT - 1]}…"


def printable(text: str, limit: int = 400) -> str:
    r"""Control, direction and invisible characters as escapes (`\x1b`, `\u202e`), cut to `limit` characters."""
    safe = text if len(text) <= limit else text[: limit + 1]
    if not (safe.isascii() and safe.isprintable()) or "<" in safe or "##" in safe or "::" in safe:
        safe = _UNSAFE.sub(_escape, safe)
    return safe if len(safe) <= limit else f"{safe[:limit]}…"


def inert(text: str) -> str:
    """A text of several lines, of any length, in which no line moves a cursor, hides something or reads as a command."""
    return "\n".join(_HIDDEN.sub(_escape, line) for line in text.split("\n"))


def json_ascii(text: str) -> str:
    r"""JSON that is all ASCII and in which no tag begins: what reads it gets the same text, and a terminal, log or page that
    shows it is moved by nothing."""
    return text if text.isascii() and "\x7f" not in text and "<" not in text else _OUTSIDE_ASCII.sub(_json_escape, text)


def _json_escape(match: re.Match[str]) -> str:
    units = match.group().encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))


def _escape(match: re.Match[str]) -> str:
    before, code = match.group()[:-1], ord(match.group()[-1])
    return before + (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
