"""Options and fixtures for all tests."""

from __future__ import annotations

import contextlib
import gc
import io
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import onnx
import onnx.parser
import pytest

from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.base.limits import Limits
from npu_guard.checking.examples import case_model
from npu_guard.checking.rule import Case
from npu_guard.cli import main
from npu_guard.file import load
from npu_guard.graph import build
from npu_guard.graph.graph import Graph, Model, Node, Value

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


Program = Callable[..., Any]


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


@pytest.fixture
def cli(program: Program, tmp_path: Path) -> Program:
    """`cli("fix", "net.onnx")`: the program in the test's folder."""
    return partial(program, tmp_path)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """`write(text)`: a graph in ONNX text, its weights drawn, as net.onnx."""

    def make(graph: str, name: str = "net.onnx", opset: int = 20) -> Path:
        model = onnx.shape_inference.infer_shapes(case_model(Case(graph, opset=opset)))
        (tmp_path / name).write_bytes(model.SerializeToString())
        return tmp_path / name

    return make


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Write a model, as a proto or as the text of a graph, to a file of its own."""
    numbers = itertools.count()

    def write(model: str | onnx.ModelProto, opset: int = 20, ir: int = 10) -> Path:
        if isinstance(model, str):
            model = onnx.parser.parse_model(f'<ir_version: {ir}, opset_import: ["" : {opset}]>\n{model}')
        path = tmp_path / f"model{next(numbers)}.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return write


@pytest.fixture
def view(save: Callable[..., Path]) -> Callable[..., Model]:
    """The engine's view of a model."""
    return lambda model, opset=20, ir=10: build.build(load.load(save(model, opset, ir)))


@pytest.fixture
def analysis(save: Callable[..., Path]) -> Callable[..., Analysis]:
    """What the engine finds out about a model. Weights beside it need not be there: tests/trust looks at those."""
    unchecked = Limits(external_data="unchecked")

    def run(
        model: str | onnx.ModelProto, opset: int = 20, ir: int = 10, shapes: Mapping[str, Sequence[int]] | None = None
    ) -> Analysis:
        return analyze(load.load(save(model, opset, ir), unchecked), shapes)

    return run


@pytest.fixture
def value() -> Callable[[Analysis | Model | Graph, str], Value]:
    """A value by its name."""

    def find(where: Analysis | Model | Graph, name: str) -> Value:
        graph = where.model.graph if isinstance(where, Analysis) else where.graph if isinstance(where, Model) else where
        found = graph.lookup(name) or next(g.values[name] for g in graph.graphs() if name in g.values)
        assert found is not None
        return found

    return find


@pytest.fixture
def node(value: Callable[..., Value]) -> Callable[..., Node]:
    """A node by the name of an output."""

    def find(where: Analysis | Model | Graph, output: str) -> Node:
        found = value(where, output).producer
        assert found is not None
        return found

    return find
