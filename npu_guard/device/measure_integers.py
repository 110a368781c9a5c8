"""Numbers that stand among integers: what a Pad fills in, the bounds of a Clip between QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_guard.analysis.quantized.held import held_of
from npu_guard.device.measure import Measured

if TYPE_CHECKING:
    from npu_guard.analysis.facts import Facts
    from npu_guard.graph.graph import Node

_ROLES = frozenset({"fill", "bound"})
"""Operands that are numbers of the same kind as the data."""


def in_real_numbers(found: Measured, node: Node, ctx: Facts, role: str | None) -> Measured:
    """What is measured at an operand of the role, as the real numbers that it stands for where the data are held as integers.

    So a Pad that fills integers with their zero point fills with 0. What has no scale that is read stays as it is.
    """
    x = node.input(0)
    if role not in _ROLES or x is None or not ctx.quantized:
        return found
    held = held_of(ctx.quantized.encodings.get(x), ctx.analysis)
    if held is None:
        return found
    scale = float(held.scale)
    # six digits are what a scale in float32 holds of a number such as 6
    return Measured(tuple(float(f"{scale * (number - held.zero):.6g}") for number in found.values), found.why)
