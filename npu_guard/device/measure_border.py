"""What can be measured of the way from an operator to the inputs and outputs of the model, and of who reads beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_guard.analysis import ends
from npu_guard.device.measure import Measured

if TYPE_CHECKING:
    from npu_guard.analysis.facts import Facts
    from npu_guard.graph.graph import Node


def enters(node: Node, ctx: Facts) -> Measured:
    """Whether the first input is one of the model: compilers bring those to a layout of their own first."""
    return Measured((ends.enters(ctx.analysis, ctx.data(node)),))


def shared(node: Node, ctx: Facts) -> Measured:
    """Whether the first input is read by others too, or leaves the model: then it is not computed into its reader."""
    return Measured((ends.is_shared(ctx.analysis, ctx.data(node)),))


def leaves(node: Node, ctx: Facts) -> Measured:
    """Whether the first output is one of the model: compilers bring those back to the layout that the graph states."""
    return Measured((ends.leaves(ctx.analysis, node.output),))


def leaves_as_is(node: Node, ctx: Facts) -> Measured:
    """Whether the first output is one of the model, itself or behind operators that work in any layout."""
    return Measured((ends.leaves_as_is(ctx.analysis, node.output),))
