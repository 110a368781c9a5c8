"""Operators that only rearrange: Reshape, Transpose and their like, blocks of space, Expand and Tile."""

from __future__ import annotations

import itertools

from msgspec.structs import replace

from npu_guard.rewriting.maps.algebra import Maps, spread, stored
from npu_guard.rewriting.maps.factors import CHANNELS, COLUMNS, ROWS
from npu_guard.rewriting.maps.program import Shape
from npu_guard.rewriting.maps.step import Step, flat
from npu_guard.rewriting.maps.tensors import Laid, axis_of
from npu_guard.rewriting.substitution import Refused
from npu_guard.rewriting.views import Atom, Axis, size


def relabel(step: Step) -> list[Laid]:
    """Reshape, Flatten, Squeeze, Unsqueeze and Transpose."""
    x, node = step.tensor(), step.node
    if node.op_type == "Transpose":
        order = node.attr("perm") or tuple(reversed(range(len(x.axes))))
        return [x.permuted(order)]
    return [reshaped(step.maps, x, step.shape)]


def reshaped(maps: Maps, x: Laid, shape: Shape) -> Laid:
    """The tensor in another shape; factors that are cut across are brought into one axis of the map first. Raises Refused."""
    found = x.reshaped(shape)
    if found is None:
        found = _fused(maps, x, shape).reshaped(shape)
    if found is None:
        raise Refused(f"a reshape from {list(x.shape)} to {list(shape)} regroups axes")
    return found


def _fused(maps: Maps, x: Laid, shape: Shape) -> Laid:
    """The tensor with the axes that a new shape cuts across as one factor each."""
    before, after = (list(itertools.accumulate(s, lambda a, b: a * b, initial=1)) for s in (x.shape, shape))
    ends = [p for p in before if p in after]
    axes: list[Axis] = []
    for start, end in itertools.pairwise(dict.fromkeys(ends)):
        first, last = before.index(start), len(before) - 1 - before[::-1].index(end)
        group = flat(x.axes[first:last])
        wanted = [n for n, (a, b) in zip(shape, itertools.pairwise(after), strict=True) if start <= a and b <= end and n > 1]
        if replace(x, axes=(group,)).reshaped(wanted) is None:
            x, group = _as_one(maps, x, group)
        axes.append(group)
    return replace(x, axes=tuple(axes))


def _as_one(maps: Maps, x: Laid, group: Axis) -> tuple[Laid, Axis]:
    """Factors brought together, in their order, and made one."""
    rest = [tuple(a for a in axis if a not in group) for axis in x.stored]
    choices = [stored((*axis, *group) if i == at else axis for i, axis in enumerate(rest)) for at in (COLUMNS, ROWS, CHANNELS)]
    x = maps.laid(x, min(choices, key=lambda t: maps.cost(x, t)))
    one = Atom(size(group))
    x = x.renamed({a: ((one,) if a is group[0] else ()) for a in group})
    return x, (one,)


def blocks(step: Step) -> list[Laid]:
    """DepthToSpace and SpaceToDepth, as the reshapes that they are defined by."""
    x, node = step.tensor(), step.node
    batch, channels, rows, columns = x.shape
    b = int(node.attr("blocksize"))
    if node.op_type == "SpaceToDepth":
        x = reshaped(step.maps, x, (batch, channels, rows // b, b, columns // b, b)).permuted((0, 3, 5, 1, 2, 4))
    elif node.attr("mode", b"DCR") in (b"DCR", "DCR"):
        x = reshaped(step.maps, x, (batch, b, b, channels // (b * b), rows, columns)).permuted((0, 3, 4, 1, 5, 2))
    else:
        x = reshaped(step.maps, x, (batch, channels // (b * b), b, b, rows, columns)).permuted((0, 1, 4, 2, 5, 3))
    return [reshaped(step.maps, x, step.shape)]


def expand(step: Step) -> list[Laid]:
    """Over axes of extent 1: nothing is copied before somebody asks."""
    return [spread(step.maps, step.tensor(), step.shape)]


def tile(step: Step) -> list[Laid]:
    """Each axis again and again."""
    x = step.tensor()
    times = [b // a for a, b in zip(x.shape, step.shape, strict=True)]
    return [replace(x, axes=tuple((*axis_of(n), *axis) for n, axis in zip(times, x.axes, strict=True)))]
