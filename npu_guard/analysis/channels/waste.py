"""Where padded channels cost more than they bring: parts so small, or so many, that most of them would be padding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from npu_guard.analysis.channels.flow import Carry
from npu_guard.analysis.channels.segments import Layout
from npu_guard.graph.graph import Node, Value

WASTE = 2
"""How many times the channels that alignment takes a value may have so that its parts are aligned as well."""
PIECES = 64
"""Parts with a padding of their own that a value may have: whoever reads its original width takes as many slices."""


def wasteful(carries: Iterable[Carry], layouts: Mapping[Value, Layout], multiple: int) -> set[Node]:
    """Nodes that cut channels into parts so small, or join so many, that most would be padding: they read the original width."""
    wide: dict[Value, int] = {}
    for value, layout in layouts.items():
        units = sum(own for own, _ in layout.segments)
        pieces = sum(own < padded for own, padded in layout.segments)
        if pieces > PIECES or layout.width() > WASTE * -(-units * layout.factor // multiple) * multiple:
            wide[value] = units

    def cuts(carry: Carry) -> bool:
        own = set(carry.wide.values()).intersection(wide)
        forms = ((whole, carry.forms.get(part)) for whole, part, _ in carry.ties if whole in own)
        return joins(carry.node) or any(form is not None and form.units < wide[whole] for whole, form in forms)

    def joins(node: Node) -> bool:
        return len(node.inputs) > PIECES and any(v in wide for v in node.outputs)

    found = {carry.node for carry in carries if cuts(carry)} if wide else set()
    return {n for node in found for n in _narrowest(node)}


def _narrowest(node: Node) -> set[Node]:
    """Where to go back to the original width: before the node, or where what it joins by the thousand comes from."""
    makers = {v.producer for v in node.inputs if v is not None and v.producer is not None}
    return makers if len(makers) < len(node.inputs) > PIECES else {node}
