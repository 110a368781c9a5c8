"""The program in this process, and small models that do not fit."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import onnx
import pytest

from npu_guard.cases import case_model
from npu_guard.cli import main
from npu_guard.rule import Case


class Run(NamedTuple):
    """How a run of the program ended."""

    code: int
    out: str
    err: str


Cli = Callable[..., Run]
Write = Callable[..., Path]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """`cli("fix", "net.onnx")`: the program in the test's folder."""

    def run(*arguments: str | Path) -> Run:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.chdir(tmp_path), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main([os.fspath(a) for a in arguments])
            except SystemExit as end:
                code = end.code
        assert isinstance(code, int)
        assert "Traceback" not in err.getvalue()
        return Run(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write(text)`: a graph in ONNX text, its weights drawn, as net.onnx."""

    def make(graph: str, name: str = "net.onnx", opset: int = 20) -> Path:
        model = onnx.shape_inference.infer_shapes(case_model(Case(graph, opset=opset)))
        (tmp_path / name).write_bytes(model.SerializeToString())
        return tmp_path / name

    return make
