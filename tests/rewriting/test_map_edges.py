"""Tokens that enter and leave a region, and copies at constant places, against ONNX's reference; wrong variants are caught."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from npu_guard.checking.examples import case_model, profile_for
from npu_guard.checking.rule import Case
from npu_guard.file.save import save_document
from npu_guard.fixing import catalog
from npu_guard.pipeline.fix import fix_model
from npu_guard.project.config import Config
from npu_guard.rewriting.maps import slices
from npu_guard.rewriting.maps.runs import LEAST, in_runs

FIXED_LAYOUT = {"layout.rearrange": False, "matmul.spatial": False}
Rewrite = Callable[..., list[str]]


def _extents(rng: random.Random, rank: int) -> list[int]:
    return [1, *(rng.choice([1, 2, 3, 5, 6, 7]) for _ in range(rank - 1))]


def _numbers(values: Sequence[object]) -> str:
    return "{" + ", ".join(map(str, values)) + "}"


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
@pytest.mark.parametrize("seed", range(6))
def test_margins_repeat_what_is_inside(mode: str, seed: int, rewrite: Rewrite) -> None:
    rng = random.Random(seed)
    shape = _extents(rng, rng.choice([3, 4, 4, 5]))
    most = {"reflect": [n - 1 for n in shape], "edge": [9] * len(shape), "wrap": shape}[mode]
    pads = [rng.randint(0, n) for n in (*most, *most)]
    pads[0] = pads[len(shape)] = 0
    if not any(pads):
        pads[-1] = most[-1]
    operators = rewrite(
        "tensors-to-maps",
        f'g (float{shape} x) => (y) <int64[{len(pads)}] p = {_numbers(pads)}> {{ a = Relu(x)  y = Pad<mode = "{mode}">(a, p) }}',
        FIXED_LAYOUT,
    )
    assert "Pad" not in operators


@pytest.mark.parametrize(
    ("shape", "pads"),
    [
        ([1, 1, 40], [0, 0, 12, 0, 0, 9]),
        ([1, 3, 5, 23], [0, 0, 0, 22, 0, 0, 0, 22]),
        ([1, 2, 19, 4], [0, 1, 18, 1, 0, 0, 9, 3]),
        ([2, 11, 3], [0, 10, 0, 0, 8, 1]),
    ],
)
def test_long_margins_are_turned_round_by_a_matrix(shape: list[int], pads: list[int], tmp_path: Path) -> None:
    text = f"g (float{shape} x) => (y) <int64[{len(pads)}] p = {_numbers(pads)}>"
    operators = _fixed(text + ' { a = Tanh(x)  y = Pad<mode = "reflect">(a, p) }', shape, tmp_path)
    assert "Pad" not in operators
    assert len(operators) <= 24, operators


def test_places_that_fall_and_rise(tmp_path: Path) -> None:
    places = [*range(17, 3, -1), *range(9), 20, 19, 18, *range(12, -1, -1)]
    text = f"g (float[1,3,21] x) => (y) <int64[{len(places)}] i = {_numbers(places)}> {{ y = Gather<axis = 2>(x, i) }}"
    assert "Gather" not in _fixed(text, [1, 3, 21], tmp_path)
    assert [len(run) for run in in_runs(places, LEAST)] == [14, 9, 1, 1, 1, 13]


@pytest.mark.parametrize(
    ("refused", "written"), [(("ReduceMin", "ReduceMax", "Min"), "Max"), (("ReduceMin", "ReduceMax"), "Min")]
)
def test_the_least_is_the_greatest_of_negatives_where_two_maps_have_no_least(
    refused: tuple[str, ...], written: str, tmp_path: Path
) -> None:
    text = "g (float[1,5,12] x) => (y) <int64[2] a = {1,2}> { m = ReduceMin(x, a)  y = Sub(x, m) }"
    operators = _fixed(text, [1, 5, 12], tmp_path, refused)
    assert {"Min", "Max"}.intersection(operators) == {written}


def _fixed(graph: str, shape: list[int], folder: Path, refused: Sequence[str] = ("Pad", "Gather")) -> list[str]:
    """Operators of the fixed model, once ONNX Runtime gives the same: ONNX's reference has no ConvTranspose with groups."""
    before, after = folder / "before.onnx", folder / "after.onnx"
    onnx.save(onnx.shape_inference.infer_shapes(case_model(Case(graph))), before)
    profile = profile_for(Case("", limits=FIXED_LAYOUT, operators=dict.fromkeys(refused, "refused")))
    report = fix_model(str(before), profile, Config(), [s for s in catalog.substitutions() if s.name == "tensors-to-maps"])
    assert report.applied, [r.reason for r in report.refused]
    save_document(report.document, after)
    sessions = [onnxruntime.InferenceSession(str(path)) for path in (before, after)]
    drawn = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    for x in (drawn, -np.abs(drawn), 0 * drawn, 1e4 * drawn):
        first, second = (session.run(None, {"x": x})[0] for session in sessions)
        np.testing.assert_array_equal(first, second)
    return [n.op_type for n in report.document.proto.graph.node]


