"""What one rearrangement of a feature map is, in words: which axes are merged, split or moved among batch, channels and space."""

from __future__ import annotations

import math
from collections.abc import Sequence

from npu_guard.analysis.views import role


def collapses_to_vector(before: Sequence[int], after: Sequence[int]) -> bool:
    """`[B, C, 1, 1] -> [B, C]`, or `[C]` for a batch of 1: the step from maps to vectors behind a global pool."""
    if len(before) < 3 or math.prod(before[2:]) != 1:
        return False
    return tuple(after) == tuple(before[:2]) or (before[0] == 1 and tuple(after) == (before[1],))


def rearrangement(op_type: str, before: Sequence[int], after: Sequence[int], perm: Sequence[int] | None = None) -> str | None:
    """In words, how one operator rearranges a tensor; None where every axis of extent > 1 keeps its part and order."""
    if op_type == "Transpose":
        return _transposed(before, perm if perm is not None else tuple(reversed(range(len(before)))))
    old = [(role(a), d) for a, d in enumerate(before) if d != 1]
    new = [(role(a), d) for a, d in enumerate(after) if d != 1]
    if old == new:
        return None
    if [d for _, d in old] == [d for _, d in new]:
        moves = [f"{a} ({d}) to {b}" for (a, d), (b, _) in zip(old, new, strict=True) if a != b]
        return "moves " + ", ".join(moves)
    if len(new) < len(old):
        return f"merges {_product(old, new)}"
    if len(new) > len(old):
        return f"splits into {_product(new, old)}"
    return "regroups its axes"


def _product(longer: Sequence[tuple[str, int]], shorter: Sequence[tuple[str, int]]) -> str:
    """The extents that are many on one side and one on the other: `4 x 4 (space)`."""
    head = 0
    while head < len(shorter) and longer[head][1] == shorter[head][1]:
        head += 1
    tail = 0
    while tail < len(shorter) - head and longer[-1 - tail][1] == shorter[-1 - tail][1]:
        tail += 1
    part = longer[head : len(longer) - tail] or longer
    names = " and ".join(dict.fromkeys(name for name, _ in part))
    return f"{' x '.join(str(d) for _, d in part)} ({names})"


def _transposed(before: Sequence[int], perm: Sequence[int]) -> str | None:
    old = [(role(a), a) for a, d in enumerate(before) if d != 1]
    new = [(role(position), a) for position, a in enumerate(perm) if before[a] != 1]
    if old == new:
        return None
    parts = {axis: part for part, axis in new}
    moves = [f"{part} ({before[axis]}) to {parts[axis]}" for part, axis in old if parts[axis] != part]
    return "moves " + ", ".join(moves) if moves else "swaps axes of space"
