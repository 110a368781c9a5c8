"""`npu-guard partition` and `npu-guard verify --manifest` from outside: what they say, and what they refuse."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import pytest
from markdown_it import MarkdownIt

from npu_guard.checking.examples import case_model
from npu_guard.checking.rule import Case
from npu_guard.cli import main
from npu_guard.partitioning.cut import Cutter

if TYPE_CHECKING:
    from conftest import Run

    Cli = Callable[..., Run]
    Write = Callable[..., Path]

NET = """g (float[1,8,4,4] x) => (float[1,8,4,4] y) <float[8,8,3,3] w> {
    a = Conv<pads = [1,1,1,1]>(x, w)  b = Transpose<perm = [0,1,3,2]>(a)  c = Conv<pads = [1,1,1,1]>(b, w)
    d = Transpose<perm = [0,1,3,2]>(c)  y = Conv<pads = [1,1,1,1]>(d, w) }"""
FREE = "[partition]\nlaunch-cost = 0\nbyte-cost = 0\n"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model, settings by which sides alone decide, and five pieces in `cut`."""
    folder = tmp_path_factory.mktemp("original")
    (folder / "net.onnx").write_bytes(case_model(Case(NET)).SerializeToString())
    (folder / "npu-guard.toml").write_text(FREE)
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()), pytest.raises(SystemExit) as end:
        main(["partition", "net.onnx", "-o", "cut"])
    assert end.value.code == 0
    return folder


@pytest.fixture
def written(original: Path, tmp_path: Path) -> Path:
    """`cut` in the test's own folder."""
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    return tmp_path / "cut"


def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return found


def forge(folder: Path, content: dict[str, Any]) -> None:
    """A manifest whose hashes fit the files that are there."""
    for piece in content["pieces"]:
        file = folder / piece["file"]["name"]
        if file.is_file():
            piece["file"]["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(content))


def test_text(cli: Cli, written: Path) -> None:
    done = cli("partition", "net.onnx")
    assert done.code == 0
    assert "3 pieces on the NPU, 2 pieces on the host, 4 tensors crossing (2.05 kB): 100.0 % of the MACs" in done.out
    assert "    0 -> 1            512 B  1x8x4x4 float32  a\n" in done.out
    assert "making Transpose b compatible: leaves 3 pieces of 5\n" in done.out
    assert done.out.count("making ") == 2
    assert {f.name for f in written.parent.iterdir()} == {"net.onnx", "npu-guard.toml", "cut"}


def test_flags_and_settings(cli: Cli, write: Write, tmp_path: Path) -> None:
    write(NET)

    def sides(*flags: str) -> list[str]:
        return [p["side"] for p in json.loads(cli("partition", "net.onnx", "--format", "json", *flags).out)["pieces"]]

    assert sides() == ["host"]  # 9,216 MACs of each convolution do not pay for a launch
    (tmp_path / "npu-guard.toml").write_text(FREE)
    assert sides() == ["npu", "host", "npu", "host", "npu"]
    assert sides("--max-pieces", "3") == ["npu", "host", "npu"]
    assert sides("--min-macs", "9216") == ["npu", "host", "npu", "host", "npu"]
    assert sides("--min-macs", "9217") == ["host"]
    (tmp_path / "npu-guard.toml").write_text(FREE + "min-macs = 9217\n")
    assert sides() == ["host"]
    assert sides("--min-macs", "0") == ["npu", "host", "npu", "host", "npu"]


def test_costs_of_the_device_come_first(cli: Cli, write: Write, tmp_path: Path) -> None:
    write(NET)
    device = 'name = "own"\ntitle = "Own"\nsource = "test"\nextends = "aimotive-aiware"\n[partition]\n'

    def sides(costs: str, project: str = "") -> list[str]:
        (tmp_path / "own.toml").write_text(device + costs)
        (tmp_path / "npu-guard.toml").write_text(f"[partition]\n{project}")
        done = cli("partition", "net.onnx", "--profile", "own.toml", "--format", "json")
        return [piece["side"] for piece in json.loads(done.out)["pieces"]] if done.out else [done.err]

    free = "byte_cost = 0\nlaunch_cost = 0\n"
    assert sides(free) == ["npu", "host", "npu", "host", "npu"]
    assert sides(free + "min_macs = 9217\n") == ["host"]
    assert sides(free + "min_macs = 9217\n", "min-macs = 0\n") == ["npu", "host", "npu", "host", "npu"]
    assert "max_pieces must be at least 1" in sides("max_pieces = 0\n")[0]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("max-pieces = 0", "max_pieces must be at least 1"),
        ("byte-cost = -1", "must be 0 or more"),
        ("bytecost = 1", "unknown key"),
    ],
)
def test_settings_that_mean_nothing(cli: Cli, write: Write, tmp_path: Path, line: str, says: str) -> None:
    write(NET)
    (tmp_path / "npu-guard.toml").write_text(f"[partition]\n{line}\n")
    done = cli("partition", "net.onnx")
    assert (done.code, done.err.count("\n"), says in done.err) == (2, 1, True), done


