"""Whoever kills `fix`, at whatever moment, finds the old output or the new one, whole."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

KILLS = 6
ARGUMENTS = ("fix", "net.onnx", "-o", "out.onnx")


def model(seed: int, padding: int) -> onnx.ModelProto:
    """One large kernel, always the same, and weights enough for the writing to take its time."""
    make = onnx.helper
    weights = {"w": (8, 8, 19, 3), "k": (8, 8, 3, 3)} | {f"p{i}": (512, 512) for i in range(padding)}
    nodes = [
        make.make_node("Conv", ["x", "w"], ["a"], pads=[9, 1, 9, 1]),
        make.make_node("Conv", ["a", "k"], ["y"], pads=[1, 1, 1, 1]),
    ]
    random = {name: np.random.default_rng(seed if name != "w" else 0) for name in weights}
    initializers = [
        onnx.numpy_helper.from_array(random[name].standard_normal(shape).astype(np.float32), name)
        for name, shape in weights.items()
    ]
    shape = [1, 8, 24, 24]
    graph = make.make_graph(
        nodes, "g", [make.make_tensor_value_info("x", 1, shape)], [make.make_tensor_value_info("y", 1, shape)], initializers
    )
    return make.make_model(graph, ir_version=10, opset_imports=[make.make_opsetid("", 20)])


def start(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "npu_guard", *ARGUMENTS], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def names(folder: Path) -> set[str]:
    return {f.name for f in folder.iterdir()}


def files(folder: Path) -> dict[Path, bytes]:
    """The output and the data files that it names, which must all be there and be read by onnx."""
    onnx.checker.check_model(str(folder / "out.onnx"), full_check=True)
    loaded = onnx.load(folder / "out.onnx", load_external_data=False)
    onnx.load(folder / "out.onnx")
    places = {e.value for t in loaded.graph.initializer for e in t.external_data if e.key == "location"}
    return {folder / name: (folder / name).read_bytes() for name in ("out.onnx", *sorted(places))}


@pytest.mark.skipif(os.name != "posix", reason="kills by signal")
@pytest.mark.parametrize("external", [False, True], ids=["inline", "external data"])
def test_killed_at_any_moment(tmp_path: Path, external: bool) -> None:
    def write(seed: int) -> None:
        if external:
            for old in (tmp_path / "net.onnx", tmp_path / "net.data"):
                old.unlink(missing_ok=True)
            onnx.save(model(seed, 12), tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=64)
        else:
            onnx.save(model(seed, 12), tmp_path / "net.onnx")

    write(0)
    assert start(tmp_path).wait() == 0
    old = files(tmp_path)
    expected = names(tmp_path)
    write(1)
    source = (tmp_path / "net.onnx").read_bytes()
    begin = time.monotonic()
    assert start(tmp_path).wait() == 0
    length = time.monotonic() - begin
    new = files(tmp_path)
    assert new != old
    expected |= names(tmp_path)
    assert len(expected) == (5 if external else 2), "other weights are another data file, never the old one overwritten"
    for path, content in old.items():
        path.write_bytes(content)
    assert files(tmp_path) == old

    seen = []
    for i in range(KILLS):
        # Half of the delays lie in the last fifth of the run, which is when files are written.
        delay = length * (i / KILLS if i < KILLS // 2 else 0.8 + 0.2 * (i - KILLS // 2) / (KILLS // 2 - 1))
        process = start(tmp_path)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(delay)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        process.wait()
        now = files(tmp_path)
        assert now in (old, new), f"neither old nor new after {delay:.2f} s"
        seen.append(now == new)
        left = {name for name in names(tmp_path) - expected if not name.startswith(".")}
        assert not left, "what is left over has to be hidden"
        assert (tmp_path / "net.onnx").read_bytes() == source
    assert seen == sorted(seen), "a new output does not become an old one again"
