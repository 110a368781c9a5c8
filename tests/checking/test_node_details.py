"""Attributes with defaults and operands of single nodes, as the panel of the report shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from npu_guard.checking import registry
from npu_guard.checking.examples import analyze_case, profile_for
from npu_guard.checking.rows import device, layer_rows
from npu_guard.checking.rule import Case
from npu_guard.results.findings import LayerRow


def row(folder: Path, graph: str, op: str) -> LayerRow:
    return next(layer for layer in rows(folder, graph) if layer.location.op_type == op)


def rows(folder: Path, graph: str) -> tuple[LayerRow, ...]:
    case = Case(graph)
    return layer_rows(analyze_case(case, folder), profile_for(case), ())


@pytest.mark.parametrize(
    ("graph", "op", "expected"),
    [
        (  # all of the window is left out: it follows from the weight
            "g (float[1,3,8,8] x) => (y) <float[8,3,5,3] w> { y = Conv(x, w) }", "Conv",
            {"kernel_shape": ("5, 3", True), "strides": ("1, 1", True), "pads": ("0, 0, 0, 0", True), "dilations": ("1, 1", True),
             "group": ("1", True), "auto_pad": ("NOTSET", True)},
        ),
        (  # padding of SAME follows from the map, so none is stated
            'g (float[1,3,8,8] x) => (y) <float[8,3,3,3] w> { y = Conv<auto_pad = "SAME_UPPER", strides = [2, 2]>(x, w) }',
            "Conv",
            {"kernel_shape": ("3, 3", True), "strides": ("2, 2", False), "dilations": ("1, 1", True), "group": ("1", True),
             "auto_pad": ("SAME_UPPER", False)},
        ),
        (
            "g (float[1,3,8,8] x) => (y) { y = AveragePool<kernel_shape = [2, 2], count_include_pad = 1>(x) }", "AveragePool",
            {"kernel_shape": ("2, 2", False), "count_include_pad": ("1", False), "ceil_mode": ("0", True),
             "auto_pad": ("NOTSET", True), "strides": ("1, 1", True), "pads": ("0, 0, 0, 0", True), "dilations": ("1, 1", True)},
        ),
        ("g (float[1,3,8,8] x) => (y) { y = LeakyRelu(x) }", "LeakyRelu", {"alpha": ("0.01", True)}),
        ("g (float[1,3,8,8] x) => (y) { y = Softmax<axis = 1>(x) }", "Softmax", {"axis": ("1", False)}),
        ("g (float[1,3,8,8] x) => (y) { y = com.example.Thing<k = 3>(x) }", "com.example::Thing", {"k": ("3", False)}),
    ],
)  # fmt: skip
def test_attributes_with_their_defaults(tmp_path: Path, graph: str, op: str, expected: dict[str, tuple[str, bool]]) -> None:
    assert {a.name: (a.value, a.default) for a in row(tmp_path, graph, op).attributes} == expected


def test_convolutions_alike_but_for_the_weight_have_their_own_kernels(tmp_path: Path) -> None:
    graph = """g (float[1,8,8,8] x) => (y) <float[8,8,3,3] v, float[8,8,3,1] w>
    { a = Conv(x, v) y = Conv<pads = [0, 0, 0, 0]>(a, w) }"""
    kernels = [a.value for layer in rows(tmp_path, graph) for a in layer.attributes if a.name == "kernel_shape"]
    assert kernels == ["3, 3", "3, 1"]


def test_operands_say_what_they_are(tmp_path: Path) -> None:
    found = row(tmp_path, 'g (float["N",3,8,8] x) => (y) <float[8,3,3,3] w> { y = Conv(x, w) }', "Conv")
    assert [(o.formal, o.name, o.constant) for o in found.reads] == [("X", "x", False), ("W", "w", True)]
    assert found.reads[1].shape == (8, 3, 3, 3)
    assert [(o.formal, o.name, o.dtype) for o in found.makes] == [("Y", "y", "float32")]
    clip = row(tmp_path, "g (float[1,8] x) => (y) <float m = {6.0}> { y = Clip(x, , m) }", "Clip")
    assert [(o.formal, o.name) for o in clip.reads] == [("input", "x"), ("max", "m")]
    concat = row(tmp_path, "g (float[1,8] x) => (y) { a = Relu(x) y = Concat<axis = 1>(x, a, x) }", "Concat")
    assert [o.formal for o in concat.reads] == ["inputs"] * 3


def test_the_page_says_what_becomes_of_operators_that_a_device_does_not_list() -> None:
    told = {name: device(registry.profile(name)).unlisted for name in ("aimotive-aiware", "ort-nnapi")}
    assert told["aimotive-aiware"] == "reported as not documented"
    assert told["ort-nnapi"].startswith("refused: ")
