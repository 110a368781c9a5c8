"""A unary operator that nobody has heard of: one record, and every room deals with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx.reference.op_run import OpRun

from npu_guard.analysis.analyze import analyze
from npu_guard.checking.examples import case_model
from npu_guard.checking.rule import Case
from npu_guard.file.load import load
from npu_guard.graph import ops

Rewrite = Callable[..., list[str]]


class Cube(OpRun):
    """What the operator computes, said a second time, without its record."""

    def _run(self, x: Any) -> tuple[Any]:
        return (x * x * x,)


@pytest.fixture
def cube() -> Iterator[None]:
    """ONNX has a schema of the operator for the time of a test, and the table of operators a record."""
    formal = onnx.defs.OpSchema.FormalParameter
    schema = onnx.defs.OpSchema(
        "Cube", "", 1,
        inputs=[formal("X", "T")], outputs=[formal("Y", "T")], type_constraints=[("T", ["tensor(float)", "tensor(int64)"], "")],
    )  # fmt: skip

    def infer(context: Any) -> None:
        context.set_output_type(0, context.get_input_type(0))

    schema.set_type_and_shape_inference_function(infer)
    onnx.defs.register_schema(schema)
    key = ("", "Cube")
    ops._RECORDS[key] = ops.Operator(
        "Cube", kind="unary", inputs=(ops.Input("X", "data"),), keeps_zero=True, keeps_finite=True, finite_at_zero=True,
        family="Cube", formula="x ** 3",
    )  # fmt: skip
    yield
    onnx.defs.deregister_schema("Cube", 1, "")
    del ops._RECORDS[key]
    ops._KINDS.pop(key, None)


@pytest.mark.usefixtures("cube")
def test_evaluation(tmp_path: Path) -> None:
    """Two rows times two cubed are the columns of the new shape."""
    graph = """g (float[1,2,8] x) => (y) <int64[1] two = {2}>
    { s = Cube(two)  t = Concat<axis = 0>(two, s)  r = Reshape(x, t)  y = Relu(r) }"""
    (tmp_path / "m.onnx").write_bytes(case_model(Case(graph, opset=20)).SerializeToString())
    analysis = analyze(load(tmp_path / "m.onnx"))
    assert analysis.model.graph.outputs[0].shape == (2, 8)


@pytest.mark.usefixtures("cube")
def test_channels(tmp_path: Path, rewrite: Rewrite) -> None:
    graph = """g (float[1,8,5,5] x) => (float[1,8,5,5] y) <float[12,8,1,1] w, float[8,12,1,1] v>
    { c = Conv(x, w)  r = Cube(c)  y = Conv(r, v) }"""
    assert rewrite("channels-to-aligned", graph, {"channels.multiple_of": 8}, [Cube]) == ["Conv", "Cube", "Conv"]
    widths = [t.dims[0] for t in onnx.load(tmp_path / "after.onnx").graph.initializer if len(t.dims) == 4]
    assert sorted(widths) == [8, 16]


@pytest.mark.usefixtures("cube")
def test_tokens(rewrite: Rewrite) -> None:
    graph = """g (float[1,6,3,4] x) => (y) <int64[3] flat = {1,6,12}, float[6,6] w, int64[4] back = {1,6,3,4}>
    { a = Reshape(x, flat)  t = Transpose<perm = [0,2,1]>(a)  m = MatMul(t, w)  h = Cube(m)
      n = Transpose<perm = [0,2,1]>(h)  y = Reshape(n, back) }"""
    assert rewrite("tokens-to-maps", graph, {"layout.rearrange": False}, [Cube]) == ["Conv", "Cube"]


@pytest.mark.usefixtures("cube")
def test_one_dimension(rewrite: Rewrite) -> None:
    graph = """g (float[1,8,16] x) => (y) <float[8,8,3] w, float[4,8,1] v>
    { c = Conv(x, w)  r = Cube(c)  y = Conv(r, v) }"""
    assert rewrite("conv1d-to-conv2d", graph, {"conv.rank": [4]}, [Cube]) == ["Unsqueeze", "Conv", "Cube", "Conv", "Squeeze"]


@pytest.mark.usefixtures("cube")
def test_rank_5(tmp_path: Path, rewrite: Rewrite) -> None:
    graph = """g (float[1,2,3,5,5] x) => (float[1,4,5,5] y) <float[4,2,3,3,3] w, int64[1] depth = {2}>
    { c = Conv<pads = [1,1,1,1,1,1]>(x, w)  r = Cube(c)  y = ReduceMax<keepdims = 0>(r, depth) }"""
    operators = rewrite("rank5-to-rank4", graph, {"tensor.rank_max": 4}, [Cube])
    assert operators.count("Cube") == 1
    after = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "after.onnx"))
    ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in after.graph.value_info}
    deep = {n.op_type for n in after.graph.node if any(ranks.get(name) == 5 for name in n.output)}
    assert deep == {"Split"}  # at the input of the model, which keeps its form
