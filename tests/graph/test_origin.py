"""Module paths and lines of Python, from what exporters write and from what nobody should believe."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import helper

from npu_guard.graph.graph import Model, Node
from npu_guard.graph.origin import input_location, location_of, scope_of, source_of

View = Callable[..., Model]
SCOPES, STACK = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.stack_trace"


@pytest.fixture
def make(view: View) -> Callable[..., Node]:
    def node(name: str = "", **metadata: str) -> Node:
        proto = helper.make_node("Relu", ["x"], ["y"], name=name)
        for key, text in metadata.items():
            proto.metadata_props.add(key={"scopes": SCOPES, "stack": STACK}[key], value=text)
        entries = [helper.make_tensor_value_info(n, 1, [1]) for n in "xy"]
        graph = helper.make_graph([proto], "g", entries[:1], entries[1:])
        model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
        return view(model).graph.nodes[0]

    return node


@pytest.mark.parametrize(
    ("name", "scope"),
    [
        ("/Relu", ()),
        ("/conv1/Conv", ("conv1",)),
        ("/layer1/layer1.0/conv1/Conv", ("layer1", "0", "conv1")),
        ("/layer1/layer1.0/downsample/downsample.1/BatchNormalization", ("layer1", "0", "downsample", "1")),
        ("/encoder/layers/layers.11/self_attn/MatMul_1", ("encoder", "layers", "11", "self_attn")),
        ("Conv_12", ()),
        ("", ()),
        ("//", ()),
        ("/a/b/a/b/Relu", ("a", "b", "a", "b")),
        ("/a/ab/Relu", ("a", "ab")),
    ],
)
def test_scopes_of_the_older_exporter(make: Callable[..., Node], name: str, scope: tuple[str, ...]) -> None:
    assert scope_of(make(name)) == scope


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("['', 'layer1', 'layer1.0', 'layer1.0.conv1', 'conv2d_3']", ("layer1", "0", "conv1")),
        ("['', 'relu']", ()),
        ("['relu']", ()),
        ("[]", ()),
    ],
)
def test_scopes_of_dynamo(make: Callable[..., Node], text: str, scope: tuple[str, ...]) -> None:
    assert scope_of(make("node_relu", scopes=text)) == scope


@pytest.mark.parametrize(
    "text",
    ["__import__('os').system('true')", "[1, 2]", "{'a': 1}", "[", "'" * 5000, "[" * 50_000, "(" * 90 + ")" * 90, "1" * 70_000,
     "-" * 60_000 + "1", "['\\x00', '\\x1b[31m', 'a']", "lambda: 0", "9**9**9", "'\\q'", "\0"],
)  # fmt: skip
def test_scopes_that_are_none(make: Callable[..., Node], text: str) -> None:
    before = time.process_time()
    location_of(make("n", scopes=text))
    assert time.process_time() - before < 2


def trace(*frames: tuple[str, int, str]) -> str:
    return "".join(f'File "{file}", line {line}, in {function}\n    code()\n' for file, line, function in frames)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    for name in ("net/blocks.py", "train.py", "torch/own.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    return root


LIBRARY = ("/venv/lib/python3.11/site-packages/torch/nn/modules/module.py", 1751, "_call_impl")
CONV = ("/venv/lib/python3.11/site-packages/torch/nn/modules/conv.py", 548, "forward")


def test_innermost_frame_of_the_user(make: Callable[..., Node], checkout: Path) -> None:
    stack = trace((f"{checkout}/train.py", 3, "main"), LIBRARY, (f"{checkout}/net/blocks.py", 29, "forward"), LIBRARY, CONV)
    source = source_of(make(stack=stack, scopes="['', 'sa', 'sa.q', 'conv']"), checkout)
    assert source is not None
    assert (source.file, source.line, source.function, source.module) == ("net/blocks.py", 29, "forward", "sa.q")


@pytest.mark.parametrize("prefix", ["/home/somebody/else/project", "C:\\work\\project", "/builds/ci"])
def test_a_checkout_elsewhere(make: Callable[..., Node], checkout: Path, prefix: str) -> None:
    separator = "\\" if "\\" in prefix else "/"
    file = separator.join([prefix, "net", "blocks.py"])
    source = source_of(make(stack=trace((file, 7, "forward"))), checkout)
    assert source is not None
    assert source.file == "net/blocks.py"


def test_a_file_that_is_not_here(make: Callable[..., Node], checkout: Path) -> None:
    source = source_of(make(stack=trace(("/elsewhere/secret/net/gone.py", 7, "forward"))), checkout)
    assert source is not None
    assert source.file == "net/gone.py"
    assert source_of(make(stack=trace(("/elsewhere/secret/net/gone.py", 7, "forward"))), None) is not None


def test_a_project_may_have_a_folder_called_torch(make: Callable[..., Node], checkout: Path) -> None:
    source = source_of(make(stack=trace((f"{checkout}/torch/own.py", 5, "forward"), CONV)), checkout)
    assert source is not None
    assert source.file == "torch/own.py"


@pytest.mark.parametrize(
    "stack", ["", "nonsense", trace(LIBRARY, CONV), trace(("<string>", 1, "<module>")), 'File "', "\0" * 100]
)
def test_no_frame_of_the_user(make: Callable[..., Node], stack: str) -> None:
    assert source_of(make(stack=stack), None) is None


def test_no_metadata(make: Callable[..., Node]) -> None:
    assert source_of(make("/a/Relu"), None) is None


@pytest.mark.parametrize(
    "file",
    ["/../../../etc/passwd", "../../../etc/passwd", "/a/" + "b" * 300 + "/c.py", "/" + "a/" * 400 + "b.py", "/etc/\0/x.py",
     "C:/../../windows", "//server/share/x.py", "."],
)  # fmt: skip
def test_hostile_paths(make: Callable[..., Node], checkout: Path, file: str) -> None:
    before = time.process_time()
    source = source_of(make(stack=trace((file, 1, "f"))), checkout)
    assert time.process_time() - before < 1
    if source is not None:
        assert not source.file.startswith("/")
        assert ".." not in source.file.split("/")


@pytest.mark.parametrize(
    "stack", ['File "' * 20_000, 'File "a", line ' * 5000, "x" * 2_000_000, 'File "a.py", line 99999999999999, in f\n']
)
def test_hostile_stacks_are_bounded(make: Callable[..., Node], stack: str) -> None:
    before = time.process_time()
    source_of(make(stack=stack), None)
    assert time.process_time() - before < 2


def test_places_of_bodies_and_of_unnamed_nodes(view: View) -> None:
    graph = view("""g (bool c, float[1,4] x) => (float[1,4] y) {
      y = If (c) <then_branch = t () => (float[1,4] a) { a = Relu(x) }, else_branch = e () => (float[1,4] b) { b = Neg(x) }>
    }""").graph
    inner = [location_of(node) for node in graph.walk()][1]
    assert (inner.node, inner.op_type, inner.output, inner.graph) == ("a", "Relu", "a", ("If.then_branch",))
    assert input_location(graph.inputs[1]).op_type == "graph input"


def test_metadata_that_is_not_utf8(view: View, make: Callable[..., Node]) -> None:
    model = make("n", scopes="['', 'abc', 'r']").graph.model.skeleton.proto
    broken = onnx.ModelProto()
    try:
        broken.ParseFromString(model.SerializeToString().replace(b"'abc'", b"'a\xffc'"))
    except Exception:
        pytest.skip("this protobuf refuses invalid UTF-8")
    location_of(view(broken).graph.nodes[0])


@pytest.mark.parametrize(
    ("name", "scope"),
    [
        ("model/block_1/conv/Conv2D", ("model", "block_1", "conv")),
        ("model_1/re_lu_1/Relu;model_1/conv2d/Conv2D;model_1/conv2d/BiasAdd", ("model_1", "re_lu_1")),
        ("StatefulPartitionedCall/net/dense.2/MatMul__17", ("StatefulPartitionedCall", "net", "dense.2")),
        ("Relu__90", ()),
        ("conv1/", ("conv1",)),
        ("out/of 3/Relu", ()),  # no layer has a blank in its name
        ("a//Relu", ()),
        ("1/2/Add", ()),
        ("../../etc/passwd", ()),
    ],
)
def test_layers_of_tensorflow(make: Callable[..., Node], name: str, scope: tuple[str, ...]) -> None:
    assert scope_of(make(name)) == scope


@pytest.mark.parametrize(
    ("names", "weights", "scope"),
    [
        (["/mlp/mlp.0/Conv", "/mlp/mlp.0_1/Conv"], ["mlp.0.weight", "mlp.0.weight"], ("mlp", "0")),
        (["/gate/Conv", "/gate_1/Conv"], ["gate.weight", "gate.weight"], ("gate",)),
        (["/act/Conv", "/act_12/Conv"], ["w", "w"], ("act",)),
        (["/conv/Conv", "/conv_1/Conv"], ["conv.weight", "conv_1.weight"], ("conv_1",)),  # two modules
        (["/b/Conv", "/conv_1/Conv"], ["w", "w"], ("conv_1",)),  # nothing is called conv
        # Both: the second call of conv, which the exporter calls like the module conv_1, and a call of that.
        (["/conv/Conv", "/conv_1/Conv", "/conv_1/Conv_1"], ["conv.weight", "conv_1.weight", "conv.weight"], ("conv",)),
        (["/conv/Conv", "/conv_1/Conv_1", "/conv_1/Conv"], ["conv.weight", "conv.weight", "conv_1.weight"], ("conv_1",)),
    ],
)
def test_a_module_that_is_called_twice(
    view: Callable[..., Model], names: list[str], weights: list[str], scope: tuple[str, ...]
) -> None:
    """The older exporter numbers calls; a module with parameters of its own is another one."""
    held = [helper.make_tensor(w, 1, [8, 8, 1, 1], [0.0] * 64) for w in dict.fromkeys(weights)]
    nodes = [helper.make_node("Conv", [x, w], [y], n) for x, y, w, n in zip("xabc", "abcd", weights, names, strict=False)]
    nodes[-1].output[0] = "y"
    ends = [helper.make_tensor_value_info(n, 1, [1, 8, 4, 4]) for n in "xy"]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], held), opset_imports=[helper.make_opsetid("", 17)]
    )
    assert scope_of(view(model).graph.nodes[-1]) == scope
