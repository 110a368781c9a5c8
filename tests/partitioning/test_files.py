"""What `npu-guard partition -o` writes: models that ONNX's checker accepts and that compute, in order, what the whole does."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from npu_guard.partitioning import files

if TYPE_CHECKING:
    from conftest import Run

    Cli = Callable[..., Run]
    Write = Callable[..., Path]

FREE = "[partition]\nlaunch-cost = 0\nbyte-cost = 0\n"
MAP = "float[1,8,4,4]"
THREE = f"""g ({MAP} x) => ({MAP} y) <float[8,8,3,3] w> {{
    a = Conv<pads = [1,1,1,1]>(x, w)  b = Transpose<perm = [0,1,3,2]>(a)  y = Conv<pads = [1,1,1,1]>(b, w) }}"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The test's folder, with settings by which sides alone decide."""
    (tmp_path / "npu-guard.toml").write_text(FREE)
    return tmp_path


def composed(folder: Path, feed: Mapping[str, Any]) -> dict[str, Any]:
    """By ONNX Runtime, without the tool."""
    known = dict(feed)
    for piece in json.loads((folder / "manifest.json").read_text())["pieces"]:
        session = session_of(folder / piece["file"]["name"])
        names = [o.name for o in session.get_outputs()]
        known.update(zip(names, session.run(names, {i.name: known[i.name] for i in session.get_inputs()}), strict=True))
    return known


