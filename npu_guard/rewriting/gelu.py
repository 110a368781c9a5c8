"""Gelu as exporters spell it out: a division by the root of 2, Erf, an addition of 1 and two products, of which the one by a half
may come before the addition, which is of a half then."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from msgspec import Struct

from npu_guard.rewriting.arithmetic import number_of

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value


class Gelu(Struct, frozen=True):
    """What gelu is taken of, and the nodes that spell it out, of which the last gives it."""

    x: Value | None
    nodes: tuple[Node, ...]


def spelled_out(erf: Node, ctx: Context, digits: float) -> Gelu | None:
    """The gelu of which this Erf is a part, in any order of its factors; None where it is something else.

    `digits` is by how much its numbers may be off, relative to what they should be.
    """
    scale = erf.inputs[0].producer if erf.inputs[0] is not None else None
    found = None if scale is None else _times(scale, ctx)
    if scale is None or found is None or not math.isclose(found[1], math.sqrt(0.5), rel_tol=digits):
        return None
    x, nodes, value, factor, squared, added = found[0], [erf], erf.output, 1.0, False, False
    while not added or not squared or not math.isclose(factor, 0.5, rel_tol=digits):
        readers = value.consumers
        if len(readers) != 1 or value.is_output:
            return None
        node = readers[0]
        others = [v for v in node.inputs if v is not value]
        if len(others) != 1 or others[0] is None:
            return None
        number, scaled = number_of(others[0], ctx), _times(others[0].producer, ctx) if others[0].producer is not None else None
        if not added and node.op_type == "Add":
            if number is None or not math.isclose(number, factor, rel_tol=digits):
                return None
            added = True
        elif node.op_type != "Mul" or (not added and number is None):
            return None
        elif number is not None:
            factor *= number
        elif others[0] is x and not squared:
            squared = True
        elif scaled is not None and scaled[0] is x and not squared:
            squared, factor = True, factor * scaled[1]
        else:
            return None
        nodes.append(node)
        value = node.output
    return Gelu(x, tuple(nodes))


def _times(node: Node, ctx: Context) -> tuple[Value, float] | None:
    """A value times a number."""
    if node.op_type not in ("Mul", "Div") or node.domain or len(node.inputs) != 2:
        return None
    for x, other in ((node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])):
        number = None if other is None else number_of(other, ctx)
        if x is not None and number is not None and not (node.op_type == "Div" and (x is not node.inputs[0] or number == 0)):
            return x, number if node.op_type == "Mul" else 1 / number
    return None
