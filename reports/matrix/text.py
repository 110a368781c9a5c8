"""Models against devices, for people."""

from __future__ import annotations

from npu_guard.base.folding import columns_text
from npu_guard.fleet.matrix import Matrix
from npu_guard.reports.blocks.matrix_table import LEGEND, lines_of, table_of


def render(matrix: Matrix, *, color: bool = False, width: int | None = None) -> str:
    """An aligned table, a line for devices that answer alike; `width` is that of the terminal, in characters."""
    lines = lines_of(matrix)
    rows = columns_text(table_of(matrix, lines, short=True), width or 1 << 30)
    members = [f"  {told}" for line in lines if (told := line.members())]
    legend = LEGEND.replace(". Devices", ".\nDevices").removesuffix(".") + (":" if members else ".")
    return "\n".join([*rows, "", legend, *members]) + "\n"
