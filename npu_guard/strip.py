"""A pooled map laid out as a strip: its channels along an axis of space, as for a one-dimensional convolution over them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from npu_guard.context import Context
from npu_guard.graph import Node, Value, short
from npu_guard.layout import RUNNING
from npu_guard.lift import UNARY, numbers, passes
from npu_guard.substitution import Refused

SCALING = frozenset({"Add", "Sub", "Mul", "Div"})


@dataclass(frozen=True, slots=True)
class Strip:
    """The way from a pooled map through a strip back to a map, in order."""

    batch: int
    channels: int
    pooled: Value
    """`[B,C,1,1]`, `[B,C,1]` or `[B,C]`."""
    steps: tuple[Node, ...]
    nodes: tuple[Node, ...]
    """Those of the steps that nothing else needs."""
    end: Value
    shapes: tuple[Node, ...]
    """Readers of the strip's shapes, which are constants."""


def over_channels(node: Node, ctx: Context) -> bool:
    """Whether the channels of a pooled map lie along the space over which a Conv runs."""
    return node.op_type == "Conv" and _backward(node, ctx) is not None


def trace(conv: Node, ctx: Context) -> Strip:
    """The strip in which this is the first convolution. Raises Refused where the channels do not find their way back."""
    found = _backward(conv, ctx)
    assert found is not None
    batch, channels, pooled, before = found
    steps, ends, value = [*before, conv], 0, conv.output
    while True:
        if _is_map(value, batch, channels):
            ends = len(steps)
            if len(value.shape or ()) == 4:
                break
        following = _only_reader(value, ctx)
        if following is None or not (_keeps(following, ctx) or _in_strip(following, value, ctx)):
            break
        steps.append(following)
        value = following.output
    if not ends:
        others = ctx.analysis.readers(value)
        reader = f"{others[0].op} {short(others[0].label)!r} reads" if others else "the model gives"
        raise Refused(f"there is no way back: {reader} {short(value.name)!r}, in which {channels} channels lie in space")
    steps = steps[:ends]
    own = _own(steps, steps.index(conv), ctx)
    shapes = tuple(c for n in own if n is not steps[-1] for c in n.output.consumers if ctx.is_constant(c.output))
    return Strip(batch, channels, pooled, tuple(steps), own, steps[-1].output, shapes)


def _backward(conv: Node, ctx: Context) -> tuple[int, int, Value, list[Node]] | None:
    """Batch, channels, the pooled map and the steps from there to the Conv."""
    value = conv.inputs[0]
    shape = numbers(value)
    best: tuple[int, int, Value, list[Node]] | None = None
    steps: list[Node] = []
    if shape is None or len(shape) < 3 or math.prod(shape[1:]) == 1:
        return None
    batch, channels = shape[0], math.prod(shape[1:])
    while value is not None:
        if _is_map(value, batch, channels):
            if not steps:
                return None
            best = (batch, channels, value, steps[::-1])
            if len(value.shape or ()) == 4:
                break
        node = value.producer
        if node is None or ctx.is_constant(value) or node.graph.parent is not None or not _keeps(node, ctx):
            break
        steps.append(node)
        value = node.inputs[0]
    return best


def _is_map(value: Value, batch: int, channels: int) -> bool:
    shape = numbers(value)
    return shape is not None and len(shape) <= 4 and shape == (batch, channels, 1, 1)[: max(2, len(shape))]


def _keeps(node: Node, ctx: Context) -> bool:
    """Whether the elements keep their order in memory, each by itself."""
    if node.domain:
        return False
    if node.op_type != "Transpose":
        return node.op_type in RUNNING or node.op_type in UNARY or passes(node, ctx)
    shape = numbers(node.inputs[0])
    if shape is None:
        return False
    order = node.attr("perm") or tuple(reversed(range(len(shape))))
    moved = [axis for axis in order if shape[axis] != 1]
    return moved == sorted(moved)


def _in_strip(node: Node, value: Value, ctx: Context) -> bool:
    """Whether the node is another convolution along the strip, or scales it by a number."""
    if node.op_type == "Conv":
        weight = numbers(node.input(1))
        known = weight is not None and weight[:2] == (1, 1) and ctx.is_constant(node.input(1))
        return known and node.inputs[0] is value and numbers(node.output) == numbers(value)
    scales = [v for v in node.inputs if v is not value]
    if node.op_type not in SCALING or len(scales) != 1 or not ctx.is_constant(scales[0]):
        return False
    scale = numbers(scales[0])
    return scale is not None and math.prod(scale) == 1 and numbers(node.output) == numbers(value)


def _only_reader(value: Value, ctx: Context) -> Node | None:
    readers = [c for c in value.consumers if not ctx.is_constant(c.output)]
    return readers[0] if len(readers) == 1 and not value.is_output and readers[0].inputs.count(value) == 1 else None


def _own(steps: list[Node], conv: int, ctx: Context) -> tuple[Node, ...]:
    first = conv
    while first and _only_reader(steps[first - 1].output, ctx) is steps[first]:
        first -= 1
    return tuple(steps[first:])
