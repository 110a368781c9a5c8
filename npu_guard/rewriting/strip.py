"""A pooled map laid out as a strip: its channels along an axis of space, as for a one-dimensional convolution over them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping

import numpy as np
import onnx
from msgspec import Struct

from npu_guard.analysis.layout import RUNNING
from npu_guard.base.text import short
from npu_guard.checking.context import Context
from npu_guard.graph.graph import Node, Value
from npu_guard.rewriting.node_numbers import numbers, padding_before, passes, reduced
from npu_guard.rewriting.rank_lift import UNARY
from npu_guard.rewriting.substitution import Array, Builder, Refused

SCALING = frozenset({"Add", "Sub", "Mul", "Div"})


class Strip(Struct, frozen=True):
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
    ctx: Context

    @property
    def replaced(self) -> tuple[Value, ...]:
        """What new nodes have to provide."""
        return self.end, *(s.output for s in self.shapes)


def match_strip(node: Node, ctx: Context) -> Strip | None:
    """The strip of a convolution from one channel to one, with constant weights; None for any other. Raises Refused."""
    if node.graph.parent is not None:
        return None
    if not over_channels(node, ctx):
        _refuse_larger_map(node, ctx)
        return None
    x, weight, out = (numbers(v) or () for v in (node.inputs[0], node.input(1), node.output))
    if weight[1] == 1 and (weight[0] != 1 or max(node.attr("strides") or [1]) > 1):
        return None  # filters over a signal, as an audio network begins with: nothing there is a factor for each channel
    for axis, what in ((1, "input"), (0, "output")):
        if weight[axis] != 1:
            raise Refused(f"it has {weight[axis]} {what} channels")
    if not ctx.is_constant(node.input(1)):
        raise Refused("its weights are not constant")
    if x != out:
        raise Refused(f"it gives {math.prod(out[1:])} positions for {math.prod(x[1:])} channels")
    return trace_strip(node, ctx)


def over_channels(node: Node, ctx: Context) -> bool:
    """Whether the channels of a pooled map lie along the space over which a Conv runs."""
    return node.op_type == "Conv" and _backward(node, ctx) is not None


def trace_strip(conv: Node, ctx: Context) -> Strip:
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
    return Strip(batch, channels, pooled, tuple(steps), own, steps[-1].output, shapes, ctx)


_Path = tuple[int, int, Value, list[Node]]
_FAR = 24
"""Steps after which a pooled map is not looked for any more."""


def _no_paths(_: Context) -> dict[Value | None, _Path | None]:
    """Ways back from values, before any is followed."""
    return {}


def _backward(conv: Node, ctx: Context) -> _Path | None:
    """Batch, channels, the pooled map and the steps from there to the Conv; looked for once for all that read its input."""
    known = ctx.analysis_of(_no_paths)
    value = conv.inputs[0]
    if value not in known:
        known[value] = _followed(value, ctx)
    return known[value]


def _followed(value: Value | None, ctx: Context) -> _Path | None:
    shape = numbers(value)
    best: _Path | None = None
    steps: list[Node] = []
    if shape is None or len(shape) < 3 or math.prod(shape[1:]) == 1:
        return None
    batch, channels = shape[0], math.prod(shape[1:])
    while value is not None and len(steps) <= _FAR:
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


def write_strip(strip: Strip, build: Builder, convolution: Callable[[Node, str], str]) -> Mapping[Value, str]:
    """The strip on `[B,C,1,1]`: views are gone, steps stay in order, `convolution` takes the place of each convolution."""
    name = _pooled(strip.pooled, strip.ctx, build)
    value = strip.pooled
    for node in strip.steps:
        build.origin = node
        if node.op_type == "Conv":
            name = convolution(node, name)
        elif node.op_type in UNARY:
            name = build.like(node, name, *node.inputs[1:])[0]
        elif node.op_type in SCALING:
            operands = (name if v is value else build.constant(build.weight(v).reshape(1)) for v in node.inputs if v is not None)
            name = build.like(node, *operands)[0]
        value = node.output
    build.origin = strip.steps[-1]
    if (rank := len(strip.end.shape or ())) < 4:
        name = build.squeeze(name, *range(rank, 4))
    shapes = {s.output: build.op("Constant", value=onnx.numpy_helper.from_array(strip.ctx.array(s.output))) for s in strip.shapes}
    return {strip.end: name, **shapes}


def band_weight(node: Node, weight: Array, channels: int) -> Array:
    """The convolution along its one axis of extent > 1, as a matrix; of the other axis just the tap on the only row counts."""
    assert node.inputs[0] is not None
    extents = (numbers(node.inputs[0]) or ())[2:]
    rank = len(extents)
    dilations, strides = (node.attr(name) or [1] * rank for name in ("dilations", "strides"))
    matrix = np.zeros((channels, channels), weight.dtype)
    before = [  # a Conv of a strip keeps its extent
        padding_before(node, a, (k - 1) * d + 1, 1, 1, 1)
        for a, (k, d) in enumerate(zip(weight.shape[2:], dilations, strict=True))
    ]
    for taps in itertools.product(*map(range, weight.shape[2:])):
        reach = [t * d - b for t, d, b in zip(taps, dilations, before, strict=True)]
        along = next(a for a, extent in enumerate(extents) if extent > 1)
        if any(offset for a, offset in enumerate(reach) if a != along):
            continue
        i = np.arange(channels)
        j = i * strides[along] + reach[along]
        inside = (j >= 0) & (j < channels)
        matrix[i[inside], j[inside]] += weight[(0, 0, *taps)]
    return matrix


def _pooled(value: Value, ctx: Context, build: Builder) -> str:
    """The pooled map with its axes of space."""
    if (rank := len(value.shape or ())) == 4:
        return value.name
    node = value.producer
    if node is not None and node.op_type.startswith("Reduce") and rank == 2 and node.inputs[0] is not None:
        build.origin = node
        if len(node.inputs[0].shape or ()) == 4 and reduced(node, ctx) == (2, 3):
            return build.reduce(node.op_type, node.inputs[0], (2, 3))
    return build.unsqueeze(value, *range(rank, 4))


def _refuse_larger_map(node: Node, ctx: Context) -> None:
    """Refuse a convolution of one channel over what a rearrangement has made of a larger map."""
    before = node.inputs[0].producer if node.inputs[0] is not None else None
    weight = numbers(node.input(1))
    if before is None or before not in ctx.rearrangements or weight is None or weight[:2] != (1, 1) or max(weight) == 1:
        return
    source = ctx.analysis.origin(before.inputs[0]) if before.inputs[0] is not None else before.output
    raise Refused(f"{ctx.show(source)} is not pooled to 1x1")
