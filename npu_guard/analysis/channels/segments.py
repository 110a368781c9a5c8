"""The widened channel axis of a value: parts, each with a padding of its own behind it."""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from npu_guard.analysis.constants import Array

Segments = tuple[tuple[int, int], ...]
"""(units, padded units) of each."""


class Layout(Struct, frozen=True):
    """The widened channel axis of a value: segments of (units, padded units), with `factor` channels to a unit."""

    segments: Segments
    factor: int = 1

    def width(self, units: int | None = None) -> int:
        """Channels that the first units take, with the padding behind them; of all of them by default."""
        total = 0
        for own, padded in self.segments:
            if units is not None:
                if units <= 0:
                    break
                units -= own
            total += padded
        return total * self.factor

    def index(self, groups: int = 1, *, late: bool = False) -> Array:
        """Where the original channels are (of the first of several groups). With `late`, for mutants: behind the padding."""
        left, start, found = sum(units for units, _ in self.segments) // groups, 0, []
        for units, padded in self.segments:
            if left <= 0:
                break
            found.append(np.arange(units) + start + (padded - units if late else 0))
            start, left = start + padded, left - units
        positions = np.concatenate(found)
        return np.asarray((positions[:, None] * self.factor + np.arange(self.factor)).reshape(-1))
