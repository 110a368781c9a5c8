"""Paddings that bring convolutions to whole blocks of channels, and the regions of the graph that have to agree on them.

The channels of a value fall into segments, bounded where a Concat joins, a Split cuts or a group ends; each has a padding of
its own at its end. Whatever ties two values (an Add, a Concat) ties their segments, and tied segments are padded alike.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from npu_guard.analysis.channels.flow import Carry, Flow
from npu_guard.analysis.channels.operators import OPERATORS
from npu_guard.analysis.constants import Array
from npu_guard.graph.graph import Node, Value

if TYPE_CHECKING:
    from npu_guard.analysis.facts import Facts


@dataclass(frozen=True, slots=True)
class Layout:
    """The widened channel axis of a value: segments of (units, padded units), with `factor` channels to a unit."""

    segments: tuple[tuple[int, int], ...]
    factor: int = 1

    @property
    def is_plain(self) -> bool:
        """Whether nothing is padded."""
        return all(units == padded for units, padded in self.segments)

    def width(self, units: int | None = None) -> int:
        """Channels that the first units take, with the padding behind them; of all of them by default."""
        total = 0
        for own, padded in self.segments:
            if units is not None:
                if units <= 0:
                    break
                units -= own
            total += padded
        return total * self.factor

    def index(self, groups: int = 1, *, late: bool = False) -> Array:
        """Where the original channels are (of the first of several groups). With `late`, for mutants: behind the padding."""
        left, start, found = sum(units for units, _ in self.segments) // groups, 0, []
        for units, padded in self.segments:
            if left <= 0:
                break
            found.append(np.arange(units) + start + (padded - units if late else 0))
            start, left = start + padded, left - units
        positions = np.concatenate(found)
        return np.asarray((positions[:, None] * self.factor + np.arange(self.factor)).reshape(-1))


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """Nodes that are widened together."""

    root: Node
    carries: tuple[Carry, ...]
    nodes: tuple[Node, ...]
    """Those of the carries, and elided nodes that only they read."""
    replaced: tuple[Value, ...]
    """Values that other nodes, or the model's reader, want in their original width."""
    layouts: Mapping[Value, Layout]
    """Of the values that are widened; others are as they were."""


class Channels:
    """The whole main graph: regions by the node that they are anchored at, and why other nodes cannot be widened."""

    def __init__(self, ctx: Facts, multiple: int) -> None:
        flow = Flow(ctx, OPERATORS)
        self.reasons = flow.reasons
        self._elided = ctx.analysis.elided
        carries = list(flow.carries.values())
        layouts = {v: layout for v, layout in _layouts(flow, carries, multiple).items() if not layout.is_plain}
        unions = _Unions()
        touched = [c for c in carries if any(v in layouts for v in (*c.wide.values(), *c.forms))]
        for carry in touched:
            for value in (*carry.wide.values(), *carry.forms):
                if value in layouts:
                    unions.join(carry.node, value)
        components: dict[Hashable, list[Carry]] = {}
        for carry in touched:
            components.setdefault(unions.find(carry.node), []).append(carry)
        order: dict[Node | Value, int] = {node: i for i, node in enumerate(ctx.analysis.model.graph.nodes)}
        order.update((value, i) for i, value in enumerate(layouts))
        self.regions = {r.root: r for r in (self._region(found, layouts, multiple, order) for found in components.values())}

    def _region(
        self, carries: list[Carry], layouts: Mapping[Value, Layout], multiple: int, order: Mapping[Node | Value, int]
    ) -> Region:
        own = {c.node for c in carries}
        nodes, replaced = dict.fromkeys(own), []
        for carry in carries:
            for value in carry.node.outputs:
                if value is not None:
                    passed = self._passed(value, own)
                    if passed is None:
                        replaced.append(value)
                    else:
                        nodes.update(dict.fromkeys(passed))
        if not replaced:  # nobody reads any of it, and it counts all the same
            replaced = [v for c in carries for v in c.node.outputs if v is not None and not v.consumers]
        values = {v for c in carries for v in (*c.wide.values(), *c.forms) if v in layouts}
        root = next((c.node for c in carries if c.width > 1 and c.width % multiple), carries[0].node)
        return Region(
            root, tuple(carries), tuple(sorted(nodes, key=order.__getitem__)), tuple(replaced),
            {v: layouts[v] for v in sorted(values, key=order.__getitem__)},
        )  # fmt: skip

    def _passed(self, value: Value, own: set[Node]) -> list[Node] | None:
        """Silent nodes between the value and its readers, None where a reader is outside of the region."""
        stack, passed = [value], []
        while stack:
            current = stack.pop()
            if current.is_output:
                return None
            for node in current.consumers:
                if node in own:
                    continue
                if node not in self._elided or node.graph is not value.graph:
                    return None
                passed.append(node)
                stack.extend(v for v in node.outputs if v is not None)
        return passed


class _Unions:
    """Disjoint sets."""

    def __init__(self) -> None:
        self._above: dict[Hashable, Hashable] = {}

    def find(self, member: Hashable) -> Hashable:
        root = member
        while (above := self._above.setdefault(root, root)) != root:
            root = above
        while member != root:
            self._above[member], member = root, self._above[member]
        return root

    def join(self, a: Hashable, b: Hashable) -> None:
        self._above[self.find(b)] = self.find(a)


