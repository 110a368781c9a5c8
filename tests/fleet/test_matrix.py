"""Several devices at once say of a model what each says alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from npu_guard.checking import registry
from npu_guard.fleet.matrix import Cell, Matrix, Row
from npu_guard.reports.blocks.matrix_table import describe_cell, lines_of
from npu_guard.reports.matrix.text import render
from npu_guard.results.findings import Report

Program = Callable[..., tuple[int, str, str]]
SAMPLE = "samples/six_problems.onnxtxt"
SOME = "aimotive-aiware,ethos-u85,kneron:KL520"


def test_each_device_as_alone(program: Program, root: Path) -> None:
    code, out, _ = program(root, "check", SAMPLE, "--profile", SOME, "--format", "json")
    assert code == 1
    found = json.loads(out)
    assert found["profiles"] == SOME.split(",")
    (model,) = found["models"]
    for device in model["devices"]:
        alone = json.loads(program(root, "check", SAMPLE, "--profile", device["profile"], "--format", "json")[1])["models"][0]
        for key in ("error", "warning", "undecided", "npu_macs_percent", "documented_macs_percent"):
            assert device[key] == alone["summary"][key]
        assert device["verdict"] == alone["verdict"]


@pytest.mark.parametrize("form", ["text", "markdown", "html"])
def test_formats(program: Program, root: Path, tmp_path: Path, form: str) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    code, out, err = program(root, "check", SAMPLE, broken, "--profile", SOME, "--format", form)
    assert code == 3
    assert all(name in out for name in (*SOME.split(","), SAMPLE, "fail, 9 errors", "unreadable"))
    assert "broken.onnx" in err


def test_all_profiles(program: Program, root: Path, tmp_path: Path) -> None:
    target = tmp_path / "matrix.json"
    assert program(root, "check", SAMPLE, "--all-profiles", "--format", "json", "--output", target)[0] == 1
    found = json.loads(target.read_text(encoding="utf-8"))
    assert found["profiles"] == registry.profile_names()
    assert len(found["models"][0]["devices"]) == len(found["profiles"])


@pytest.mark.parametrize(
    "arguments",
    [
        ("--all-profiles", "--profile", "ethos-u85"),
        ("--profile", "ethos-u85,nonsense"),
        ("--profile", SOME, "--format", "sarif"),
        ("--profile", SOME, "--baseline", "known.json"),
    ],
)
def test_what_does_not_go_together(program: Program, root: Path, arguments: tuple[str, ...]) -> None:
    code, out, err = program(root, "check", SAMPLE, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("npu-guard: ")


def matrix(*cells: Cell, profiles: tuple[str, ...]) -> Matrix:
    return Matrix(profiles, (Row("m.onnx", cells),), Report("1", ()))


def test_lines_are_sorted_and_alike_devices_of_a_family_share_one() -> None:
    fail, ok = Cell("", "fail", 2, 0, 0, 100.0, ("NPU101",)), Cell("", "pass", 0, 1, 0, 100.0)
    worse = Cell("", "fail", 2, 0, 0, 60.0, ("NPU201", "NPU101"))
    found = lines_of(matrix(fail, worse, ok, fail, ok, ok, profiles=("f:a", "g", "p", "f:b", "f:c", "q")))
    assert [line.devices for line in found] == [("p",), ("f:c",), ("q",), ("f:a", "f:b"), ("g",)]
    assert found[3].name(short=True) == "f:a +1"
    assert found[3].name(short=False) == "f:a, b"
    assert found[4].rules() == "NPU201, NPU101"


def test_what_nobody_documents_comes_behind_what_is_documented() -> None:
    silent, slow = Cell("", "pass", 0, 9, 0, 100.0, (), 50.0, 9), Cell("", "pass", 0, 12, 0, 100.0)
    assert [line.devices for line in lines_of(matrix(silent, slow, profiles=("a", "b")))] == [("b",), ("a",)]


def test_the_text_names_each_device_of_a_line() -> None:
    ok = Cell("", "pass", 0, 0, 0, 100.0)
    told = render(matrix(ok, ok, ok, profiles=("f:a", "f:b", "g")))
    assert "f:a +1 " in told
    assert "share a line:\n  f:a +1: a, b\n" in told


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (Cell("", "pass", 0, 0, 0, 100.0), "pass, 100.0 % of the MACs"),
        (Cell("", "fail", 1, 2, 0, 100.0), "fail, 1 error, 2 warnings, all MACs, but not all operators"),
        (Cell("", "fail", 3, 0, 0, 86.96), "fail, 3 errors, 87.0 % of the MACs"),
        (
            Cell("", "pass", 0, 91, 0, 100.0, (), 90.6, 91),
            "pass (91 operators not documented), 91 warnings, 100.0 % of the MACs, 90.6 % documented",
        ),
        (Cell("", "undecided", 0, 0, 2, 100.0), "undecided, 2 undecided, all MACs"),
    ],
)
def test_all_multiplications_never_read_as_a_pass(cell: Cell, words: str) -> None:
    assert describe_cell(cell) == words


def test_one_model_takes_a_line_for_each_device_in_a_terminal(program: Program, root: Path) -> None:
    ok, silent = Cell("", "pass", 0, 0, 0, 100.0), Cell("", "pass", 0, 91, 0, 100.0, (), 90.6, 91)
    half = Cell("", "fail", 1234, 2, 0, 86.96, ("NPU101", "NPU402", "NPU702"))
    whole = Cell("", "fail", 1, 0, 0, 100.0, ("NPU204",))
    names = ("axera:AX650", "amd-dpu:DPUCZDX8G", "ort-coreml:NeuralNetwork", "ti-tidl:AM62A")
    head, lines = render(matrix(ok, silent, whole, half, profiles=names), width=80).split("\n\n")[1:3]
    assert head.split("\n") == [
        "device                    verdict   errors  warnings  MACs %  decided by",
        "axera:AX650               pass                         100.0",
        "amd-dpu:DPUCZDX8G         pass (?)                91   100.0",
        "ort-coreml:NeuralNetwork  fail           1             all *  NPU204",
        "ti-tidl:AM62A             fail       1,234         2    87.0  NPU101 and 2 more",
    ]
    assert lines.startswith("(?) The device's documents do not name all operators.\n* The device takes all the MACs")
    bare = render(matrix(ok, half, profiles=names[:2]), width=80)
    assert "(?)" not in bare
    assert "*" not in bare
    every = program(root, "check", "samples/sample_net.onnx", "--all-profiles")[1]
    table = every.split("\n\n")[1].split("\n")
    assert len(table) > 10
    assert max(map(len, table)) <= 80


def test_the_rules_that_decide_are_named(program: Program, root: Path) -> None:
    found = json.loads(program(root, "check", SAMPLE, "--profile", SOME, "--format", "json")[1])["models"][0]["devices"]
    for device in found:
        assert bool(device["rules"]) == (device["verdict"] != "pass")
