"""Operators in floating point between quantized ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from npu_guard.analysis.quantized.reading import CLAMPS

if TYPE_CHECKING:
    from npu_guard.analysis.quantized.unit import Unit
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node


def islands(ctx: Context) -> Mapping[Node, int]:
    """Operators between integers on both sides that are computed in floating point, each with how many hang together.

    Operators that are not wholly quantized hang together where one reads another's result in floating point. They are an island
    where some of them read integers and some of them give integers, and there are several: a single one lacks one tensor.
    """
    units = ctx.quantized.units
    loose = {node: unit for node, unit in units.items() if not unit.is_whole and unit.form not in ("weights", "dynamic")}
    parents = {node: node for node in loose}

    def root(node: Node) -> Node:
        while parents[node] is not node:
            parents[node] = parents[parents[node]]
            node = parents[node]
        return node

    for node, unit in loose.items():
        for operand in unit.data:
            if operand.encoding is None and (before := ctx.analysis.origin(operand.value).producer) in loose:
                assert before is not None
                parents[root(before)] = root(node)
    groups: dict[Node, list[Unit]] = {}
    for node, unit in loose.items():
        groups.setdefault(root(node), []).append(unit)
    found: dict[Node, int] = {}
    for group in groups.values():
        own = [unit for unit in group if unit.node.op not in CLAMPS or unit.output is None or _reads_integers(unit)]
        entries = [unit for unit in group if _reads_integers(unit)]
        exits = [unit for unit in group if unit.output is not None]
        if len(group) > 1 and entries and exits:
            found.update((unit.node, len(own)) for unit in own)
    return found


def _reads_integers(unit: Unit) -> bool:
    return any(operand.encoding is not None for operand in unit.data)
