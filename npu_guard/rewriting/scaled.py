"""Weights times a number that an attribute of the model states."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from npu_guard.rewriting.substitution import Array, Builder


def scaled(build: Builder, array: Array, factor: float, dtype: DTypeLike) -> str:
    """An initializer of the floats next to the weights times a float32; the proof is about the products."""
    if factor == 1.0:
        return build.constant(array.astype(dtype))
    from npu_guard.proof.exact import Exact  # who only looks for blocks needs no exact numbers

    return build.rounded(Exact.of(array) * np.float32(factor), dtype)
