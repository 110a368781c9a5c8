"""Options and fixtures for all tests."""

from __future__ import annotations

import contextlib
import gc
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import hypothesis
import pytest

from npu_guard.cli import main

ROOT = Path(__file__).parents[1]

# A test run that fails today and passes tomorrow tells a pull request nothing, so examples are always the same;
# `make test-long` draws new ones.
hypothesis.settings.register_profile("same", derandomize=True, print_blob=False)
hypothesis.settings.register_profile("drawn", print_blob=True)
hypothesis.settings.load_profile("same")


class Run(NamedTuple):
    """How a run of the program ended."""

    code: int
    out: str
    err: str


Program = Callable[..., Run]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files instead of comparing with them")


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkout, as the current folder: reports then show paths that are the same everywhere."""
    monkeypatch.chdir(ROOT)
    return ROOT


@pytest.fixture(autouse=True)
def garbage() -> Iterator[None]:
    """The program collects garbage rarely, as it lives for one command; hundreds of tests in one process should not."""
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)


@pytest.fixture(scope="session")
def program() -> Program:
    """`program(folder, "check", "net.onnx")`: the program, run in a folder, without a process of its own."""

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


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with `tests/golden/<name>`; `pytest --update-golden` writes it."""

    def compare(name: str, text: str) -> None:
        file = ROOT / "tests" / "golden" / name
        if request.config.getoption("--update-golden"):
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
        assert text == file.read_text(encoding="utf-8"), (
            f"{name} has changed; if that is meant, run `make docs` and look at the diff"
        )

    return compare
