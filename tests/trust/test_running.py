"""Models that cannot be run within reason: given up with one clear line, exit code 5, and never called equal."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

from npu_guard.analysis.analyze import analyze
from npu_guard.base import sandbox
from npu_guard.base.limits import DEFAULT, Limits
from npu_guard.file.document import Document
from npu_guard.file.load import load
from npu_guard.verification import runtime
from npu_guard.verification.run_limits import RunLimits, run_limits
from npu_guard.verification.runtime import CannotRun, Runtime

pytest.importorskip("onnxruntime")

Program = Callable[..., Any]
HEADER = '<ir_version: 10, opset_import: ["" : 20]>'
FOREVER = """g (float[4] x) => (float[4] y) {
  n = Constant<value = int64 {4611686018427387904}>()  go = Constant<value = bool {1}>()
  y = Loop(n, go, x) <body = b (int64 i, bool c, float[4] v) => (bool d, float[4] w) { d = Identity(c)  w = Neg(v) }>
}"""
PRODUCT = """g (float[200000,1] x) => (float[200000] y) <int64[1] axis = {1}> {
  t = Transpose(x)  m = MatMul(x, t)  y = ReduceMax<keepdims = 0>(m, axis)
}"""
# The shape follows from data, so that nobody can tell beforehand: {size} elements, whatever x is.
FILLED = """g (float[4] x) => (float[{out}] y) <float nothing = {{0}}, int64[1] size = {{{size}}}, int64[1] one = {{1}}> {{
  s = ReduceSum<keepdims = 0>(x)  z = Mul(s, nothing)  c = Clip(z, nothing, nothing)  i = Cast<to = 7>(c)  r = Reshape(i, one)
  n = Add(r, size)  f = ConstantOfShape(n)  y = {end}(f)
}}"""
TWO_OF_THREE = ("verify", "partition")


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def make(graph: str, name: str = "net.onnx") -> Path:
        model = onnx.parser.parse_model(HEADER + graph)
        path = tmp_path / name
        path.write_bytes(model.SerializeToString())
        return path

    return make


def arguments(command: str, name: str = "net.onnx") -> tuple[str, ...]:
    return ("verify", name, name) if command == "verify" else (command, name, "-o", "out")


def refused(program: Program, folder: Path, command: str, *, code: int = 5) -> str:
    """The one line with which the command ends, leaving nothing behind."""
    before = sorted(p.name for p in folder.iterdir())
    done = program(folder, *arguments(command))
    assert done.code == code, done
    assert "equal" not in done.out
    (line,) = done.err.splitlines()
    assert line.startswith("npu-guard: net.onnx: ")
    assert sorted(p.name for p in folder.iterdir()) == before
    return str(line)


@pytest.mark.parametrize("command", TWO_OF_THREE)
def test_a_loop_without_end(write: Callable[..., Path], program: Program, tmp_path: Path, command: str) -> None:
    write(FOREVER)
    assert "did not end within 2" in refused(program, tmp_path, command)
    (tmp_path / "npu-guard.toml").write_text("[limits]\nrun-seconds = 1\n")
    assert "ONNX Runtime did not end within 1 s; 'run-seconds' in [tool.npu-guard.limits]" in refused(program, tmp_path, command)


@pytest.mark.parametrize("command", TWO_OF_THREE)
def test_what_needs_too_much_is_not_tried(
    write: Callable[..., Path], program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    write(PRODUCT)
    monkeypatch.setattr(Runtime, "_start", lambda self: pytest.fail("it was tried"))
    line = refused(program, tmp_path, command)
    assert "running it takes 160 GB of memory, and it may have 2" in line
    assert "'run-bytes' in [tool.npu-guard.limits] gives it more" in line


def test_memory_that_only_a_run_shows(write: Callable[..., Path], program: Program, tmp_path: Path) -> None:
    write(FILLED.format(size=2**33, out="", end="ReduceMax<keepdims = 0>"))
    assert "ONNX Runtime needs more than 256 MiB of memory; 'run-bytes'" in refused(program, tmp_path, "verify")


def test_results_that_only_a_run_shows(write: Callable[..., Path], program: Program, tmp_path: Path) -> None:
    write(FILLED.format(size=2 << 20, out='"n"', end="Identity"))  # 8 MiB
    (tmp_path / "npu-guard.toml").write_text(f"[limits]\nrun-seconds = 60\nrun-bytes = {1 << 29}\n")
    assert program(tmp_path, *arguments("verify")).code == 0
    (tmp_path / "npu-guard.toml").write_text(f"[limits]\nrun-seconds = 60\nrun-bytes = {1 << 27}\n")
    assert "what comes out is more than 64 MiB" in refused(program, tmp_path, "verify")  # nine times 8


def test_inputs_and_outputs_by_the_thousand(write: Callable[..., Path], program: Program, tmp_path: Path) -> None:
    names = [f"v{i}" for i in range(3000)]
    values = ", ".join(f"float[1] {n}" for n in names)
    write(f"g ({values}) => (float[1] y) {{ y = Sum({', '.join(names)}) }}")
    says = "drawing its inputs and comparing its outputs takes {} s, and it may have {} s; 'run-seconds'"
    assert says.format("3.0", "2.0") in refused(program, tmp_path, "verify")
    write(f"g (float[1] x) => ({values}) {{ {' '.join(f'{n} = Neg(x)' for n in names)} }}")
    assert says.format("6.0", "3.0") in refused(program, tmp_path, "verify")  # with a second for 2,000 of the nodes


@pytest.mark.parametrize(
    ("graph", "why"),
    [
        ('g (float[1,8,"h",4] x) => (y) { y = Relu(x) }', "has dynamic dimensions; fix them with --input-shape x:1,3,..."),
        ("g (string[4] x) => (string[4] y) { y = Identity(x) }", "is of type string"),
    ],
)
@pytest.mark.parametrize("command", TWO_OF_THREE)
def test_inputs_that_cannot_be_drawn(
    write: Callable[..., Path], program: Program, tmp_path: Path, command: str, graph: str, why: str
) -> None:
    write(graph)
    assert f"input 'x' {why}" in refused(program, tmp_path, command)


def test_results_that_are_no_numbers(write: Callable[..., Path], program: Program, tmp_path: Path) -> None:
    write("g (float[4] x) => (string[4] y) { y = Cast<to = 8>(x) }")
    assert "an output is no tensor of numbers" in refused(program, tmp_path, "verify")


def test_a_dense_kernel_for_channels_that_are_only_claimed(write: Callable[..., Path], program: Program, tmp_path: Path) -> None:
    """A file of 400 bytes: 20,000 channels through a convolution over channels, which as a dense layer has 1.6 GB of weights."""
    write("""g (float[1,20000,4,6] x) => (float[1,20000,4,6] y)
       <float[1,1,1,5] w = {1,1,1,1,1}, int64[4] row = {1,1,1,20000}, int64[4] map = {1,20000,1,1}>
       { p = GlobalAveragePool(x)  r = Reshape(p, row)  c = Conv<pads = [0,2,0,2]>(r, w)
         s = Sigmoid(c)  m = Reshape(s, map)  y = Mul(x, m) }""")
    done = program(tmp_path, "fix", "net.onnx", "-o", "out.onnx")
    assert done.code == 1
    assert "eca-to-se: its new nodes and weights need more than 256 MiB" in done.out


def of(path: Path, limits: Limits = DEFAULT) -> RunLimits:
    skeleton = load(path, limits)
    return run_limits(limits, (Document.of(skeleton), analyze(skeleton)))


def net(tmp_path: Path, extent: int, weight: int) -> Path:
    """A convolution of one kernel over a map of so many pixels each way, and a weight of so many numbers that adds a constant."""
    model = onnx.parser.parse_model(
        f"{HEADER} g (float[1,8,{extent},{extent}] x) => (float[1,8,{extent},{extent}] y)"
        f" <float[8,8,3,3] k, float[{weight}] w, int64[1] axes = {{0}}>"
        " { c = Conv<pads = [1,1,1,1]>(x, k)  m = ReduceMean<keepdims = 0>(w, axes)  y = Add(c, m) }"
    )
    for name, size in (("k", (8, 8, 3, 3)), ("w", (weight,))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(size, np.float32), name))
    path = tmp_path / f"{extent}-{weight}.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_claims_are_believed_in_proportion_to_weights(tmp_path: Path) -> None:
    small, large = of(net(tmp_path, 1 << 8, 16)), of(net(tmp_path, 1 << 14, 16))
    assert small.seconds(9) < large.seconds(9) < 2 * small.seconds(9)  # of a thousand times the work
    heavy = of(net(tmp_path, 1 << 14, 1 << 20))
    macs = 8 * 8 * 9 * (1 << 28)
    assert large.seconds(9) < 9 * macs / 1e9 < heavy.seconds(9)  # the minutes that a slow core needs: for the one with weights
    assert large.refusal(9)
    assert heavy.needs > large.needs
    assert heavy.memory > 2 * large.memory


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    """A file with a hole, and many tensors in the same place."""
    model = onnx.parser.parse_model(f"""{HEADER} g (float[4] x) => (float[4] y)
       <float[1048576] a, float[1048576] b, int64[1] i = {{0}}> {{ m = Sum(a, b)  g = Gather(m, i)  y = Add(x, g) }}""")
    for name in ("a", "b"):
        tensor = model.graph.initializer.add(name=name, data_type=1, dims=[1 << 20], data_location=onnx.TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="w.bin")
    path, weights = tmp_path / "net.onnx", tmp_path / "w.bin"
    path.write_bytes(model.SerializeToString())
    with weights.open("wb") as file:
        file.truncate(4 << 20)
    hole = of(path).memory
    weights.write_bytes(bytes(range(256)) * (4 << 12))
    once = of(path).memory
    assert once - hole == pytest.approx(6 * (4 << 20), rel=0.1)


def test_settings_are_taken_as_they_are(tmp_path: Path) -> None:
    path = net(tmp_path, 8, 16)
    found = of(path, Limits(run_seconds=7, run_bytes=1 << 30))
    assert (found.seconds(1), found.seconds(9), found.memory) == (7.0, 7.0, 1 << 30)


def test_one_that_hangs_gets_no_other_chance(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    starts = []
    start = Runtime._start
    monkeypatch.setattr(Runtime, "_start", lambda self: starts.append(1) or start(self))
    forever, feed = write(FOREVER).read_bytes(), {"x": np.zeros(4, np.float32)}
    good = write("g (float[4] x) => (float[4] y) { y = Neg(x) }").read_bytes()
    with Runtime(RunLimits(0.5, 0.0, 1 << 28)) as running:
        assert running.run(good, Path(), [feed])[0]["y"].shape == (4,)
        with pytest.raises(CannotRun, match=r"did not end within 0\.5 s"):
            running.run(forever, Path(), [feed])
        with pytest.raises(CannotRun, match=r"did not end within 0\.5 s"):
            running.run(good, Path(), [feed])
    assert len(starts) == 1


def test_one_that_dies_does(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    good, feed = write("g (float[4] x) => (float[4] y) { y = Neg(x) }").read_bytes(), {"x": np.ones(4, np.float32)}
    with Runtime() as running:
        running.run(good, Path(), [feed])
        assert running._process is not None
        running._process.kill()
        running._process.wait()
        with pytest.raises(CannotRun, match="died on the model"):
            running.run(good, Path(), [feed])
        assert running.run(good, Path(), [feed])[0]["y"].tolist() == [-1.0] * 4


def test_a_model_gets_all_the_memory_that_it_is_granted(write: Callable[..., Path]) -> None:
    """Four tensors of 32 MiB live together. An arena doubles, and fails at twice as much as they take."""
    graph = """g (float[1,1,1] x) => (float[8,1024,1024] y) <int64[3] s = {8,1024,1024}> {
        a = Expand(x, s)  b = Softplus(a)  c = Softsign(b)  d = Add(a, c)  y = Add(d, b) }"""
    model, feeds = write(graph).read_bytes(), [{"x": np.full((1, 1, 1), number, np.float32)} for number in (1, 2)]
    soft = np.log1p(np.exp([1.0, 2.0]))
    with Runtime(RunLimits(20.0, 60.0, 220 * 10**6)) as running:
        for _ in range(2):
            found = [result["y"].max() for result in running.run(model, Path(), feeds)]
            assert found == pytest.approx(np.array([1.0, 2.0]) + soft / (1 + soft) + soft, rel=1e-5)
        running.limits = RunLimits(20.0, 60.0, 100 * 10**6)
        with pytest.raises(CannotRun, match="needs more than 95 MiB of memory; 'run-bytes'"):
            running.run(model, Path(), feeds)


def test_onnx_runtime_reports_nothing_to_its_makers(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Since 1.29 it does where it is not told otherwise, and leaves an identifier in the folder for temporary files."""
    (tmp_path / "tmp").mkdir()
    for name in ("CI", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    model = write("g (float[4] x) => (float[4] y) { y = Neg(x) }").read_bytes()
    with Runtime() as running:
        running.run(model, tmp_path, [{"x": np.ones(4, np.float32)}])
        environment = Path(f"/proc/{running._process.pid}/environ") if running._process else None
        if environment is not None and environment.exists():
            assert b"ORT_DISABLE_TELEMETRY=1" in environment.read_bytes().split(b"\0")
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    "array",
    [
        np.array(1.5, np.float32), np.zeros((0, 3), np.int64), np.array([True, False]),
        np.arange(12, dtype=np.float16).reshape(3, 4).T,
        np.array([np.nan, -0.0, np.inf]), np.arange(6, dtype=np.uint8).reshape(1, 2, 3),
    ],
    ids=str,
)  # fmt: skip
def test_arrays_cross_as_they_are(array: Any) -> None:
    pipe = io.BytesIO()
    runtime._write(pipe, {"a": 1}, [{"\udcff": array}, {}])  # type: ignore[arg-type]
    pipe.seek(0)

    class Reader:
        def read(self, size: int) -> bytearray:
            return bytearray(pipe.read(size))

    head, (first, second) = runtime._read(Reader())
    assert (head["a"], second) == (1, {})
    assert first["\udcff"].dtype == array.dtype
    np.testing.assert_array_equal(first["\udcff"], array)
    assert pipe.read() == b""


