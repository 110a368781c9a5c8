"""What `fix` writes holds wherever the model says that it does: given shapes, open batches, masks, shared weights, files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest

from npu_guard.checking import registry
from npu_guard.file.save import save_document
from npu_guard.fixing import catalog
from npu_guard.fixing.driver import FixReport
from npu_guard.pipeline.fix import fix_model
from npu_guard.project.config import Config
from npu_guard.rewriting.substitution import EXACT

if TYPE_CHECKING:
    from conftest import Cli, Write

FORMS = [s for s in catalog.substitutions() if s.exactness == EXACT]


def fix(path: Path, **options: Any) -> FixReport:
    return fix_model(str(path), registry.profile("aimotive-aiware"), Config(**options), FORMS, warnings=True)


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options)


ATTENTION = """g (float["N",8,"H","W"] x) => (float["N",8,"H","W"] y) <int64[3] flat = {0, 8, -1}> {
    t = Reshape(x, flat)  q = Transpose<perm = [0,2,1]>(t)  s = MatMul(q, t)  p = Softmax(s)  m = MatMul(p, q)
    n = Transpose<perm = [0,2,1]>(m)  d = Shape(x)  y = Reshape(n, d) }"""


def test_given_shapes_are_written_into_the_interface(write: Write, tmp_path: Path) -> None:
    """Attention over 4 x 4 positions has no meaning at 6 x 6, so the result takes 4 x 4 and nothing else."""
    path = write(ATTENTION)
    done = fix(path, input_shapes={"x": (1, 8, 4, 4)})
    assert done.applied
    fixed = tmp_path / "fixed.onnx"
    save_document(done.document, fixed)
    onnx.checker.check_model(str(fixed), full_check=True)
    running = session(fixed)
    assert [i.shape for i in (*running.get_inputs(), *running.get_outputs())] == [[1, 8, 4, 4]] * 2
    x = np.random.default_rng(0).standard_normal((1, 8, 4, 4)).astype(np.float32)
    np.testing.assert_allclose(running.run(None, {"x": x})[0], session(path).run(None, {"x": x})[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "middle",
    [
        "r = Reshape(c, flat)  s = Relu(r)  z = Reshape(s, back)",
        "f = Cast<to = 1>(b0)  m = Mul(c, f)  z = Relu(m)",
    ],
    ids=["a Reshape for each image", "what does not ask for the batch"],
)
def test_an_open_batch_stays_open(write: Write, tmp_path: Path, middle: str) -> None:
    graph = f"""g (float["N",8,4,4] x) => (float["N",8,4,4] y)
        <float[12,8,1,1] w, float[8,12,1,1] v, int64[3] flat = {{0, 12, 16}}, int64[4] back = {{0, 12, 4, 4}},
         float b0 = {{2}}> {{
            c = Conv(x, w)  {middle}  y = Conv(z, v) }}"""
    path = write(graph)
    done = fix(path)
    assert "channels-to-aligned" in {a.substitution for a in done.applied}
    fixed = tmp_path / "fixed.onnx"
    save_document(done.document, fixed)
    for batch in (1, 2, 3):
        x = np.random.default_rng(batch).standard_normal((batch, 8, 4, 4)).astype(np.float32)
        np.testing.assert_allclose(
            session(fixed).run(None, {"x": x})[0], session(path).run(None, {"x": x})[0], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(
    ("how", "finite"),
    [
        ("u = Sigmoid(x)", True),
        ("u = Div(x, two)", True),
        ("k = Exp(x)  u = Relu(k)", True),  # computed from 1 where it is left out
        ("u = Div(two, x)", True),
        ("k = Log(x)  u = Softmax<axis = 1>(k)", False),
        ("k = Reciprocal(x)  u = MaxPool<kernel_shape = [3,3], pads = [1,1,1,1]>(k)", False),
        ("u = Tan(x)", False),
    ],
)
def test_a_selection_is_a_product_only_of_what_is_finite(write: Write, how: str, finite: bool) -> None:
    path = write(f"""g (float[1,8,4,4] x) => (float[1,8,4,4] y) <float c = {{0.5}}, float z = {{0}}, float two = {{2}}> {{
        {how}  b = Greater(x, c)  y = Where(b, u, z) }}""")
    done = fix(path)
    assert ("comparison-to-clip" in {a.substitution for a in done.applied}) is finite
    if not finite:
        assert any(r.reason == "'u' may be infinite where Where 'y' leaves it out" for r in done.refused)


def test_a_shared_weight_stays_one(write: Write) -> None:
    """A head on five levels of a pyramid: its weights are widened five times, and stored once."""
    levels = range(5)
    inputs = ", ".join(f"float[1,8,{2**i},{2**i}] x{i}" for i in levels)
    outputs = ", ".join(f"float[1,8,{2**i},{2**i}] y{i}" for i in levels)
    nodes = "  ".join(f"a{i} = Conv(x{i}, w)  b{i} = Relu(a{i})  y{i} = Conv(b{i}, v)" for i in levels)
    done = fix(write(f"g ({inputs}) => ({outputs}) <float[12,8,1,1] w, float[8,12,1,1] v> {{ {nodes} }}"))
    assert len(done.applied) == len(levels)
    assert [list(t.dims) for t in done.document.proto.graph.initializer] == [[16, 8, 1, 1], [8, 16, 1, 1]]


def test_zeros_to_broadcast_against_are_not_stored_in_full(write: Write) -> None:
    path = write("g (float[1,8,1,1] x) => (float[1,8,64,48] y) <int64[4] s = {1, 8, 64, 48}> { y = Expand(x, s) }")
    only = [s for s in FORMS if s.name == "expand-to-broadcast"]
    done = fix_model(str(path), registry.profile("aimotive-aiware"), Config(), only, warnings=True)
    assert done.applied
    assert [list(t.dims) for t in done.document.proto.graph.initializer] == [[64, 48]]


@pytest.mark.parametrize("opset", [11, 12])
def test_resize_has_a_region_where_the_opset_wants_one(tmp_path: Path, opset: int) -> None:
    node = onnx.helper.make_node(
        "Resize", ["x", "none", "s"], ["y"], mode="linear", coordinate_transformation_mode="align_corners"
    )
    constants = [onnx.numpy_helper.from_array(np.zeros(0, np.float32), "none")]
    constants.append(onnx.numpy_helper.from_array(np.array([1, 1, 4, 4], np.float32), "s"))
    shapes = (("x", [1, 8, 8, 8]), ("y", [1, 8, 32, 32]))
    value = [onnx.helper.make_tensor_value_info(name, 1, shape) for name, shape in shapes]
    graph = onnx.helper.make_graph([node], "g", value[:1], value[1:], constants)
    path = tmp_path / "net.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=7), path)
    done = fix(path)
    assert [a.substitution for a in done.applied] == ["resize-to-fixed-conv-transpose"]
    fixed = tmp_path / "fixed.onnx"
    save_document(done.document, fixed)
    onnx.checker.check_model(str(fixed), full_check=True)
    assert all(n.input[1] for n in onnx.load(fixed).graph.node if n.op_type == "Resize")


@pytest.mark.parametrize(
    "command",
    [
        ("fix", "net.onnx", "-o", "w.data"),
        ("fix", "net.onnx", "-o", "out.onnx", "--plan", "w.data"),
        ("fix", "net.onnx", "-o", "link"),
        ("check", "net.onnx", "-o", "w.data"),
        ("check", "net.onnx", "--write-baseline", "w.data"),
        ("check", "net.onnx", "--report", "json:./w.data"),
        ("check", "net.onnx", "-o", "net.onnx"),
        ("report", "net.onnx", "-o", "w.data", "--force"),
        ("compile", "net.onnx", "-o", "w.data"),
    ],
)
def test_no_output_takes_the_place_of_weights(cli: Cli, tmp_path: Path, command: tuple[str, ...]) -> None:
    w = onnx.numpy_helper.from_array(np.random.default_rng(0).standard_normal((8, 8, 19, 3)).astype(np.float32), "w")
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], pads=[9, 1, 9, 1])
    value = [onnx.helper.make_tensor_value_info(name, 1, [1, 8, 24, 24]) for name in "xy"]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", value[:1], value[1:], [w]), ir_version=10)
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="w.data", size_threshold=0)
    (tmp_path / "link").symlink_to("w.data")
    before = {name: (tmp_path / name).read_bytes() for name in ("net.onnx", "w.data")}
    done = cli(*command)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "name another file" in done.err
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_a_block_reads_the_shape_of_what_it_does_not_read(write: Write, tmp_path: Path) -> None:
    """Attention whose Reshapes ask the model's input for its extents, which the block itself never reads."""
    path = write("""g (float["N",8,4,4] x) => (float["N",8,4,4] y) <float[8,8,1,1] w, int64[1] last = {-1}, int64[1] zero = {0},
        int64[1] two = {2}> {
        c = Conv(x, w)  d = Shape(x)  f = Slice(d, zero, two)  flat = Concat<axis = 0>(f, last)  t = Reshape(c, flat)
        q = Transpose<perm = [0,2,1]>(t)  s = MatMul(q, t)  p = Softmax(s)  m = MatMul(p, q)  n = Transpose<perm = [0,2,1]>(m)
        y = Reshape(n, d) }""")
    done = fix(path)
    assert done.applied
    fixed = tmp_path / "fixed.onnx"
    save_document(done.document, fixed)
    x = np.random.default_rng(0).standard_normal((1, 8, 4, 4)).astype(np.float32)
    after, before = (session(p).run(None, {"x": x})[0] for p in (fixed, path))
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)
