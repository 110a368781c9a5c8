"""`fix` to the same place again: what an earlier run left beside the model goes, and nothing else does."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest

from npu_guard.file.document import Document
from npu_guard.file.load import load
from npu_guard.file.save import save_document

if TYPE_CHECKING:
    from conftest import Cli, Write

NET = """g (float[1,8,24,24] x) => (float[1,8,24,24] y)
<float[8,8,19,3] w, float[8,8,3,3] k> { a = Conv<pads = [9,1,9,1]>(x, w)  y = Conv<pads = [1,1,1,1]>(a, k) }"""


def source(write: Write, folder: Path, seed: int, external: bool = True) -> None:
    """net.onnx, each time with other weights."""
    model = onnx.load(write(NET))
    weight = next(t for t in model.graph.initializer if t.name == "k")
    array = np.random.default_rng(seed).standard_normal((8, 8, 3, 3)).astype(np.float32)
    weight.CopyFrom(onnx.numpy_helper.from_array(array, "k"))
    for name in ("net.onnx", "net.data"):
        (folder / name).unlink(missing_ok=True)
    if external:
        onnx.save(model, folder / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=64)
    else:
        onnx.save(model, folder / "net.onnx")


def data(folder: Path) -> list[str]:
    return sorted(f.name for f in folder.glob("out.onnx.*"))


def run(cli: Cli) -> None:
    assert cli("fix", "net.onnx", "-o", "out.onnx").code == 0
    assert cli("verify", "net.onnx", "out.onnx").code == 0


def test_the_data_of_an_earlier_run_goes(cli: Cli, write: Write, tmp_path: Path) -> None:
    source(write, tmp_path, 0)
    run(cli)
    (first,) = data(tmp_path)
    run(cli)
    assert data(tmp_path) == [first], "the same data, and still needed"
    source(write, tmp_path, 1)
    run(cli)
    (second,) = data(tmp_path)
    assert second != first
    source(write, tmp_path, 2, external=False)
    run(cli)
    assert data(tmp_path) == []
    assert sorted(f.name for f in tmp_path.iterdir()) == ["net.onnx", "out.onnx"]


@pytest.mark.parametrize("how", ["changed", "copied model", "other name", "not named", "link"])
def test_what_may_be_the_users_stays(cli: Cli, write: Write, tmp_path: Path, how: str) -> None:
    source(write, tmp_path, 0)
    run(cli)
    (name,) = data(tmp_path)
    old = tmp_path / name
    if how == "changed":
        old.write_bytes(old.read_bytes()[:-1] + b"!")
    elif how == "copied model":
        shutil.copy(tmp_path / "out.onnx", tmp_path / "before.onnx")
    elif how == "other name":
        model = onnx.load(tmp_path / "out.onnx")
        old.unlink()
        old = tmp_path / "out.onnx.data"
        onnx.save(model, tmp_path / "out.onnx", save_as_external_data=True, location=old.name, size_threshold=64)
    elif how == "not named":
        other = old.with_name("out.onnx.00000000.data")
        shutil.copy(old, other)
        old = other
    else:
        shutil.move(old, tmp_path / "elsewhere")
        old.symlink_to("elsewhere")
    content = old.read_bytes()
    source(write, tmp_path, 1)
    assert cli("fix", "net.onnx", "-o", "out.onnx").code == 0
    assert old.read_bytes() == content
    if how == "copied model":
        onnx.load(tmp_path / "before.onnx")


def test_what_is_not_written_removes_nothing(cli: Cli, write: Write, tmp_path: Path) -> None:
    source(write, tmp_path, 0)
    run(cli)
    before = {f.name: f.read_bytes() for f in tmp_path.glob("out.*")}
    source(write, tmp_path, 1)
    assert cli("fix", "net.onnx", "-o", "out.onnx", "--dry-run").code == 0
    assert {f.name: f.read_bytes() for f in tmp_path.glob("out.*")} == before


def test_sizes_of_many_parts_stay_in_a_model_whose_weights_are_beside_it(cli: Cli, write: Write, tmp_path: Path) -> None:
    """ONNX Runtime reads the sizes of a Split where it loads the graph, and not from another file."""
    text = """g (float[1,200,8,8] x) => (float[1,200,8,8] y) <float[200,200,1,1] w, float[200,1,19,1] k> {
        a = Conv(x, w)  y = Conv<group = 200, pads = [9,0,9,0]>(a, k) }"""
    onnx.save(onnx.load(write(text)), tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=64)
    document = Document.of(load(str(tmp_path / "net.onnx")))
    sizes = onnx.numpy_helper.from_array(np.ones(200, np.int64), "sizes")
    document.proto.graph.initializer.append(sizes)
    node = onnx.helper.make_node("Split", ["x", "sizes"], [f"p{i}" for i in range(200)], axis=1)
    document.proto.graph.node.append(node)
    save_document(document, tmp_path / "out.onnx")
    placed = {t.name: t.data_location for t in onnx.load(tmp_path / "out.onnx", load_external_data=False).graph.initializer}
    assert placed == {"w": onnx.TensorProto.EXTERNAL, "k": onnx.TensorProto.EXTERNAL, "sizes": onnx.TensorProto.DEFAULT}
    onnxruntime.InferenceSession(tmp_path / "out.onnx")
