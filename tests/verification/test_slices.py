"""Each slice of an output is judged by its own size, and rounding by the way to that output."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.file.load import load
from npu_guard.reports.blocks.verification import worst_difference
from npu_guard.results.verification import Verification
from npu_guard.verification import accumulation
from npu_guard.verification.description import describe_limit, describe_output
from npu_guard.verification.outputs import compare_output
from npu_guard.verification.slices import slice_sizes
from npu_guard.verification.tolerance import relative_tolerance

if TYPE_CHECKING:
    from conftest import Cli, Write

TERMS = 50.0


def boxes_and_scores(seed: int, axis: int) -> np.ndarray:
    """Boxes up to 640 and scores up to 1 in one output, the scores in slices 4 and 5 of six along an axis of three."""
    rng = np.random.default_rng(seed)
    columns = [rng.uniform(0, 640, (1, 200))] * 4 + [rng.uniform(0, 1, (1, 200))] * 2
    return np.stack(columns, axis).astype(np.float32)


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize(("error", "ok"), [(1e-7, True), (1e-4, False), (0.12, False)])
def test_scores_are_not_measured_by_boxes(axis: int, error: float, ok: bool) -> None:
    before = [boxes_and_scores(seed, axis) for seed in range(6)]
    after = [b.copy() for b in before]
    chosen = (slice(None),) * axis + (5,)
    after[2][chosen] += np.float32(error)
    told = compare_output("y", before, after, TERMS)
    assert told.ok is ok
    if not ok:
        assert told.worst is not None
        assert told.worst.input == "input 3"
        assert ("channel 5" if axis == 1 and told.worst.slice.startswith("c") else "5 of axis") in told.worst.slice


@pytest.mark.parametrize("shape", [(1, 3, 6, 40), (1, 3, 6, 5, 8), (1, 6, 3, 8, 5), (6, 200), (2, 6, 5, 10), (6,)])
def test_scores_stand_along_any_axis(shape: tuple[int, ...]) -> None:
    """As between anchors and cells, [1, anchors, attributes, rows, columns], or without a batch."""
    axis = shape.index(6)
    sizes = np.array([640, 640, 640, 640, 1, 1], np.float32).reshape([-1 if i == axis else 1 for i in range(len(shape))])
    before = [np.random.default_rng(seed).uniform(0.2, 1, shape).astype(np.float32) * sizes for seed in range(9)]
    for error, ok in ((1e-7, True), (2e-4, False)):
        after = [b.copy() for b in before]
        np.moveaxis(after[2], axis, 0)[5] += np.float32(error)
        told = compare_output("y", before, after, TERMS)
        assert told.ok is ok
        assert ok or (told.worst is not None and told.worst.slice == ("channel 5" if axis == 1 else f"index 5 of axis {axis}"))


def test_the_headline_says_that_a_larger_error_is_farther_from_its_limit() -> None:
    before = [boxes_and_scores(seed, 1) for seed in range(6)]
    after = [b.copy() for b in before]
    after[0][:, 0] += np.float32(6e-5)
    assert describe_output(compare_output("y", before, after, TERMS)).startswith("largest error")
    after[2][:, 4] += np.float32(1e-6)
    told = describe_output(compare_output("y", before, after, TERMS))
    assert told.startswith("error 1")
    assert told.endswith("there; where errors are larger, rounding may be larger too")


def test_an_error_of_a_box_is_rounding_there_and_none_among_scores() -> None:
    before = [boxes_and_scores(seed, 1) for seed in range(6)]
    step = np.float32(2e-4)  # of 640, three roundings
    for slice_, ok in ((0, True), (4, False)):
        after = [b.copy() for b in before]
        after[0][:, slice_] += step
        assert compare_output("y", before, after, TERMS).ok is ok


def test_logits_that_cancel_on_one_input_are_as_large_as_on_the_others() -> None:
    """Every element of [1, 1000] is a slice of its own, and some are near zero on any input."""
    rng = np.random.default_rng(0)
    before = [rng.standard_normal((1, 1000)).astype(np.float32) for _ in range(9)]
    rounding = [rng.standard_normal((1, 1000)).astype(np.float32) * np.float32(2e-7) for _ in range(9)]
    assert compare_output("y", before, [b + r for b, r in zip(before, rounding, strict=True)], TERMS).ok
    wrong = [b.copy() for b in before]
    wrong[3][0, 17] += np.float32(1e-3)
    assert not compare_output("y", before, wrong, TERMS).ok


def test_a_channel_that_is_zero_stays_zero() -> None:
    before = [np.stack([np.ones((8, 8)), np.zeros((8, 8))])[None].astype(np.float32) for _ in range(3)]
    after = [b.copy() for b in before]
    after[1][0, 1, 3, 3] = 1e-3
    assert not compare_output("y", before, after, TERMS).ok


def test_half_precision_does_not_excuse_everything() -> None:
    rng = np.random.default_rng(0)
    before = [rng.standard_normal((1, 4, 16, 16)).astype(np.float16) for _ in range(3)]
    tolerance = relative_tolerance(1e12, before[0].dtype)
    assert tolerance == pytest.approx(10**-1.5)  # 30 dB, however many roundings are claimed
    assert not compare_output("y", before, [(b * 1.1).astype(np.float16) for b in before], 1e12).ok


def test_a_slice_of_few_values_is_taken_larger_than_it_looks_and_never_than_the_whole() -> None:
    peaks = [np.array([1.0, 1e-3])] * 4
    (few, *_), (many, *_) = (slice_sizes(peaks, [1.0] * 4, [count] * 4) for count in (1, 1 << 16))
    assert few[1] == pytest.approx(1e-3 * 10**1.5)
    assert 1e-3 <= many[1] < 2e-3
    assert few[0] == many[0] == 1.0


def test_not_a_number_is_said(cli: Cli, write: Write) -> None:
    write("g (float[1,4,6,6] x) => (float[1,4,6,6] y) { y = Log(x) }")
    write("g (float[1,4,6,6] x) => (float[1,4,6,6] y) { a = Abs(x)  y = Log(a) }", "other.onnx")
    done = cli("verify", "net.onnx", "other.onnx")
    assert done.code == 5
    assert "values are NaN before only" in done.out.splitlines()[0]


def analyzed(write: Write, graph: str) -> Analysis:
    return analyze(load(write(graph)))


TWO_WAYS = """g (float[1,64,6,6] x) => (float[1,64,6,6] near, float[1,8,6,6] far) <float[64,64,3,3] w, float[8,64,1,1] v>
    { near = Relu(x)  a = Conv<pads = [1,1,1,1]>(x, w)  b = Conv<pads = [1,1,1,1]>(a, w)  far = Conv(b, v) }"""


def test_roundings_add_up_on_the_way_to_each_output(write: Write) -> None:
    terms = accumulation.accumulated_by_output(analyzed(write, TWO_WAYS))
    assert terms["near"] == 2.0
    assert terms["far"] == 1 + 576 + 576 + 64


def test_branches_side_by_side_count_once(write: Write) -> None:
    graph = """g (float[1,64,6,6] x) => (float[1,64,6,6] y) <float[64,64,1,1] v, float[64,64,1,1] w>
        { a = Conv(x, v)  b = Conv(x, w)  y = Add(a, b) }"""
    assert accumulation.accumulated_terms(analyzed(write, graph)) == 1 + 64 + 1


@pytest.mark.parametrize(
    ("body", "terms"),
    [
        ("y = ReduceSum(x, a)", 64), ("y = ReduceMean<keepdims = 0>(x, a)", 64), ("y = ReduceMax(x, a)", 1),
        ("y = GlobalAveragePool(x)", 36), ("y = GlobalMaxPool(x)", 1), ("y = AveragePool<kernel_shape = [3, 2]>(x)", 6),
        ("y = MaxPool<kernel_shape = [3, 2]>(x)", 1), ("r = Relu(x)  y = ReduceL2(r, a)", 65),
    ],
)  # fmt: skip
def test_a_mean_rounds_as_often_as_it_has_terms(write: Write, body: str, terms: int) -> None:
    graph = f"g (float[1,64,6,6] x) => (y) <int64[1] a = {{1}}> {{ {body} }}"
    assert accumulation.accumulated_terms(analyzed(write, graph)) == 1 + terms


def test_a_verdict_of_equal_leads_with_the_largest_error() -> None:
    """Where scores are near their limit and boxes have the larger error, the number that is told is the boxes'."""
    before = [boxes_and_scores(seed, 1) for seed in range(6)]
    after = [b.copy() for b in before]
    after[0][:, 0] += np.float32(6e-5)
    after[2][:, 4] += np.float32(1e-6)
    boxes, scores = compare_output("y", before, after, TERMS), compare_output("z", before, before, TERMS)
    assert boxes.worst is not None
    assert boxes.worst.error < boxes.max_abs / 10
    told = worst_difference(Verification("equal", "onnxruntime", (0,), "6 random", "", (boxes, scores)))
    assert told == f"equal: largest error {boxes.of_largest:.1g} of the largest value, in output 'y', within rounding"
    shares = [np.abs(a - b).max() / np.abs(b).max() for a, b in zip(after, before, strict=True)]
    assert boxes.of_largest == pytest.approx(max(shares), rel=1e-6)
    larger = compare_output("y", [128 * b for b in before], [128 * a for a in after], TERMS)
    assert larger.of_largest == boxes.of_largest, "whatever the unit of the output is"
    assert re.fullmatch(r"at most \S+ % of what rounding may be: \S+ of \S+ \(.+, on .+\)", describe_limit(boxes))
