"""Where the axes of a value lie in a feature map [B, C, ...]: by position, behind axes that are gone, or with channels last."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from npu_guard.graph.graph import Value, is_known
from npu_guard.results.findings import Dim

BATCH, CHANNELS, SPACE = "batch", "channels", "space"
MAP_RANK = 4
"""Axes of a feature map [B, C, H, W]; a tensor of as many or more has parts by position, but where it lies with channels last."""


class View(Struct, frozen=True):
    """Where the axes of a value lie in a map of `rank` axes; axes of the map that are left out have extent 1."""

    axes: tuple[int, ...]
    rank: int
    last: bool = False
    """Whether it is, or was before axes went, a map with channels last: where an axis comes back, it does in that order."""

    @property
    def rises(self) -> bool:
        """Whether the axes are in the order of the map."""
        return all(a < b for a, b in zip(self.axes, self.axes[1:], strict=False))

    def full(self, dims: Sequence[Dim]) -> tuple[Dim, ...]:
        """The value's extents as those of the map."""
        whole: list[Dim] = [1] * self.rank
        for axis, extent in zip(self.axes, dims, strict=True):
            whole[axis] = extent
        return tuple(whole)

    def without(self, gone: set[int]) -> View:
        """The view of a value that has lost some of its axes."""
        return View(tuple(a for i, a in enumerate(self.axes) if i not in gone), self.rank, self.last)


def role(axis: int) -> str:
    """Part of an axis in [B, C, ...]."""
    return (BATCH, CHANNELS, SPACE)[min(axis, 2)]


def channels_last(rank: int) -> View:
    """The view of a map that lies as [B, ..., C]."""
    return View((0, *range(2, rank), 1), rank, True)


def by_place(rank: int) -> View:
    """The view of a map that lies as [B, C, ...]."""
    return _POSITIONS[rank] if rank < len(_POSITIONS) else View(tuple(range(rank)), rank)


_POSITIONS = tuple(View(tuple(range(rank)), rank) for rank in range(8))


def by_position(value: Value) -> View:
    """The view of a value about which nothing else is known."""
    assert value.shape is not None
    rank = len(value.shape)
    if rank == 2 and looks_like_tokens(value):
        return View((1, 2), 3)
    if rank == 1 and value.shape[0] != 1 and value.graph.model.input_batches <= {1}:
        return View((1,), 2)
    return by_place(rank)


def looks_like_tokens(value: Value) -> bool:
    """Whether `[N,C]`, of which no more is known, is the tokens `[1,N,C]` without their batch of 1.

    Vectors of N maps, such as a detector's regions, are a batch of N.
    """
    shape = value.shape
    if not is_known(shape) or len(shape) != 2 or shape[0] == 1:
        return False
    model = value.graph.model
    return shape[0] not in model.map_batches and model.input_batches == {1}


def same_extents(before: Sequence[Dim], after: Sequence[Dim], exact: bool) -> bool:
    """Whether the axes of extent > 1 are the same, in order; `exact` where the operator says so itself."""
    old, new = [d for d in before if d != 1], [d for d in after if d != 1]
    return len(old) == len(new) if exact else old == new and None not in old


def embedded(view: View, before: Sequence[Dim], after: Sequence[Dim]) -> View | None:
    """The same parts for other axes of extent 1; None where there is no room for those in front of one that has a part."""
    parts = [axis for axis, extent in zip(view.axes, before, strict=True) if extent != 1]
    if view.last and len(after) == view.rank:
        whole = channels_last(view.rank)
        if [axis for axis, extent in zip(whole.axes, after, strict=True) if extent != 1] == parts:
            return whole
    carried = iter(parts)
    rises = View(tuple(parts), view.rank).rises
    room = iter([axis for axis in range(view.rank) if axis not in parts])
    axes: list[int] = []
    for extent in after:
        last = axes[-1] if axes else -1
        axis = next(carried) if extent != 1 else last + 1 if rises else next(room, view.rank)
        if axis >= view.rank or (rises and axis <= last):
            return None
        axes.append(axis)
    return View(tuple(axes), view.rank, view.last)
