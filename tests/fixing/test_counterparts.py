"""New tensors that hold the numbers of an old one: known by figures that do not depend on where the numbers are."""

from __future__ import annotations

import numpy as np
import pytest

from npu_guard.fixing.counterparts import factor, figures

random = np.random.default_rng(2)
OLD = [random.standard_normal((1, 4, 6, 6)).astype(np.float32) * 3 for _ in range(4)]
SAME = {
    "in another layout": lambda x: np.ascontiguousarray(x.transpose(0, 2, 3, 1)).reshape(1, 36, 4),
    "padded with zeros": lambda x: np.pad(x, ((0, 0), (0, 3), (1, 1), (0, 0))),
    "each number three times": lambda x: np.concatenate([x, x, x], axis=2),
    "rounded another way": lambda x: np.nextafter(x, np.float32(np.inf)),
}
OTHER = {
    "negative": lambda x: -x,
    "without its negative numbers": lambda x: np.maximum(x, 0),
    "its first channels": lambda x: x[:, :2],
    "moved up": lambda x: x + np.float32(0.01),
    "a thousandth larger at the top": lambda x: np.where(x == x.max(), x * np.float32(1.001), x),
    "with a number of another": lambda x: np.where(x == np.median(x.ravel()[:35]), x + np.float32(0.05), x),
    "absolute": np.abs,
    "squared": np.square,
}


@pytest.mark.parametrize("move", SAME.values(), ids=SAME)
def test_numbers_that_are_moved_are_the_same(move: object) -> None:
    assert factor([figures(x) for x in OLD], [figures(move(x)) for x in OLD]) == 1.0  # type: ignore[operator]
    assert factor([figures(OLD[0])], [figures(move(OLD[0]))]) == 1.0  # type: ignore[operator]


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER)
def test_other_numbers_are_others(change: object) -> None:
    assert factor([figures(x) for x in OLD], [figures(change(x)) for x in OLD]) is None  # type: ignore[operator]


def test_a_factor_is_the_same_on_all_inputs() -> None:
    old = [figures(x) for x in OLD]
    scaled = [figures(x * np.float32(0.125)) for x in OLD]
    assert factor(old, scaled) == pytest.approx(0.125)
    assert factor(old[:1], scaled[:1]) is None, "one input says nothing of a factor"
    assert factor(old, [*scaled[:3], figures(OLD[3] * np.float32(0.126))]) is None


def test_zeros_say_nothing() -> None:
    nothing = figures(np.zeros((2, 2), np.float32))
    assert factor([nothing], [nothing]) is None
    assert factor([nothing, figures(OLD[0])], [nothing, figures(OLD[0])]) == 1.0
    assert factor([nothing, figures(OLD[0])], [figures(OLD[0])] * 2) is None
    assert figures(np.float32([np.nan, np.inf, 2.0])) == figures(np.float32([2.0]))