def test_json(cli: Cli, written: Path) -> None:
    document = json.loads(cli("partition", "net.onnx", "-o", "cut", "--format", "json").out)
    assert document["schema_version"] == 1
    assert document["sha256"] == manifest(written)["model"]["sha256"]
    assert [[n["output"] for n in p["nodes"]] for p in document["pieces"]] == [["a"], ["b"], ["c"], ["d"], ["y"]]
    assert document["npu_macs_percent"] == document["runnable_macs_percent"] == 100.0
    assert document["crossings"][0] == {
        "tensor": {"name": "a", "shape": [1, 8, 4, 4], "dtype": "float32"}, "bytes": 512, "from": 0, "to": [1],
    }  # fmt: skip
    assert document["verification"]["verdict"] == "equal"
    assert {(b["nodes"][0]["output"], b["pieces"]) for b in document["breakers"]} == {("b", 3), ("d", 3)}


def test_names_stay_in_their_cells_and_lines(cli: Cli, write: Write, tmp_path: Path) -> None:
    name = "a|<b>[u](//v)\x1b[31m\n::error::x"
    model = onnx.load(write(NET))
    model.graph.node[0].output[0] = model.graph.node[1].input[0] = name
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "npu-guard.toml").write_text(FREE)
    page = cli("partition", "net.onnx", "--format", "markdown").out
    row = next(line for line in page.splitlines() if line.startswith("| `a"))
    assert row.count("|") == 6
    assert not re.search(r"<b>|\x1b|\n::", page)
    assert "<a " not in MarkdownIt("commonmark", {"html": True}).enable("table").render(page)
    assert "\x1b" not in cli("partition", "net.onnx").out
    assert json.loads(cli("partition", "net.onnx", "--format", "json").out)["crossings"][0]["tensor"]["name"] == name
    assert cli("partition", "net.onnx", "-o", "cut").code == 0


def test_an_older_partition_is_replaced_and_nothing_else(cli: Cli, written: Path) -> None:
    (written.parent / "npu-guard.toml").unlink()
    assert cli("partition", "net.onnx", "-o", "cut").code == 0
    assert sorted(f.name for f in written.iterdir()) == ["00-host.onnx", "manifest.json"]
    (written / "notes.txt").write_text("mine")
    done = cli("partition", "net.onnx", "-o", "cut")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "did not write" in done.err
    assert (written / "notes.txt").read_text() == "mine"
    assert cli("partition", "net.onnx", "-o", "net.onnx").code == 2
    assert cli("partition", "net.onnx", "-o", "net.onnx/cut").code == 2
    (written.parent / "empty").mkdir()
    assert cli("partition", "net.onnx", "-o", "empty").code == 0
    assert cli("partition", "net.onnx", "-o", "new/folder").code == 0


def test_what_cannot_be_verified_is_not_written(cli: Cli, write: Write, tmp_path: Path) -> None:
    write("g (float[1,8,4,4] x) => (float[1,8,4,4] y) { a = Relu(x)  y = my.Unknown(a) }")
    done = cli("partition", "net.onnx", "-o", "new/cut")
    assert (done.code, done.err.count("\n")) == (5, 1)
    assert "nothing was written" in done.err
    assert [f.name for f in tmp_path.iterdir()] == ["net.onnx"]


