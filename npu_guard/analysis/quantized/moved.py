"""Integers that are only moved: their scale holds on both sides of what moves them."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import TYPE_CHECKING

from npu_guard.graph.handlers import OfKind

if TYPE_CHECKING:
    from npu_guard.graph.graph import Value

MOVING = OfKind("view", "data mover", "identity", also="MaxPool GlobalMaxPool Relu Clip Resize Upsample Max Min")
"""Operators that hand integers on as they are, so that their scale holds behind them too."""
_FAR = 64
"""Tensors that are looked at before one."""


def came_in(
    value: Value, known: Container[Value], source: Callable[[Value], Value], is_constant: Callable[[Value], bool]
) -> list[Value]:
    """All integers on the way from inputs of the model to these, where nothing but movers is in between; else none.

    `known` are those whose scale is known already, `source` is what is behind nodes that leave no trace.
    """
    found: dict[Value, None] = {}
    waiting = [value]
    while waiting:
        one = source(waiting.pop())
        if one in found or one in known or is_constant(one):
            continue
        found[one] = None
        node = one.producer
        if (node is not None and (node.op_type not in MOVING or node.domain)) or len(found) > _FAR:
            return []
        if node is None and not one.is_input:
            return []
        waiting += [] if node is None else [v for v in node.inputs if v is not None and v.dtype == one.dtype]
    return list(found)
