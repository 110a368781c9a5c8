"""Signal-to-noise ratios."""

from __future__ import annotations

import math

LIMIT_DB = 300.0
"""In dB; stated where there is no noise, or no signal."""


def signal_to_noise(power: float, noise: float) -> float:
    """Signal-to-noise ratio in dB."""
    if power == 0.0:
        return -LIMIT_DB
    return LIMIT_DB if noise == 0.0 else max(-LIMIT_DB, min(LIMIT_DB, 10.0 * math.log10(power / noise)))
