"""Disks that are full or read-only: the contract's exit code, one clear line, the old file as it was, and nothing left behind."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnx.parser
import pytest

from npu_guard.base import files

Program = Callable[..., Any]
GRAPH = """<ir_version: 10, opset_import: ["" : 20]>
g (float[1,8,20,20] x) => (float[1,8,20,20] y) <float[8,8,19,1] w> { y = Conv<pads = [9,0,9,0]>(x, w) }"""
OUTPUTS = {
    "check": ("check", "net.onnx", "--output", "out"),
    "report": ("check", "net.onnx", "--report", "sarif:out"),
    "baseline": ("check", "net.onnx", "--write-baseline", "out"),
    "html": ("report", "net.onnx", "-o", "out"),
    "fix": ("fix", "net.onnx", "-o", "out"),
    "plan": ("fix", "net.onnx", "--dry-run", "--plan", "out"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = onnx.parser.parse_model(GRAPH)
    weight = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [8, 8, 19, 1], [0.1] * (8 * 8 * 19))
    del model.graph.value_info[:]
    model.graph.initializer.append(weight)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    return tmp_path


@pytest.mark.parametrize("what", OUTPUTS)
@pytest.mark.parametrize(
    ("function", "code"), [("fsync", errno.ENOSPC), ("fsync", errno.EIO), ("replace", errno.EACCES), ("mkstemp", errno.EROFS)]
)
def test_a_write_that_fails(
    folder: Path, program: Program, monkeypatch: pytest.MonkeyPatch, what: str, function: str, code: int
) -> None:
    old = what not in ("baseline", "html")  # which are read before they are written
    if old:
        (folder / "out").write_text("what was there")

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.tempfile if function == "mkstemp" else files.os, function, fail)
    done = program(folder, *OUTPUTS[what])
    monkeypatch.undo()
    assert done.code == 2
    assert [line for line in done.err.splitlines() if "out" in line] == [
        f"npu-guard: out: cannot be written ({os.strerror(code)})"
    ]
    assert sorted(p.name for p in folder.iterdir()) == (["net.onnx", "out"] if old else ["net.onnx"])
    if old:
        assert (folder / "out").read_text() == "what was there"


def test_a_disk_that_is_full(folder: Path) -> None:
    """The system itself refuses to write more than 100 bytes into a file."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    command = [sys.executable, "-m", "npu_guard", "check", "net.onnx", "--output", "out.txt"]
    done = subprocess.run(command, cwd=folder, preexec_fn=limit, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "out.txt: cannot be written (File too large)" in done.stderr
    assert sorted(p.name for p in folder.iterdir()) == ["net.onnx"]


def test_output_to_a_full_device(folder: Path, program: Program) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    done = program(folder, "check", "net.onnx", "--output", "/dev/full")
    assert done.code == 2
    assert "/dev/full: cannot be written (No space left on device)" in done.err


def test_modes_and_links_of_what_is_replaced(folder: Path, program: Program) -> None:
    (folder / "real").write_text("old")
    (folder / "real").chmod(0o640)
    (folder / "out").symlink_to("real")
    program(folder, "check", "net.onnx", "--output", "out")
    assert (folder / "out").is_symlink()
    assert (folder / "real").stat().st_mode & 0o777 == 0o640
    assert "net.onnx" in (folder / "real").read_text()


FOLDERS = {
    "pieces": ("partition", "net.onnx", "-o", "out"),
    "repros": ("check", "net.onnx", "--save-repro", "out"),
    "settings": ("init",),
}


@pytest.mark.parametrize("what", FOLDERS)
@pytest.mark.parametrize(("function", "code"), [("fsync", errno.ENOSPC), ("replace", errno.EIO), ("mkstemp", errno.EROFS)])
def test_a_folder_that_cannot_be_written(
    folder: Path, program: Program, monkeypatch: pytest.MonkeyPatch, what: str, function: str, code: int
) -> None:
    """What is made of several files names each that failed, once, and leaves no half of a file."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.tempfile if function == "mkstemp" else files.os, function, fail)
    done = program(folder, *FOLDERS[what])
    monkeypatch.undo()
    assert done.code == 2
    said = [line for line in done.err.splitlines() if f"cannot be written ({os.strerror(code)})" in line]
    assert len(set(said)) == len(said) == (4 if what == "settings" else 1), done.err
    assert not [p for p in folder.rglob("*") if p.is_file() and p.name != "net.onnx"]
