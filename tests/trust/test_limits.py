"""What a model may claim: each limit refuses one beyond it and names itself, and lets through what is at it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnx.parser
import pytest

from npu_guard.analysis.analyze import analyze
from npu_guard.base.errors import ModelError
from npu_guard.base.limits import Limits
from npu_guard.file import parsed_size
from npu_guard.file.load import load

HEADER = '<ir_version: 10, opset_import: ["" : 20{}]>'
CHAIN = (
    HEADER.format("")
    + """
g (float[1,8,2,2] x) => (float[1,8,2,2] y)
   <float[1,8,1,1] scale = {1,2,3,4,5,6,7,8}, float[1] shift = {1}> {
   hidden = Mul(x, scale)
   moved = Add(hidden, shift)
   y = Relu(moved)
}"""
)
NESTED = (
    HEADER.format("")
    + """
g (bool c, float[4] x) => (float[4] y) {
   y = If(c) <
      then_branch = t () => (float[4] a) { a = If(c) <then_branch = u () => (float[4] p) { p = Relu(x) },
                                                     else_branch = v () => (float[4] q) { q = Abs(x) }> },
      else_branch = e () => (float[4] b) { b = Neg(x) }>
}"""
)
CALLS = (
    HEADER.format(', "local" : 1')
    + """
g (float[4] x) => (float[4] y) { h = local.outer(x) y = local.inner(h) }
<domain: "local", opset_import: ["" : 20]> inner (a) => (b) { c = Relu(a) b = Abs(c) }
<domain: "local", opset_import: ["" : 20, "local" : 1]> outer (a) => (b) { c = local.inner(a) b = Neg(c) }"""
)


@pytest.mark.parametrize(
    ("key", "most", "text"),
    [
        ("nodes", 3, CHAIN),
        ("nodes", 5, CALLS),  # Relu, Abs, Neg; Relu, Abs
        ("nodes", 5, NESTED),
        ("tensors", 2, CHAIN),
        ("name-bytes", 6, CHAIN.replace("scale", "s")),
        ("nesting", 2, NESTED),
        ("graphs", 4, NESTED),
        ("attributes", 4, NESTED),
        ("call-depth", 2, CALLS),
        ("elements", 32, CHAIN),
    ],
)
def test_limits(tmp_path: Path, key: str, most: int, text: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    analyze(load(path, Limits(**{key.replace("-", "_"): most})))
    with pytest.raises(ModelError) as caught:
        analyze(load(path, Limits(**{key.replace("-", "_"): most - 1})))
    assert caught.value.kind == "limit"
    assert f" {most}; the limit is {most - 1} ({key!r} in [tool.npu-guard.limits])" in str(caught.value)


CALLED = (
    HEADER.format(', "local" : 1')
    + """