def test_pieces_that_compute_something_else_are_not_written(
    cli: Cli, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """A cutter that loses a bit of a weight."""
    right = Cutter.document_of

    def wrong(self: Cutter, piece: Any) -> Any:
        document = right(self, piece)
        for tensor in document.proto.graph.initializer:
            values = document.array(tensor).copy()
            values.flat[0] += 0.01
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
            tensor.raw_data = values.tobytes()
        return document

    monkeypatch.setattr(Cutter, "document_of", wrong)
    before = {f.name: f.read_bytes() for f in written.iterdir()}
    done = cli("partition", "net.onnx", "-o", "cut")
    assert (done.code, "compute something else" in done.err) == (5, True), done
    assert {f.name: f.read_bytes() for f in written.iterdir()} == before
    assert {f.name for f in written.parent.iterdir()} == {"net.onnx", "npu-guard.toml", "cut"}


def test_a_file_that_was_changed(cli: Cli, written: Path) -> None:
    piece = written / "01-host.onnx"
    piece.write_bytes(piece.read_bytes() + b"\x42\x00")
    for model in ((), ("net.onnx",)):
        done = cli("verify", "--manifest", "cut/manifest.json", *model)
        assert (done.code, done.out, done.err.count("\n")) == (3, "", 1)
        assert "cut/01-host.onnx: is not the file that was written" in done.err


def test_two_pieces_swapped(cli: Cli, written: Path) -> None:
    """0 and 4 have the same operator and weights, but not the same names; a manifest that was forged with them runs into that."""
    first, last = written / "00-npu.onnx", written / "04-npu.onnx"
    one, other = first.read_bytes(), last.read_bytes()
    first.write_bytes(other)
    last.write_bytes(one)
    assert cli("verify", "--manifest", "cut", "net.onnx").code == 3
    forge(written, manifest(written))
    done = cli("verify", "--manifest", "cut", "net.onnx")
    assert (done.code, "NOT VERIFIED" in done.out) == (5, True), done


def test_a_piece_that_computes_something_else(cli: Cli, written: Path) -> None:
    """The Transpose between them gone, and the hashes made to fit."""
    piece = onnx.load(written / "01-host.onnx")
    piece.graph.node[0].op_type = "Relu"
    del piece.graph.node[0].attribute[:]
    onnx.save(piece, written / "01-host.onnx")
    forge(written, manifest(written))
    assert cli("verify", "--manifest", "cut", "net.onnx").code == 5


def test_another_model(cli: Cli, write: Write, written: Path) -> None:
    write(NET.replace("y = Conv<pads = [1,1,1,1]>(d, w)", "y = Relu(d)"), "other.onnx")
    done = cli("verify", "--manifest", "cut", "other.onnx")
    assert (done.code, "is not the model that was cut" in done.err) == (3, True)


@pytest.mark.parametrize("name", ["../net.onnx", "/etc/passwd", "00-npu.onnx/../../net.onnx", "net.onnx", "00-npu.onnx\n", ""])
def test_names_that_leave_the_folder(cli: Cli, written: Path, name: str) -> None:
    content = manifest(written)
    content["pieces"][0]["file"]["name"] = name
    (written / "manifest.json").write_text(json.dumps(content))
    done = cli("verify", "--manifest", "cut", "net.onnx")
    assert (done.code, done.err.count("\n"), "never writes" in done.err) == (2, 1, True)


def test_a_link_in_the_place_of_a_piece(cli: Cli, written: Path) -> None:
    (written / "01-host.onnx").rename(written.parent / "elsewhere.onnx")
    done = cli("verify", "--manifest", "cut", "net.onnx")
    assert (done.code, "is missing" in done.err) == (3, True)
    (written / "01-host.onnx").symlink_to("../elsewhere.onnx")
    done = cli("verify", "--manifest", "cut", "net.onnx")
    assert (done.code, "plain file" in done.err) == (3, True)


@pytest.mark.parametrize(
    "content", ["", "{}", "[" * 100_000, '{"schema_version": 2}', "\xff", '{"schema_version": 1, "kind": "npu-guard partition"}']
)
def test_no_manifest(cli: Cli, written: Path, content: str) -> None:
    (written / "manifest.json").write_text(content, encoding="latin-1")
    done = cli("verify", "--manifest", "cut/manifest.json", "net.onnx")
    assert (done.code, done.err.count("\n"), "is no manifest" in done.err) == (2, 1, True), done


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ([-1, 8, 8, 8], "no fixed shape"), ([2**40, 8, 8, 8], "no fixed shape"), ([1, 8, 1 << 20, 1 << 20], "too small for"),
        ([], "Invalid"), (["N", 8, 8, 8], "no fixed shape"),
    ],
)  # fmt: skip
def test_inputs_that_no_piece_has(cli: Cli, written: Path, shape: list[int | str], reason: str) -> None:
    content = manifest(written)
    content["inputs"][0]["shape"] = shape
    (written / "manifest.json").write_text(json.dumps(content))
    done = cli("verify", "--manifest", "cut")
    assert (done.code, reason in done.out) == (5, True), done


def test_a_manifest_of_nothing(cli: Cli, written: Path) -> None:
    (written / "manifest.json").write_text(json.dumps(manifest(written) | {"pieces": [], "crossings": []}))
    assert cli("verify", "--manifest", "cut").code == 5
    assert cli("verify", "--manifest", "cut", "net.onnx").code == 5


