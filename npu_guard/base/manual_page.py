"""Markdown on a terminal: no name in a table is cut, and lines of code stay lines."""

from __future__ import annotations

from typing import ClassVar

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import CodeBlock, Markdown, MarkdownElement, TableElement
from rich.table import Table
from rich.text import Text

from npu_guard.base.folding import fit_columns

MOST = 100
"""Characters of a line, as longer ones are hard to read."""
_BETWEEN = 2


def show(page: str, *, color: bool = True) -> None:
    """Print a page in Markdown on standard output. Without colour nothing is bold or underlined, and a link names its address."""
    width = min(Console().width, MOST)
    console = Console(width=width) if color else Console(width=width, color_system=None)
    console.print(_Page(page, hyperlinks=color), crop=False)


class _Table(TableElement):
    """Columns as wide as their longest word where that fits; words that do not fit go on in the next line."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        assert self.header is not None
        assert self.header.row is not None
        heads = [cell.content for cell in self.header.row.cells]
        rows = [[cell.content for cell in row.cells] for row in (self.body.rows if self.body is not None else [])]
        kept = [i for i in range(len(heads)) if any(row[i].plain.strip() for row in rows)]  # a column of nothing takes no room
        words = [[line[i].plain for i in kept] for line in (heads, *rows)]
        table = Table(box=None, pad_edge=False, padding=(0, _BETWEEN, 0, 0), header_style="markdown.table.header")
        for i, width in zip(kept, fit_columns(words, options.max_width - _BETWEEN * (len(kept) - 1)), strict=True):
            table.add_column(heads[i], width=width, overflow="fold")
        for row in rows:
            table.add_row(*(row[i] for i in kept))
        yield table


class _Code(CodeBlock):
    """As it is written: what is folded could not be copied."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(
            "\n".join(f"    {line}".rstrip() for line in str(self.text).rstrip().splitlines()), no_wrap=True, overflow="ignore"
        )


class _Page(Markdown):
    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        "table_open": _Table,
        "fence": _Code,
        "code_block": _Code,
    }