g (float[4] x) => (float[4] y) { h = local.f(x) y = local.f(h) }
<domain: "local", opset_import: ["" : 20, "own" : 1]> f (a) => (b) { b = own.Foo<text = "%s">(a) }"""
)


@pytest.mark.parametrize("length", [100, 1000])
def test_bytes_of_functions_are_counted_where_they_are_called(tmp_path: Path, length: int) -> None:
    path = tmp_path / "m.onnx"
    model = onnx.parser.parse_model(CALLED % ("t" * length))
    path.write_bytes(model.SerializeToString())
    size = model.graph.ByteSize() + 2 * model.functions[0].ByteSize()
    load(path, Limits(structure_bytes=size))
    with pytest.raises(ModelError, match=f"functions expanded: {size}; the limit is {size - 1} .'structure-bytes'"):
        load(path, Limits(structure_bytes=size - 1))


@pytest.mark.parametrize("text", [CHAIN, NESTED])
def test_memory_of_the_structure(tmp_path: Path, text: str) -> None:
    path = tmp_path / "m.onnx"
    data = onnx.parser.parse_model(text).SerializeToString()
    path.write_bytes(data)
    size = parsed_size._parsed(data, 1 << 60)
    load(path, Limits(parsed_bytes=size))
    with pytest.raises(ModelError, match="'parsed-bytes'") as caught:
        load(path, Limits(parsed_bytes=size - 1))
    assert caught.value.kind == "limit"


def test_functions_are_weighed_where_they_are_called(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    data = onnx.parser.parse_model(CALLS).SerializeToString()
    path.write_bytes(data)
    most = Limits(parsed_bytes=parsed_size._parsed(data, 1 << 60))
    load(path, most)
    many = onnx.parser.parse_model(CALLS)
    many.graph.node[1].input[0] = "v0"
    for i in range(40):
        many.graph.node.add(op_type="outer", domain="local", input=["x"], output=[f"v{i}"])
    path.write_bytes(many.SerializeToString())
    before = Limits(parsed_bytes=parsed_size._parsed(many.SerializeToString(), 1 << 60))
    with pytest.raises(ModelError, match="'parsed-bytes'"):
        load(path, before)


def test_text_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "m").write_text(CHAIN)
    load(tmp_path / "m", Limits(text_bytes=len(CHAIN)))
    with pytest.raises(ModelError, match="'text-bytes'"):
        load(tmp_path / "m", Limits(text_bytes=len(CHAIN) - 1))


def test_limits_are_settings_of_the_project(tmp_path: Path, program: Callable[..., Any]) -> None:
    (tmp_path / "m.onnx").write_bytes(onnx.parser.parse_model(CHAIN).SerializeToString())
    (tmp_path / "npu-guard.toml").write_text("[limits]\nnodes = 2\n")
    done = program(tmp_path, "check", "m.onnx")
    assert done.code == 3
    assert "m.onnx: nodes: 3; the limit is 2 ('nodes' in [tool.npu-guard.limits])" in done.out + done.err
    (tmp_path / "npu-guard.toml").write_text("[limits]\nnode = 2\n")
    done = program(tmp_path, "check", "m.onnx")
    assert done.code == 2
    assert "unknown key 'node'" in done.err


Make = Callable[..., Path]


@pytest.fixture
def beside(tmp_path: Path) -> Make:
    """A model whose only weight, 32 bytes, is said to lie beside it."""

    def make(location: str = "w.bin", **entries: int) -> Path:
        model = onnx.parser.parse_model(CHAIN)
        weight = model.graph.initializer[0]
        for field in ("raw_data", "float_data"):
            weight.ClearField(field)
        weight.data_location = onnx.TensorProto.EXTERNAL
        for key, value in {"location": location, **entries}.items():
            weight.external_data.add(key=key, value=str(value))
        (tmp_path / "net").mkdir()
        path = tmp_path / "net" / "m.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return make


def weights(folder: Path, how: str) -> None:
    """Something called w.bin in the folder."""
    file, outside = folder / "w.bin", folder.parent / "secret.bin"
    outside.write_bytes(bytes(64))
    if how == "link":
        file.symlink_to(outside)
    elif how == "hard link":
        file.hardlink_to(outside)
    elif how == "not a regular file":
        file.mkdir()
    elif how != "missing":
        file.write_bytes(bytes(int(how)))


@pytest.mark.parametrize("how", ["missing", "link", "hard link", "not a regular file"])
def test_weights_beside_the_model_are_plain_files(beside: Make, how: str) -> None:
    path = beside()
    weights(path.parent, how)
    with pytest.raises(ModelError, match=f"initializer 'scale' keeps its data .*{how}"):
        analyze(load(path))
    analyze(load(path, Limits(external_data="unchecked")))


def test_a_folder_behind_a_link(beside: Make, tmp_path: Path) -> None:
    path = beside("sub/w.bin")
    (tmp_path / "real").mkdir()
    weights(tmp_path / "real", "32")
    (path.parent / "sub").symlink_to(tmp_path / "real")
    with pytest.raises(ModelError, match="behind a link"):
        analyze(load(path))


@pytest.mark.parametrize(
    ("entries", "size"),
    [({}, 32), ({"offset": 4}, 36), ({"offset": 4, "length": 32}, 36)],
)
def test_weights_lie_inside_their_file(beside: Make, entries: dict[str, int], size: int) -> None:
    path = beside(**entries)
    weights(path.parent, str(size))
    analyze(load(path))
    (path.parent / "w.bin").write_bytes(bytes(size - 1))
    with pytest.raises(ModelError, match=f"keeps 32 bytes of data at offset .* which has {size - 1} bytes; .*git lfs pull"):
        analyze(load(path))


def test_extents_beyond_64_bits_do_not_wrap(beside: Make) -> None:
    path = beside(offset=2**64 - 16, length=32)
    weights(path.parent, "64")
    with pytest.raises(ModelError, match="which has 64 bytes"):
        analyze(load(path))


def test_weights_are_not_opened(beside: Make) -> None:
    path = beside()
    weights(path.parent, "32")
    (path.parent / "w.bin").chmod(0)
    before = (path.parent / "w.bin").stat().st_atime_ns
    analyze(load(path))
    assert (path.parent / "w.bin").stat().st_atime_ns == before


@pytest.mark.parametrize(
    ("node", "says"),
    [
        ("y = Transpose<perm = [0, 1]>()", "(Transpose) has 0 inputs; ONNX wants 1"),
        ("y = Relu(x, x)", "(Relu) has 2 inputs; ONNX wants 1"),
        ("y = Conv(x)", "(Conv) has 1 inputs; ONNX wants 2 to 3"),
        ("y, z = Relu(x)", "(Relu) has 2 outputs; ONNX wants 1"),
        ("y = Concat<axis = 0>()", "(Concat) has 0 inputs; ONNX wants at least 1"),
    ],
)
def test_numbers_of_inputs_and_outputs(tmp_path: Path, node: str, says: str) -> None:
    path = tmp_path / "m.onnx"
    model = onnx.parser.parse_model(f"{HEADER.format('')} g (float[4,4] x) => (float[4,4] y) {{ {node} }}")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError) as caught:
        analyze(load(path))
    assert says in str(caught.value)
