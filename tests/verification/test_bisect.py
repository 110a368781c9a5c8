"""`verify --bisect` names the tensor at which two models part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from npu_guard.verification import bisect

if TYPE_CHECKING:
    from conftest import Cli, Write

CHAIN = """g (float[1,4,6,6] x) => (float[1,4,6,6] y, float[1,4,6,6] z)
{ a = Relu(x)  b = Sigmoid(a)  c = Tanh(b)  d = Exp(c)  z = Neg(a)  e = Floor(d)  y = Add(e, d) }"""


def first(cli: Cli, *options: str) -> str | None:
    done = cli("verify", "net.onnx", "other.onnx", "--bisect", "--format", "json", *options)
    assert done.code == 5, done
    found: str | None = json.loads(done.out)["first_divergence"]
    return found


@pytest.mark.parametrize("chunk", [1, 2, 64])
def test_the_first_that_diverges(cli: Cli, write: Write, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(bisect, "CHUNK", chunk)
    write(CHAIN)
    write(CHAIN.replace("Tanh", "Sin"), "other.onnx")
    assert first(cli) == "c"
    assert "First divergence: c\n" in cli("verify", "net.onnx", "other.onnx", "--bisect").out


def test_names_that_only_one_model_has_are_passed_over(cli: Cli, write: Write) -> None:
    write(CHAIN)
    write(CHAIN.replace("c = Tanh(b)  d = Exp(c)", "q = Sin(b)  d = Exp(q)"), "other.onnx")
    assert first(cli) == "d"


def test_the_order_is_that_of_the_first_model(cli: Cli, write: Write) -> None:
    graph = "g (float[1,4,6,6] x) => (float[1,4,6,6] y) { NODES y = Add(a, b) }"
    write(graph.replace("NODES", "a = Relu(x)  b = Tanh(x)"))
    write(graph.replace("NODES", "b = Sin(x)  a = Abs(x)"), "other.onnx")
    assert first(cli) == "a"


def test_a_weight_that_differs(cli: Cli, write: Write, tmp_path: Path) -> None:
    write("""g (float[1,4,6,6] x) => (float[1,4,6,6] y)
        <float[4,4,1,1] v, float[4,4,1,1] w> { a = Conv(x, v)  b = Conv(a, w)  y = Relu(b) }""")
    model = onnx.load(tmp_path / "net.onnx")
    (weight,) = (t for t in model.graph.initializer if t.name == "w")
    changed = onnx.numpy_helper.to_array(weight) + np.float32(0.01)
    weight.CopyFrom(onnx.numpy_helper.from_array(changed, "w"))
    onnx.save(model, tmp_path / "other.onnx")
    assert first(cli) == "b"


def test_rounding_is_no_divergence(cli: Cli, write: Write) -> None:
    """Another order of the same sum comes before the real difference."""
    graph = (
        "g (float[1,64,6,6] x, float[1,64,6,6] u, float[1,64,6,6] v) => (float[1,64,6,6] y) { SUM  c = FUNCTION(b)  y = Neg(c) }"
    )
    write(graph.replace("SUM", "a = Add(x, u)  b = Add(a, v)").replace("FUNCTION", "Tanh"))
    write(graph.replace("SUM", "q = Add(u, v)  b = Add(x, q)").replace("FUNCTION", "Sin"), "other.onnx")
    assert first(cli) == "c"


def test_integer_outputs_count(cli: Cli, write: Write) -> None:
    graph = "g (float[1,4,6,6] x) => (int64[1,1,6,6] y) { y = ArgMax<axis = 1>(x) }"
    write(graph)
    write(graph.replace("ArgMax", "ArgMin"), "other.onnx")
    assert first(cli) == "y"


def test_a_dynamic_batch_and_shapes_that_differ(cli: Cli, write: Write) -> None:
    graph = """g (float["N",4,6,6] x) => (float["N",4,1,1] y) <float[4,4,3,3] w>
        { a = Relu(x)  b = Conv<pads = [1,1,1,1]>(a, w)  y = GlobalAveragePool(b) }"""
    write(graph)
    write(graph.replace("[1,1,1,1]", "[0,0,0,0]"), "other.onnx")
    assert first(cli) == "b"


def test_nothing_to_name(cli: Cli, write: Write) -> None:
    write(CHAIN)
    done = cli("verify", "net.onnx", "net.onnx", "--bisect", "--format", "json")
    assert (done.code, json.loads(done.out)["first_divergence"]) == (0, None)
    assert "First divergence" not in cli("verify", "net.onnx", "net.onnx", "--bisect").out
    write(CHAIN.replace("(float[1,4,6,6] x)", "(float[1,4,6,5] x)"), "other.onnx")
    assert first(cli) is None
