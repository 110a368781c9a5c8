"""Indices of an axis in runs, of which those that fall are turned round by a matrix: the margins of a mirrored Pad."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npu_guard.rewriting.maps.algebra import Maps, stored
from npu_guard.rewriting.maps.linear import linear
from npu_guard.rewriting.maps.program import Given
from npu_guard.rewriting.maps.tensors import Laid, axis_of
from npu_guard.rewriting.views import Axis

LEAST = 8
"""Indices that fall by one each, as in the margin of a mirrored Pad, from which on a matrix turns them round."""


def in_runs(indices: Sequence[int], least: float) -> list[list[int]]:
    """Indices in runs that rise by one, or fall by one where so many do.

    >>> in_runs([3, 2, 1, 0, 1, 2, 3, 2], 3)
    [[3, 2, 1], [0, 1, 2, 3], [2]]
    """
    runs: list[list[int]] = []
    at = 0
    while at < len(indices):
        ends = []
        for by in (1, -1):
            end = at + 1
            while end < len(indices) and indices[end] == indices[end - 1] + by:
                end += 1
            ends.append(end)
        rising, falling = ends
        turns = falling < len(indices) and indices[falling] == indices[falling - 1] + 1  # then the last one begins what rises
        if (count := falling - turns - at) >= least:
            runs.append(list(indices[at : at + count]))
        else:
            runs.append(list(indices[at:rising]))
        at += len(runs[-1])
    return runs


def turned(maps: Maps, x: Laid, axis: int, at: int, piece: Given, count: int) -> Given:
    """A piece of a map in the opposite order of one axis, which is outermost in an axis of the map: a product with a matrix."""
    made, units = axis_of(count), x.axes[axis]
    place = stored((*made, *held[len(units) :]) if i == at else held for i, held in enumerate(x.stored))
    apart = Laid(with_axis(x.axes, axis, made), place, piece)
    product = linear(maps, apart, axis, count, lambda _: np.eye(count)[::-1], piece.dtype)
    target = stored((*product.axes[axis], *held[len(units) :]) if i == at else held for i, held in enumerate(x.stored))
    return maps.laid(product, target).name


def with_axis(axes: Sequence[Axis], axis: int, new: Axis) -> tuple[Axis, ...]:
    """The axes of a tensor with another one in the place of one of them."""
    return (*axes[:axis], new, *axes[axis + 1 :])
