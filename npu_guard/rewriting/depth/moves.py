"""What moves data in a region of rank 5, and computes nothing: parts, joints, paddings and views, on folded maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from npu_guard.base.text import short
from npu_guard.graph.graph import Node
from npu_guard.rewriting.depth.folded import RANK, Depths, Folded, shape_of
from npu_guard.rewriting.node_numbers import numbers, padded, sliced
from npu_guard.rewriting.substitution import Refused

Made = Folded | str
"""What stands for a value: maps, or the name of a tensor of lower rank."""


def own_shape(node: Node, to: Depths) -> Made:
    """The shape of the tensor that was, with the batch that there is."""
    x, build = to.fold(node.inputs[0]), to.build  # type: ignore[arg-type]
    batch = build.slice(build.op("Shape", next(iter(x.windows.values()))), 0, 0, 1)
    name = build.op("Concat", batch, build.ints(*shape_of(node.inputs[0])[1:]), axis=0)
    start, stop, _ = slice(node.attr("start", 0), node.attributes.get("end")).indices(RANK)
    return name if (start, stop) == (0, RANK) else build.slice(name, 0, start, stop)


def concat(node: Node, to: Depths) -> Made:
    """Concat along channels, depth or space. Raises Refused."""
    axis = node.attr("axis", 0) % RANK
    _, channels, depth, _, _ = shape_of(node.output)
    if axis == 0:
        raise Refused(f"{node.op} {short(node.label)!r} is along the batch")
    sources = []
    for value in node.inputs:
        assert value is not None
        _, own, deep, _, _ = shape_of(value)
        known = to.ctx.is_constant(value)
        sources.append(to.folded(to.constant(value, own, deep), own, deep) if known else to.fold(value))
    if axis == 1:
        slices = [to.apart(x) for x in sources]
        return to.folded(to.concat([s[d] for d in range(depth) for s in slices]), channels, depth)
    return to.folded(to.concat([to.whole(x) for x in sources], max(axis - 1, 1)), channels, depth)


def parts(node: Node, to: Depths) -> list[Made]:
    """Slice and Split, as positions along each axis. Raises Refused."""
    source = node.inputs[0]
    assert source is not None
    shape = shape_of(source)
    if node.op_type == "Split":
        axis, start, result = node.attr("axis", 0) % RANK, 0, list[Made]()
        for value in node.outputs:
            extent = shape_of(value)[axis]
            result.append(_taken(to, to.fold(source), {axis: range(start, start + extent)}, shape))
            start += extent
        return result
    axes = sliced(node, to.ctx)
    given = [node.attributes.get(n) if len(node.inputs) == 1 else to.ctx.analysis.constants.get(v) if v else None
             for n, v in (("starts", node.input(1)), ("ends", node.input(2)), ("steps", node.input(4)))]  # fmt: skip
    starts, ends, steps = given
    if starts is None or ends is None or (steps is None and node.input(4) is not None):
        raise Refused(f"the positions of {node.op} {short(node.label)!r} are computed from data")
    axes = list(range(len(starts))) if axes is None else axes
    chosen = {}
    for i, axis in enumerate(axes):
        extent, step = shape[axis % RANK], 1 if steps is None else int(steps[i])
        chosen[axis % RANK] = range(extent)[slice(int(starts[i]), _end(int(ends[i]), extent), step)]
    return [_taken(to, to.fold(source), chosen, shape)]


def _end(end: int, extent: int) -> int | None:
    """An end as Python counts it: before the first position of a backward slice is None there."""
    return None if end < -extent else end


def _taken(to: Depths, x: Folded, chosen: Mapping[int, range], shape: Sequence[int]) -> Folded:
    """Positions of some axes."""
    if 0 in chosen and len(chosen[0]) != shape[0]:
        raise Refused("it takes parts of the batch")
    for axis in (3, 4):
        if axis in chosen and chosen[axis] != range(shape[axis]):
            x = to.folded(_positions(to, to.whole(x), axis - 1, chosen[axis]), x.channels, x.depth)
    if 2 in chosen and chosen[2] != range(x.depth):
        x = to.folded(to.window(x, tuple(chosen[2])), x.channels, len(chosen[2]))
    if 1 in chosen and chosen[1] != range(x.channels):
        x = to.pieces([_positions(to, part, 1, chosen[1]) for part in to.apart(x)], len(chosen[1]))
    return x


def _positions(to: Depths, name: str, axis: int, chosen: range) -> str:
    if chosen.step == 1:
        return to.build.slice(name, axis, chosen.start, chosen.stop)
    if to.build.opset < 10:
        raise Refused("it takes every second position, which this opset has no Slice for")
    stop = chosen.stop if chosen.stop >= 0 else -(2**31)
    return to.build.op("Slice", name, *(to.build.ints(n) for n in (chosen.start, stop, axis, chosen.step)))


def pad(node: Node, to: Depths) -> Made:
    """Pad in depth and space; with numbers, depths are runs of channels. Raises Refused."""
    x, sides, mode = to.fold(node.inputs[0]), padded(node, to.ctx), node.attr("mode", "constant")  # type: ignore[arg-type]
    if sides is None or any(map(any, sides[:2])) or min(map(min, sides)) < 0:
        raise Refused(f"{node.op} {short(node.label)!r} pads batch or channels, crops, or is computed from data")
    (front, behind), *space = sides[2:]
    if mode != "constant":
        order = np.pad(np.arange(x.depth), (front, behind), mode=mode)  # numpy calls the modes as ONNX does
        x = to.folded(to.window(x, order.tolist()), x.channels, len(order))
        front = behind = 0
    depth = x.depth + front + behind
    pads = [0, front * x.channels, space[0][0], space[1][0], 0, behind * x.channels, space[0][1], space[1][1]]
    if not any(pads):
        return x
    if len(node.inputs) == 1:
        name = to.build.like(node, to.whole(x), pads=pads)[0]
    else:
        name = to.build.like(node, to.whole(x), to.build.ints(*pads), *node.inputs[2:3])[0]
    return to.folded(name, x.channels, depth)


def view(node: Node) -> tuple[int, ...] | None:
    """The map that holds what a view reads or makes of rank 5 in the same order, None for another kind of view."""
    before, after = numbers(node.input(0)), numbers(node.output)
    if before is None or after is None or (len(before) == RANK) == (len(after) == RANK):
        return None
    b, c, d, h, w = before if len(before) == RANK else after
    other = after if len(before) == RANK else before
    if (c > 1 and d > 1) or not other or other[0] != b or len(other) > RANK:
        return None
    return (b, c * d, h, w)


def viewed(node: Node, to: Depths) -> Made:
    """A view between rank 5 and less, of one channel or one depth: the same memory, so the same view of the map."""
    mapped, source = view(node), node.inputs[0]
    assert mapped is not None
    assert source is not None
    shape, after = shape_of(source), shape_of(node.output)
    if len(shape) == RANK:
        return _turned(to, to.whole(to.fold(source)), mapped, after)
    return to.folded(_turned(to, source.name, shape, mapped), after[1], after[2])


def _turned(to: Depths, name: str, before: Sequence[int], after: Sequence[int]) -> str:
    """A view in its plainest form."""
    if tuple(before) == tuple(after):
        return name
    for shorter, longer in ((after, before), (before, after)):
        units = _units(shorter, longer)
        if units is not None:
            return to.build.squeeze(name, *units) if shorter is after else to.build.unsqueeze(name, *units)
    return to.build.op("Reshape", name, to.build.ints(0, *after[1:]))


def _units(shorter: Sequence[int], longer: Sequence[int]) -> list[int] | None:
    """Axes of extent 1 that the longer shape has in addition, the last ones that will do."""
    found, at = [], len(shorter) - 1
    for axis in reversed(range(len(longer))):
        if at >= 0 and longer[axis] == shorter[at] and (longer[axis] != 1 or axis <= at):
            at -= 1
        elif longer[axis] == 1:
            found.append(axis)
        else:
            return None
    return sorted(found) if at < 0 else None
