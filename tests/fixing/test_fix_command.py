"""`npu-guard fix` and `npu-guard verify` from outside: files, exit codes, and what they say of bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest

if TYPE_CHECKING:
    from conftest import Cli, Write

LARGE = """g (float[1,8,24,24] x) => (float[1,8,24,24] y)
<float[8,8,19,3] w> { a = Conv<pads = [9,1,9,1]>(x, w)  y = Relu(a) }"""
ECA = """<float[1,1,1,5] e, int64[4] row = {1,1,1,16}, int64[4] map = {1,16,1,1}>"""
ECA_NODES = """p = GlobalAveragePool(x)  r = Reshape(p, row)  c = Conv<pads = [0,2,0,2]>(r, e)
    s = Sigmoid(c)  m = Reshape(s, map)  y = Mul(x, m)"""


def ops(path: Path) -> list[str]:
    return [n.op_type for n in onnx.load(path, load_external_data=False).graph.node]


def kernels(path: Path) -> list[list[int]]:
    model = onnx.load(path, load_external_data=False)
    shapes = {t.name: list(t.dims) for t in model.graph.initializer}
    return [shapes[n.input[1]][2:] for n in model.graph.node if n.op_type == "Conv" and n.input[1] in shapes]


def verified(cli: Cli, *options: str) -> None:
    done = cli("verify", "net.onnx", "out.onnx", *options)
    assert done.code == 0, done


def refusals(cli: Cli, *options: str) -> list[dict[str, str]]:
    done = cli("fix", "net.onnx", "-o", "out.onnx", "--format", "json", *options)
    assert done.code in (0, 1), done
    found: list[dict[str, str]] = json.loads(done.out)["models"][0]["refused"]
    return found


def test_what_is_written_verifies_and_the_input_stays(cli: Cli, write: Write, tmp_path: Path) -> None:
    before = write(LARGE).read_bytes()
    done = cli("fix", "net.onnx", "-o", "out.onnx")
    assert (done.code, done.err) == (0, "")
    assert "Replaced" in done.out
    assert "Wrote out.onnx" in done.out
    assert (tmp_path / "net.onnx").read_bytes() == before
    assert sorted(f.name for f in tmp_path.iterdir()) == ["net.onnx", "out.onnx"]
    assert max(k for kernel in kernels(tmp_path / "out.onnx") for k in kernel) <= 17
    onnx.checker.check_model(str(tmp_path / "out.onnx"), full_check=True)
    verified(cli)


def test_findings_that_are_left_make_it_1(cli: Cli, write: Write) -> None:
    write(LARGE.replace("y = Relu(a)", "b = Relu(a)  k = Constant<value_ints = [24]>()  y, i = TopK(b, k)"))
    assert cli("fix", "net.onnx", "-o", "out.onnx").code == 1
    verified(cli)


@pytest.mark.parametrize("output", ["net.onnx", "./net.onnx", "link.onnx", "hard.onnx"])
def test_output_is_not_the_input(cli: Cli, write: Write, tmp_path: Path, output: str) -> None:
    before = write(LARGE).read_bytes()
    (tmp_path / "link.onnx").symlink_to("net.onnx")
    (tmp_path / "hard.onnx").hardlink_to(tmp_path / "net.onnx")
    done = cli("fix", "net.onnx", "-o", output)
    assert done.code == 2
    assert "is the input itself" in done.err
    assert (tmp_path / "net.onnx").read_bytes() == before


def test_somewhere_to_write_to(cli: Cli, write: Write, tmp_path: Path) -> None:
    write(LARGE)
    done = cli("fix", "net.onnx")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "-o FILE" in done.err
    done = cli("fix", "net.onnx", "-o", "no/such/folder/out.onnx")
    assert done.code == 2
    assert "cannot be written" in done.err
    (tmp_path / "folder").mkdir()
    assert cli("fix", "net.onnx", "-o", "folder").code == 2


def test_dry_run_writes_nothing(cli: Cli, write: Write, tmp_path: Path) -> None:
    write(LARGE)
    for options in ((), ("-o", "out.onnx")):
        done = cli("fix", "net.onnx", "--dry-run", *options)
        assert done.code == 0, done
        assert "large-kernel-to-phases" in done.out
        assert "Wrote" not in done.out
        assert [f.name for f in tmp_path.iterdir()] == ["net.onnx"]


@pytest.mark.parametrize("content", [None, b"", b"\x08\x0a\x12", b"PK\x03\x04rest", b"\xff" * 400])
@pytest.mark.parametrize("command", ["fix", "verify"])
def test_unreadable_model(cli: Cli, tmp_path: Path, command: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "net.onnx").write_bytes(content)
    done = cli(command, "net.onnx", *(["-o", "out.onnx"] if command == "fix" else ["net.onnx"]))
    assert (done.code, done.out, done.err.count("\n")) == (3, "", 1), done
    assert not (tmp_path / "out.onnx").exists()


def test_dynamic_dims_ask_for_a_shape(cli: Cli, write: Write, tmp_path: Path) -> None:
    write('g (float["N",8,"H","W"] x) => (float["N",8,"H","W"] y) <float[8,8,19,3] w> { y = Conv<pads = [9,1,9,1]>(x, w) }')
    done = cli("fix", "net.onnx", "-o", "out.onnx")
    assert (done.code, done.err.count("\n")) == (5, 1)
    assert "net.onnx: not verified (input 'x' has dynamic dimensions; fix them with --input-shape x:1,3,...)" in done.err
    assert not (tmp_path / "out.onnx").exists()
    shape = ("--input-shape", "x:1,8,24,20")
    assert cli("fix", "net.onnx", "-o", "out.onnx", *shape).code in (0, 1)
    verified(cli, *shape)
    done = cli("verify", "net.onnx", "out.onnx")
    assert (done.code, done.err.count("\n")) == (5, 1)
    assert "axis 2 of input 'x' is open (H) before and 24 after" in done.err


def test_what_cannot_run_is_never_accepted(cli: Cli, write: Write, tmp_path: Path) -> None:
    write("""g (float[1,8,24,24] x) => (float[1,8,24,24] y)
        <float[8,8,19,3] w> { a = acme.Mystery(x)  b = Relu(a)  y = Conv<pads = [9,1,9,1]>(x, w)  z = Add(b, y) }""")
    model = onnx.load(tmp_path / "net.onnx")
    model.graph.output.append(onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, [1, 8, 24, 24]))
    onnx.save(model, tmp_path / "net.onnx")
    done = cli("fix", "net.onnx", "-o", "out.onnx", "--format", "json")
    result = json.loads(done.out)["models"][0]
    assert not result["applied"]
    assert result["verification"]["verdict"] == "not_run"
    assert [r["reason"] for r in result["refused"] if "rolled back" in r["reason"]]
    assert done.code in (1, 5)
    if (tmp_path / "out.onnx").exists():
        assert ops(tmp_path / "out.onnx") == ops(tmp_path / "net.onnx")


def test_a_weight_that_two_share(cli: Cli, write: Write, tmp_path: Path) -> None:
    write("""g (float[1,8,24,24] x) => (float[1,8,24,24] y)
        <float[8,8,19,3] w> { a = Conv<pads = [9,1,9,1]>(x, w)  y = Conv<pads = [9,1,9,1]>(a, w) }""")
    assert cli("fix", "net.onnx", "-o", "out.onnx").code == 0
    assert len(kernels(tmp_path / "out.onnx")) == 4
    assert "w" not in {t.name for t in onnx.load(tmp_path / "out.onnx").graph.initializer}
    verified(cli)
    write("""g (float[1,8,24,24] x) => (float[1,8,24,24] y, float[8,8,19,3] v)
        <float[8,8,19,3] w> { y = Conv<pads = [9,1,9,1]>(x, w)  v = Identity(w) }""")
    assert cli("fix", "net.onnx", "-o", "out.onnx").code in (0, 1)
    assert [19, 3] not in kernels(tmp_path / "out.onnx")
    assert "w" in {t.name for t in onnx.load(tmp_path / "out.onnx").graph.initializer}
    verified(cli)


@pytest.mark.parametrize(("output", "extra"), [("float[1,1,1,16] s", ""), ("float[1,1,1,16] q", "q = Relu(c)")])
def test_inner_values_that_are_needed_elsewhere(cli: Cli, write: Write, tmp_path: Path, output: str, extra: str) -> None:
    """Whether such a block is refused or its value provided, every output stays what it was, and other matches go on."""
    write(f"""g (float[1,16,4,6] x, float[1,8,24,24] i) => (float[1,16,4,6] y, {output}, float[1,8,24,24] o)
        {ECA[:-1]}, float[8,8,19,3] w> {{ {ECA_NODES} {extra} o = Conv<pads = [9,1,9,1]>(i, w) }}""")
    found = refusals(cli)
    assert [r for r in found if r["substitution"] == "eca-to-se" and r["reason"]], found
    assert [19, 3] not in kernels(tmp_path / "out.onnx")
    verified(cli)


def test_a_weight_that_is_an_input(cli: Cli, write: Write, tmp_path: Path) -> None:
    """One that is fed is no constant; one with a default is frozen."""
    write("""g (float[1,8,24,24] x, float[8,8,19,3] v, float[8,8,19,3] w) => (float[1,8,24,24] y)
        <float[8,8,19,3] u> { a = Conv<pads = [9,1,9,1]>(x, v)  b = Conv<pads = [9,1,9,1]>(a, w)
                              y = Conv<pads = [9,1,9,1]>(b, u) }""")
    model = onnx.load(tmp_path / "net.onnx")
    default = np.random.default_rng(0).standard_normal((8, 8, 19, 3)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(default, "w"))
    onnx.save(model, tmp_path / "net.onnx")
    found = refusals(cli)
    assert [r["reason"] for r in found if r["substitution"] == "large-kernel-to-phases"] == ["its weights are not constant"]
    written = onnx.load(tmp_path / "out.onnx")
    assert [i.name for i in written.graph.input] == ["x", "v"]
    assert cli("verify", "net.onnx", "out.onnx", "--freeze-weights").code == 0


@pytest.mark.parametrize(("node", "profile"), [("y = Softplus(h)", "ethos-u85"), ("t = Mul(x, h)  y = Softplus(t)", "ethos-u85")])
def test_a_default_beside_what_is_fed(cli: Cli, write: Write, tmp_path: Path, node: str, profile: str) -> None:
    """An input with a default, which no sample feeds, is what the replaced nodes read: blocks are compared at the default."""
    write(f"g (float[1,8,4,4] x, float[1,8,4,4] h) => (float[1,8,4,4] y, float[1,8,4,4] z) {{ {node}  z = Relu(x) }}")
    model = onnx.load(tmp_path / "net.onnx")
    default = np.random.default_rng(0).standard_normal((1, 8, 4, 4)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(default, "h"))
    onnx.save(model, tmp_path / "net.onnx")
    assert cli("fix", "net.onnx", "-o", "out.onnx", "--profile", profile).code == 0
    assert "Softplus" not in ops(tmp_path / "out.onnx")
    assert [i.name for i in onnx.load(tmp_path / "out.onnx").graph.input] == ["x", "h"]


def subgraph_model() -> onnx.ModelProto:
    make = onnx.helper
    info = make.make_tensor_value_info("x", 1, [1, 8, 24, 24])

    def branch(name: str, weight: str) -> onnx.GraphProto:
        node = make.make_node("Conv", ["a", weight], [f"{name}_y"], name=f"{name}_conv", pads=[9, 1, 9, 1])
        return make.make_graph([node], name, [], [make.make_tensor_value_info(f"{name}_y", 1, [1, 8, 24, 24])])

    random = np.random.default_rng(0)
    weights = [onnx.numpy_helper.from_array(random.standard_normal((8, 8, 19, 3)).astype(np.float32), n) for n in "uv"]
    nodes = [
        make.make_node("Conv", ["x", "u"], ["a"], name="outer", pads=[9, 1, 9, 1]),
        make.make_node("If", ["flag"], ["y"], then_branch=branch("then", "v"), else_branch=branch("else", "u")),
    ]
    inputs = [info, make.make_tensor_value_info("flag", onnx.TensorProto.BOOL, [])]
    graph = make.make_graph(nodes, "g", inputs, [make.make_tensor_value_info("y", 1, [1, 8, 24, 24])], weights)
    return make.make_model(graph, ir_version=10, opset_imports=[make.make_opsetid("", 20)])


def test_subgraphs_are_left_alone(cli: Cli, tmp_path: Path) -> None:
    """Their nodes are refused with a reason; a value that they capture is still made, a weight that they read still there."""
    onnx.save(subgraph_model(), tmp_path / "net.onnx")
    found = refusals(cli)
    inside = [r for r in found if "subgraph" in r["reason"]]
    assert {r["node"] for r in inside} == {"then_conv", "else_conv"}, found
    written = onnx.load(tmp_path / "out.onnx")
    assert "outer" not in {n.name for n in written.graph.node}
    assert {t.name for t in written.graph.initializer} >= {"u", "v"}
    verified(cli)


@pytest.mark.parametrize("graph", [LARGE, f"g (float[1,16,4,6] x) => (float[1,16,4,6] y) {ECA} {{ {ECA_NODES} }}"])
def test_a_dynamic_batch_stays_dynamic(cli: Cli, write: Write, tmp_path: Path, graph: str) -> None:
    write(graph.replace("float[1,8,24", 'float["N",8,24').replace("float[1,16,4,6]", 'float["N",16,4,6]').replace("{1,", "{-1,"))
    assert cli("fix", "net.onnx", "-o", "out.onnx").code in (0, 1)
    assert ops(tmp_path / "out.onnx") != ops(tmp_path / "net.onnx")
    for kind in ("input", "output"):
        (value,) = getattr(onnx.load(tmp_path / "out.onnx").graph, kind)
        assert value.type.tensor_type.shape.dim[0].dim_param == "N"
    sessions = [onnxruntime.InferenceSession(tmp_path / name) for name in ("net.onnx", "out.onnx")]
    shape = [3, *sessions[0].get_inputs()[0].shape[1:]]
    feed = {"x": np.random.default_rng(1).standard_normal(shape).astype(np.float32)}
    before, after = (s.run(None, feed)[0] for s in sessions)
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-3)


def test_a_rewrite_for_one_batch_alone_is_rolled_back(cli: Cli, write: Write, tmp_path: Path) -> None:
    """Where the model leaves the batch open, what is written runs with another one as well, or the match is refused."""
    write("""g (float["N",12,8] x) => (float["N",12,8] y)
        <float[8,8] w, float[8,8] v, float[8] k> {
            a = MatMul(x, w)  b = Relu(a)  c = MatMul(b, v)  d = LayerNormalization(c, k)  y = MatMul(d, w) }""")
    done = cli("fix", "net.onnx", "-o", "out.onnx")
    assert done.code in (0, 1), done
    feed = {"x": np.random.default_rng(1).standard_normal((3, 12, 8)).astype(np.float32)}
    before, after = (onnxruntime.InferenceSession(tmp_path / n).run(None, feed)[0] for n in ("net.onnx", "out.onnx"))
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)
    verified(cli)


def test_verify_tries_another_batch(cli: Cli, write: Write) -> None:
    """The mean over a batch of one is that one."""
    write('g (float["N",4,6] x) => (float["N",4,6] y) { y = Relu(x) }')
    write("""g (float["N",4,6] x) => (float["N",4,6] y) <int64[1] axis = {0}>
        { a = Relu(x)  m = ReduceMean(a, axis)  d = Sub(a, m)  z = Sub(a, d)  y = Max(z, m) }""", "other.onnx")  # fmt: skip
    assert cli("verify", "net.onnx", "net.onnx").code == 0
    done = cli("verify", "net.onnx", "other.onnx", "--format", "json")
    assert (done.code, json.loads(done.out)["verdict"]) == (5, "differs")
    assert "a batch of 2" in json.loads(done.out)["inputs"]
    assert cli("verify", "net.onnx", "other.onnx", "--input-shape", "x:1,4,6").code == 0


def external(folder: Path, graph_file: Path) -> None:
    model = onnx.load(graph_file)
    graph_file.unlink()
    onnx.save(model, folder / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=64)


def test_external_data_stays_external(cli: Cli, write: Write, tmp_path: Path) -> None:
    external(
        tmp_path,
        write("""g (float[1,8,24,24] x) => (float[1,8,24,24] y)
        <float[8,8,19,3] w, float[8,8,3,3] k, float[8] b> { a = Conv<pads = [9,1,9,1]>(x, w, b)
                                                          y = Conv<pads = [1,1,1,1]>(a, k) }"""),
    )
    before = {f.name: f.read_bytes() for f in tmp_path.iterdir()}
    assert cli("fix", "net.onnx", "-o", "out.onnx").code == 0
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    model = onnx.load(tmp_path / "out.onnx", load_external_data=False)
    places = {t.name: [e.value for e in t.external_data if e.key == "location"] for t in model.graph.initializer}
    assert places["k"]
    assert (tmp_path / places["k"][0]).is_file()
    assert places["k"] != ["net.data"]
    onnx.checker.check_model(str(tmp_path / "out.onnx"), full_check=True)
    onnxruntime.InferenceSession(tmp_path / "out.onnx")
    verified(cli)
    (tmp_path / "net.data").unlink()
    onnxruntime.InferenceSession(tmp_path / "out.onnx")


@pytest.mark.parametrize("how", ["link", "parent", "absolute", "missing", "too short"])
def test_external_data_from_elsewhere_is_refused(cli: Cli, write: Write, tmp_path: Path, how: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    external(home, write(LARGE))
    data = (home / "net.data").rename(tmp_path / "net.data")
    location = {"parent": "../net.data", "absolute": str(data)}.get(how, "net.data")
    if how == "link":
        (home / "net.data").symlink_to(data)
    if how == "too short":
        (home / "net.data").write_bytes(b"abc")
    model = onnx.load(home / "net.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    (home / "net.onnx").write_bytes(model.SerializeToString())
    for command in (("fix", "home/net.onnx", "-o", "out.onnx"), ("verify", "home/net.onnx", "home/net.onnx")):
        done = cli(*command)
        assert (done.code, done.out, done.err.count("\n")) == (3, "", 1), done
        assert "data" in done.err
    assert not (tmp_path / "out.onnx").exists()


TWO = "g (float[1,4,6,6] x) => (float[1,4,6,6] y, float[1,4,6,6] z) { a = Relu(x)  y = Sigmoid(a)  z = Tanh(a) }"


def test_verify_names_the_output_that_differs(cli: Cli, write: Write) -> None:
    write(TWO)
    write(TWO.replace("Tanh", "Sin"), "other.onnx")
    done = cli("verify", "net.onnx", "other.onnx")
    assert done.code == 5
    (line,) = (line for line in done.out.splitlines() if "<- differs" in line)
    assert line.strip().startswith("z:")
    done = cli("verify", "net.onnx", "other.onnx", "--format", "json")
    assert done.code == 5
    result = json.loads(done.out)
    assert result["verdict"] == "differs"
    assert {o["name"]: o["ok"] for o in result["outputs"]} == {"y": True, "z": False}
    assert cli("verify", "net.onnx", "net.onnx").code == 0


def test_verify_of_models_that_cannot_be_compared(cli: Cli, write: Write) -> None:
    write(TWO)
    write(TWO.replace(" x)", " i, float[2] k)").replace("(x)", "(i)"), "other.onnx")
    done = cli("verify", "net.onnx", "other.onnx", "--format", "json")
    assert done.code == 5
    result = json.loads(done.out)
    assert (result["verdict"], result["outputs"]) == ("not_run", [])
    assert "x float32[1,4,6,6]" in result["reason"]
    assert "i float32[1,4,6,6], k float32[2]" in result["reason"]
    assert "--map" in result["reason"]
    assert "NOT VERIFIED" in cli("verify", "net.onnx", "other.onnx").out


def test_verify_of_another_type_of_input(cli: Cli, write: Write) -> None:
    write(TWO)
    write(TWO.replace("float[1,4,6,6]", "double[1,4,6,6]"), "other.onnx")
    done = cli("verify", "net.onnx", "other.onnx", "--format", "json")
    assert (done.code, json.loads(done.out)["verdict"]) == (5, "differs")
    assert "is float32 before and float64 after" in json.loads(done.out)["reason"]


VERIFICATION = {"verdict", "backend", "seeds", "inputs", "reason", "outputs"}
OUTPUT = {"name", "max_abs", "max_rel", "cosine", "snr_db", "atol", "rtol", "ok", "flips", "steps", "note", "worst", "of_largest"}


def test_json_keeps_the_contract(cli: Cli, write: Write) -> None:
    write("""g (float[1,8,24,24] x, float[8,8,19,3] v) => (float[1,8,24,24] y)
        <float[8,8,19,3] w> { a = Conv<pads = [9,1,9,1]>(x, w)  y = Conv<pads = [9,1,9,1]>(a, v) }""")
    done = cli("fix", "net.onnx", "-o", "out.onnx", "--format", "json")
    assert (done.code, done.err) == (1, "")
    document = json.loads(done.out)
    assert document["schema_version"] == 1
    (model,) = document["models"]
    (applied,) = model["applied"]
    assert set(applied) >= {"substitution", "exactness", "rules", "nodes_before", "nodes_after", "verification"}
    assert (applied["substitution"], applied["exactness"]) == ("large-kernel-to-phases", "exact")
    assert len(applied["nodes_before"]) == 1
    assert model["refused"]
    assert all(set(r) == {"substitution", "node", "reason"} for r in model["refused"])
    for verification in (applied["verification"], model["verification"]):
        assert set(verification) >= VERIFICATION
        assert verification["verdict"] == "equal"
        assert verification["seeds"]
        assert all(set(o) == OUTPUT for o in verification["outputs"])
    assert [o["name"] for o in model["verification"]["outputs"]] == ["y"]
    assert [f["rule"] for f in model["findings"] if f["rule"] == "NPU201"] == ["NPU201"]
