"""What can be measured of the way from an operator to the inputs and outputs of the model, and of who reads beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_guard.device.measure import Measured

if TYPE_CHECKING:
    from npu_guard.analysis.facts import Facts
    from npu_guard.graph.graph import Node

_ANY_LAYOUT = ("unary", "softmax", "quantization")
"""Kinds of operators that work in any layout and leave it as it is."""


def enters(node: Node, ctx: Facts) -> Measured:
    """Whether the first input is one of the model: compilers bring those to a layout of their own first."""
    return Measured((ctx.analysis.origin(ctx.data(node)).producer is None,))


def shared(node: Node, ctx: Facts) -> Measured:
    """Whether the first input is read by others too, or leaves the model: then it is not computed into its reader."""
    return Measured((len(list(ctx.analysis.reading(ctx.analysis.origin(ctx.data(node))))) > 1,))


def leaves(node: Node, ctx: Facts) -> Measured:
    """Whether the first output is one of the model: compilers bring those back to the layout that the graph states."""
    return Measured((node.output.is_output,))


def leaves_as_is(node: Node, ctx: Facts) -> Measured:
    """Whether the first output is one of the model, itself or behind operators that work in any layout."""
    step: Node | None = node
    while step is not None:
        readers = list(ctx.analysis.reading(step.output))
        if len(readers) != 1 or (readers[0] is not None and readers[0].operator.kind not in _ANY_LAYOUT):
            return Measured((None in readers,))
        step = readers[0]
    return Measured((True,))
