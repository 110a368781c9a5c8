"""Names and messages in Markdown: data, which cannot leave a cell, nor become markup, a link, a mention or a reference."""

from __future__ import annotations

import re

from npu_guard.base.regex import regex
from npu_guard.base.text import printable

_MARKUP = regex(r"[&<`*\\|~]|\](?=[(\[])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
"""What Markdown would read as markup inside a line; an entity never is."""
_REFERENCE = regex(r"[@$]|[#!~&%^]\w|://|www\.|GH-\d|:[\w+-]+:|\[\[|[0-9a-f]{7}", re.IGNORECASE)
"""What becomes a mention, a reference, a link, a formula or a picture even without markup, save in code."""


def plain_text(text: str, limit: int = 400) -> str:
    """Text that stays text; as code where a part of it looks like a mention, a reference or an address."""
    if _REFERENCE.search(text):
        return code_span(text, limit)
    return _MARKUP.sub(lambda match: f"&#{ord(match.group())};", printable(text, limit))


def code_span(text: str, limit: int = 200) -> str:
    """A name, as code: there nothing is a mention or markup. What would end the code or the cell is escaped as in Python."""
    safe = printable(text, limit).replace("`", r"\x60").replace("|", r"\x7c")
    return f"`{safe}`" if safe.strip() else ""
