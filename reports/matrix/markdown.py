"""Models against devices, as a table in Markdown."""

from __future__ import annotations

from npu_guard.base.markdown import plain_text
from npu_guard.fleet.matrix import Matrix
from npu_guard.reports.blocks.matrix_table import LEGEND, lines_of, table_of


def render(matrix: Matrix, *, color: bool = False) -> str:
    """The table, and how to read it."""
    table = table_of(matrix, lines_of(matrix))
    lines = [f"| {' | '.join(map(plain_text, line))} |" for line in table]
    return "\n".join([lines[0], "|---" * len(table[0]) + "|", *lines[1:], "", LEGEND]) + "\n"
