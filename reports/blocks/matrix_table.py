"""The cells of models against devices: a line for devices of one family that answer alike, the best line first."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from npu_guard.base.text import printable
from npu_guard.fleet.matrix import Cell, Matrix
from npu_guard.results.share import share_words
from npu_guard.results.summary import percent, plural

LEGEND = (
    "Errors keep an operator off the device; the share is that of the multiplications which then still run on it. "
    "Devices of one family with the same result share a line."
)
_ORDER = ("pass", "undecided", "fail", "unreadable")
_RULES = 4
"""Deciding rules that are named in a line."""


class Line(Struct, frozen=True):
    """Devices of one family with the same results; no cell for a model that cannot be read."""

    devices: tuple[str, ...]
    cells: tuple[Cell | None, ...]

    @property
    def verdict(self) -> str:
        """The worst of the models."""
        return max((cell.verdict if cell is not None else "unreadable" for cell in self.cells), key=_ORDER.index, default="pass")

    def name(self, *, short: bool) -> str:
        """`rockchip:RK3566, RK3562`; short, `rockchip:RK3566 +1`."""
        first, *others = (printable(device) for device in self.devices)
        if short:
            return f"{first} +{len(others)}" if others else first
        return ", ".join([first, *(other.partition(":")[2] for other in others)])

    def members(self) -> str:
        """Which devices a short name has, `rockchip:RK3566 +1: RK3566, RK3562`; empty for one device."""
        return f"{self.name(short=True)}: {self.name(short=False).partition(':')[2]}" if len(self.devices) > 1 else ""

    def rules(self, most: int = _RULES) -> str:
        """Codes that decide it."""
        found = list(dict.fromkeys(rule for cell in self.cells if cell is not None for rule in cell.rules))
        return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")


def lines_of(matrix: Matrix) -> list[Line]:
    """Passes first, then what is undecided, then failures, each with the fewest errors first, then the most documented MACs."""
    groups: dict[object, list[int]] = {}
    for index, profile in enumerate(matrix.profiles):
        family, _, variant = profile.partition(":")
        same = tuple(msgspec.structs.replace(c, profile="") for c in _column(matrix, index) if c)
        groups.setdefault((family, bool(variant), same) if variant else profile, []).append(index)
    lines = [Line(tuple(matrix.profiles[i] for i in members), _column(matrix, members[0])) for members in groups.values()]

    def rank(line: Line) -> tuple[int, int, float, int]:
        cells = [cell for cell in line.cells if cell is not None]
        lost = sum(100.0 - _documented(cell) for cell in cells)
        return _ORDER.index(line.verdict), sum(c.error for c in cells), lost, sum(c.warning + c.undecided for c in cells)

    return sorted(lines, key=rank)


def _column(matrix: Matrix, index: int) -> tuple[Cell | None, ...]:
    return tuple(row.cells[index] if row.cells else None for row in matrix.rows)


def _documented(cell: Cell) -> float:
    return min(cell.documented_macs_percent, cell.npu_macs_percent)


def table_of(matrix: Matrix, lines: Sequence[Line], *, short: bool = False) -> list[list[str]]:
    """A head and the lines; of several models, each has a column."""
    table = [["device", *(printable(row.path) for row in matrix.rows), "decided by"]]
    for line in lines:
        cells = (describe_cell(cell) if cell is not None else "unreadable" for cell in line.cells)
        table.append([line.name(short=short), *cells, line.rules()])
    return table


def columns_of(lines: Sequence[Line]) -> list[list[str]]:
    """A head and the lines for one model, each number in a column of its own; a column without any is left out."""
    cells = [line.cells[0] for line in lines]
    columns = [["device", *(line.name(short=True) for line in lines)]]
    columns.append(["verdict", *("unreadable" if cell is None else f"{cell.verdict}{_mark(cell)}" for cell in cells)])
    for head, field in (("errors", "error"), ("warnings", "warning"), ("undecided", "undecided")):
        numbers = [0 if cell is None else getattr(cell, field) for cell in cells]
        if any(numbers):
            columns.append([head, *(f"{number:,}".rjust(len(head)) if number else "" for number in numbers)])
    columns.append(["MACs %", *("" if cell is None else _share(cell).rjust(6) for cell in cells)])
    columns.append(["decided by", *(line.rules(1) for line in lines)])
    return [list(row) for row in zip(*columns, strict=True)]


MARKS = {
    " (?)": "(?) The device's documents do not name all operators.",
    "all *": "* The device takes all the MACs, but not all operators.",
}
"""What stands behind a pass that rests on less, and in place of 100 beside another verdict, with its meaning."""
_SILENT, _NOT_ALL = MARKS


def _mark(cell: Cell) -> str:
    return _SILENT if cell.verdict == "pass" and cell.undocumented else ""


def _share(cell: Cell) -> str:
    return (
        _NOT_ALL if cell.npu_macs_percent == 100 and cell.verdict != "pass" else percent(cell.npu_macs_percent).removesuffix(" %")
    )


def describe_cell(cell: Cell) -> str:
    """One model on one device, in a few words: `fail, 3 errors, 87.0 % of the MACs`."""
    silent = cell.undocumented if cell.verdict == "pass" else 0
    parts = [cell.verdict + (f" ({plural(silent, 'operator')} not documented)" if silent else "")]
    parts += [plural(number, word) for number, word in ((cell.error, "error"), (cell.warning, "warning")) if number]
    if cell.undecided:
        parts.append(f"{cell.undecided} undecided")
    share = f"{percent(cell.npu_macs_percent)} of the MACs"
    if cell.npu_macs_percent == 100 and cell.verdict != "pass":
        share = share_words(100, cell.error) if cell.error else "all MACs"
    documented = [f"{percent(_documented(cell))} documented"] if _documented(cell) < cell.npu_macs_percent else []
    return ", ".join([*parts, share, *documented])
