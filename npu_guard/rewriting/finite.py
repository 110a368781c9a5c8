"""Which activations are finite for every finite input: what may be multiplied by a mask of zeros and ones.

0 times an infinity or a NaN is NaN, so selecting by a product gives what selecting gives only where all is finite.
"""

from __future__ import annotations

from npu_guard.checking.context import Context
from npu_guard.graph.graph import Node, Value

_NORMALISED = frozenset(
    {"BatchNormalization", "LayerNormalization", "InstanceNormalization", "Resize", "Upsample", "DequantizeLinear"}
)
"""Operators beside those of the table (`Operator.keeps_finite`): means of finite numbers, quotients that an epsilon guards."""


def is_finite(value: Value, ctx: Context) -> bool:
    """Whether the value holds neither infinities nor NaN as long as inputs and weights hold none.

    Sums are taken not to overflow: a network whose sums do has no meaning in the first place. Division, roots, logarithms,
    powers and exponentials are no such operators.
    """
    return value in ctx.analysis_of(_finite_values) or ctx.is_constant(value)


def _finite_values(ctx: Context) -> set[Value]:
    finite = set(ctx.analysis.model.graph.inputs)
    for node in ctx.analysis.model.graph.nodes:
        if _keeps(node, ctx) and all(v is None or v in finite or ctx.is_constant(v) for v in node.inputs):
            finite.update(v for v in node.outputs if v is not None)
    return finite


def _keeps(node: Node, ctx: Context) -> bool:
    if node.domain:
        return False
    if node.op_type == "Div":
        divisor = None if node.input(1) is None else ctx.analysis.constants.get(ctx.input(node, 1))
        return divisor is not None and bool((divisor != 0).all())
    return node.operator.keeps_finite or node.op_type in _NORMALISED