def _layouts(flow: Flow, carries: Iterable[Carry], multiple: int) -> dict[Value, Layout]:
    """The smallest paddings with which every convolution fills its blocks."""
    carries = list(carries)
    pinned = {value: units for c in carries for value, units in c.pinned.items()}
    units = {**pinned, **{v: form.units for v, form in flow.forms.items()}}
    cuts = _cuts(carries, units)
    bounds = {v: sorted(found) for v, found in cuts.items()}
    unions = _Unions()
    for carry in carries:
        for whole, part, offset in carry.ties:
            for start in bounds[part][:-1]:
                unions.join((whole, start + offset), (part, start))
        for value, count in carry.groups:
            size = units[value] // count
            for start in bounds[value][:-1]:
                unions.join((value, start % size), (value, start))
    parts = {v: [(unions.find((v, a)), b - a) for a, b in itertools.pairwise(found)] for v, found in bounds.items()}
    padded = {part: size for found in parts.values() for part, size in found}
    fixed = {part for v in pinned for part, _ in parts[v]}
    aligned = [(v, form.factor) for c in carries if c.width > 1 for v, form in c.forms.items()]
    while sum(_raise([part for part, _ in parts[v]], padded, fixed, factor, multiple) for v, factor in aligned):
        pass  # until none has grown; none grows beyond the next multiple of its own width
    return {v: Layout(tuple((size, padded[part]) for part, size in parts[v]), form.factor) for v, form in flow.forms.items()}


def _raise(parts: list[Hashable], padded: dict[Hashable, int], fixed: set[Hashable], factor: int, multiple: int) -> bool:
    """Widen the parts of one value until they fill whole blocks together. Whether anything had to be done.

    Equal groups grow by as little as will do. Parts that go different ways are each brought to a multiple, so that a Concat or
    a Split is at the border of a block too.
    """
    if factor * sum(padded[p] for p in parts) % multiple == 0:
        return False
    loose = [p for p in dict.fromkeys(parts) if p not in fixed]
    before = [padded[p] for p in loose]
    for part in loose:
        step = multiple if len(loose) > 1 else 1
        while padded[part] % step or (len(loose) == 1 and factor * len(parts) * padded[part] % multiple):
            padded[part] += 1
    return before != [padded[p] for p in loose]


def _cuts(carries: Iterable[Carry], units: Mapping[Value, int]) -> dict[Value, set[int]]:
    """Where segments begin and end, in units: a cut in one value is a cut in all that are tied to it.

    Most values are tied to others along their whole width, and have the cuts of these: one of them stands for all.
    """
    carries = list(carries)
    unions = _Unions()
    for carry in carries:
        for whole, part, _ in carry.ties:
            if units[whole] == units[part]:
                unions.join(whole, part)
    alike = {v: unions.find(v) for v in units}
    cuts = {alike[v]: {0, extent} for v, extent in units.items()}
    links: dict[Hashable, dict[tuple[Hashable, int], None]] = {v: {} for v in cuts}
    groups: dict[Hashable, set[int]] = {}
    for carry in carries:
        for whole, part, offset in carry.ties:
            if alike[whole] is not alike[part]:
                links[alike[whole]][alike[part], -offset] = None
                links[alike[part]][alike[whole], offset] = None
        for value, count in carry.groups:
            groups.setdefault(alike[value], set()).add(units[value] // count)
    _hand_on(cuts, {alike[v]: extent for v, extent in units.items()}, links, groups)
    return {v: cuts[alike[v]] for v in units}


def _hand_on(
    cuts: Mapping[Hashable, set[int]], units: Mapping[Hashable, int],
    links: Mapping[Hashable, Iterable[tuple[Hashable, int]]], groups: Mapping[Hashable, set[int]],
) -> None:  # fmt: skip
    """Add to the cuts of each value those of all that are linked to it, moved by the offsets, and repeat those of one group."""
    new = {v: set(found) for v, found in cuts.items()}  # each cut is handed on once
    while new:
        value = next(iter(new))  # the first and not the last: what reaches it by many ways is handed on together
        fresh = new.pop(value)
        for size in groups.get(value, ()) if fresh else ():
            inner = {c % size for c in fresh}
            fresh |= {start + c for c in inner for start in range(0, units[value], size)} - cuts[value]
            cuts[value] |= fresh
        if len(groups.get(value, ())) > 1 and fresh:  # a cut of one grouping is one of the others as well
            again = {c % size + start for size in groups[value] for c in fresh for start in range(0, units[value], size)}
            if more := again - cuts[value]:
                cuts[value] |= more
                new.setdefault(value, set()).update(more)
        ordered = sorted(fresh)
        for other, offset in links[value]:  # of a value of a thousand parts, each looks at its own cuts alone
            here = slice(bisect_left(ordered, -offset), bisect_right(ordered, units[other] - offset))
            if moved := {c + offset for c in ordered[here]} - cuts[other]:
                cuts[other] |= moved
                new.setdefault(other, set()).update(moved)
