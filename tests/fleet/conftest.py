"""A folder of small models of which the verdicts are known."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx.parser
import pytest

HEADER = '<ir_version: 10, opset_import: ["" : 20]>\n'
PASSES = "g (float[1,8,{0},4] x) => (float[1,8,{0},4] y) {{ y = Relu(x) }}"
FAILS = "g (float[1,8,{0},4] x) => (float[1,{0},8,4] y) {{ y = Transpose<perm = [0, 2, 1, 3]>(x) }}"


def save(path: Path, text: str, extent: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(onnx.parser.parse_model(HEADER + text.format(extent)).SerializeToString())


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Ten models that pass, four that fail, and one that is none, in two folders."""
    folder = tmp_path / "models"
    for n in range(10):
        save(folder / f"good{n}.onnx", PASSES, n + 2)
    for n in range(4):
        save(folder / "deep" / f"bad{n}.onnx", FAILS, n + 2)
    (folder / "deep" / "none.onnx").write_bytes(b"not a model")
    (folder / "notes.txt").write_text("not looked at")
    return folder
