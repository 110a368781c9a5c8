"""The README: its commands run as a reader would type them, one after the other, and its pictures are there."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnx.parser
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    npu-guard (.*?) *(?:#.*)?$", README, re.MULTILINE)
MODEL = """<ir_version: 8, opset_import: ["" : 17]>
net (float[1,8,24,24] x) => (float[1,8,24,24] y) { a = Conv<pads = [9,9,9,9]>(x, w) y = Sin(a) }"""
MODULE = """
import torch


class Net(torch.nn.Conv2d):
    def __init__(self):
        super().__init__(8, 8, 3)


def inputs():
    return torch.zeros(1, 8, 8, 8)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a model whose convolution can be mended and whose Sin is for the host, and a package."""
    proto = onnx.parser.parse_model(MODEL)
    proto.graph.initializer.append(onnx.helper.make_tensor("w", 1, (8, 8, 19, 19), [i % 7 / 8 - 0.4 for i in range(64 * 361)]))
    (tmp_path / "models").mkdir()
    for name in ("model.onnx", "models/a.onnx"):
        onnx.save(proto, tmp_path / name)
    (tmp_path / "package").mkdir()
    (tmp_path / "package/__init__.py").touch()
    (tmp_path / "package/module.py").write_text(MODULE, encoding="utf-8")
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    own = ("-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "commit.gpgsign=false")
    for arguments in (("init", "-q", "-b", "main"), ("add", "."), ("commit", "-q", "-m", "first")):
        subprocess.run(["git", *own, *arguments], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


def test_commands_of_the_readme(project: Path, program: Callable[..., Any]) -> None:
    assert len(COMMANDS) >= 10
    ended = {command: program(project, *shlex.split(command)) for command in COMMANDS}
    assert {done.code for done in ended.values()} <= {0, 1}, ended
    assert ended["check model.onnx"].code == 1
    assert [ended[name].code for name in COMMANDS if name.startswith(("check models/", "diff", "verify"))] == [0, 0, 0]
    made = {"report.html", "fixed.onnx", "pieces", "npu-guard.toml"}
    assert made <= {file.name for file in project.iterdir()}


def test_it_fits_two_screens_and_shows_a_terminal_and_a_page() -> None:
    assert len(README.splitlines()) <= 60
    pictures = re.findall(r'<img src="([^"]*)" alt="[^"]+"', README)
    assert pictures == ["docs/check.svg", "docs/report.png"]
    assert all((ROOT / name).stat().st_size < 200_000 for name in pictures)
