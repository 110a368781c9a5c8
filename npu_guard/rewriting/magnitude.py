"""How large the numbers of an activation can become, whatever the model is fed: what may be raised without an overflow."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from npu_guard.analysis.constants import Array
from npu_guard.analysis.cost import elements
from npu_guard.base.errors import Undecidable
from npu_guard.checking.context import Context
from npu_guard.graph.graph import Node, Value

_UNIT = frozenset({"Sigmoid", "HardSigmoid", "Softmax", "Tanh", "Erf", "Sin", "Cos", "Softsign", "Sign", "Hardmax"})
"""Operators that give numbers from -1 to 1."""
_SAME = frozenset({
    "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Slice", "Split", "Expand", "Tile", "Cast", "Gather",
    "GatherElements", "GatherND", "Relu", "Abs", "Neg", "ReduceMax", "ReduceMin", "ReduceMean", "MaxPool", "GlobalMaxPool",
    "AveragePool", "GlobalAveragePool",
})  # fmt: skip
"""Operators that give none larger than their first input has."""
_KNOWN = _UNIT | _SAME | {"Max", "Min", "Concat", "Add", "Sub", "Mul", "ReduceSum", "Clip"}
MOST_NODES = 200
"""Operators that are looked at for one bound."""


def most(value: Value | None, ctx: Context, read: Callable[[Value], Array]) -> float:
    """The largest magnitude that the numbers of a value may have; infinite where nothing bounds it.

    `read` gives the values of a constant. Raises what it raises.
    """
    bounds: dict[Value | None, float] = {None: math.inf}
    nodes = _behind(value, ctx)
    for given in (value, *(v for n in nodes for v in n.inputs)):
        if given is not None and given not in bounds and ctx.is_constant(given):
            array = read(given)
            numeric = array.dtype.kind in "fiu"
            bounds[given] = float(np.max(np.abs(array.astype(np.float64)), initial=0.0)) if numeric else math.inf
    for node in nodes:
        bound = _bound(node, bounds, ctx)
        bounds.update((v, math.inf if math.isnan(bound) else bound) for v in node.outputs if v is not None)
    return bounds.get(value, math.inf)


def _behind(value: Value | None, ctx: Context) -> list[Node]:
    """Nodes that a bound follows from, in the order of the graph; some only, where there are many."""
    found: set[Node] = set()
    stack = [value]
    while stack and len(found) < MOST_NODES:
        given = stack.pop()
        node = given.producer if given is not None and not ctx.is_constant(given) else None
        if node is None or node in found or node.domain or node.op_type not in _KNOWN:
            continue
        found.add(node)
        stack += () if node.op_type in _UNIT else node.inputs[:1] if node.op_type in _SAME else node.inputs
    return [n for n in ctx.analysis.model.graph.nodes if n in found]


def _bound(node: Node, bounds: Mapping[Value | None, float], ctx: Context) -> float:
    def of(value: Value | None) -> float:
        return bounds.get(value, math.inf)

    op, x = node.op_type, node.input(0)
    if op in _UNIT:
        return 1.0
    if op in _SAME:
        return of(x)
    if op in ("Max", "Min", "Concat"):
        return max(map(of, node.inputs))
    if op in ("Add", "Sub"):
        return sum(map(of, node.inputs))
    if op == "Mul":
        return math.prod(map(of, node.inputs))
    if op == "ReduceSum":
        before, after = elements(x.shape) if x is not None else None, elements(node.output.shape)
        return of(x) * before / after if before and after else math.inf
    return _clipped(node, of(x), ctx)


def _clipped(node: Node, bound: float, ctx: Context) -> float:
    """Of a Clip whose ends may be known."""
    try:
        low, high = (
            node.attributes[name] if name in node.attributes else ctx.array(ctx.input(node, at)).item()
            for name, at in (("min", 1), ("max", 2))
        )
    except Undecidable:
        return bound
    return min(bound, max(abs(float(low)), abs(float(high))))
