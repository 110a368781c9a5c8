"""Whatever a path leads to is a skeleton or one clear line; functions are inlined, within bounds."""

from __future__ import annotations

import gc
import gzip
import io
import json
import os
import pickle
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import onnx
import onnx.parser
import pytest
from onnx import helper

from npu_guard.base.errors import ModelError
from npu_guard.file.load import load, sha256
from npu_guard.file.wire import varint
from npu_guard.graph.build import build

RELU = "g (float[1,8,4,4] x) => (float[1,8,4,4] y) { y = Relu(x) }"
GOOD = f'<ir_version: 10, opset_import: ["" : 20]>\n{RELU}'


def good() -> onnx.ModelProto:
    model: onnx.ModelProto = onnx.parser.parse_model(GOOD)
    return model


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model.onnx", good().SerializeToString())
    return buffer.getvalue()


def changed(change: Callable[[onnx.ModelProto], object]) -> bytes:
    model = good()
    change(model)
    return bytes(model.SerializeToString())


CONTENTS = {
    "empty": (b"", "not-onnx", "empty"),
    "zip": (zipped(), "not-onnx", "zip"),
    "gzip": (gzip.compress(good().SerializeToString()), "not-onnx", "gzip"),
    "pickle": (pickle.dumps({"state": [1, 2]}), "not-onnx", "pickle"),
    "old-pickle": (pickle.dumps({"state": [1, 2]}, 2), "not-onnx", "pickle"),
    "html": (b"<!DOCTYPE html><html>404</html>", "not-onnx", "HTML"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "not-onnx", "git lfs pull"),
    "json": (json.dumps({"graph": {}}).encode(), "not-onnx", "JSON"),
    "ort": (b"\x20\x00\x00\x00ORTM" + bytes(40), "not-onnx", ".ort"),
    "tflite": (b"\x1c\x00\x00\x00TFL3" + bytes(40), "not-onnx", "TensorFlow Lite"),
    "keras": (b"\x89HDF\r\n\x1a\n" + bytes(40), "not-onnx", "Keras"),
    "truncated": (good().SerializeToString()[:-5], "truncated", "ends in the middle"),
    "noise": (bytes(range(255, 0, -1)), "not-onnx", "protobuf"),
    "zeros": (bytes(5000), "not-onnx", "protobuf"),
    "words": (b"hello, this is no model\n", "not-onnx", ""),
    "no-graph": (changed(lambda m: m.ClearField("graph")), "not-onnx", "no graph"),
    "opset": (changed(lambda m: setattr(m.opset_import[0], "version", 999)), "unsupported-version", "999"),
    "opset-0": (changed(lambda m: setattr(m.opset_import[0], "version", 0)), "invalid", "opset"),
    "opset-negative": (changed(lambda m: setattr(m.opset_import[0], "version", -1)), "invalid", "opset"),
    "opset-none": (changed(lambda m: m.ClearField("opset_import")), "invalid", "opset"),
    "opset-twice": (changed(lambda m: m.opset_import.add(domain="ai.onnx", version=9)), "invalid", "two versions"),
    "ir": (changed(lambda m: setattr(m, "ir_version", 999)), "unsupported-version", "999"),
    "ir-0": (changed(lambda m: setattr(m, "ir_version", 0)), "not-onnx", "ir_version"),
    "bad-text": (b'<ir_version: 10, opset_import: ["" : 20]>\ng (float[1] x) => (float[1] y) { y = Relu( }', "not-onnx", "text"),
    "text-utf16": ("<ir_version".encode("utf-16"), "not-onnx", ""),
    "text-binary": (b"<\xff\xfe\x00", "not-onnx", "text"),
}


