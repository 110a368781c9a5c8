"""Source mapping: which line and which module a node is said to come from."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from npu_guard.file.load import load
from npu_guard.graph.build import build
from npu_guard.graph.graph import Graph
from npu_guard.graph.origin import scope_of, source_of

STACK, SCOPES = "pkg.torch.onnx.stack_trace", "pkg.torch.onnx.name_scopes"
TORCH = "/env/lib/python3.12/site-packages/torch/nn/modules/conv.py"


def graph(
    folder: Path, text: str, metadata: dict[str, dict[str, str]] | None = None, docs: dict[str, str] | None = None
) -> Graph:
    """A graph in ONNX text, with metadata and doc strings by output name."""
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]>\n{text}')
    for node in model.graph.node:
        for key, value in (metadata or {}).get(node.output[0], {}).items():
            node.metadata_props.add(key=key, value=value)
        node.doc_string = (docs or {}).get(node.output[0], "")
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return build(load(path)).graph


def frames(*places: tuple[str, int, str]) -> str:
    """A stack in dynamo's layout, outermost frame first."""
    return "\n  ".join(f'File "{file}", line {line}, in {function}\n    code' for file, line, function in places)


ONE = "g (float[1,8,4,4] x) => (float[1,8,4,4] y) { y = Relu(x) }"


def line_of(folder: Path, stack: str, root: Path | None, docs: str = "") -> tuple[str, int, str] | None:
    found = graph(folder, ONE, {"y": {STACK: stack}} if stack else None, {"y": docs})
    source = source_of(found.nodes[0], root)
    return None if source is None else (source.file, source.line, source.function)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    for name in ("net/blocks.py", "train.py", "torch/nn/mine.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("code\n" * 50, encoding="utf-8")
    return root


@pytest.mark.parametrize(
    "stack",
    [
        [("/old/net/blocks.py", 7, "forward"), (TORCH, 10, "forward")],
        [("/old/train.py", 3, "main"), ("/old/net/blocks.py", 7, "forward")],
        [("/old/net/blocks.py", 7, "forward"), ("/src/pytorch/torch/nn/functional.py", 10, "relu")],
        [("/old/net/blocks.py", 7, "forward"), ("<eval_with_key>.3", 1, "forward")],
        [("net/blocks.py", 7, "forward")],
        [("C:\\work\\old\\net\\blocks.py", 7, "forward"), ("C:\\Python\\Lib\\site-packages\\timm\\a.py", 7, "f")],
        [("/old/net/blocks.py", 7, "forward"), ("/elsewhere/helpers/act.py", 2, "act")],
    ],
    ids=["torch", "innermost", "torch-checkout", "generated", "relative", "windows", "other-project"],
)
def test_the_innermost_line_of_the_project(stack: list[tuple[str, int, str]], checkout: Path, tmp_path: Path) -> None:
    assert line_of(tmp_path, frames(*stack), checkout) == ("net/blocks.py", 7, "forward")


def test_a_folder_of_the_project_may_be_called_torch(checkout: Path, tmp_path: Path) -> None:
    assert line_of(tmp_path, frames(("torch/nn/mine.py", 4, "forward")), checkout) == ("torch/nn/mine.py", 4, "forward")


def test_without_the_checkout_the_end_of_the_path_is_left(tmp_path: Path) -> None:
    stack = frames(("/home/me/net/blocks.py", 7, "forward"), (TORCH, 1, "forward"))
    assert line_of(tmp_path, stack, None) == ("net/blocks.py", 7, "forward")
    assert line_of(tmp_path, frames((TORCH, 1, "forward")), None) is None
    assert line_of(tmp_path, frames(("../../etc/passwd", 1, "f")), tmp_path) == ("etc/passwd", 1, "f")


VERBOSE = f"{TORCH}(560): _conv_forward\n/old/net/blocks.py(7): forward\n/old/train.py(3): main\n"


def test_doc_strings_of_the_older_exporter(checkout: Path, tmp_path: Path) -> None:
    assert line_of(tmp_path, "", checkout, VERBOSE) == ("net/blocks.py", 7, "forward")
    assert line_of(tmp_path, "", None, "module.py(1751): _call_impl\n") is None
    assert line_of(tmp_path, "", None, "A layer (of 3): nothing to see\n") is None


THREE = "g (float[1,8,4,4] x) => (float[1,8,4,4] y) { a = Relu(x)  b = Sigmoid(a)  y = Tanh(b) }"


@pytest.mark.parametrize(("after", "line"), [(7, 7), (8, None)], ids=["certain", "two lines"])
def test_a_node_that_was_put_in_between(after: int, line: int | None, tmp_path: Path) -> None:
    around = {
        "a": {STACK: frames(("net/blocks.py", 7, "forward")), SCOPES: "['', 'body', 'relu']"},
        "y": {STACK: frames(("net/blocks.py", after, "forward")), SCOPES: "['', 'body', 'tanh']"},
    }
    node = graph(tmp_path, THREE, around).nodes[1]
    source = source_of(node, None)
    assert (source.line if source else None) == line
    assert scope_of(node) == ("body",)


def test_nothing_is_guessed_at_the_ends(tmp_path: Path) -> None:
    node = graph(tmp_path, THREE, {"b": {STACK: frames(("net/blocks.py", 7, "forward"))}}).nodes[2]
    assert source_of(node, None) is None


def conv(folder: Path, **metadata: str) -> tuple[str, ...]:
    """Module of a convolution whose weight has a module's name."""
    name = "layer1.0.conv1.weight"
    node = onnx.helper.make_node("Conv", ["x", name], ["y"])
    for key, value in metadata.items():
        node.metadata_props.add(key=f"pkg.torch.onnx.{key}", value=value)
    x, y = (onnx.helper.make_tensor_value_info(n, 1, [1, 8, 4, 4]) for n in "xy")
    weight = onnx.helper.make_tensor(name, 1, [8, 8, 1, 1], [0.0] * 64)
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [x], [y], [weight]), ir_version=10)
    path = folder / "conv.onnx"
    path.write_bytes(model.SerializeToString())
    return scope_of(build(load(path)).graph.nodes[0])


def test_the_module_of_a_weight(tmp_path: Path) -> None:
    weight = ("layer1", "0", "conv1")
    assert conv(tmp_path) == weight, "a simplifier drops metadata and keeps names"
    folded = "['n.Net', 'n.Block', 'torch.nn.modules.batchnorm.BatchNorm2d', 'aten.native_batch_norm.default']"
    assert conv(tmp_path, name_scopes="['', 'layer1.0', 'layer1.0.bn1', 'bn']", class_hierarchy=folded) == weight
    plain = "['n.Net', 'n.Block', 'aten.conv2d.default']"
    assert conv(tmp_path, name_scopes="['', 'layer1.1', 'conv2d']", class_hierarchy=plain) == ("layer1", "1"), "a shared weight"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("/layer1/layer1.0/conv1/Conv", ("layer1", "0", "conv1")), ("/Reshape", ()), ("Conv_12", ())],
)
def test_names_of_the_older_exporter(name: str, expected: tuple[str, ...], tmp_path: Path) -> None:
    found = graph(tmp_path, ONE)
    found.nodes[0].name = name
    assert scope_of(found.nodes[0]) == expected


@pytest.mark.parametrize("value", ["[", "[1]", "'x'", "[" * 5000, "['a'" + ", 'b'" * 40_000 + "]"])
def test_metadata_that_are_none(value: str, tmp_path: Path) -> None:
    assert scope_of(graph(tmp_path, ONE, {"y": {SCOPES: value}}).nodes[0]) == ()
