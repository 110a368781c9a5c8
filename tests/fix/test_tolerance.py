"""What may differ by rounding: an output of few numbers is judged by its size on the other inputs too."""

from __future__ import annotations

import numpy as np

from npu_guard.verify import compare

ROUNDING = np.float32(2e-6)


def outputs(*values: float, count: int = 1) -> list[np.ndarray]:
    return [np.full((1, count), v, np.float32) for v in values]


def test_a_sum_that_cancels_on_one_input_is_judged_by_the_others() -> None:
    before = outputs(0.5, 0.001, 17.0)
    after = [before[0], before[1] + ROUNDING, before[2]]
    assert compare("y", before, after, terms=50).ok
    # Of the very same difference where all inputs give so little, or in a map, of which not all can cancel, it is too much.
    assert not compare("y", outputs(0.001, 0.001, 0.001), outputs(0.001, 0.001 + 2e-6, 0.001), terms=50).ok
    wide = outputs(0.5, 0.001, 17.0, count=64)
    assert not compare("y", wide, [wide[0], wide[1] + ROUNDING, wide[2]], terms=50).ok


def test_what_is_wrong_stays_wrong() -> None:
    before = outputs(0.5, 0.001, 17.0)
    assert not compare("y", before, [before[0], before[1] * 1.5, before[2]], terms=50).ok
    assert not compare("y", before, [before[0], before[1], before[2] * np.float32(1.001)], terms=50).ok


def test_few_whole_numbers_have_no_tolerance() -> None:
    before = [np.array([3]), np.array([1000])]
    assert compare("n", before, before, terms=50).ok
    assert not compare("n", before, [np.array([3]), np.array([1001])], terms=50).ok
