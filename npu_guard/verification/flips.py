"""Integers and booleans of two models: equal as what they are, but for flips.

A flip is a value that differs where the first model gives the other value itself, once its last bits move (`uncertainty.py`,
`borders.py`). Flips are counted and told, and no more than one in a hundred values may flip on an input that counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npu_guard.results.verification import OutputComparison, Worst
from npu_guard.verification.feeds import Array
from npu_guard.verification.ratio import LIMIT_DB, signal_to_noise
from npu_guard.verification.tolerance import FLIPS
from npu_guard.verification.uncertainty import Noise


def ties(reference: Array, noise: Noise) -> float:
    """The share of an output's integers that the model itself gives otherwise once its last bits move."""
    moved = np.zeros(reference.shape, bool)
    for other in noise.seen:
        if other.shape != reference.shape:
            return 1.0
        moved |= other != reference
    return float(moved.mean()) if moved.size else 0.0


def compare_integers(
    name: str,
    before: Sequence[Array],
    after: Sequence[Array],
    noise: Sequence[Noise],
    labels: Sequence[str],
    out: frozenset[int],
) -> tuple[OutputComparison, set[int]]:
    """One output over all inputs, and those on which it is not equal, flips aside; `out` are inputs that are no evidence."""
    max_abs, flips, failing, worst = 0.0, 0, set[int](), None
    signal = power = 0.0
    for i, (a, b) in enumerate(zip(before, after, strict=True)):
        wrong = a != b
        count = int(wrong.sum())
        excused = _excused(a, b, noise[i]) if count and noise else np.zeros(a.shape, bool)
        left = wrong & ~excused
        agrees = not left.any() and (i in out or count <= max(1.0, FLIPS * a.size))
        failing |= set() if agrees else {i}
        flips += count if agrees else 0
        distance = _distance(a, b, wrong)
        signal, power = (
            signal + float(np.square(a.astype(np.float64)).sum()),
            power + float(np.square(distance.astype(float)).sum()),
        )
        if count and not (i in out and agrees):
            place = np.unravel_index(int(np.where(left if left.any() else wrong, distance, 0).argmax()), a.shape)
            x, y = a[place].item(), b[place].item()
            error = float(abs(int(x) - int(y)))
            max_abs = max(max_abs, error)
            if worst is None or error > worst.error:
                at = f"position {[int(p) for p in place]}" if place else ""
                worst = Worst(labels[i], at, error, 0.0, x, y)
    snr = LIMIT_DB if power == 0.0 else signal_to_noise(signal, power)
    # The cosine follows from the ratio where differences are few and small, which is where it says anything.
    cosine = 1.0 if power == 0.0 else max(-1.0, 1.0 - power / (2.0 * signal)) if signal else 0.0
    return OutputComparison(name, max_abs, max_abs, cosine, snr, 0.0, 0.0, not failing, worst, flips), failing


def _excused(a: Array, b: Array, noise: Noise) -> Array:
    """Where the first model gives what the second gives, once its last bits move."""
    seen = [other for other in noise.seen if other.shape == a.shape]
    if noise.ordered and seen:
        low, high = np.minimum.reduce([a, *seen]), np.maximum.reduce([a, *seen])
        return np.asarray((low <= b) & (b <= high))
    excused = np.zeros(a.shape, bool)
    for other in seen:
        excused |= other == b
    return excused


def _distance(a: Array, b: Array, where: Array) -> Array:
    """How far integers are apart, as unsigned numbers without overflow, and 0 where they are not asked about."""
    if a.dtype == np.bool_:
        return where.astype(np.uint64)
    low, high = np.minimum(a, b), np.maximum(a, b)
    # Modulo 2^64, so also where the signs differ.
    return np.where(where, high.astype(np.uint64) - low.astype(np.uint64), np.uint64(0))
