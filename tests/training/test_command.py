"""`fix --torch` on a project of a user's own, and that naming Python code runs it with `fix`, `verify` and `partition`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import pathlib
import torch
from torch import nn

pathlib.Path("ran").touch()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.wide = nn.Conv2d(8, 8, 19, padding=9, groups=8)

    def forward(self, image):
        return torch.relu(self.wide(image))


def inputs():
    return torch.randn(1, 8, 6, 5)


def mean(model):
    print("noise of the user's")
    return model(torch.ones(2, 8, 6, 5)).mean()


def wrong(model):
    raise ValueError("no data")
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "npu_guard", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(CODE)
    return tmp_path


def test_a_folder_and_a_file_are_written(project: Path) -> None:
    done = run(project, "fix", "net:Net", "--torch", "npu", "-o", "fixed.onnx", "--metric", "net:mean")
    assert done.returncode == 0, done.stderr
    before, after = re.findall(r"Metric: (\S+) before, (\S+) after\.", done.stdout)[0]
    assert float(before) == pytest.approx(float(after))
    assert "net:Net" in done.stdout
    assert "bit for bit" in done.stderr
    names = {"README.md", "__init__.py", "blocks.py", "manifest.json", "npu.diff", "plan.toml", "weights.safetensors"}
    assert {f.name for f in (project / "npu").iterdir()} >= names
    assert len({f.stat().st_mode for f in (project / "npu").iterdir() if f.is_file()}) == 1, "who reads one may read all"
    diff = (project / "npu" / "npu.diff").read_text()
    assert "+        self.wide = WideNpu()" in diff
    assert subprocess.run(["git", "apply", "--check", "npu/npu.diff"], cwd=project, check=False).returncode == 0
    assert run(project, "verify", "net:Net", "fixed.onnx").returncode == 0


def test_a_folder_inside_of_others_is_named_by_its_path(project: Path) -> None:
    done = run(project, "fix", "net:Net", "--torch", "made/npu")
    assert done.returncode == 0, done.stderr
    assert 'npu_guard.torch.apply(model, "made/npu/")' in (project / "made/npu/README.md").read_text()
    assert subprocess.run(["git", "apply", "made/npu/npu.diff"], cwd=project, check=False).returncode == 0
    program = "import net, torch; print(type(net.Net().wide).__name__)"
    patched = subprocess.run([sys.executable, "-c", program], cwd=project, capture_output=True, text=True, check=False)
    assert patched.stdout == "WideNpu\n", patched.stderr


def test_a_metric_measures_files_as_well(project: Path) -> None:
    done = run(project, "fix", "net:Net", "-o", "fixed.onnx", "--metric", "net:mean", "--format", "json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["models"][0]["metric"]
    assert found["before"] == pytest.approx(found["after"])
    failed = run(project, "fix", "fixed.onnx", "-o", "again.onnx", "--warnings", "--metric", "net:wrong")
    assert failed.returncode == 2
    assert "net:wrong failed: ValueError: no data (net.py:" in failed.stderr


def test_naming_code_runs_it(project: Path) -> None:
    done = run(project, "partition", "net:Net")
    assert done.returncode == 0, done.stderr
    assert (project / "ran").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("net.onnx", "--torch", "npu"), "needs the Python code"),
        (("net", "--torch", "npu"), "as package.module:callable, and net names none"),
        (("net:Net", "--torch", "npu", "--int8"), "goes without --int8"),
        (("net:Net", "--torch", "net.py"), "is a file"),
        (("net:Net", "--torch", "full"), "is not empty"),
        (("net:Net", "--torch", "npu", "--metric", "net:means"), "did you mean 'mean'"),
    ],
)
def test_mistakes_in_one_sentence(arguments: tuple[str, ...], said: str, project: Path) -> None:
    (project / "full").mkdir()
    (project / "full" / "own.txt").touch()
    done = run(project, "fix", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("npu-guard: ")]) == 1
    assert not (project / "npu").exists()
