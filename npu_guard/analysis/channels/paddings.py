"""Paddings that bring convolutions to whole blocks of channels, and the regions of the graph that have to agree on them.

The channels of a value fall into segments, bounded where a Concat joins, a Split cuts or a group ends; each has a padding of
its own at its end. Whatever ties two values (an Add, a Concat) ties their segments, and tied segments are padded alike.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct

from npu_guard.analysis.channels import waste
from npu_guard.analysis.channels.flow import Carry, Flow
from npu_guard.analysis.channels.operators import OPERATORS
from npu_guard.analysis.channels.segments import Layout, Segments
from npu_guard.analysis.constants import Array
from npu_guard.graph.graph import Node, Value

if TYPE_CHECKING:
    from npu_guard.analysis.facts import Facts

ROUNDS = 4
"""Times that waste is looked for: what goes back to the original width may leave parts behind it that are small again."""


class Region(Struct, frozen=True, eq=False):
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
        original: set[Node] = set()
        for _ in range(ROUNDS):
            flow = Flow(ctx, OPERATORS, original)
            carries = list(flow.carries.values())
            layouts = _layouts(flow, carries, multiple)
            wasteful = waste.wasteful(carries, layouts, multiple)
            if wasteful <= original:
                break
            original |= wasteful
        self.reasons = flow.reasons
        self._elided = ctx.analysis.elided
        unions = _Unions()
        components: dict[Hashable, list[Carry]] = {}
        touched = [(c, found) for c in carries if (found := [v for v in (*c.wide.values(), *c.forms) if v in layouts])]
        for carry, found in touched:
            for value in found:
                unions.join(carry.node, value)
        for carry, _ in touched:
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
        while (above := self._above.setdefault(root, root)) is not root:
            root = above
        while member is not root:
            self._above[member], member = root, self._above[member]
        return root

    def join(self, a: Hashable, b: Hashable) -> None:
        self._above[self.find(b)] = self.find(a)


def _layouts(flow: Flow, carries: Sequence[Carry], multiple: int) -> dict[Value, Layout]:
    """The smallest paddings with which every convolution fills its blocks; of the values that are padded.

    Most values are tied to others along their whole width, and are padded like these: one of them stands for all.
    """
    pinned = {value: units for c in carries for value, units in c.pinned.items()}
    alike, units = _alike(carries, {**pinned, **{v: form.units for v, form in flow.forms.items()}})
    aligned = dict.fromkeys((alike[v], form.factor) for c in carries if c.width > 1 for v, form in c.forms.items())
    if not any(units[v] * factor % multiple for v, factor in aligned):
        return {}
    ties = {(alike[a], alike[b], at): None for c in carries for a, b, at in c.ties if alike[a] is not alike[b]}
    groups = {(alike[value], units[alike[value]] // count): None for c in carries for value, count in c.groups}
    kept = {alike[v] for v in pinned}
    linked = {v for a, b, _ in ties for v in (a, b)} | {v for v, _ in groups}
    segments = _alone({v: n for v, n in units.items() if v not in linked and v not in kept}, aligned, multiple)
    segments |= _linked({v: n for v, n in units.items() if v in linked}, ties, groups, kept, aligned, multiple)
    return {v: Layout(segments[alike[v]], form.factor) for v, form in flow.forms.items() if alike[v] in segments}


def _alone(units: Mapping[Value, int], aligned: Iterable[tuple[Value, int]], multiple: int) -> dict[Value, Segments]:
    """Segments of values that are tied to no other in part, which are most of a network: each is widened as a whole."""
    factors: dict[Value, tuple[int, ...]] = {}
    for value, factor in aligned:
        if value in units:
            factors[value] = (*factors.get(value, ()), factor)
    known: dict[tuple[int, tuple[int, ...]], Segments | None] = {}
    for key in {(units[v], found) for v, found in factors.items()}:
        extent, found = key
        step = math.lcm(*(multiple // math.gcd(multiple, factor) for factor in found))
        known[key] = ((extent, -(-extent // step) * step),) if extent % step else None
    return {v: same for v, found in factors.items() if (same := known[units[v], found]) is not None}


def _linked(
    units: Mapping[Value, int], ties: Iterable[tuple[Value, Value, int]], groups: Iterable[tuple[Value, int]],
    kept: Set[Value], aligned: Iterable[tuple[Value, int]], multiple: int,
) -> dict[Value, Segments]:  # fmt: skip
    """Segments of values whose parts are padded like those of others; those of `kept` cannot be."""
    bounds = {v: np.asarray(sorted(found)) for v, found in _cuts(units, ties, groups).items()}
    parts = _parts(bounds, ties, groups)
    sizes = {v: np.diff(found) for v, found in bounds.items()}
    padded = np.zeros(sum(map(len, bounds.values())), np.int64)
    for value, found in parts.items():
        padded[found] = sizes[value]
    fixed = {part for v in kept if v in parts for part in parts[v].tolist()}
    own = [(parts[v], factor) for v, factor in aligned if v in parts]
    while sum(_raise(found, padded, fixed, factor, multiple) for found, factor in own):
        pass  # until none has grown; none grows beyond the next multiple of its own width
    return {
        v: tuple(zip(sizes[v].tolist(), widths.tolist(), strict=True))
        for v, found in parts.items()
        if ((widths := padded[found]) != sizes[v]).any()
    }


def _parts(
    bounds: Mapping[Value, Array], ties: Iterable[tuple[Value, Value, int]], groups: Iterable[tuple[Value, int]]
) -> dict[Value, Array]:  # fmt: skip
    """For each value a number for each of its segments, the same for segments that are padded alike.

    A network of attention has segments by the hundred thousand, so they are joined as arrays.
    """
    first = dict(zip(bounds, itertools.accumulate(map(len, bounds.values()), initial=0), strict=False))
    pairs: list[tuple[Array, Array]] = []
    for whole, part, offset in ties:
        starts = bounds[part][:-1]
        pairs.append((first[whole] + np.searchsorted(bounds[whole], starts + offset), first[part] + np.arange(len(starts))))
    for value, size in groups:
        starts = bounds[value][:-1]
        pairs.append((first[value] + np.searchsorted(bounds[value], starts % size), first[value] + np.arange(len(starts))))
    labels = np.arange(sum(map(len, bounds.values())))
    if pairs:
        labels = _joined(labels, *(np.concatenate(side) for side in zip(*pairs, strict=True)))
    return {v: labels[first[v] : first[v] + len(found) - 1] for v, found in bounds.items()}


def _joined(labels: Array, one: Array, other: Array) -> Array:
    """Equal labels for all that pairs connect. In each round every label that is not the least around it goes: half, at least."""
    while not np.array_equal(labels[one], labels[other]):
        a, b = labels[one], labels[other]
        least = np.minimum(a, b)
        np.minimum.at(labels, a, least)
        np.minimum.at(labels, b, least)
        while not np.array_equal(further := labels[labels], labels):
            labels = further
    return labels


def _alike(carries: Iterable[Carry], units: Mapping[Value, int]) -> tuple[Mapping[Value, Value], Mapping[Value, int]]:
    """For each value the one that stands for it, and the widths of these, in units."""
    unions = _Unions()
    for carry in carries:
        for whole, part, _ in carry.ties:
            if units[whole] == units[part]:
                unions.join(whole, part)
    alike: dict[Value, Value] = {v: unions.find(v) for v in units}  # type: ignore[misc]  # values are joined with values alone
    return alike, {alike[v]: extent for v, extent in units.items()}


def _raise(parts: Array, padded: Array, fixed: Set[int], factor: int, multiple: int) -> bool:
    """Widen the parts of one value until they fill whole blocks together. Whether anything had to be done.

    Equal groups grow by as little as will do. Parts that go different ways are each brought to a multiple, so that a Concat or
    a Split is at the border of a block too.
    """
    if factor * int(padded[parts].sum()) % multiple == 0:
        return False
    loose = [p for p in dict.fromkeys(parts.tolist()) if p not in fixed]
    before = [padded[p] for p in loose]
    for part in loose:
        step = multiple if len(loose) > 1 else 1
        while padded[part] % step or (len(loose) == 1 and factor * len(parts) * padded[part] % multiple):
            padded[part] += 1
    return before != [padded[p] for p in loose]


def _cuts(
    units: Mapping[Value, int], ties: Iterable[tuple[Value, Value, int]], groups: Iterable[tuple[Value, int]]
) -> dict[Value, set[int]]:  # fmt: skip
    """Where segments begin and end, in units: a cut in one value is a cut in all that are tied to it, and in all its groups."""
    cuts = {v: {0, extent} for v, extent in units.items()}
    links: dict[Value, list[tuple[Value, int]]] = {v: [] for v in units}
    for whole, part, offset in ties:
        links[whole].append((part, -offset))
        links[part].append((whole, offset))
    sizes: dict[Value, list[int]] = {}
    for value, size in groups:
        sizes.setdefault(value, []).append(size)
    new = {v: set(found) for v, found in cuts.items()}  # each cut is handed on once
    while new:
        value = next(iter(new))  # the first and not the last: what reaches it by many ways is handed on together
        fresh = new.pop(value)
        for size in sizes.get(value, ()) if fresh else ():
            inner = {c % size for c in fresh}
            fresh |= {start + c for c in inner for start in range(0, units[value], size)} - cuts[value]
            cuts[value] |= fresh
        if len(sizes.get(value, ())) > 1 and fresh:  # a cut of one grouping is one of the others as well
            again = {c % size + start for size in sizes[value] for c in fresh for start in range(0, units[value], size)}
            if more := again - cuts[value]:
                cuts[value] |= more
                new.setdefault(value, set()).update(more)
        ordered = sorted(fresh)
        for other, offset in links[value]:  # of a value of a thousand parts, each looks at its own cuts alone
            here = slice(bisect_left(ordered, -offset), bisect_right(ordered, units[other] - offset))
            if moved := {c + offset for c in ordered[here]} - cuts[other]:
                cuts[other] |= moved
                new.setdefault(other, set()).update(moved)
    return cuts
