"""Runs of reshaping operators on tensors that lack the batch in front."""

from __future__ import annotations

from collections.abc import Callable

from npu_guard.analyze import Analysis
from npu_guard.layout import rearrangements

Analyse = Callable[..., Analysis]


def test_a_transpose_of_flat_tokens(analysis: Analyse) -> None:
    """[N,C] stands for [1,N,C]; its permutation has an axis less."""
    for perm in ("<perm = [1, 0]>", ""):
        found = rearrangements(
            analysis(f"g (float[1,4] x, float[20,4] w) => (float[4,20] y) {{ e = Mul(x, w) y = Transpose{perm}(e) }}")
        )
        assert len(found) == 1