@pytest.mark.parametrize("case", CONTENTS)
def test_what_is_no_model_gets_one_line(tmp_path: Path, case: str) -> None:
    content, kind, word = CONTENTS[case]
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        load(path)
    message = str(caught.value)
    assert caught.value.kind == kind
    assert word in message
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert caught.value.exit_code == 3


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file") as caught:
        load(tmp_path / "absent.onnx")
    assert caught.value.kind == "missing"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("models/nett.onnx", "models/nett.onnx: no such file; did you mean 'models/net.onnx'?"),
        ("nothing/like/it.onnx", "nothing/like/it.onnx: no such file"),
        ("package.blocks", "; Python code is named with what makes the network, such as package.blocks:Net"),
        ("package.blokcs", "; Python code is named with what makes the network, such as package.blocks:Net"),
        ("package/blocks.py", "package/blocks.py: is no ONNX file; Python code is named with what makes the network, such as"
         " package/blocks.py:Net"),
        ("package/__init__.py", "Python code is named with what makes the network: package/__init__.py:CALLABLE"),
    ],
)  # fmt: skip
def test_what_may_have_been_meant(name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for file, content in {
        "models/net.onnx": "", "package/__init__.py": "", "package/blocks.py": "class Small: ...\nclass Net(nn.Module): ...\n",
    }.items():  # fmt: skip
        Path(file).parent.mkdir(exist_ok=True)
        Path(file).write_text(content, encoding="utf-8")
    with pytest.raises(ModelError) as caught:
        load(name)
    assert str(caught.value).endswith(said)


@pytest.mark.parametrize("name", ["nul\0byte", "x" * 300])
def test_names_that_no_file_can_have(name: str) -> None:
    with pytest.raises(ModelError, match="cannot be opened"):
        load(name)


def test_folders_pipes_and_devices(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path, pipe, Path("/dev/zero")):
        before = time.monotonic()
        with pytest.raises(ModelError) as caught:
            load(path)
        assert caught.value.kind == "unreadable"
        assert time.monotonic() - before < 300, "it blocks"


def test_no_descriptor_is_leaked(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"{}")
    good_path = tmp_path / "good.onnx"
    good_path.write_bytes(good().SerializeToString())
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        load(good_path)
        for bad in (path, tmp_path):
            with pytest.raises(ModelError):
                load(bad)
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize("text", [GOOD, f"\n   \t{GOOD}\n"])
def test_text_format(tmp_path: Path, text: str) -> None:
    path = tmp_path / "model.txt"
    path.write_text(text)
    assert load(path).proto == good()


def test_any_name_and_links(tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe \n.onnx")
    Path(odd).write_bytes(good().SerializeToString())
    link = tmp_path / "link.onnx"
    link.symlink_to(odd)
    for path in (odd, link):
        skeleton = load(path)
        assert skeleton.proto == good()
        assert skeleton.opset == 20
    assert sha256(link) == sha256(odd)


def test_loop_of_links(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(ModelError, match="cannot be opened"):
        load(tmp_path / "a")


def test_no_permission(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(good().SerializeToString())
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("running as root")
    with pytest.raises(ModelError, match="cannot be opened"):
        load(path)


def test_too_deep_for_protobuf(tmp_path: Path) -> None:
    kind = b"\x0a\x02\x08\x01"  # tensor(float)
    for _ in range(120):
        kind = b"\x0a" + varint(len(kind)) + kind  # sequence of
        kind = b"\x22" + varint(len(kind)) + kind
    entry = b"\x0a\x04deep\x12" + varint(len(kind)) + kind
    graph = good().graph.SerializeToString() + b"\x5a" + varint(len(entry)) + entry
    path = tmp_path / "m.onnx"
    path.write_bytes(changed(lambda m: m.ClearField("graph")) + b"\x3a" + varint(len(graph)) + graph)
    with pytest.raises(ModelError) as caught:
        load(path)
    assert caught.value.kind == "limit"


def function(name: str, calls: list[str]) -> onnx.FunctionProto:
    nodes = []
    before = "x"
    for index, op in enumerate(calls):
        nodes.append(helper.make_node(op, [before], [f"v{index}"], domain="" if op == "Relu" else "f"))
        before = f"v{index}"
    nodes.append(helper.make_node("Identity", [before], ["y"]))
    return helper.make_function("f", name, ["x"], ["y"], nodes, [helper.make_opsetid("", 20), helper.make_opsetid("f", 1)])


def with_functions(functions: list[onnx.FunctionProto], call: str) -> onnx.ModelProto:
    model = good()
    model.opset_import.add(domain="f", version=1)
    model.functions.extend(functions)
    model.graph.node[0].op_type, model.graph.node[0].domain = call, "f"
    return model


def test_functions_are_inlined(save: Callable[..., Path]) -> None:
    model = with_functions([function("A", ["Relu", "Relu"]), function("B", ["A", "Relu", "A"])], "B")
    skeleton = load(save(model))
    assert not skeleton.proto.functions
    nodes = [node.op_type for node in build(skeleton).graph.nodes]
    assert nodes.count("Relu") == 5
    assert not {"A", "B"} & set(nodes)


def imports(function: onnx.FunctionProto, **versions: int) -> onnx.FunctionProto:
    for entry in function.opset_import:
        entry.version = versions.get(entry.domain or "onnx", entry.version)
    return function


@pytest.mark.parametrize("versions", [{"onnx": 19}, {"f": 3}, {"onnx": 19, "f": 2}])
def test_functions_of_another_opset_are_inlined_where_that_changes_nothing(
    save: Callable[..., Path], versions: dict[str, int]
) -> None:
    """The inliner leaves their calls as they are, and what is in them would be read by nobody."""
    model = with_functions([imports(function("A", ["Relu"]), **versions), function("B", ["A"])], "B")
    nodes = [node.op_type for node in build(load(save(model))).graph.nodes]
    assert nodes.count("Relu") == 1
    assert not {"A", "B"} & set(nodes)


def test_functions_of_an_opset_with_other_operators_are_refused(save: Callable[..., Path]) -> None:
    old = function("A", ["Relu"])
    old.node[0].CopyFrom(helper.make_node("ReduceMax", ["x"], ["v0"], axes=[2, 3]))  # opset 18 made axes an input
    with pytest.raises(ModelError, match=r"'f::A' is written for opset 17 and the model for 20, where '[A-Za-z]+' is another"):
        load(save(with_functions([imports(old, onnx=17)], "A")))


def test_functions_in_bodies_are_inlined(save: Callable[..., Path]) -> None:
    model = with_functions([function("A", ["Relu"])], "A")
    shape = helper.make_tensor_value_info("z", 1, [1, 8, 4, 4])
    body = helper.make_graph([helper.make_node("A", ["x"], ["z"], domain="f")], "b", [], [shape])
    model.graph.input.add(name="c", type=helper.make_tensor_type_proto(onnx.TensorProto.BOOL, []))
    model.graph.node[0].CopyFrom(helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body))
    graph = build(load(save(model))).graph
    assert [node.op_type for node in graph.walk()].count("Relu") == 2


@pytest.mark.parametrize("functions", [
    [function("A", ["A"])],
    [function("A", ["B"]), function("B", ["A"])],
    [function("A", ["B"]), function("B", ["C"]), function("C", ["Relu", "B"])],
])  # fmt: skip
def test_recursion_is_refused(save: Callable[..., Path], functions: list[onnx.FunctionProto]) -> None:
    with pytest.raises(ModelError, match="calls itself") as caught:
        load(save(with_functions(functions, "A")))
    assert caught.value.kind == "invalid"


def test_billion_laughs_are_refused_quickly(save: Callable[..., Path]) -> None:
    functions = [function("F0", ["Relu", "Relu"])] + [function(f"F{i}", [f"F{i - 1}", f"F{i - 1}"]) for i in range(1, 30)]
    before = sum(os.times()[:4])
    with pytest.raises(ModelError, match="expand") as caught:
        load(save(with_functions(functions, "F29")))
    assert caught.value.kind == "limit"
    assert sum(os.times()[:4]) - before < 2


@pytest.mark.parametrize(("depth", "fine"), [(100, True), (200, False), (3000, False)])
def test_call_depth(save: Callable[..., Path], depth: int, fine: bool) -> None:
    functions = [function("F0", ["Relu"])] + [function(f"F{i}", [f"F{i - 1}"]) for i in range(1, depth)]
    path = save(with_functions(functions, f"F{depth - 1}"))
    if fine:
        load(path)
    else:
        with pytest.raises(ModelError) as caught:
            load(path)
        assert caught.value.kind == "limit"


def test_two_functions_of_one_name(save: Callable[..., Path]) -> None:
    with pytest.raises(ModelError) as caught:
        load(save(with_functions([function("A", ["Relu"]), function("A", ["Relu", "Relu"])], "A")))
    assert caught.value.kind == "invalid"


def test_functions_may_share_names_across_overloads(save: Callable[..., Path]) -> None:
    other = function("A", ["Relu", "Relu", "Relu"])
    other.overload = "long"
    model = with_functions([function("A", ["Relu"]), other], "A")
    model.graph.node[0].overload = "long"
    nodes = [node.op_type for node in build(load(save(model))).graph.nodes]
    assert nodes.count("Relu") == 3
