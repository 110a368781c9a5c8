"""Models against devices, for people."""

from __future__ import annotations

from npu_guard.fleet.matrix import Matrix
from npu_guard.reports.blocks.matrix_table import LEGEND, lines_of, table_of


def render(matrix: Matrix, *, color: bool = False) -> str:
    """An aligned table, a line for devices that answer alike."""
    table = table_of(matrix, lines_of(matrix), short=True)
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    rows = ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]
    legend = LEGEND.replace(". Devices", ".\nDevices").replace("share a line.", "share a line (+2: two more).")
    return "\n".join(rows) + f"\n\n{legend}\n"
