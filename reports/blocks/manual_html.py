"""Pages of the manual in HTML, kept beside the page's template as its code is: rendering them takes as long as a small model."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from npu_guard.reports.blocks import keeping

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

_MOST = 400
"""Texts that are kept: the rules have some dozens, with the limits of a device in some of them."""


class Manual:
    """Texts of the manual, for one page; what is new is kept at its end."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "manual.html"
        self._made_with = _made_with()
        kept = keeping.read(self._file, self._made_with)
        self._known: dict[str, str] = kept if isinstance(kept, dict) else {}
        self._found = len(self._known)

    def page(self, text: str) -> str:
        """A page without its title, headings two levels further down."""
        return self._html(text, _page)

    def line(self, text: str) -> str:
        """A line."""
        return self._html(text, _line)

    def keep(self) -> None:
        """Keep what was rendered now."""
        if len(self._known) > self._found:
            keeping.write(self._file, self._made_with, dict(list(self._known.items())[-_MOST:]))

    def _html(self, text: str, render: Callable[[str], str]) -> str:
        key = hashlib.sha256(f"{render.__name__} {text}".encode("utf-8", "backslashreplace")).hexdigest()
        html = self._known.get(key)
        if html is None:
            html = self._known[key] = render(text)
        return html


@functools.cache
def _made_with() -> str:
    """What other HTML would come from: another parser, or another version of this file."""
    return keeping.digest(metadata.version("markdown-it-py"), Path(__file__).read_text(encoding="utf-8"))


@functools.lru_cache(maxsize=256)  # whoever writes a page for each of many models has the same ones in all of them
def _page(text: str) -> str:
    parser = _markdown()
    tokens = parser.parse(text)[3:]
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
    return str(parser.renderer.render(tokens, parser.options, {}))


def _line(text: str) -> str:
    return str(_markdown().renderInline(text))


@functools.cache
def _markdown() -> MarkdownIt:
    """Raw HTML in it stays text."""
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False})
