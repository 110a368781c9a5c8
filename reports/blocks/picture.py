"""The graph as a still picture: boxes in layers from top to bottom, for print and for browsers without scripts.

Ranks are longest paths, the order within a rank follows the mean position of the neighbours, and a line over several
ranks bends where it passes them. Lines back, which modules that are called twice make, are drawn like the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from npu_guard.base.text import printable
from npu_guard.reports.blocks.html_data import shape
from npu_guard.reports.blocks.tree import Group, frontier, rows_of, runs
from npu_guard.results.findings import LayerRow

_BOXES = 40
_WIDTH, _HEIGHT, _GAP, _RISE, _MARGIN = 178, 42, 18, 30, 12
_SWEEPS = 6
_RESULTS = 12
_LEFT, _RIGHT, _MARK = 17, 7, 20
"""Where texts begin in a box, the room behind them, and that of the sign of a verdict."""
_TITLE, _DETAIL = 7.6, 6.4
"""Units that a character of a bold title and of a detail takes at most on average: paper has fonts of its own."""


@dataclass(slots=True)
class Box:
    """One box, or (without a verdict) a bend of a line."""

    verdict: str = ""
    title: str = ""
    detail: str = ""
    many: bool = False
    side: str = ""
    """`npu`, `host` or `both`, where the model was cut into pieces."""
    rank: int = 0
    x: float = 0.0
    y: float = 0.0
    above: list[Box] = field(default_factory=list)
    below: list[Box] = field(default_factory=list)

    @property
    def width(self) -> int:
        """Room that it takes in its rank."""
        return _WIDTH if self.verdict else 6

    @property
    def title_room(self) -> int:
        """Units into which the title has to be squeezed, 0 where it fits."""
        room = _WIDTH - _LEFT - _RIGHT - (_MARK if self.verdict != "ok" else 0)
        return room if _units(self.title, _TITLE) > room else 0

    @property
    def detail_room(self) -> int:
        """The same for the detail."""
        room = _WIDTH - _LEFT - _RIGHT
        return room if _units(self.detail, _DETAIL) > room else 0


@dataclass(frozen=True, slots=True)
class Picture:
    """What the template draws."""

    width: int
    height: int
    boxes: Sequence[Box]
    lines: Sequence[str]
    caption: str
    box_width: int = _WIDTH
    box_height: int = _HEIGHT


def draw(root: Group, sides: Sequence[str] = ()) -> Picture:
    """A picture of the model, modules collapsed where it has many layers; `sides` are those of its pieces, by number."""
    items = frontier(root, _BOXES)[0]
    boxes = [_box(item, sides) for item in items]
    results = [(row, name) for row in sorted(root.rows, key=lambda row: row.index) for name in row.results][:_RESULTS]
    boxes += [Box("ok", "graph output", f"{_short(name, 14)}  {shape(row.shape)[:18]}") for row, name in results]
    home = {row.index: i for i, item in enumerate(items) for row in rows_of(item)}
    edges = {
        (home[source], target)
        for target, item in enumerate(items)
        for row in rows_of(item)
        for source in row.inputs
        if home.get(source, target) != target
    }
    edges |= {(home[row.index], len(items) + i) for i, (row, _) in enumerate(results)}
    order = sorted(range(len(items)), key=lambda i: rows_of(items[i])[0].index)
    order += range(len(items), len(boxes))
    place = {box: position for position, box in enumerate(order)}
    forward = sorted((a, b) if place[a] < place[b] else (b, a) for a, b in edges)
    _rank(boxes, order, forward)
    chains = [_bend(boxes[a], boxes[b]) for a, b in sorted(set(forward))]
    everything = boxes + [bend for chain in chains for bend in chain[1:-1]]
    ranks: list[list[Box]] = [[] for _ in range(max((b.rank for b in boxes), default=0) + 1)]
    for box in everything:
        ranks[box.rank].append(box)
    _sort(ranks)
    width = _spread(ranks)
    height = len(ranks) * (_HEIGHT + _RISE) - _RISE + 2 * _MARGIN
    return Picture(round(width), height, boxes, [_line(chain) for chain in chains], _caption(items))


def _caption(items: Iterable[Group | LayerRow]) -> str:
    stacks = [item for item in items if isinstance(item, Group)]
    if not stacks:
        return "Every layer has a box of its own."
    if all(stack.part for stack in stacks):
        return "A stacked box holds several layers that follow each other."
    return "Modules collapsed; a stacked box holds several layers."


def _box(item: Group | LayerRow, sides: Sequence[str]) -> Box:
    rows = rows_of(item)
    on = {sides[row.piece] for row in rows if row.piece is not None} if sides else set()
    side = "both" if len(on) > 1 else next(iter(on), "")
    if isinstance(item, Group):
        bad = sum(row.verdict in ("error", "undecided", "warning") for row in rows)
        detail = f"{sum(map(runs, rows))} layers" + (f", {bad} with findings" if bad else "")
        return Box(item.worst, _short(item.path), detail, many=True, side=side)
    name = ".".join(item.scope) or item.location.node
    return Box(item.verdict, _short(name), f"{printable(item.location.op_type, 18)}  {shape(item.shape)[:18]}", side=side)


def _units(text: str, usual: float) -> float:
    """Room that a text takes at most, where most characters take the `usual` one."""
    return usual * sum(1.8 if char in "MWmw@%" or char > "\u2e80" else 1 for char in text)


def _short(path: str, most: int = 24) -> str:
    safe = printable(path)
    return safe if len(safe) <= most else f"…{safe[1 - most :]}"


def _rank(boxes: Sequence[Box], order: Iterable[int], edges: Iterable[tuple[int, int]]) -> None:
    targets: dict[int, list[int]] = {}
    for a, b in edges:
        targets.setdefault(a, []).append(b)
    for a in order:
        for b in targets.get(a, ()):
            boxes[b].rank = max(boxes[b].rank, boxes[a].rank + 1)


def _bend(first: Box, last: Box) -> list[Box]:
    """The line between two boxes, with a bend at each rank on the way."""
    chain = [first, *(Box(rank=rank) for rank in range(first.rank + 1, last.rank)), last]
    for upper, lower in itertools.pairwise(chain):
        upper.below.append(lower)
        lower.above.append(upper)
    return chain


def _sort(ranks: list[list[Box]]) -> None:
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for rank in ranks:
            for position, box in enumerate(rank):
                box.x = position - len(rank) / 2
        for rank in ranks if down else reversed(ranks):
            middle = {id(box): _mean(box.above if down else box.below, box.x) for box in rank}
            rank.sort(key=lambda box: middle[id(box)])
            for position, box in enumerate(rank):
                box.x = position - len(rank) / 2


def _mean(boxes: Sequence[Box], alone: float) -> float:
    return sum(box.x for box in boxes) / len(boxes) if boxes else alone


def _spread(ranks: list[list[Box]]) -> float:
    """Centre every rank; set the coordinates (of a box, its middle at the top) and return the width."""
    lengths = [sum(box.width for box in rank) + _GAP * (len(rank) - 1) for rank in ranks]
    width = max(lengths, default=0) + 2 * _MARGIN
    for number, (rank, length) in enumerate(zip(ranks, lengths, strict=True)):
        left = (width - length) / 2
        for box in rank:
            box.x, box.y = left + box.width / 2, _MARGIN + number * (_HEIGHT + _RISE)
            left += box.width + _GAP
    return width


def _line(chain: Sequence[Box]) -> str:
    """SVG path: straight past the bends, curved between ranks."""
    x, y = chain[0].x, chain[0].y + _HEIGHT
    path = f"M{x:.0f} {y:.0f}"
    for box in chain[1:]:
        half = (box.y - y) / 2
        path += f"C{x:.0f} {y + half:.0f} {box.x:.0f} {box.y - half:.0f} {box.x:.0f} {box.y:.0f}"
        x, y = box.x, box.y
        if not box.verdict:
            y += _HEIGHT
            path += f"V{y:.0f}"
    return path
