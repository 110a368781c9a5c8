"""What a node states of shapes, axes and positions, None where the model does not tell."""

from __future__ import annotations

from collections.abc import Set

from npu_guard.base.errors import Undecidable
from npu_guard.checking.context import Context
from npu_guard.graph.graph import Node, Value, is_known
from npu_guard.rewriting.substitution import Refused


def numbers(value: Value | None) -> tuple[int, ...] | None:
    """A shape that is wholly known."""
    return value.shape if value is not None and is_known(value.shape) else None


def passes(node: Node, ctx: Context) -> bool:
    """Whether the node hands its input on, shape and all."""
    return node in ctx.analysis.elided and not ctx.is_constant(node.output) and numbers(node.input(0)) == numbers(node.output)


def reduced(node: Node, ctx: Context) -> tuple[int, ...] | None:
    """Axes of a reduction, None where the graph does not tell."""
    try:
        return ctx.axes(node)
    except Undecidable:
        return None


def over_channels(node: Node, ctx: Context, dtypes: Set[int], what: str) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Axes and input shape of a reduction over the channels of a map; None where it is none, or runs over none.

    `dtypes` are the element types that it may have, and `what` names the input in the refusal. Raises Refused.
    """
    x, axes = ctx.input(node, 0), reduced(node, ctx)
    if x.shape is None or len(x.shape) != 4:
        return None
    if axes is None:
        raise Refused("its axes are computed")
    if 1 not in axes:
        return None
    if node.graph.parent is not None:
        raise Refused("it is inside a subgraph")
    if 0 in axes:
        raise Refused("it runs over the batch as well")
    if x.dtype not in dtypes:
        raise Refused(f"{what} is not of floating point")
    shape = numbers(x)
    if shape is None:
        raise Refused("its shape is not known; fix it with --input-shape")
    return axes, shape


def sliced(node: Node, ctx: Context) -> list[int] | None:
    """Axes of a Slice where the model states them, as an attribute before opset 10."""
    operand = node.input(3)
    stated = node.attributes.get("axes") if operand is None else ctx.analysis.constants.get(operand)
    return None if stated is None else [int(a) for a in stated]


def padded(node: Node, ctx: Context) -> list[tuple[int, int]] | None:
    """Padding before and behind each axis where the model states it, as an attribute before opset 11."""
    x, operand, chosen = numbers(node.inputs[0]), node.input(1), node.input(3)
    stated = node.attributes.get("pads") if operand is None else ctx.analysis.constants.get(operand)
    axes = range(len(x or ())) if chosen is None else ctx.analysis.constants.get(chosen)
    if x is None or stated is None or axes is None:
        return None
    places = {int(a) % len(x): i for i, a in enumerate(axes)}
    half = len(stated) // 2
    return [(int(stated[places[a]]), int(stated[places[a] + half])) if a in places else (0, 0) for a in range(len(x))]


def padding(node: Node, ctx: Context) -> tuple[list[tuple[int, int]], float]:
    """What a Pad of constant mode puts before and behind each axis, and the number it pads by. Raises Refused."""
    if node.attr("mode", b"constant") not in ("constant", b"constant"):
        raise Refused("its margins repeat what is inside")
    if numbers(node.input(0)) is None:
        raise Refused("its shape is not known; fix it with --input-shape")
    if node.graph.parent is not None:
        raise Refused("it is inside a subgraph")
    sides = padded(node, ctx)
    if sides is None:
        raise Refused("its amounts are computed")
    if min(map(min, sides), default=0) < 0:
        raise Refused("it cuts")
    operand = None if node.graph.model.opsets.get("", 1) < 11 else node.input(2)
    if operand is None:
        return sides, float(node.attr("value", 0.0))
    value = ctx.analysis.constants.get(operand)
    if value is None or not value.size:
        raise Refused("what it pads by is computed")
    return sides, float(value.reshape(-1)[0])


def padding_before(node: Node, axis: int, reach: int, stride: int, size: int, out: int) -> int:
    """Begin padding of a Conv or ConvTranspose along one axis of space (from 0), with auto_pad worked out from the extents.

    `reach` is the kernel's extent in pixels, dilation included; `size` and `out` are the extents of input and output.
    """
    mode = node.attr("auto_pad", "NOTSET")
    if mode == "NOTSET":
        return int((node.attr("pads") or [0] * 18)[axis])
    if mode == "VALID":
        return 0
    total = (out - 1) * stride + reach - size if node.op_type == "Conv" else stride * (size - 1) + reach - out
    return share_before(total, mode)


def share_before(total: int, mode: str) -> int:
    """The part of the padding that lies before: of an odd one, SAME_UPPER has the larger half behind."""
    total = max(total, 0)
    return total // 2 if mode == "SAME_UPPER" else total - total // 2