def session_of(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def expect_same(project: Path, feeds: Mapping[str, Any], *, full: bool = True) -> None:
    """The pieces in order give what the model gives, to the bit, and each is a model by ONNX's own word."""
    whole = session_of(project / "net.onnx")
    names = [o.name for o in whole.get_outputs()]
    known = composed(project / "cut", feeds)
    for name, value in zip(names, whole.run(names, dict(feeds)), strict=True):
        assert np.array_equal(known[name], value, equal_nan=True)
    for file in (project / "cut").glob("*.onnx"):
        onnx.checker.check_model(str(file), full_check=full)


def test_pieces_and_manifest(cli: Cli, write: Write, project: Path) -> None:
    source = write(THREE).read_bytes()
    done = cli("partition", "net.onnx", "-o", "cut")
    assert (done.code, done.err) == (0, "")
    assert (project / "net.onnx").read_bytes() == source
    assert {f.name for f in project.iterdir()} == {"net.onnx", "npu-guard.toml", "cut"}
    assert sorted(f.name for f in (project / "cut").iterdir()) == ["00-npu.onnx", "01-host.onnx", "02-npu.onnx", "manifest.json"]
    expect_same(project, {"x": np.random.default_rng(0).standard_normal((1, 8, 4, 4)).astype(np.float32)})

    manifest = json.loads((project / "cut" / "manifest.json").read_text())
    assert [(p["side"], p["macs"]) for p in manifest["pieces"]] == [("npu", 9216), ("host", 0), ("npu", 9216)]
    assert manifest["verification"]["verdict"] == "equal"
    assert manifest["pieces"][1]["inputs"] == [{"name": "a", "dtype": "float32", "shape": [1, 8, 4, 4]}]
    assert [(c["tensor"]["name"], c["bytes"], c["source"], c["targets"]) for c in manifest["crossings"]] == [
        ("a", 512, 0, [1]), ("b", 512, 1, [2]),
    ]  # fmt: skip
    assert str(project) not in (project / "cut" / "manifest.json").read_text()
    assert cli("partition", "net.onnx", "-o", "again").code == 0
    for file in (project / "cut").iterdir():
        assert file.read_bytes() == (project / "again" / file.name).read_bytes()

    assert cli("verify", "--manifest", "cut/manifest.json", "net.onnx").code == 0
    alone = cli("verify", "--manifest", "cut/manifest.json")
    assert (alone.code, alone.out.startswith("Intact: no model was named")) == (0, True)


HARD = {
    "outputs that are inputs, constants and crossings": f"""g ({MAP} x) => ({MAP} x, {MAP} a, float[2] k, float[2] m, {MAP} y)
        <float[2] k = {{1,2}}> {{ a = Relu(x)  b = Transpose<perm = [0,1,3,2]>(a)  m = Add(k, k)  y = Relu(b) }}""",
    "nothing but a constant": f"g ({MAP} x) => (float[2] k, {MAP} x) <float[2] k = {{1,2}}> {{ }}",
    "inputs that are left out": f"""g ({MAP} x) => ({MAP} y) <float high = {{0.5}}> {{
        a = Clip(x, , high)  b = Transpose<perm = [0,1,3,2]>(a)  y = Clip(b, , high) }}""",
    "captured values": f"""g ({MAP} x, bool c) => ({MAP} y) <{MAP} w> {{ a = Relu(x)
        b = If (c) <then_branch = t () => ({MAP} u) {{ u = Add(a, w) }}, else_branch = e () => ({MAP} v) {{ v = Identity(a) }}>
        y = Relu(b) }}""",
    "sequences": f"""g ({MAP} x) => ({MAP} y) <int64 zero = {{0}}, int64 one = {{1}}> {{
        a = Relu(x)  s = SequenceConstruct(a, x)  p = SequenceAt(s, zero)  q = Relu(p)
        t = SequenceInsert(s, q)  r = SequenceAt(t, one)  y = Relu(r) }}""",
    "extents that depend on data": f"""g ({MAP} x) => (y, z) {{
        a = Relu(x)  i = NonZero(a)  f = Cast<to = 1>(i)  g = Relu(f)  h = Erf(g)  y = Relu(h)  m = Shape(h)  n = Cast<to = 1>(m)
        z = Relu(n) }}""",
    "shapes in between": f"""g ({MAP} x) => (y) <int64[1] two = {{2}}> {{
        s = Shape<start = 2>(x)  d = Mul(s, two)  c = Constant<value_ints = [1, 8]>()  t = Concat<axis = 0>(c, d)
        a = Relu(x)  b = Transpose<perm = [0,1,3,2]>(a)  e = Resize<mode = "nearest">(b, , , t)  y = Relu(e) }}""",
    "a default that a caller may override": f"""g ({MAP} x, {MAP} k = {{{", ".join(["1"] * 128)}}}) => ({MAP} y) {{
        a = Add(x, k)  b = Transpose<perm = [0,1,3,2]>(a)  y = Mul(b, k) }}""",
    "nodes that nobody reads": f"""g ({MAP} x) => ({MAP} y) {{
        a = Relu(x)  n = NonZero(a)  f = Cast<to = 1>(n)  r = Relu(f)  y = Sigmoid(a) }}""",
    "half precision": """g (float16[1,8,4,4] x) => (float16[1,8,4,4] y) {
        a = Relu(x)  b = Transpose<perm = [0,1,3,2]>(a)  y = Sigmoid(b) }""",
}  # fmt: skip


@pytest.mark.parametrize("name", HARD)
def test_hard_cases(cli: Cli, write: Write, project: Path, name: str) -> None:
    path = write(HARD[name])
    done = cli("partition", "net.onnx", "-o", "cut")
    assert done.code == 0, done
    (kind,) = (i.type.tensor_type.elem_type for i in onnx.load(path).graph.input if i.name == "x")
    x = np.random.default_rng(3).standard_normal((1, 8, 4, 4)).astype(helper.tensor_dtype_to_np_dtype(kind))
    more = {"c": np.asarray(True)} if "captured" in name else {}
    expect_same(project, {"x": x, **more})
    assert cli("verify", "--manifest", "cut", "net.onnx").code == 0


def test_detections_cross_with_a_symbol(cli: Cli, write: Write, project: Path) -> None:
    write("""g (float[1,6,4] boxes, float[1,1,6] scores) => (y) <int64[1] most = {3}, float[1] iou = {0.5}> {
        b = Relu(boxes)  n = NonMaxSuppression(b, scores, most, iou)  f = Cast<to = 1>(n)  y = Relu(f) }""")
    assert cli("partition", "net.onnx", "-o", "cut").code == 0
    rng = np.random.default_rng(0)
    expect_same(project, {"boxes": rng.random((1, 6, 4), np.float32), "scores": rng.random((1, 1, 6), np.float32)})


def test_batch_that_is_taken_as_1_and_given_shapes(cli: Cli, write: Write, project: Path) -> None:
    write('g (float["n",8,"h",4] x) => (float["n",8,4,"h"] y) { a = Relu(x)  b = Transpose<perm = [0,1,3,2]>(a)  y = Relu(b) }')
    assert cli("partition", "net.onnx", "-o", "cut").code == 5  # h can be anything
    done = cli("partition", "net.onnx", "-o", "cut", "--input-shape", "x:1,8,6,4")
    assert done.code == 0, done
    expect_same(project, {"x": np.ones((1, 8, 6, 4), np.float32)})
    assert json.loads((project / "cut/manifest.json").read_text())["inputs"][0]["shape"] == [1, 8, 6, 4]
    assert cli("verify", "--manifest", "cut", "net.onnx").code == 0


def test_functions_metadata_and_old_versions(cli: Cli, project: Path) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 18, "my" : 1], producer_name: "us", metadata_props: ["k" : "v"]>
        g ({MAP} x) => ({MAP} y) {{ a = my.Twice(x)  b = Transpose<perm = [0,1,3,2]>(a)  y = my.Twice(b) }}
        <domain: "my", opset_import: ["" : 18]> Twice (u) => (v) {{ t = Relu(u)  v = Add(t, t) }}"""
    model = onnx.parser.parse_model(text)
    model.graph.node[1].metadata_props.add(key="where", value="net.py:3")
    (project / "net.onnx").write_bytes(model.SerializeToString())
    assert cli("partition", "net.onnx", "-o", "cut").code == 0
    expect_same(project, {"x": np.ones((1, 8, 4, 4), np.float32)})
    piece = onnx.load(project / "cut/01-host.onnx")
    assert (piece.ir_version, piece.producer_name, piece.metadata_props[0].value, len(piece.functions)) == (8, "us", "v", 0)
    assert {e.domain: e.version for e in piece.opset_import}[""] == 18
    assert piece.graph.node[0].metadata_props[0].value == "net.py:3"


def test_weights_that_are_inputs_before_ir_4(cli: Cli, write: Write, project: Path) -> None:
    path = write(THREE, opset=12)
    model = onnx.load(path)
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    path.write_bytes(model.SerializeToString())
    assert cli("partition", "net.onnx", "-o", "cut").code == 0
    for file in (project / "cut").glob("*.onnx"):
        onnx.checker.check_model(str(file), full_check=True)
    assert cli("verify", "--manifest", "cut", "net.onnx").code == 0


def test_weights_in_a_file_beside_the_model(cli: Cli, write: Write, project: Path) -> None:
    model = onnx.load(write(THREE))
    (project / "net.onnx").unlink()
    onnx.save_model(model, project / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    assert cli("partition", "net.onnx", "-o", "cut").code == 0
    manifest = json.loads((project / "cut/manifest.json").read_text())
    assert [len(p["data"]) for p in manifest["pieces"]] == [1, 0, 1]
    expect_same(project, {"x": np.ones((1, 8, 4, 4), np.float32)})
    data = project / "cut" / manifest["pieces"][0]["data"][0]["name"]
    data.write_bytes(bytes(len(data.read_bytes())))
    done = cli("verify", "--manifest", "cut", "net.onnx")
    assert (done.code, done.err.count("\n"), data.name in done.err) == (3, 1, True)


def test_sparse_weights(cli: Cli, project: Path) -> None:
    """ONNX's inference does not know of them, in the whole model either, so no full check."""
    values = numpy_helper.from_array(np.asarray([1.0, 2.0], np.float32), "k")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.asarray([3, 90])), (1, 8, 4, 4))
    nodes = [
        helper.make_node("Add", ["x", "k"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], perm=[0, 1, 3, 2]),
        helper.make_node("Mul", ["b", "k"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, 1, (1, 8, 4, 4)) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], sparse_initializer=[sparse])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    (project / "net.onnx").write_bytes(model.SerializeToString())
    assert cli("partition", "net.onnx", "-o", "cut").code == 0
    expect_same(project, {"x": np.ones((1, 8, 4, 4), np.float32)}, full=False)


