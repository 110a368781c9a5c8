"""Numbers for the charts: MACs of each module by verdict, and live memory over the order of execution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from npu_guard.base.text import printable
from npu_guard.reports.blocks.html_data import shape
from npu_guard.reports.blocks.tree import VERDICTS, Group, modules, rows_of
from npu_guard.results import summary
from npu_guard.results.findings import INPUT, LayerRow, ModelReport
from npu_guard.results.summary import si

_BARS = 24
_COLUMNS = 300
_TENSORS = 6
_ORDER = ("error", "undecided", "warning", "ok")


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a bar, in percent of the bar's full length."""

    verdict: str
    start: float
    length: float


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar with its label and its value in words."""

    label: str
    value: str
    percent: float
    pieces: Sequence[Piece]


def percent(value: float) -> str:
    """A share in words; a dash for nothing."""
    return summary.percent(value) if value else "–"


def module_bars(model: ModelReport, root: Group) -> list[Bar]:
    """MACs of each module in order of execution; the longest bar is 100."""
    boxes = [(part[0], [row for box in part for row in rows_of(box)]) for part in modules(root, _BARS)]
    boxes = sorted(boxes, key=lambda entry: sum(row.macs or 0 for row in entry[1]))[-_BARS:]
    boxes.sort(key=lambda entry: entry[1][0].index)
    longest = max((sum(row.macs or 0 for row in rows) for _, rows in boxes), default=0)
    bars = []
    for box, rows in boxes:
        macs = sum(row.macs or 0 for row in rows)
        name = box.path if isinstance(box, Group) else ".".join(box.scope) or box.location.node
        share = 100 * macs / model.totals.macs if model.totals.macs else 0.0
        bars.append(Bar(printable(name, 60), si(macs), share, _pieces(rows, longest, macs=True)))
    return bars


def coverage(layers: Sequence[LayerRow]) -> list[tuple[str, Sequence[Piece], list[tuple[str, str]]]]:
    """The model as two bars, by layers and by MACs: (label, pieces, counts in words by verdict)."""
    rows = [row for row in layers if row.verdict != "folded" and row.location.op_type != INPUT]
    found: list[tuple[str, Sequence[Piece], list[tuple[str, str]]]] = []
    for label, macs in (("Layers", False), ("MACs", True)):
        weights = {v: sum((row.macs or 0) if macs else 1 for row in rows if row.verdict == v) for v in VERDICTS}
        total = sum(weights.values())
        if total:
            counts = [(v, percent(100 * weights[v] / total) if macs else f"{weights[v]:,}") for v in _ORDER if weights[v]]
            found.append((label, _pieces(rows, total, macs=macs), counts))
    return found


def _pieces(rows: Sequence[LayerRow], full: int, *, macs: bool) -> list[Piece]:
    pieces = []
    start = 0.0
    for verdict in _ORDER:
        weight = sum((row.macs or 0) if macs else 1 for row in rows if row.verdict == verdict)
        if weight and full:
            pieces.append(Piece(verdict, round(start, 2), round(100 * weight / full, 2)))
            start += 100 * weight / full
    return pieces


@dataclass(frozen=True, slots=True)
class Memory:
    """Live activations as the outline of an area 1000 wide and 100 high, and its highest point."""

    path: str
    peak: str
    node: str
    key: str
    """What the page's address has for the node."""
    at: float
    module: str
    count: int
    tensors: Sequence[tuple[str, str, str, str]]
    """Node that makes it, what the address has for that, shape and size, of the largest tensors that are alive at the peak."""
    others: int


def memory(layers: Sequence[LayerRow], key: Callable[[LayerRow], str]) -> Memory | None:
    """Live memory over the order of execution; of many layers, the highest of each stretch. `key` is that of `node_keys`."""
    rows = [row for row in layers if row.verdict != "folded"]
    top = max(rows, key=lambda row: row.live_bytes, default=None)
    if top is None or not top.live_bytes:
        return None
    stretch = -(-len(rows) // _COLUMNS)
    heights = [max(row.live_bytes for row in rows[i : i + stretch]) for i in range(0, len(rows), stretch)]
    step = 1000 / len(heights)
    path = "M0 100"
    for i, height in enumerate(heights):
        path += f"V{100 - 96 * height / top.live_bytes:.1f}H{(i + 1) * step:.1f}"
    at = (rows.index(top) // stretch + 0.5) * step
    alive = alive_at(layers, top.index)
    return Memory(
        f"{path}V100Z", si(top.live_bytes), printable(top.location.node, 60), key(top), at, printable(".".join(top.scope), 60),
        sum(row.location.op_type != INPUT for row in rows),
        [(printable(r.location.node, 60), key(r), shape(r.shape), f"{si(r.output_bytes or 0)}B") for r in alive[:_TENSORS]],
        max(0, len(alive) - _TENSORS),
    )  # fmt: skip


def alive_at(layers: Sequence[LayerRow], index: int) -> list[LayerRow]:
    """Operators whose outputs are there while one runs: what it reads and makes, and what is needed later. Largest first."""
    last = {row.index: row.index for row in layers}
    for row in layers:
        for source in row.inputs:
            last[source] = max(last.get(source, 0), row.index)
    end = max(last, default=0)
    there = [row for row in layers if row.index <= index <= (end if row.results else last[row.index]) and row.verdict != "folded"]
    return sorted((row for row in there if row.output_bytes), key=lambda row: (-(row.output_bytes or 0), row.index))
