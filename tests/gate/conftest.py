"""The program in this process, and small models that several tests compare."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from npu_guard.cli import main

ROOT = Path(__file__).parents[2]


class Run(NamedTuple):
    """How a run of the program ended."""

    code: int
    out: str
    err: str


Cli = Callable[..., Run]


@pytest.fixture(scope="session")
def cli() -> Cli:
    """`cli(folder, "check", "net.onnx")`: the program, run in a folder, without a process of its own."""

    def run(folder: Path, *arguments: str | Path) -> Run:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main([os.fspath(a) for a in arguments])
            except SystemExit as end:
                code = end.code
        assert isinstance(code, int)
        assert "Traceback" not in err.getvalue()
        return Run(code, out.getvalue(), err.getvalue())

    return run
