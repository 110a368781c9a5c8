"""A model's operators as a tree of modules, for pictures: no level has more boxes than one can look at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from npu_guard.results.findings import INPUT, LayerRow

VERDICTS = ("ok", "warning", "undecided", "error", "folded")
_DEPTH = 24  # modules in modules; what lies deeper is shown at this depth
_WIDEST = 64  # boxes of one level; more are put into parts by order of execution
_PART = 50
_FEW = 6  # bars of a chart that say too little


@dataclass(slots=True)
class Group:
    """A module, or a part of one that has too many operators. Folded operators are in no group."""

    label: str
    path: str
    items: list[Group | LayerRow] = field(default_factory=list)
    part: bool = False
    rows: list[LayerRow] = field(default_factory=list)
    """All operators below, in order of execution."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the operators below."""
        return sum(row.macs or 0 for row in self.rows)

    @property
    def worst(self) -> str:
        """The worst verdict below."""
        return max((row.verdict for row in self.rows), key=VERDICTS.index, default="ok")

    def below(self) -> Iterator[Group]:
        """Groups inside, each before those inside of it."""
        for item in self.items:
            if isinstance(item, Group):
                yield item
                yield from item.below()


def runs(row: LayerRow) -> bool:
    """Whether it is a layer that the page counts: neither folded nor an input of the graph."""
    return row.verdict != "folded" and row.location.op_type != INPUT


def build(layers: Iterable[LayerRow]) -> tuple[Group, dict[int, str]]:
    """The tree, and for operators that stand for a whole module the module's name by row index."""
    layers = list(layers)
    numbers = {row.index: n for n, row in enumerate(filter(runs, layers), 1)}
    root = Group("", "")
    known: dict[tuple[str, ...], Group] = {(): root}
    for row in layers:
        if row.verdict == "folded":
            continue
        path = row.scope[:_DEPTH]
        group = root
        for depth in range(1, len(path) + 1):
            inner = known.get(path[:depth])
            if inner is None:
                inner = known[path[:depth]] = Group(path[depth - 1], ".".join(path[:depth]))
                group.items.append(inner)
            group = inner
        group.items.append(row)
    names: dict[int, str] = {}
    root.items = [_simple(item, names) for item in root.items]
    _finish(root, numbers)
    return root, names


def _simple(item: Group | LayerRow, names: dict[int, str]) -> Group | LayerRow:
    """A module around a single thing is that thing, with the module's name before its own."""
    if isinstance(item, LayerRow):
        return item
    item.items = [_simple(inner, names) for inner in item.items]
    if len(item.items) > 1:
        return item
    only = item.items[0]
    if isinstance(only, Group):
        only.label = f"{item.label}.{only.label}"
    else:
        names[only.index] = f"{item.label}.{names[only.index]}" if only.index in names else item.label
    return only


def _finish(group: Group, numbers: Mapping[int, int]) -> None:
    """Divide what is too wide, and gather the operators below each group."""
    if len(group.items) > _WIDEST:
        size = max(_PART, -(-len(group.items) // _PART))
        group.items = [_part(group, group.items[i : i + size], numbers) for i in range(0, len(group.items), size)]
    for item in group.items:
        if isinstance(item, Group):
            _finish(item, numbers)
    rows = [row for item in group.items for row in (item.rows if isinstance(item, Group) else [item])]
    group.rows = sorted(rows, key=lambda row: row.index)


def _part(group: Group, items: list[Group | LayerRow], numbers: Mapping[int, int]) -> Group:
    found = [number for item in items for number in _numbers(item, numbers)]
    label = f"layers {min(found)}–{max(found)}" if found else "graph inputs"
    return Group(label, f"{group.path} {label}".strip(), items, part=True)


def _numbers(item: Group | LayerRow, numbers: Mapping[int, int]) -> list[int]:
    if isinstance(item, LayerRow):
        return [numbers[item.index]] if item.index in numbers else []
    return [number for inner in item.items for number in _numbers(inner, numbers)]


def frontier(root: Group, limit: int) -> tuple[list[Group | LayerRow], list[Group]]:
    """At most `limit` boxes (as far as the top level allows) that cover the model, and the groups opened to get them.

    Groups of one depth are opened together or not at all: layer2 beside the inside of layer1 would mislead.
    """
    boxes, opened = list(root.items), [root]
    while groups := [box for box in boxes if isinstance(box, Group)]:
        wider = [inner for box in boxes for inner in (box.items if isinstance(box, Group) else [box])]
        if len(wider) > limit:
            break
        boxes = wider
        opened += groups
    return boxes, opened[1:]


def modules(root: Group, limit: int) -> list[list[Group | LayerRow]]:
    """The modules that share the work, at most `limit` as far as the top level allows: what each has of layers and of modules.

    A module is opened where there are modules in it and not layers alone, or where there would be a handful of boxes otherwise.
    Layers that stand in one module beside other modules are one part.
    """

    def kept(items: Iterable[Group | LayerRow]) -> list[Group | LayerRow]:
        return [item for item in items if any(row.macs for row in rows_of(item))]

    def opens(box: Group | LayerRow) -> bool:
        few = len(boxes) < _FEW
        return isinstance(box, Group) and (few or sum(isinstance(item, Group) for item in kept(box.items)) > 1)

    boxes = kept(root.items)
    while any(map(opens, boxes)):
        wider = [inner for box in boxes for inner in (kept(box.items) if isinstance(box, Group) and opens(box) else [box])]
        if len(wider) > limit:
            break
        boxes = wider
    parts: dict[object, list[Group | LayerRow]] = {}
    for box in boxes:
        parts.setdefault(id(box) if isinstance(box, Group) else box.scope or box.index, []).append(box)
    return list(parts.values())


def rows_of(box: Group | LayerRow) -> Sequence[LayerRow]:
    """The operators of a box."""
    return box.rows if isinstance(box, Group) else (box,)
