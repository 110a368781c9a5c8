"""The cells of models against devices."""

from __future__ import annotations

from npu_guard.base.text import printable
from npu_guard.fleet.matrix import Cell, Matrix

LEGEND = "Errors keep an operator off the device; the share is that of the multiplications which then still run on it."


def table_of(matrix: Matrix) -> list[list[str]]:
    """A head, and a line for each device."""
    table = [["device", *(printable(row.path) for row in matrix.rows)]]
    for index, profile in enumerate(matrix.profiles):
        cells = (describe_cell(row.cells[index]) if row.cells else "unreadable" for row in matrix.rows)
        table.append([printable(profile), *cells])
    return table


def describe_cell(cell: Cell) -> str:
    """One model on one device, in a few words: `fail, 3 errors, 87 %`."""
    parts = [cell.verdict]
    for number, word in ((cell.error, "error"), (cell.warning, "warning")):
        if number:
            parts.append(f"{number} {word}{'s' if number > 1 else ''}")
    if cell.undecided:
        parts.append(f"{cell.undecided} undecided")
    return f"{', '.join(parts)}, {cell.npu_macs_percent:.4g} %"
