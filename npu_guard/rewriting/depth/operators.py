"""Every operator that a region of rank 5 may have, but for windows: what it is on folded maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction

import numpy as np

from npu_guard.base.text import short
from npu_guard.checking.context import Context
from npu_guard.graph.graph import Node, Value
from npu_guard.graph.handlers import Handlers
from npu_guard.rewriting.depth.folded import RANK, Depths, shape_of
from npu_guard.rewriting.depth.moves import Made, concat, own_shape, pad, parts, view, viewed
from npu_guard.rewriting.depth.resize import resize
from npu_guard.rewriting.depth.windows import convolution, pooling
from npu_guard.rewriting.node_numbers import passes
from npu_guard.rewriting.substitution import Refused

_REDUCTIONS = {"ReduceMean": "Add", "ReduceSum": "Add", "ReduceMax": "Max", "ReduceMin": "Min"}
"""How depths are joined behind a reduction in height and width."""
_POOLS = {"GlobalAveragePool": "Add", "GlobalMaxPool": "Max"}


def write(node: Node, to: Depths) -> None:
    """Emit the node on folded maps. Raises Refused where it does something that has no form there."""
    to.build.origin = node
    if passes(node, to.ctx):
        to.made[node.output] = to.fold(node.inputs[0])  # type: ignore[arg-type]
    elif node.op_type in ("Slice", "Split"):
        to.made.update({v: made for v, made in zip(node.outputs, parts(node, to), strict=True) if v is not None})
    else:
        to.made[node.output] = HANDLERS[node.op_type](node, to)
    to.afford()


def has_form(node: Node, ctx: Context) -> bool:
    """Whether there is a form for the operator; its details may still be refused."""
    if node.domain:
        return False
    if node.kind == "view":
        return view(node) is not None
    return node.op_type in HANDLERS or node.op_type in ("Slice", "Split") or passes(node, ctx)


def _elementwise(node: Node, to: Depths) -> Made:
    _, channels, depth, _, _ = shape_of(node.output)
    tensors = [v for v in dict.fromkeys(node.inputs) if v is not None and not to.ctx.is_constant(v)]
    for value in tensors:
        if len(shape_of(value)) < RANK and math.prod(shape_of(value)[:-2]) > 1:
            raise Refused(f"{node.op} {short(node.label)!r} spreads {short(value.name)!r}, which has no depth")
    folded = {v: to.fold(v) for v in tensors if len(shape_of(v)) == RANK}
    vectors = {
        v: x for v, x in folded.items() if depth > x.depth == 1 and x.channels == channels > 1 and shape_of(v)[3:] == (1, 1)
    }
    if all((x.channels, x.depth) in ((channels, depth), (1, 1)) or v in vectors for v, x in folded.items()):
        names = {v: to.window(x, (0,) * depth) if v in vectors else to.whole(x) for v, x in folded.items()}
        return to.folded(to.build.like(node, *(_operand(v, to, names, channels, depth) for v in node.inputs))[0], channels, depth)
    parts = {v: to.apart(x) for v, x in folded.items()}
    made = []
    for d in range(depth):
        names = {v: names[d if len(names) > 1 else 0] for v, names in parts.items()}
        made.append(to.build.like(node, *(_operand(v, to, names, channels, depth, d) for v in node.inputs))[0])
        to.afford()
    return to.pieces(made, channels)


def _operand(
    value: Value | None, to: Depths, names: Mapping[Value, str], channels: int, depth: int, at: int | None = None
) -> str | None:
    """An operand for all depths, or for one; constants come spread over them."""
    if value is None or value in names:
        return None if value is None else names[value]
    if not to.ctx.is_constant(value):
        return value.name
    return to.constant(value, channels, depth, at)


def _unary(node: Node, to: Depths) -> Made:
    x = to.fold(node.inputs[0])  # type: ignore[arg-type]
    return to.folded(to.build.like(node, to.whole(x), *node.inputs[1:])[0], x.channels, x.depth)


def _normalized(node: Node, to: Depths) -> Made:
    x = to.fold(node.inputs[0])  # type: ignore[arg-type]
    if node.attr("training_mode", 0) or not node.attr("spatial", 1) or not all(map(to.ctx.is_constant, node.inputs[1:])):
        raise Refused(f"the statistics of {node.op} {short(node.label)!r} are not constant")
    vectors = [v if x.depth == 1 else to.build.constant(np.tile(to.build.weight(v), x.depth)) for v in node.inputs[1:] if v]
    return to.folded(to.build.like(node, to.whole(x), *vectors)[0], x.channels, x.depth)


def _softmax(node: Node, to: Depths) -> Made:
    x = to.fold(node.inputs[0])  # type: ignore[arg-type]
    axis = node.attr("axis", -1) % RANK
    if axis != 1 or to.build.opset < 13:
        raise Refused(f"{node.op} {short(node.label)!r} is not over channels alone")
    return to.pieces([to.build.like(node, part, axis=1)[0] for part in to.apart(x)], x.channels)


def _reduce(node: Node, to: Depths) -> Made:
    axes = set(to.ctx.axes(node))
    if 0 in axes or not axes:
        raise Refused(f"{node.op} {short(node.label)!r} reduces the batch")
    return _reduced(node, to, axes, bool(node.attr("keepdims", 1)))


def _reduced(node: Node, to: Depths, axes: set[int], keeps: bool) -> Made:
    source, kind = node.inputs[0], node.op_type
    assert source is not None
    _, channels, depth, height, width = shape_of(source)
    x, factor, build = to.fold(source), Fraction(1), to.build
    space = [a - 1 for a in (3, 4) if a in axes]
    if kind in _POOLS:
        x = to.folded(build.op(kind, to.whole(x)), channels, depth)
    elif space and height * width > 1:
        # Sums in space as means, as devices have those.
        wide = {2, 3} if {2: width, 3: height}[space[0]] == 1 else set(space)
        kept = "ReduceMean" if kind == "ReduceSum" else kind
        factor = Fraction(math.prod((height, width)[a - 2] for a in space) if kind == "ReduceSum" else 1)
        x = to.folded(build.reduce(kept, to.whole(x), sorted(wide)), channels, depth)
    if 1 in axes and (channels > 1 or (2 in axes and depth > 1)):
        if 2 in axes:
            x = to.folded(build.reduce(kind, to.whole(x), [1]), 1, 1)
        else:
            x = to.pieces([build.reduce(kind, part, [1]) for part in to.apart(x)], 1)
    if 2 in axes and x.depth > 1:
        joined = to.total((_REDUCTIONS | _POOLS)[kind], to.apart(x))
        x = to.folded(joined, x.channels, 1)
        factor /= depth if kind in ("ReduceMean", "GlobalAveragePool") else 1
        factor *= Fraction(3, 2) if to.wrong else 1
    if factor != 1:
        x = to.folded(to.scaled(to.whole(x), factor, node.output), x.channels, x.depth)
    if keeps:
        return x
    if not axes & {1, 2}:
        raise Refused(f"{node.op} {short(node.label)!r} leaves depth and channels as two axes of three")
    dropped = ([1] if {1, 2} <= axes else []) + [a - 1 for a in (3, 4) if a in axes]
    return build.squeeze(to.whole(x), *dropped) if dropped else to.whole(x)


def _pool(node: Node, to: Depths) -> Made:
    return _reduced(node, to, {2, 3, 4}, keeps=True)


Emit = Callable[[Node, Depths], Made]
HANDLERS: Handlers[Emit] = Handlers(
    {"unary": _unary, "broadcasting": _elementwise, "view": viewed},
    {
        **dict.fromkeys(_REDUCTIONS, _reduce), **dict.fromkeys(_POOLS, _pool), "BatchNormalization": _normalized,
        "Softmax": _softmax, "LogSoftmax": _softmax, "Concat": concat, "Pad": pad, "Resize": resize, "Upsample": resize,
        "Shape": own_shape, "Conv": convolution, "ConvTranspose": convolution, "MaxPool": pooling, "AveragePool": pooling,
    },
    {
        "CastLike": "its second input is not translated",
        "ArgMax ArgMin": "positions of channels lie apart once depths are side by side",
        "ReduceL1 ReduceL2 ReduceProd ReduceLogSum ReduceLogSumExp ReduceSumSquare": "depths are joined by sums and maxima alone",
        "GlobalLpPool LpPool MaxUnpool": "depths are joined by sums and maxima alone",
        "Hardmax": "no network of rank 5 has it",
        "ConvInteger QLinearConv DeformConv CausalConvWithState": "no device has them of rank 5, and no exporter writes them",
    },
    covers=("reduction", "pooling", "global pooling", "softmax", "convolution"),
)  # fmt: skip
