"""Axes over which an operator runs, whichever way it spells them: an attribute, an input, or ONNX's default."""

from __future__ import annotations

from npu_guard.analysis.constants import Constants, why_open
from npu_guard.base.errors import Undecidable
from npu_guard.base.text import short
from npu_guard.graph.graph import Node

_COERCED = frozenset({"Softmax", "LogSoftmax", "Hardmax"})
"""Before opset 13 they ran over their axis and all behind it, as over one."""


def reduced_axes(node: Node, constants: Constants, why: str = "the rank is not known") -> tuple[int, ...]:
    """Axes of a reduction, normalisation or softmax, counted from the front, sorted; all of them where none are given.

    Raises Undecidable where they are computed, or counted from the end of a tensor whose rank is not known; then `why`.
    """
    x = node.role("data") or node.input(0)
    if x is None:
        raise Undecidable(f"{node.op} {short(node.label)!r} has no input 0")
    given = node.attributes.get("axes")
    schema = node.graph.model.schema(node)
    if given is None and "axis" in (schema.attributes if schema is not None else node.attributes):
        given = (node.attr("axis", -1),)
    elif given is None and (operand := node.role("axes")) is not None:
        array = constants.get(operand)
        if array is None:
            raise Undecidable(why_open(operand))
        given = tuple(int(a) for a in array.reshape(-1))
    rank = None if x.shape is None else len(x.shape)
    if not given:
        if node.attr("noop_with_empty_axes", 0):
            return ()
        if rank is None:
            raise Undecidable(why)
        return tuple(range(rank))
    if rank is None:
        if min(given) < 0:
            raise Undecidable(why)
    elif not all(-rank <= a < rank for a in given):
        raise Undecidable(f"{node.op} {short(node.label)!r} names axes {list(given)} of a tensor of rank {rank}")
    else:
        given = tuple(a + rank if a < 0 else a for a in given)
    if coerced(node):
        if rank is None:
            raise Undecidable(why)
        return tuple(range(given[0], rank))
    return tuple(sorted(set(given)))


def coerced(node: Node) -> bool:
    """Whether the operator runs over its axis and all behind it, as Softmax does before opset 13."""
    if node.op_type not in _COERCED or node.domain:
        return False
    schema = node.graph.model.schema(node)
    return schema is not None and schema.since_version < 13
