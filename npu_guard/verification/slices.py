"""Slices of an output, and how large their values are: an error in scores up to 1 is measured by scores, not by boxes up to 640.

An output is cut along each of its axes: scores may stand beside boxes as channels, as columns of the last axis, and between the
two, as in [batch, anchors, attributes, rows, columns]. What a slice of few values shows on few inputs may be
small by chance: n independent values all lie below a part f of what is usual there with a probability of f^n. So the size that
was seen is taken `10^(6/n)` times as large, which leaves one chance in a million, and never larger than that of the whole
output.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
_CHANCE = 6.0
_QUANTILE = 0.7
"""Of the inputs, by how much of the whole output a slice has: those that show a slice as unusually large do not count for
others."""
_LEAST = 2.0**-46
"""Of the output's peak, the size below which a slice counts as zero: the epsilon of float32, squared."""
TINY = 8 * float(np.finfo(np.float32).tiny)


def slice_axes(shape: Sequence[int]) -> tuple[int, ...]:
    """The axes along which an output of this shape is cut, channels (the second) first; none where it is one slice."""
    others = [axis for axis, extent in enumerate(shape) if axis != 1 and extent > 1]
    return (1, *others) if len(shape) > 1 else tuple(others)


def slice_peaks(magnitude: NDArray[np.float64], axis: int) -> Vector:
    """The largest value of each slice, 0 where it has none. Shape [extent of the axis]."""
    others = tuple(i for i in range(magnitude.ndim) if i != axis)
    return np.asarray(magnitude.max(axis=others, initial=0.0))


def slice_sizes(
    peaks: Sequence[Vector], wholes: Sequence[float], counts: Sequence[int], least: float = _LEAST, apart: Sequence[bool] = ()
) -> list[Vector]:
    """How large the values of each slice are on each input.

    `peaks` has a vector of slices for each input, `wholes` the peak of the whole output and `counts` the elements of a slice.
    Those `apart` do not tell what is usual: all of the output is small there.
    """
    sizes = [np.zeros(0)] * len(peaks)
    for extent in {len(p) for p in peaks}:
        group = [i for i, p in enumerate(peaks) if len(p) == extent and wholes[i] > 0.0]
        telling = [i for i in group if not (apart and apart[i])] or group
        shares = np.array([peaks[i] / wholes[i] for i in telling])
        usual = np.quantile(shares, _QUANTILE, axis=0) if group else np.zeros(extent)
        for i, own in enumerate(peaks):
            if len(own) == extent:
                seen = np.maximum(own, usual * wholes[i])
                independent = max(1, len(telling)) * (1.0 + math.log2(max(1, counts[i])))
                wide = seen * 10.0 ** (_CHANCE / independent)
                sizes[i] = np.minimum(np.maximum(wide, least * wholes[i]), wholes[i])
    return sizes
