"""Models against devices, for people."""

from __future__ import annotations

from npu_guard.base.folding import columns_text
from npu_guard.base.text import printable
from npu_guard.fleet.matrix import Matrix
from npu_guard.reports.blocks.matrix_table import LEGEND, MARKS, columns_of, lines_of, table_of


def render(matrix: Matrix, *, color: bool = False, width: int | None = None) -> str:
    """An aligned table, a line for devices that answer alike; `width` is that of the terminal, in characters."""
    lines = lines_of(matrix)
    alone = matrix.rows[0].path if len(matrix.rows) == 1 else ""
    table = columns_of(lines) if alone else table_of(matrix, lines, short=True)
    rows = [*([printable(alone), ""] if alone else []), *columns_text(table, width or 1 << 30)]
    marks = [told for mark, told in MARKS.items() if alone and any(mark in cell for row in table for cell in row)]
    members = [f"  {told}" for line in lines if (told := line.members())]
    legend = LEGEND.replace(". Devices", ".\nDevices").removesuffix(".") + (":" if members else ".")
    return "\n".join([*rows, "", *marks, legend, *members]) + "\n"
