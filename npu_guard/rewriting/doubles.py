"""Parts of a network that compute in float64: how far they reach, and whether float32 would do."""

from __future__ import annotations

from collections.abc import Callable

import onnx

from npu_guard.analysis.constants import Array
from npu_guard.checking.context import Context
from npu_guard.graph.graph import Node, Value
from npu_guard.rewriting.magnitude import most
from npu_guard.rewriting.substitution import Refused

_T = onnx.TensorProto
_FLOATS = frozenset((_T.FLOAT, _T.FLOAT16, _T.BFLOAT16, _T.DOUBLE))
_STEPS = frozenset(("Floor", "Ceil", "Round", "Sign", "Mod", "Hardmax"))
"""Operators at which the last bit of a number decides about whole ones."""
_GROW = frozenset(("Sinh", "Cosh", "ReduceProd"))
"""Operators that leave the range of float32 on numbers that a network may have."""
HIGHEST, CUBE = 88.0, 3.0
"""The largest whole number whose exponential is a float32, and the highest power that is taken for a product."""
_ASKS = ("Shape", "Size")
MOST = 500
"""Operators of one region."""


def region(root: Node, ctx: Context) -> set[Node]:
    """All nodes that hang together by values of float64. Raises Refused."""
    inside: set[Node] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        if node in inside:
            continue
        inside.add(node)
        if len(inside) > MOST:
            raise Refused(f"more than {MOST} operators hang together by values of float64")
        if node.graph.parent is not None or node.subgraphs:
            raise Refused(f"{node.op} is in a subgraph, or has one")
        _expect_continuous(node)
        for value in node.inputs:
            if value is None or value.dtype != _T.DOUBLE or ctx.is_constant(value):
                continue
            if value.producer is None:
                raise Refused(f"the model takes {value.name!r} in float64")
            stack.append(value.producer)
        for value in node.outputs:
            if value is not None and value.dtype == _T.DOUBLE:
                stack += value.consumers
    return inside


def _expect_continuous(node: Node) -> None:
    """Refuse an operator at which a rounding becomes a whole number, or from which whole ones come."""
    if node.domain or node.op_type == "CastLike":
        raise Refused(f"it is not known of {node.op} that it computes alike in both types")
    if node.op_type in _ASKS:
        return
    if node.op_type in _STEPS or any(v is not None and v.dtype not in _FLOATS for v in node.outputs):
        raise Refused(f"a rounding decides about whole numbers at {node.op}")
    if node.op_type == "Cast" and any(v is None or v.dtype not in _FLOATS for v in node.inputs):
        raise Refused(f"whole numbers come into it at {node.op}")


def expect_small(node: Node, ctx: Context, read: Callable[[Value], Array]) -> None:
    """Refuse an operator that may make numbers beyond float32 of those that a network has; `read` gives values of constants.

    Raises Refused.
    """
    small = node.op_type not in _GROW
    if node.op_type == "Exp":
        small = most(node.input(0), ctx, read) <= HIGHEST
    elif node.op_type == "Pow":
        power = node.input(1)
        small = power is not None and ctx.is_constant(power) and most(power, ctx, read) <= CUBE
    if not small:
        raise Refused(f"numbers may leave the range of float32 at {node.op}")
