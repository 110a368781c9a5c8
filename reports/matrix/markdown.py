"""Models against devices, as a table in Markdown."""

from __future__ import annotations

from npu_guard.base.markdown import plain_text
from npu_guard.fleet.matrix import Matrix
from npu_guard.reports.blocks.matrix_table import LEGEND, table_of


def render(matrix: Matrix, *, color: bool = False) -> str:
    """The table, and how to read it."""
    lines = [f"| {' | '.join(map(plain_text, line))} |" for line in table_of(matrix)]
    return "\n".join([lines[0], "|---" * (len(matrix.rows) + 1) + "|", *lines[1:], "", LEGEND]) + "\n"
