"""Weights of convolutions that pick: each filter is 1 at one position of its kernel, and 0 elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from npu_guard.rewriting.substitution import Array


def one_hot_weights(groups: int, order: Sequence[int], kernel: Sequence[int], kind: DTypeLike) -> Array:
    """Depthwise weights [groups * len(order), 1, *kernel]: for each group, the positions of the kernel in this order."""
    rows = np.eye(math.prod(kernel), dtype=kind)[list(order)]
    return np.tile(rows, (groups, 1)).reshape(groups * len(order), 1, *kernel)


def dense_one_hot_weights(groups: int, order: Sequence[int], kernel: Sequence[int], kind: DTypeLike) -> Array:
    """The same as [groups * len(order), groups, *kernel], for devices without grouped convolutions: other channels count 0."""
    made = np.zeros((groups, len(order), groups, *kernel), kind)
    picked = one_hot_weights(1, order, kernel, kind)[:, 0]
    for group in range(groups):
        made[group, :, group] = picked
    return made.reshape(groups * len(order), groups, *kernel)