def test_arguments(cli: Cli, written: Path) -> None:
    for arguments in (
        ("net.onnx",),
        (),
        ("--manifest", "cut", "net.onnx", "net.onnx"),
        ("--manifest", "cut", "net.onnx", "--bisect"),
    ):
        done = cli("verify", *arguments)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), arguments
    assert cli("verify", "--manifest", "nowhere", "net.onnx").code == 2
    assert cli("partition", "nowhere.onnx").code == 3
    assert cli("partition", "net.onnx", "--max-pieces", "0").code == 2


@pytest.mark.parametrize(
    ("body", "profile", "share"),
    [
        ("a = Conv<pads = [1,1,1,1]>(x, w)  y = Conv<pads = [1,1,1,1]>(a, w)", "aimotive-aiware", 100.0),
        ("a = Conv<pads = [1,1,1,1]>(x, w)  y = Conv<pads = [9,9,9,9]>(a, v)", "aimotive-aiware", 2.4),  # 9 taps, and 361
        ("a = Conv<pads = [1,1,1,1]>(x, w)  b = MatMul(a, m)  y = Softmax(b)", "amd-dpu:DPUCZDX8G", 100.0),  # not documented
        ("a = Conv<pads = [1,1,1,1]>(x, w)  b = Erf(a)  y = Conv<pads = [1,1,1,1]>(b, w)", "qualcomm-htp", 100.0),
        ("a = Conv<pads = [1,1,1,1]>(x, w)  b = Conv<pads = [1,1,1,1]>(x, v2)  y = Add(a, b)", "ort-nnapi", 100.0),
    ],
)
def test_check_and_partition_say_one_share(cli: Cli, write: Write, tmp_path: Path, body: str, profile: str, share: float) -> None:
    weights = "float[8,8,3,3] w, float[8,8,3,3] v2, float[8,8,19,19] v, float[4,4] m"
    write(f"g (float[1,8,4,4] x) => (y) <{weights}> {{ {body} }}")
    (tmp_path / "npu-guard.toml").write_text(FREE)
    checked = json.loads(cli("check", "net.onnx", "--profile", profile, "--format", "json").out)
    cut = json.loads(cli("partition", "net.onnx", "--profile", profile, "-o", "cut", "--format", "json").out)
    found = checked["models"][0]["summary"]["npu_macs_percent"]
    assert found == pytest.approx(share, abs=0.05)
    assert cut["npu_macs_percent"] == cut["runnable_macs_percent"] == pytest.approx(found, abs=0.05)


def test_without_a_folder_it_says_how_to_write_the_pieces(original: Path, program: Cli, tmp_path: Path) -> None:
    told = "Nothing was written. To write each piece as a model, and compare them with the whole, add -o FOLDER."
    assert told in program(original, "partition", "net.onnx").out
    done = program(original, "partition", "net.onnx", "-o", tmp_path / "cut")
    assert ("Nothing was written" in done.out, "Wrote " in done.out) == (False, True)


MENDABLE = """g (float[1,8,4,4] x) => (float[1,8,4,4] y) <float[8,8,3,3] w> {
    a = Conv<pads = [1,1,1,1]>(x, w)  b = HardSigmoid(a)  y = Conv<pads = [1,1,1,1]>(b, w) }"""
COMMAND = "npu-guard fix net.onnx -o net.fixed.onnx --profile ethos-u55"


def test_what_fix_mends_is_told_before_it_is_cut(cli: Cli, write: Write) -> None:
    write(MENDABLE)
    told = cli("partition", "net.onnx", "--profile", "ethos-u55").out
    lines = told.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("`fix` comes first: 1 error, fixed exactly"))
    assert lines[at + 1] == f"  {COMMAND}"
    page = cli("partition", "net.onnx", "--profile", "ethos-u55", "--format", "markdown").out
    assert "`fix` comes first: 1 error, fixed exactly" in page
    assert f"`{COMMAND}`" in page
    assert cli(*COMMAND.split()[1:]).code == 0
    mended = cli("partition", "net.fixed.onnx", "--profile", "ethos-u55").out
    assert "1 piece on the NPU, 0 pieces on the host" in mended
    assert "comes first" not in mended


def test_errors_that_no_form_mends_name_no_fix(cli: Cli, write: Write) -> None:
    write(MENDABLE.replace("HardSigmoid", "Erf"))
    told = cli("partition", "net.onnx", "--profile", "ethos-u55")
    assert told.code == 0
    assert "making Erf b compatible" in told.out
    assert "comes first" not in told.out
