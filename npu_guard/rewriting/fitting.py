"""What every fit to activations shares: which part is held out, how samples count, and how close a fit comes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npu_guard.rewriting.substitution import Array, Refused


def sample_weights(arrays: Sequence[Array], targets: Sequence[Array]) -> list[float]:
    """A weight for each sample, so that all count alike, however strong they are. Raises Refused where none can be had."""
    if not targets:
        raise Refused("there are no samples to fit it on")
    if not all(np.isfinite(a).all() for a in (*arrays, *targets)):
        raise Refused("activations are not finite on the samples that it is fitted on")
    return [1.0 / (float(np.sqrt(np.mean(np.square(t, dtype=np.float64)))) or 1.0) for t in targets]


def fit_parts(positions: Sequence[int]) -> tuple[int, int, int, int]:
    """Ends of two parts to fit on and of the last third, which is held out: whole samples, or positions of the only one.

    Raises Refused where one of them would be empty.
    """
    total, count = sum(positions), len(positions)
    fitted = count - max(1, count // 3)
    cut = sum(positions[:fitted]) if count > 1 else total * 2 // 3
    half = sum(positions[: -(-fitted // 2)])
    half = half if 0 < half < cut else cut // 2
    if not 0 < half < cut < total:
        raise Refused("there are too few samples to fit it on")
    return 0, half, cut, total
