"""The promise of the gate, on a repository of its own: a pull request is told what it adds, on its lines, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

BLOCKS = '''"""Blocks of the demo network."""

import torch
from torch import Tensor, nn


class Stem(nn.Module):
    """Two convolutions; the first one is wider than the device takes, and has been for long."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 16, 21, padding=10)
        self.body = nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.wide(x))  # OLD
        return torch.relu(self.body(x))
'''
ECA = '''

class EfficientChannelAttention(nn.Module):
    """A gate for each channel, from a 1-D convolution over the channels' means."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = x.mean((2, 3), keepdim=True)
        y = y.squeeze(-1).transpose(-1, -2)  # ECA
        y = self.conv(y)  # ECA
        y = y.transpose(-1, -2).unsqueeze(-1)  # ECA
        return x * torch.sigmoid(y)
'''
NET = '''"""The demo network."""

import torch
from torch import Tensor, nn

from demo.blocks import {blocks}


class Net(nn.Module):
    """Stem, blocks, head."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential({sequence})
        self.head = nn.Conv2d(16, 8, 1)
{init}
    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
{forward}        return self.head(x)


def inputs() -> dict[str, Tensor]:
    """An example."""
    return {{"image": torch.zeros(1, 3, 32, 48)}}
'''
BEFORE = {"blocks": "Stem", "sequence": "nn.Identity(), Stem()", "init": "", "forward": ""}
AFTER = {
    "blocks": "EfficientChannelAttention, Stem",
    # The new block comes first, so that the path of the old one changes and all nodes get new names.
    "sequence": "nn.Identity(), nn.ReLU(), Stem(), EfficientChannelAttention()",
    "init": "        self.context = nn.Conv2d(16, 16, 19, padding=9)\n",
    "forward": "        x = self.context(x)  # WIDE\n",
}


class Demo(NamedTuple):
    """The repository, checked out at the pull request, and the models of both commits."""

    root: Path
    base: Path
    head: Path

    def lines(self, mark: str) -> set[tuple[str, int]]:
        """Places of the code with a comment."""
        return {
            (file.relative_to(self.root).as_posix(), number)
            for file in (self.root / "demo").glob("*.py")
            for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
            if line.endswith(f"# {mark}")
        }


Check = Callable[..., str]


@pytest.fixture(scope="session")
def run(demo: Demo, program: Callable[..., Any]) -> Check:
    """The program in the repository; returns standard output."""

    def call(*arguments: str | Path, code: int = 0) -> str:
        done = program(demo.root, *arguments)
        assert done.code == code, done
        return str(done.out)

    return call


def git(root: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=demo", "-c", "user.email=demo@example.org", "-c", "commit.gpgsign=false")
    environment = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True, env=environment)


def export(root: Path, target: Path) -> None:
    """In a process of its own, as two commits have modules of one name."""
    command = [sys.executable, "-m", "npu_guard", "export", "demo.net:Net", "-o", str(target)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    root = tmp_path_factory.mktemp("demo")
    package, models = root / "demo", tmp_path_factory.mktemp("models")
    package.mkdir()
    git(root, "init", "--quiet", "--initial-branch", "main")
    (package / "__init__.py").write_text("", encoding="utf-8")
    for commit, blocks, values in (("base", BLOCKS, BEFORE), ("head", BLOCKS + ECA, AFTER)):
        (package / "blocks.py").write_text(blocks, encoding="utf-8")
        (package / "net.py").write_text(NET.format(**values), encoding="utf-8")
        git(root, "add", ".")
        git(root, "commit", "--quiet", "-m", commit)
        export(root, models / f"{commit}.onnx")
    return Demo(root, models / "base.onnx", models / "head.onnx")


@pytest.fixture(scope="session")
def diff(demo: Demo, run: Check) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(run("diff", demo.base, demo.head, "--format", "json", code=1))
    return document


def at(findings: list[dict[str, Any]]) -> set[tuple[str, int]]:
    return {(f["source"]["file"], f["source"]["line"]) for f in findings}


def test_exactly_the_new_problems_on_their_lines(demo: Demo, diff: dict[str, Any]) -> None:
    errors = [f for f in diff["new"] if f["severity"] == "error"]
    assert at(errors) == demo.lines("ECA") | demo.lines("WIDE")
    wide = [f for f in errors if at([f]) == demo.lines("WIDE")]
    assert [(f["rule"], f["evidence"]["measured"]) for f in wide] == [("NPU201", 19)]
    attention = [f for f in errors if f not in wide]
    assert {f["rule"] for f in attention} == {"NPU102", "NPU105"}
    assert {f["source"]["module"].split(".")[:2] == ["blocks", "3"] for f in attention} == {True}
    assert {f["rule"] for f in diff["new"] if f["severity"] == "warning"} <= {"NPU401"}, (
        "one output channel of the 1-D convolution"
    )


def test_nothing_on_the_old_ones(demo: Demo, diff: dict[str, Any]) -> None:
    assert diff["fixed"] == []
    assert [(f["rule"], f["evidence"]["measured"]) for f in diff["unchanged"] if f["rule"] == "NPU201"] == [("NPU201", 21)]
    assert at(diff["unchanged"]) == demo.lines("OLD")
    assert [f["scope"] for f in diff["unchanged"]] == [["blocks", "2", "wide"]], "the module has moved by one"


def test_only_new_ones_fail(demo: Demo, run: Check) -> None:
    assert "0 new, 0 fixed, 1 unchanged" in run("diff", demo.base, demo.base)
    assert "0 new" in run("diff", demo.head, demo.base), "what a change takes away is no failure"
    assert "19x19" in run("diff", demo.base, demo.head, "--format", "markdown", code=1)


def test_baseline(demo: Demo, run: Check, tmp_path: Path) -> None:
    known = tmp_path / "baseline.json"
    run("check", demo.base, "--write-baseline", known)
    run("check", demo.base, "--baseline", known)
    report = json.loads(run("check", demo.head, "--baseline", known, "--format", "json", code=1))
    counted = [f for f in report["models"][0]["findings"] if not f["suppressed"] and f["severity"] == "error"]
    assert at(counted) == demo.lines("ECA") | demo.lines("WIDE")
    run("check", demo.head, "--write-baseline", known)
    run("check", demo.head, "--baseline", known)


@pytest.mark.parametrize("form", ["json", "sarif"])
def test_formats_point_at_the_same_lines(form: str, demo: Demo, run: Check) -> None:
    """Every format that has places; a format is added by a reader of its places in `PLACES`."""
    text = run("check", "demo.net:Net", "--format", form, code=1)
    assert PLACES[form](json.loads(text)) >= demo.lines("ECA") | demo.lines("WIDE") | demo.lines("OLD")
    assert str(demo.root) not in text


def sarif_places(document: Any, level: str | None = None) -> set[tuple[str, int]]:
    """(file, line) of the results that code scanning shows, of one level or all."""
    places = [
        result["locations"][0]["physicalLocation"]
        for result in document["runs"][0]["results"]
        if not result.get("suppressions") and level in (None, result["level"])
    ]
    return {(place["artifactLocation"]["uri"], place["region"]["startLine"]) for place in places}


PLACES: dict[str, Callable[[Any], set[tuple[str, int]]]] = {
    "json": lambda document: at([f for f in document["models"][0]["findings"] if f["source"] is not None]),
    "sarif": sarif_places,
}


def test_from_init_to_sarif(demo: Demo, run: Check, tmp_path: Path) -> None:
    """As a team does it: settings by `init`, a baseline of today's model, then the pull request's model for code scanning."""
    run("init")
    assert (demo.root / "npu-guard.toml").is_file()
    known, target = tmp_path / "baseline.json", tmp_path / "new.sarif"
    run("check", demo.base, "--write-baseline", known)
    run("check", demo.head, "--baseline", known, "--report", f"sarif:{target}", code=1)
    document = json.loads(target.read_text(encoding="utf-8"))
    assert sarif_places(document, "error") == demo.lines("ECA") | demo.lines("WIDE")
    assert not sarif_places(document) & demo.lines("OLD")
    assert sarif_places(json.loads(run("diff", demo.base, demo.head, "--format", "sarif", code=1)), "error") == (
        demo.lines("ECA") | demo.lines("WIDE")
    )
