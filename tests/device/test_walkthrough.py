"""docs/adding-a-device.md, followed to the letter by somebody who knows only the vendor's page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from npu_guard.checking import registry

PAGE = (Path(__file__).parents[2] / "docs" / "adding-a-device.md").read_text(encoding="utf-8")
NAME = "example-e100.toml"
Program = Callable[..., tuple[int, str, str]]


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return [text for said, text in found if said == language]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / NAME).write_text("\n".join(blocks("toml")), encoding="utf-8")
    (model,) = blocks("onnx")
    (tmp_path / "e100.onnxtxt").write_text(model, encoding="utf-8")
    return tmp_path


def test_commands_are_those_that_exist(program: Program, tmp_path: Path) -> None:
    commands = [
        line.removeprefix("npu-guard ") for block in blocks("") for line in block.splitlines() if line.startswith("npu-guard ")
    ]
    assert commands.pop(0).startswith("profiles learn ")  # needs a vendor's compiler
    assert [c.split()[:2] for c in commands] == [
        ["profiles", "new"],
        ["profiles", "validate"],
        ["check", "e100.onnxtxt"],
        ["fix", "e100.onnxtxt"],
        ["partition", "e100.fixed.onnx"],
    ]
    assert program(tmp_path, *commands[0].split())[0] == 0
    assert (tmp_path / NAME).exists()


def test_the_file_is_valid(program: Program, folder: Path) -> None:
    code, out, _ = program(folder, "profiles", "validate", NAME)
    assert (code, out) == (0, next(b for b in blocks("") if "nothing wrong" in b))


def test_a_slip_is_found(program: Program, folder: Path) -> None:
    text = (folder / NAME).read_text(encoding="utf-8")
    (folder / NAME).write_text(text.replace("max = 11", "mx = 11", 1), encoding="utf-8")
    code, out, _ = program(folder, "profiles", "validate", NAME)
    assert code == 2
    assert out == next(b for b in blocks("") if "did you mean" in b)


def test_the_findings(program: Program, folder: Path) -> None:
    code, out, _ = program(folder, "check", "e100.onnxtxt", "--profile", NAME, "--format", "json")
    assert code == 1
    (model,) = json.loads(out)["models"]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.splitlines() if line.startswith("| NPU")]
    table = [row for row in rows if len(row) == 3 and row[1] in "abcde"]
    assert len(table) == 5
    assert [[f["rule"], f["node"], f["message"]] for f in model["findings"]] == table
    assert {f["outcome"] for f in model["findings"]} == {"fail"}


def test_what_is_mended(program: Program, folder: Path) -> None:
    (block,) = (block for block in blocks("") if block.startswith("npu-guard fix"))
    fix, partition = block.splitlines()
    for command, code in ((fix, 1), (partition, 0)):
        assert program(folder, *command.split()[1:])[0] == code
    told = json.loads(program(folder, *fix.split()[1:], "--format", "json")[1])["models"][0]
    labels = [step["verification"]["proof"]["label"] for step in told["applied"]]
    assert labels == ["proved"] * 3, "as the page says"
    left = program(folder, "check", "e100.fixed.onnx", "--profile", NAME, "--format", "json")[1]
    assert [(f["rule"], f["node"]) for f in json.loads(left)["models"][0]["findings"]] == [("NPU101", "e")]
    pieces = json.loads((folder / "e100.parts" / "manifest.json").read_text(encoding="utf-8"))["pieces"]
    assert [piece["side"] for piece in pieces] == ["npu", "host"]
    assert pieces[1]["nodes"] == 2


def test_every_row_of_the_data_sheet_is_in_the_file(folder: Path) -> None:
    profile = registry.profile(str(folder / NAME))
    section = PAGE.split("## What the vendor says")[1].split("## Begin")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 10
    assert {op for r in profile.requirements for op in r.ops} == {"Conv", "MaxPool", "Resize", "Concat", "MatMul", "Softmax"}
    supported = re.search(r"^Supported: (.*?)\. All others", section, re.MULTILINE)
    assert supported is not None
    assert set(profile.operators) == set(supported[1].split(", "))
