"""How much of a difference may be rounding, in numbers with their reasons."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

SAFETY = 8.0
EPSILON = float(np.finfo(np.float32).eps)
FEW = 4
"""Numbers in an output that may all come out near zero by chance, for one of the inputs: sums whose terms cancel. With each
number more, that gets ten times less likely."""
MOST = 2.0**-10
"""Of an output's peak: what an ill-conditioned model may differ by at the most where an input is to count as evidence."""
OWN = 2.0
"""How often its own uncertainty a model may differ where it counts. Right rewrites of EfficientNets with such weights that one
ulp moves the output by 1e-4 to 0.5 of its peak were found to differ by 0 to 1.2 times that (36 inputs)."""
BEYOND = 8.0
"""The same where the input is left out: so far it still has to agree."""
EVIDENCE = 3
"""One in so many inputs has to be evidence, or none is left out."""
_FLOOR, _FLOOR_HALF = 1e-2, 10.0**-1.5
FLIPS = 0.01
"""Of an output's integers: so many may flip on an input that counts as evidence."""
TIES = 0.1
"""Of an output's integers: an input on which the first model itself flips more is none, such as ArgMax of a blank image."""
POPULATION = 64
"""Elements of a slice from which on its signal-to-noise ratio means something."""


def relative_tolerance(terms: float, dtype: np.dtype[Any]) -> float:
    """What values of `terms` accumulated roundings may differ by, relative to the largest, and one rounding to their own type."""
    if dtype.kind != "f":
        return 0.0
    own = float(np.finfo(dtype).eps)
    return min(SAFETY * math.sqrt(terms * EPSILON**2 + own**2), floor(dtype))


def floor(dtype: np.dtype[Any]) -> float:
    """The largest error that is ever rounding, relative to a slice: a signal-to-noise ratio of 30 dB for float16, else 40 dB."""
    return _FLOOR_HALF if dtype == np.float16 else _FLOOR
