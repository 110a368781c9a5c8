"""Fixtures of the engine's tests: a model in ONNX text goes to a file, and from there the way that a user's model goes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import onnx
import onnx.parser
import pytest

from npu_guard import build, load
from npu_guard.analyze import Analysis, analyze
from npu_guard.graph import Graph, Model, Node, Value
from npu_guard.limits import Limits


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