def test_long_texts_about_the_whole_model_are_in_no_piece(cli: Cli, write: Write, project: Path) -> None:
    """Else a hundred pieces would be a hundred times the model."""
    model = onnx.load(write(THREE))
    model.metadata_props.add(key="short", value="kept")
    onnx.save(model, project / "net.onnx")
    assert cli("partition", "net.onnx", "-o", "cut").code == 0
    assert [p.key for p in onnx.load(project / "cut" / "00-npu.onnx").metadata_props] == ["short"]
    model.metadata_props.add(key="long", value="v" * 100_000)
    model.graph.doc_string = "d" * 100_000
    onnx.save(model, project / "net.onnx")
    assert cli("partition", "net.onnx", "-o", "cut").code == 0
    assert sum(f.stat().st_size for f in (project / "cut").glob("*.onnx")) < 20_000


def test_a_weight_that_every_piece_would_repeat(cli: Cli, write: Write, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_FREE", 1000)
    steps = "".join(f" t{i} = Transpose<perm = [0,1,3,2]>(c{i - 1})  c{i} = Conv<pads = [1,1,1,1]>(t{i}, w)" for i in range(1, 8))
    write(f"g ({MAP} x) => ({MAP} c7) <float[8,8,3,3] w> {{ c0 = Conv<pads = [1,1,1,1]>(x, w) {steps} }}")
    done = cli("partition", "net.onnx", "-o", "cut")
    assert (done.code, "several times the space" in done.err) == (5, True)
    assert {f.name for f in project.iterdir()} == {"net.onnx", "npu-guard.toml"}