def test_work_of_our_own_is_bounded() -> None:
    if not sandbox.used_memory():
        pytest.skip("the system does not tell what is used")
    with sandbox.bounded(sandbox.used_memory() + (1 << 26)):
        np.ones(1 << 20)
        with pytest.raises(MemoryError):
            np.ones(1 << 25)
    assert np.ones(1 << 25).size == 1 << 25


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        ('{"a": [1, 2]}', 3, "net.onnx: not an ONNX file but JSON"),
        ('{"schema_version": 1, "entries": [', 2, "net.onnx: not valid JSON"),
        ('{"models": [], "schema_version": 1}', 2, "net.onnx: is a report of 'check --format json'"),
        ("", 3, "net.onnx: the file is empty"),
        ("[1]", 3, "net.onnx: "),
    ],
)
def test_diff_tells_baselines_from_other_json(program: Program, tmp_path: Path, content: str, code: int, says: str) -> None:
    (tmp_path / "net.onnx").write_text(content)
    done = program(tmp_path, "diff", "net.onnx", "net.onnx")
    assert done.code == code
    assert [says in line for line in done.err.splitlines()] == [True]


def test_verify_heeds_the_limits_of_the_project(write: Callable[..., Path], program: Program, tmp_path: Path) -> None:
    write("g (float[4] x) => (float[4] y) { a = Neg(x)  y = Neg(a) }")
    (tmp_path / "npu-guard.toml").write_text("[limits]\nnodes = 1\n")
    assert "nodes: 2; the limit is 1" in refused(program, tmp_path, "verify", code=3)


def test_pieces_of_a_file_whose_name_is_no_text(write: Callable[..., Path], program: Program, tmp_path: Path) -> None:
    name = os.fsdecode(b"net\xff.onnx")
    try:
        write("g (float[1,8,4,4] x) => (float[1,8,4,4] y) { y = Relu(x) }", name)
    except OSError:
        pytest.skip("the file system wants text")
    assert program(tmp_path, "partition", name, "-o", "cut").code == 0
    assert json.loads((tmp_path / "cut" / "manifest.json").read_text())["model"]["name"] == "net\\xff.onnx"
