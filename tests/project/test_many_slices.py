"""Exports with many Slices: torch's exporter goes over a graph whose bounds of Slices are constants by then."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

torch = pytest.importorskip("torch")

from npu_guard.project import export as exporting  # noqa: E402

SLICES = 30


class Cuts(torch.nn.Module):
    """Rows of a map in another order, each by a Slice of its own; the last one to the end."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([*(x[:, :, row : row + 1, 1:] for row in range(SLICES // 2)), x[:, :, -1:, 1:]], 1)


def optimized(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Operators of the graph as torch goes over it."""
    seen: list[int] = []
    optimize = torch.onnx.ONNXProgram.optimize

    def told(program: torch.onnx.ONNXProgram) -> None:
        seen.append(len(list(program.model.graph)))
        optimize(program)

    monkeypatch.setattr(torch.onnx.ONNXProgram, "optimize", told)
    exporting.export(Cuts().eval(), {"x": torch.randn(1, 3, 17, 5)}, path)
    monkeypatch.setattr(torch.onnx.ONNXProgram, "optimize", optimize)
    return seen


def test_constants_are_folded_before_torch_optimizes_many_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual, folded = tmp_path / "usual.onnx", tmp_path / "folded.onnx"
    (before,) = optimized(usual, monkeypatch)
    assert before > 10 * SLICES
    monkeypatch.setattr(exporting, "MANY_PAIRS", 1000)
    (after,) = optimized(folded, monkeypatch)
    assert after == len(onnx.load(usual).graph.node)
    x = np.random.default_rng(0).standard_normal((1, 3, 17, 5)).astype(np.float32)
    wanted = np.concatenate([*(x[:, :, [row], 1:] for row in range(SLICES // 2)), x[:, :, -1:, 1:]], 1)
    for path in (usual, folded):
        np.testing.assert_array_equal(onnxruntime.InferenceSession(path).run(None, {"x": x})[0], wanted)
    assert [n.op_type for n in onnx.load(usual).graph.node] == [n.op_type for n in onnx.load(folded).graph.node]
    assert onnx.load(folded).graph.input[0].name == "x"