@pytest.mark.parametrize("seed", range(20))
def test_runs_are_all_indices_in_their_order(seed: int) -> None:
    rng = random.Random(seed)
    indices = [rng.randrange(4)]
    while len(indices) < 60:
        indices.append(max(0, indices[-1] + rng.choice([1, 1, 1, -1, -1, -1, 0, 3])))
    for least in (2, 3, 8, math.inf):
        runs = in_runs(indices, least)
        assert [i for run in runs for i in run] == indices
        assert all(run == list(range(run[0], run[0] + len(run))) or len(run) >= least for run in runs)
        assert all(set(np.diff(run).tolist()) in (set(), {1}, {-1}) for run in runs)


@pytest.mark.parametrize("grid", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_gather_nd_at_constant_places(grid: bool, seed: int, rewrite: Rewrite) -> None:
    rng = random.Random(seed)
    shape = _extents(rng, rng.choice([3, 4, 5]))
    axes = rng.randint(1, min(3, len(shape) - 1))
    if grid:
        chosen = [np.array([rng.randrange(-n, n) for _ in range(rng.randint(1, 4))]) for n in shape[:axes]]
        places = np.stack(np.meshgrid(*chosen, indexing="ij"), axis=-1)
    else:
        count = rng.choice([(4,), (2, 3)])
        places = np.stack([np.array([rng.randrange(-n, n) for _ in range(int(np.prod(count)))]) for n in shape[:axes]], axis=-1)
        places = places.reshape(*count, axes)
    sizes = ",".join(map(str, places.shape))
    operators = rewrite(
        "tensors-to-maps",
        f"g (float{shape} x) => (y) <int64[{sizes}] i = {_numbers(places.reshape(-1).tolist())}> {{ y = GatherND(x, i) }}",
        FIXED_LAYOUT,
    )
    assert "GatherND" not in operators


@pytest.mark.parametrize(
    ("inputs", "body"),
    [
        ("float[2,5,6] x", "s = Softmax<axis = 1>(x)  y = Mul(s, x)"),
        ("float[3,7,1] x", "s = Softmax<axis = 1>(x)  y = Mul(s, x)"),
        ("float[7,6] x", "s = Softmax<axis = 0>(x)  y = Mul(s, x)"),
        ("float[1,6] x", "h = MatMul(x, w)  y = Softmax<axis = -1>(h)"),
        ("float[5,1] x", "t = Transpose<perm = [1,0]>(x)  y = Mul(x, t)"),
    ],
)
def test_tokens_enter_and_leave_without_a_transpose(inputs: str, body: str, rewrite: Rewrite) -> None:
    operators = rewrite(
        "tensors-to-maps", f"g ({inputs}) => (y) <float[6,9] w = {_numbers(_weights(54))}> {{ {body} }}", FIXED_LAYOUT
    )
    assert "Transpose" not in operators


def test_vectors_leave_as_they_are(rewrite: Rewrite) -> None:
    body = "p = GlobalAveragePool(x)  f = Flatten(p)  y = MatMul(f, w)"
    graph = f"g (float[5,6,2,3] x) => (y) <float[6,9] w = {_numbers(_weights(54))}> {{ {body} }}"
    assert set(rewrite("tensors-to-maps", graph, FIXED_LAYOUT)) <= {"GlobalAveragePool", "Conv", "Reshape", "AveragePool"}


def test_a_device_that_rearranges_keeps_the_transpose(rewrite: Rewrite) -> None:
    assert "Transpose" in rewrite("tensors-to-maps", "g (float[2,5,6] x) => (y) { s = Softmax<axis = 2>(x)  y = Mul(s, x) }", {})


def _weights(count: int) -> list[float]:
    return [round(float(v), 3) for v in np.random.default_rng(7).standard_normal(count)]


def _one_too_far(mode: str, front: int, extent: int, back: int) -> list[int]:
    return [min(abs(i), extent - 1) for i in range(-front, extent + back)]


@pytest.mark.parametrize(
    ("place", "wrong", "graph"),
    [
        (
            (slices, "_margins"), _one_too_far,
            'g (float[1,8,3,5] x) => (y) <int64[8] p = {0,0,1,2,0,0,1,2}> { y = Pad<mode = "reflect">(x, p) }',
        ),
        (
            (slices, "_grid"), lambda indices: [[0, 2], [0, 1]],
            "g (float[3,3,5,7] x) => (y) <int64[2,2,2] i = {0,0,0,1,2,0,2,2}> { y = GatherND(x, i) }",
        ),
        (
            (slices, "turned"), lambda maps, x, axis, at, piece, count: piece,
            'g (float[1,1,30] x) => (y) <int64[6] p = {0,0,9,0,0,0}> { y = Pad<mode = "reflect">(x, p) }',
        ),
    ],
)  # fmt: skip
def test_a_wrong_variant_is_rolled_back(
    place: tuple[Any, str], wrong: Any, graph: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(onnx.shape_inference.infer_shapes(case_model(Case(graph))), path)
    profile = profile_for(Case("", limits=FIXED_LAYOUT, operators=dict.fromkeys(("Pad", "GatherND"), "refused")))
    forms = [s for s in catalog.substitutions() if s.name == "tensors-to-maps"]
    right = fix_model(str(path), profile, Config(), forms)
    assert right.applied, [r.reason for r in right.refused]
    monkeypatch.setattr(*place, wrong)
    report = fix_model(str(path), profile, Config(), forms)
    assert not report.applied
    assert any("rolled back" in r.reason for r in report.refused), [r.reason for r in report.refused]
