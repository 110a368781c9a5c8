"""The program in this process, and small models that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import pytest

from npu_guard.cases import case_model
from npu_guard.rule import Case

Cli = Callable[..., Any]
Write = Callable[..., Path]


@pytest.fixture
def cli(program: Cli, tmp_path: Path) -> Cli:
    """`cli("fix", "net.onnx")`: the program in the test's folder."""
    return partial(program, tmp_path)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write(text)`: a graph in ONNX text, its weights drawn, as net.onnx."""

    def make(graph: str, name: str = "net.onnx", opset: int = 20) -> Path:
        model = onnx.shape_inference.infer_shapes(case_model(Case(graph, opset=opset)))
        (tmp_path / name).write_bytes(model.SerializeToString())
        return tmp_path / name

    return make
