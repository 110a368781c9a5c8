"""What the full report shows beyond findings: a row for each operator in order of execution, and the device's limits."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from npu_guard.analysis import cost
from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.types import DTYPE_NAMES
from npu_guard.base.digest import sha256
from npu_guard.checking.node_details import Details
from npu_guard.device import LIMITS, Profile
from npu_guard.device.words import show_value
from npu_guard.graph.graph import Graph, Node, Value, is_known
from npu_guard.graph.ops import other_family
from npu_guard.graph.origin import bounded_scope, input_location, location_of, scope_of, source_of
from npu_guard.results.device import Device, DeviceLimit, DeviceOperators
from npu_guard.results.findings import (
    Dim,
    Finding,
    LayerRow,
    Location,
    NodeCost,
    Outcome,
    Severity,
)

_VERDICTS = ("ok", "warning", "undecided", "error")
"""From the least to the worst: a layer is as bad as its worst finding."""
_FOLDED = NodeCost(0, 0, 0, 0)
_MAX_GIVEN = 64
"""Rows that an operator gives to its bodies: in them each node that reads any has all of these."""


def layer_rows(
    analysis: Analysis, profile: Profile, findings: Sequence[Finding], root: Path | None = None,
    followers: Collection[Node] = (),
) -> tuple[LayerRow, ...]:  # fmt: skip
    """Graph inputs, then every operator in order of execution; suppressed findings do not count in the verdicts.

    `root` is the project, below which lines of Python are looked for. `followers` leave the device with an operator that has an
    error, and are shown as that is.
    """
    worst = _worst(findings) | {location_of(node): _VERDICTS[-1] for node in followers}
    return tuple(_Rows(analysis, profile.limit("channels.multiple_of"), worst, root).all())


def device(profile: Profile) -> Device:
    """The profile in words."""
    limits = [
        DeviceLimit(key, LIMITS[key][1], show_value(limit.value), limit.source, limit.note)
        for key, limit in sorted(profile.limits.items())
    ]
    limits += [DeviceLimit(r.key, r.applies_to, r.allowed, r.source, r.note) for r in profile.requirements]
    groups: dict[tuple[str, str, str], list[str]] = {}
    for name, op in profile.operators.items():
        detail = op.reason + (f"only over {op.only}" if op.only else "")
        groups.setdefault((op.status, detail, op.source), []).append(name)
    return Device(
        profile.name,
        profile.title,
        profile.source,
        profile.notes,
        tuple(limits),
        tuple((key, meaning) for key, (_, meaning) in sorted(LIMITS.items()) if key not in profile.limits),
        tuple(DeviceOperators(*key, tuple(sorted(names))) for key, names in groups.items()),
        "" if profile.toolchain is None else f"{profile.toolchain.name} {profile.toolchain.version}".rstrip(),
        profile.unlisted_words,
        _digest(profile),
    )


def _digest(profile: Profile) -> str:
    try:
        return sha256(b"".join(path.read_bytes() for path in profile.files)).hexdigest() if profile.files else ""
    except OSError:  # it was there when the profile was read
        return ""


def _worst(findings: Iterable[Finding]) -> dict[Location, str]:
    worst: dict[Location, str] = {}
    for finding in findings:
        if finding.suppressed is None:
            verdict = "undecided" if finding.outcome is Outcome.UNDECIDED else _of(finding.severity)
            worst[finding.location] = max(worst.get(finding.location, "ok"), verdict, key=_VERDICTS.index)
    return worst


def _of(severity: Severity) -> str:
    return "ok" if severity is Severity.NOTE else severity.value


class _Rows:
    """Rows of one model, made in one walk over it."""

    def __init__(self, analysis: Analysis, multiple: int | None, worst: dict[Location, str], root: Path | None) -> None:
        self.analysis = analysis
        self.multiple = multiple
        self.root = root
        self.details = Details(analysis)
        self.worst = worst
        self.order = list(_walk(analysis.model.graph, ()))
        self.inputs = [v for v in analysis.model.graph.inputs if v.initializer is None]
        self.index: dict[Node | Value, int] = {value: i for i, value in enumerate(self.inputs)}
        for i, (node, _, _) in enumerate(self.order, len(self.inputs)):
            self.index[node] = i
        self.given: dict[Node, tuple[int, ...]] = {}
        self.results: dict[Value, list[str]] = {}
        for value in analysis.model.graph.outputs:
            self.results.setdefault(analysis.origin(value), []).append(value.name)

    def all(self) -> Iterator[LayerRow]:
        first = next(iter(self.analysis.costs.values()), _FOLDED)
        for value in self.inputs:
            location = input_location(value)
            size = cost.size_bytes(value)
            held = NodeCost(0, 0, size, first.live_bytes - first.output_bytes)
            yield self._row(self.index[value], location, (), (), value, held, self.worst.get(location, "ok"), 0)
        owners: dict[Graph, Node] = {}
        for node, around, own in self.order:
            owners.update((body, node) for _, body in node.subgraphs)
            location = Location(node.label, node.op, node.output.name, own, node.graph.path, other_family(node.op))
            folded = node in self.analysis.elided
            index = self.index[node]
            inputs = () if folded else tuple([i for i in dict.fromkeys(self._reads(node, owners)) if i != index])
            spent = self.analysis.costs.get(node, _FOLDED)
            verdict = "folded" if folded else self.worst.get(location, "ok")
            yield self._row(index, location, around, inputs, node.output, spent, verdict, 0 if folded else cost.macs(node), node)

    def _row(
        self, index: int, location: Location, scope: tuple[str, ...], inputs: tuple[int, ...], value: Value, spent: NodeCost,
        verdict: str, macs: int | None, node: Node | None = None,
    ) -> LayerRow:  # fmt: skip
        attributes, reads, makes = self.details.of(node) if node is not None else ((), (), ())
        folded = verdict == "folded"
        return LayerRow(
            index=index,
            location=location,
            scope=scope,
            inputs=inputs,
            shape=value.shape,
            dtype=DTYPE_NAMES.get(value.dtype),
            macs=macs,
            params=spent.params,
            output_bytes=0 if folded else spent.output_bytes if is_known(value.shape) else None,
            live_bytes=spent.live_bytes,
            alignment_waste=None if folded else _waste(value.shape, self.multiple),
            verdict=verdict,
            results=tuple(self.results.get(value, ())),
            attributes=attributes,
            reads=reads,
            makes=makes,
            source=source_of(node, self.root, around=False) if node is not None else None,
        )

    def _reads(self, node: Node, owners: dict[Graph, Node]) -> Iterator[int]:
        """Rows that a node reads: its inputs, and what the bodies in it give back."""
        given = [v for _, body in node.subgraphs for v in body.outputs]
        return self._rows([*node.inputs, *given] if given else node.inputs, owners)

    def _rows(self, values: Iterable[Value | None], owners: dict[Graph, Node]) -> Iterator[int]:
        asked: set[Node] = set()
        for value in values:
            if value is None or self.analysis.is_constant(value):
                continue
            origin = self.analysis.origin(value)
            known = self.index.get(origin.producer or origin)
            if known is not None:
                yield known
            elif origin.graph in owners and owners[origin.graph] not in asked:
                # An input of a body: whatever its operator is given.
                owner = owners[origin.graph]
                asked.add(owner)
                yield from self._given(owner, owners)

    def _given(self, owner: Node, owners: dict[Graph, Node]) -> tuple[int, ...]:
        """Rows that an operator with a body reads, worked out once: of loops in loops each asks the one around it."""
        if owner not in self.given:
            self.given[owner] = ()  # should an input come from the operator's own body
            rows = dict.fromkeys(self._rows(owner.inputs, owners))
            self.given[owner] = tuple(itertools.islice(rows, _MAX_GIVEN))
        return self.given[owner]


def _walk(graph: Graph, around: tuple[str, ...]) -> Iterator[tuple[Node, tuple[str, ...], tuple[str, ...]]]:
    """Nodes with the path at which the picture shows them, and their own module path."""
    for node in graph.nodes:
        own = scope_of(node)
        path = own if own[: len(around)] == around else bounded_scope(around + own)
        yield node, path, own
        for _, body in node.subgraphs:
            yield from _walk(body, bounded_scope((*path, body.path[-1])))


def _waste(shape: tuple[Dim, ...] | None, multiple: int | None) -> float | None:
    """Padding as a part of the aligned tensor. Axis 1 is channels; other ranks are no maps and no vectors."""
    if multiple is None or shape is None or len(shape) not in (2, 4):
        return None
    channels = shape[1]
    if not isinstance(channels, int) or channels == 0:
        return None
    padded = -(-channels // multiple) * multiple
    return (padded - channels) / padded
