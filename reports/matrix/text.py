"""Models against devices, for people."""

from __future__ import annotations

from npu_guard.fleet.matrix import Matrix
from npu_guard.reports.blocks.matrix_table import LEGEND, table_of


def render(matrix: Matrix, *, color: bool = False) -> str:
    """An aligned table, a line for each device."""
    table = table_of(matrix)
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]
    return "\n".join(lines) + f"\n\n{LEGEND}\n"
