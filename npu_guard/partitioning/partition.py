"""Which part of a model runs on the NPU and which on the host: pieces in order of execution, and what crosses between them.

Nodes with errors run on the host, all others on the NPU; what leaves no trace on a device follows its neighbours, and what
the graph alone determines is copied into each piece that reads it. How pieces grow stands in `levels.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.cost import size_bytes
from npu_guard.checking.engine import Checked, macs_share
from npu_guard.device import Profile
from npu_guard.device.partition import DEFAULT, Settings
from npu_guard.graph.graph import Node, Value, is_known
from npu_guard.partitioning.alike import modules_of
from npu_guard.partitioning.levels import assign, on_npu, used
from npu_guard.partitioning.units import HOST, NPU, Units, build, can_cross, is_default, reads_through
from npu_guard.results.findings import Dim

__all__ = ["Breaker", "Crossing", "Partition", "Piece", "Settings", "partition_model"]

_CANDIDATES = 12
"""Places for which the partition is worked out once more, as if the device ran them."""
_WORTH = 0.1
"""Share of the MACs that it has to move to the NPU to be worth more pieces."""
_WORK = 40_000
"""Units that this may go through in all, where a model is so large that even a few places are too many."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the model that runs in one go. Graph inputs that have a default are not among its inputs."""

    index: int
    side: str
    """`npu` or `host`."""
    nodes: tuple[Node, ...]
    """In the order of the model, without what is copied."""
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    macs: int
    bytes: int
    """Activations that its nodes make, in bytes."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """A tensor that one piece hands to others, by their indices. `bytes` is None where an extent is not known."""

    value: Value
    source: int
    targets: tuple[int, ...]

    @property
    def tensor(self) -> str:
        """Its name."""
        return self.value.name

    @property
    def shape(self) -> tuple[Dim, ...] | None:
        """Its shape."""
        return self.value.shape

    @property
    def dtype(self) -> int:
        """Its onnx.TensorProto.DataType."""
        return self.value.dtype

    @property
    def bytes(self) -> int | None:
        """Its size."""
        return None if not is_known(self.value.shape) else size_bytes(self.value)


@dataclass(frozen=True, slots=True)
class Breaker:
    """What would change if the device ran these nodes, by working out the partition once more."""

    nodes: tuple[Node, ...]
    pieces: int
    """Pieces that there would be."""
    npu_macs_percent: float
    """Share that there would be."""
    module: str = ""
    """The modules that have all of them and no other refused operators, folded; empty where there are none."""


@dataclass(frozen=True, slots=True)
class Partition:
    """A model cut into pieces. Running them in order, each on the outputs of those before, computes the model."""

    analysis: Analysis
    profile: str
    pieces: tuple[Piece, ...]
    crossings: tuple[Crossing, ...]
    copied: frozenset[Node]
    """Nodes without data: each piece that reads them has them."""
    npu_macs_percent: float
    runnable_macs_percent: float
    """What the device has no error at, as `check` counts it; some of it stays on the host where handing it over costs more."""
    npu_bytes_percent: float
    breakers: tuple[Breaker, ...]
    settings: Settings


def partition_model(analysis: Analysis, checked: Checked, profile: Profile, settings: Settings = DEFAULT) -> Partition:
    """Cut a model that was checked against a profile."""
    units = build(analysis, checked, profile)
    levels = assign(units, settings)
    pieces = _pieces(analysis, units, levels)
    runnable = macs_share(analysis, checked.blocked)
    return Partition(
        analysis=analysis,
        profile=profile.name,
        pieces=pieces,
        crossings=_crossings(pieces),
        copied=units.copied,
        npu_macs_percent=_share(pieces, "macs") if any(p.macs for p in pieces) else runnable,
        runnable_macs_percent=runnable,
        npu_bytes_percent=_share(pieces, "bytes"),
        breakers=_breakers(units, levels, settings),
        settings=settings,
    )


def _share(pieces: Sequence[Piece], of: str) -> float:
    """What the pieces on the NPU have, in percent; of nothing at all, it is all or nothing."""
    total = sum(getattr(p, of) for p in pieces)
    part = sum(getattr(p, of) for p in pieces if p.side == "npu")
    return 100.0 * part / total if total else 100.0 * all(p.side == "npu" for p in pieces)


def _pieces(analysis: Analysis, units: Units, levels: Sequence[int]) -> tuple[Piece, ...]:
    order = used(levels)
    position = {level: i for i, level in enumerate(order)}
    home = {node: position[levels[u]] for u, group in enumerate(units.members) for node in group}
    nodes: list[list[Node]] = [[] for _ in order]
    for node in analysis.model.graph.nodes:
        if node in home:
            nodes[home[node]].append(node)
    macs = [0] * max(1, len(order))
    for u, level in enumerate(levels):
        macs[position[level]] += units.macs[u]
    sides = ["npu" if on_npu(level) else "host" for level in order]
    results = dict.fromkeys(analysis.model.graph.outputs)
    # What no node computes from data is made by any piece; the host's is the one to bother with it.
    fixed = [v for v in results if is_default(v) or v.producer in units.copied]
    if not sides and fixed:
        sides, nodes = ["host"], [[]]
    caretaker = sides.index("host") if "host" in sides else 0
    taken = [tuple(dict.fromkeys(_taken(members, i, home, units.copied))) for i, members in enumerate(nodes)]
    needed = {*results, *(value for values in taken for value in values)}
    return tuple(
        Piece(
            index=i,
            side=sides[i],
            nodes=tuple(members),
            inputs=taken[i],
            outputs=_made(members, needed, fixed if i == caretaker else ()),
            macs=macs[i],
            bytes=sum(analysis.costs[n].output_bytes for n in members if n in analysis.costs),
        )
        for i, members in enumerate(nodes)
    )


def _made(members: Sequence[Node], needed: set[Value], fixed: Sequence[Value]) -> tuple[Value, ...]:
    """What others need of a piece; of a piece that nobody needs, all that nobody reads, as a model without outputs cannot run."""
    values = [v for node in members for v in node.outputs if v is not None and v.name]
    found = (*(v for v in values if v in needed), *fixed)
    return found or tuple(v for v in values if not v.consumers and can_cross(v))


def _taken(members: Iterable[Node], index: int, home: dict[Node, int], copied: frozenset[Node]) -> Iterable[Value]:
    for node in members:
        for value in reads_through(node, copied):
            if value.producer is None:
                if not is_default(value):
                    yield value
            elif value.producer in home and home[value.producer] != index:
                yield value


def _crossings(pieces: Sequence[Piece]) -> tuple[Crossing, ...]:
    targets: dict[Value, list[int]] = {}
    for piece in pieces:
        for value in piece.inputs:
            targets.setdefault(value, []).append(piece.index)
    return tuple(Crossing(v, p.index, tuple(targets[v])) for p in pieces for v in p.outputs if v in targets)


def _breakers(units: Units, levels: Sequence[int], settings: Settings) -> tuple[Breaker, ...]:
    """The most promising places, those that save most pieces first: bounded, as each costs one more assignment."""
    found = []
    modules = modules_of(units)
    before, pieces = _npu_macs(units, levels), len(set(levels))
    total = sum(units.macs)
    for site in _sites(units, levels, modules)[: min(_CANDIDATES, max(1, _WORK // max(1, len(levels))))]:
        sides = list(units.sides)
        for unit in site:
            sides[unit] = NPU
        after = assign(units, settings, sides)
        moved, count = _npu_macs(units, after) - before, len(set(after))
        if count < pieces or (moved > 0 and (count == pieces or moved >= _WORTH * total)):
            nodes = tuple(node for unit in site for node in units.members[unit])
            share = 100.0 * (before + moved) / total if total else 0.0
            found.append((moved, pieces - count, Breaker(nodes, count, share, modules.get(tuple(site), ""))))
    found.sort(key=lambda entry: (-entry[1], -entry[0], len(entry[2].nodes)))
    breakers: list[Breaker] = []
    for _, _, breaker in found:
        if not any(_says_as_much(other, breaker) for other in breakers):
            breakers.append(breaker)
    return tuple(breakers)


def _says_as_much(less: Breaker, more: Breaker) -> bool:
    """Whether some of the nodes alone have the same effect."""
    same = less.pieces <= more.pieces and less.npu_macs_percent >= more.npu_macs_percent
    return same and set(less.nodes) < set(more.nodes)


def _npu_macs(units: Units, levels: Sequence[int]) -> int:
    return sum(macs for macs, level in zip(units.macs, levels, strict=True) if on_npu(level))


def _sites(units: Units, levels: Sequence[int], modules: Iterable[tuple[int, ...]]) -> list[list[int]]:
    """Refused units: all of modules that are alike, all of one part of the host, those that follow each other, and each alone.

    Modules come first, as whoever writes the network mends these. Promising is where most MACs a unit are held back: its own and
    those that went to the host beside it.
    """
    near: list[set[int]] = [set() for _ in levels]
    for v, producer in enumerate(units.producer):
        for reader in units.readers[v]:
            if levels[reader] == levels[producer] and not on_npu(levels[reader]):
                near[producer].add(reader)
                near[reader].add(producer)
    held = [u for u, blocked in enumerate(units.blocked) if blocked]
    sites = {tuple(group) for through in (True, False) for group in _together(units, near, held, through=through)}
    sites |= {(u,) for u in held}

    def weight(site: Sequence[int]) -> float:
        if len(site) == 1:  # as nearly all are, of a large model some thousands
            return units.macs[site[0]] + sum([units.macs[u] for u in near[site[0]] if units.sides[u] != HOST])
        beside = {u for unit in site for u in near[unit] if units.sides[u] != HOST}
        return sum(units.macs[u] for u in {*site, *beside}) / len(site)

    first = set(modules)
    return [list(site) for site in sorted(sites | first, key=lambda site: (site not in first, -weight(site), len(site), site))]


def _together(units: Units, near: Sequence[set[int]], held: Sequence[int], *, through: bool) -> list[list[int]]:
    """Refused units that hang together, directly or `through` others of the host."""
    groups: list[list[int]] = []
    seen: set[int] = set()
    for first in held:
        if first in seen:
            continue
        seen.add(first)
        group, stack = [], [first]
        while stack:
            unit = stack.pop()
            if units.blocked[unit]:
                group.append(unit)
            for other in near[unit]:
                if (through or units.blocked[other]) and other not in seen:
                    seen.add(other)
                    stack.append(other)
        groups.append(sorted(group))
    return groups
