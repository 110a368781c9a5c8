"""An attribute that changes nothing at a node is under no limit; one step further, where it does, the limit holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from npu_guard.analysis.analyze import Analysis
from npu_guard.checking import registry
from npu_guard.checking.engine import check
from npu_guard.device import Profile, requirements
from npu_guard.device.vocabulary import METRICS
from npu_guard.project.config import Config
from npu_guard.results.findings import Finding

REDUCE = "<int64[2] a = {2, 3}, int64[0] none = {}>"
TWICE = "<float[4] s = {1, 1, 2, 2}>"
SHAPES = "<int64[2] s = {8, 16}, int64[2] z = {0, 16}>"


def unary(call: str, x: str = "1,8,9,9", more: str = "", outputs: str = "y") -> str:
    return f"g (float[{x}] x) => ({outputs}) {more} {{ {outputs} = {call} }}"


ROWS: list[tuple[str, Any, str, str]] = [
    # attribute, what the limit allows, where it has no effect, where it has
    ("ReduceMean noop_with_empty_axes", 0, unary("ReduceMean<noop_with_empty_axes = 1>(x, a)", more=REDUCE),
     unary("ReduceMean<noop_with_empty_axes = 1>(x, none)", more=REDUCE)),
    ("Reshape allowzero", 0, unary("Reshape<allowzero = 1>(x, s)", "1,8,16", SHAPES),
     unary("Reshape<allowzero = 1>(x, z)", "1,0,16", SHAPES)),
    ("MaxPool ceil_mode", 0, unary("MaxPool<kernel_shape = [3,3], strides = [2,2], ceil_mode = 1>(x)"),
     unary("MaxPool<kernel_shape = [2,3], strides = [2,2], ceil_mode = 1>(x)")),
    ("AveragePool ceil_mode", 0,  # the window that rounding up adds would start behind the map, so there is none
     unary("AveragePool<kernel_shape = [2,2], strides = [3,3], pads = [0,0,1,1], ceil_mode = 1>(x)", "1,8,6,6"),
     unary("AveragePool<kernel_shape = [2,2], strides = [3,3], ceil_mode = 1>(x)", "1,8,7,7")),
    ("MaxPool ceil_mode", 0, unary('MaxPool<kernel_shape = [2,2], strides = [2,2], ceil_mode = 1, auto_pad = "SAME_UPPER">(x)'),
     unary("MaxPool<kernel_shape = [2,2], strides = [2,2], pads = [1,1,0,0], ceil_mode = 1>(x)", "1,8,8,8")),
    ("AveragePool count_include_pad", 1, unary("AveragePool<kernel_shape = [3,3]>(x)"),
     unary("AveragePool<kernel_shape = [3,3], pads = [0,0,0,1]>(x)")),
    ("AveragePool count_include_pad", 0,
     unary("AveragePool<kernel_shape = [3,3], count_include_pad = 1, ceil_mode = 1, strides = [2,2]>(x)"),
     unary("AveragePool<kernel_shape = [2,2], count_include_pad = 1, ceil_mode = 1, strides = [2,2]>(x)")),
    ("MaxPool storage_order", 0, unary("MaxPool<kernel_shape = [2,2], storage_order = 1>(x)"),
     unary("MaxPool<kernel_shape = [2,2], storage_order = 1>(x)", outputs="y, i")),
    ("Conv auto_pad", "NOTSET", unary('Conv<auto_pad = "SAME_UPPER">(x, w)', more="<float[8,8,1,1] w>"),
     unary('Conv<auto_pad = "SAME_UPPER">(x, w)', more="<float[8,8,1,2] w>")),
    ("MaxPool auto_pad", "NOTSET", unary('MaxPool<kernel_shape = [2,2], auto_pad = "VALID">(x)'),
     unary('MaxPool<kernel_shape = [2,2], auto_pad = "SAME_LOWER">(x)')),
    ("CumSum reverse", 0, unary("CumSum<reverse = 1>(x, a)", "1,8,1,9", "<int64 a = {-2}>"),
     unary("CumSum<reverse = 1>(x, a)", "1,8,2,9", "<int64 a = {-2}>")),
    ("Gemm beta", 1.0, unary("Gemm<beta = 0.5>(x, w)", "4,8", "<float[8,8] w, float[8] c>"),
     unary("Gemm<beta = 0.5>(x, w, c)", "4,8", "<float[8,8] w, float[8] c>")),
    ("TopK sorted", 1, unary("TopK<sorted = 0>(x, k)", more="<int64[1] k = {1}>", outputs="y, i"),
     unary("TopK<sorted = 0>(x, k)", more="<int64[1] k = {2}>", outputs="y, i")),
    ("DepthToSpace mode", "DCR", unary('DepthToSpace<blocksize = 2, mode = "CRD">(x)', "1,4,9,9"),
     unary('DepthToSpace<blocksize = 2, mode = "CRD">(x)', "1,8,9,9")),
    ("Resize nearest_mode", "floor", unary('Resize<mode = "linear">(x, , s)', more=TWICE),
     unary("Resize(x, , s)", more=TWICE)),
    ("Resize exclude_outside", 0, unary('Resize<mode = "linear", exclude_outside = 1>(x, , s)', more=TWICE),
     unary('Resize<mode = "cubic", exclude_outside = 1>(x, , s)', more=TWICE)),
    ("Resize antialias", 0, unary('Resize<mode = "linear", antialias = 1>(x, , s)', more=TWICE),
     unary('Resize<mode = "linear", antialias = 1>(x, , s)', more="<float[4] s = {1, 1, 1, 0.5}>")),
    ("Resize extrapolation_value", 0.0, unary("Resize<extrapolation_value = 1.0>(x, , s)", more=TWICE),
     unary('Resize<extrapolation_value = 1.0, coordinate_transformation_mode = "tf_crop_and_resize">(x, r, s)',
           more="<float[4] s = {1, 1, 2, 2}, float[8] r = {0, 0, 0, 0, 1, 1, 1, 1}>")),
    ("Conv dilation", 1, unary("Conv<dilations = [7,7]>(x, w)", more="<float[8,8,1,1] w>"),
     unary("Conv<dilations = [7,7]>(x, w)", more="<float[8,8,1,2] w>")),
    ("Conv stride", 1, unary("Conv<strides = [9,9]>(x, w)", more="<float[8,8,2,2] w>"),
     unary("Conv<strides = [9,7]>(x, w)", more="<float[8,8,2,2] w>")),
    ("ConvTranspose stride", 1, unary("ConvTranspose<strides = [2,2]>(x, w)", "1,8,1,1", "<float[8,8,2,2] w>"),
     unary("ConvTranspose<strides = [2,2]>(x, w)", "1,8,1,2", "<float[8,8,2,2] w>")),
    ("Pad constant_value", 0.0, unary('Pad<mode = "edge">(x, p, c)', more="<int64[8] p = {0,0,0,0,0,0,1,1}, float c = {1.5}>"),
     unary("Pad(x, p, c)", more="<int64[8] p = {0,0,0,0,0,0,1,1}, float c = {1.5}>")),
]  # fmt: skip


def ask(graph: str, limits: list[dict[str, Any]], analysis: Callable[..., Analysis], opset: int = 20) -> list[Finding]:
    found = [r for limit in limits for r in requirements("test", limit, "test")]
    profile = Profile("test", "test", "test", (), {}, {}, {}, tuple(found))
    return list(check(analysis(graph, opset=opset), profile, registry.rules(), Config()).findings)


def limit(row: tuple[str, Any, str, str]) -> dict[str, Any]:
    op, name = row[0].split()
    metric = name if name in METRICS else f"{'value' if name == 'constant_value' else 'attr'}.{name}"
    return {"ops": [op], "metric": metric, "is": row[1]}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_no_limit_where_it_changes_nothing(row: tuple[str, Any, str, str], analysis: Callable[..., Analysis]) -> None:
    assert ask(row[2], [limit(row)], analysis) == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_the_limit_holds_where_it_matters(row: tuple[str, Any, str, str], analysis: Callable[..., Analysis]) -> None:
    (finding,) = ask(row[3], [limit(row)], analysis)
    assert finding.outcome.value == "fail"


@pytest.mark.parametrize(("kernel", "fits"), [(3, True), (2, False)])
def test_an_alternative_takes_what_changes_nothing(kernel: int, fits: bool, analysis: Callable[..., Analysis]) -> None:
    graph = unary(f"MaxPool<kernel_shape = [{kernel},{kernel}], strides = [2,2], ceil_mode = 1>(x)")
    ways = {"ops": ["MaxPool"], "metric": "kernel", "any_of": [{"attr.ceil_mode": 0, "kernel": [2, 3]}, {"kernel": 7}]}
    assert (ask(graph, [ways], analysis) == []) is fits


@pytest.mark.parametrize(
    ("pad", "found"),
    [('auto_pad = "SAME_UPPER", strides = [9,9]', []), ('auto_pad = "SAME_UPPER"', ["NPU203"])],
    ids=["pads nothing", "pads"],
)
def test_a_guard_that_is_set_without_effect_does_not_hold(pad: str, found: list[str], analysis: Callable[..., Analysis]) -> None:
    graph = unary(f"Conv<{pad}>(x, w)", more="<float[8,8,2,2] w>")
    guarded = {"ops": ["Conv"], "when": {"attr.auto_pad": ["SAME_UPPER"]}, "metric": "stride", "is": 3}
    assert [f.rule for f in ask(graph, [guarded], analysis)] == found


def test_a_guard_on_another_word_does_not_hold_where_the_attribute_has_no_effect(analysis: Callable[..., Analysis]) -> None:
    graph = unary("Conv<dilations = [2,2]>(x, w)", more="<float[8,8,2,2] w>")
    guarded = {"ops": ["Conv"], "when": {"attr.auto_pad": ["SAME_UPPER", "SAME_LOWER"]}, "metric": "dilation", "is": 1}
    assert ask(graph, [guarded], analysis) == []


def test_a_default_guards_as_before(analysis: Callable[..., Analysis]) -> None:
    graph = unary("MaxPool<kernel_shape = [3,3], strides = [2,2]>(x)")
    guarded = {"ops": ["MaxPool"], "when": {"attr.ceil_mode": 0}, "metric": "kernel", "max": 2}
    assert [f.rule for f in ask(graph, [guarded], analysis)] == ["NPU204"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_limit_on_what_is_written_holds_all_the_same(row: tuple[str, Any, str, str], analysis: Callable[..., Analysis]) -> None:
    (finding,) = ask(row[2], [{**limit(row), "as_written": True}], analysis)
    assert finding.outcome.value == "fail"


@pytest.mark.parametrize(("written", "found"), [(True, ["NPU203"]), (False, [])])
def test_a_guard_on_what_is_written_holds_where_it_has_no_effect(
    written: bool, found: list[str], analysis: Callable[..., Analysis]
) -> None:
    graph = unary('Conv<auto_pad = "SAME_UPPER", strides = [9,9]>(x, w)', more="<float[8,8,2,2] w>")
    guarded = {"ops": ["Conv"], "when": {"attr.auto_pad": ["SAME_UPPER"]}, "metric": "stride", "is": 3, "as_written": written}
    assert [f.rule for f in ask(graph, [guarded], analysis)] == found


@pytest.mark.parametrize(("written", "found"), [(True, ["NPU204"]), (False, [])])
def test_an_alternative_on_what_is_written(written: bool, found: list[str], analysis: Callable[..., Analysis]) -> None:
    graph = unary("MaxPool<kernel_shape = [3,3], strides = [2,2], ceil_mode = 1>(x)")
    ways = {"ops": ["MaxPool"], "metric": "kernel", "any_of": [{"attr.ceil_mode": 0, "kernel": 3}], "as_written": written}
    assert [f.rule for f in ask(graph, [ways], analysis)] == found


def test_an_open_extent_does_not_tell(analysis: Callable[..., Analysis]) -> None:
    graph = unary("MaxPool<kernel_shape = [2,2], strides = [2,2], ceil_mode = 1>(x)", '1,8,"h",8')
    (finding,) = ask(graph, [{"ops": ["MaxPool"], "metric": "attr.ceil_mode", "is": 0}], analysis)
    assert finding.outcome.value == "undecided"


def test_upsample_is_a_resize(analysis: Callable[..., Analysis]) -> None:
    limits = [
        {"ops": ["Resize"], "metric": "scale", "max": 2},
        {"ops": ["Resize"], "metric": "attr.coordinate_transformation_mode", "is": "asymmetric"},
        {"ops": ["Resize"], "metric": "axes", "not_in": [1]},
    ]
    three, two = ("<float[4] s = {1, 1, 3, 2}>", "<float[4] s = {1, 2, 2, 2}>")
    for opset, call in ((9, "Upsample(x, s)"), (10, "Resize(x, s)")):
        assert [f.evidence.limit for f in ask(unary(call, more=three), limits, analysis, opset) if f.evidence] == ["scale.max"]
        assert [f.evidence.limit for f in ask(unary(call, more=two), limits, analysis, opset) if f.evidence] == ["axes.not_in"]
