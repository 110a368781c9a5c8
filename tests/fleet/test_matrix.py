"""Several devices at once say of a model what each says alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from npu_guard.checking import registry

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
        for key in ("error", "warning", "undecided", "npu_macs_percent"):
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
