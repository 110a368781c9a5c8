"""Operators that torch has otherwise: their source computes what ONNX Runtime does, and is exported as the same operator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import Tensor, nn
from torch.nn import functional

import npu_guard.torch
from npu_guard.base.errors import NotVerified
from npu_guard.project.export import export
from npu_guard.training.construct import code_module, constructed
from npu_guard.training.graph import Graph
from npu_guard.training.layout import module_text
from npu_guard.training.operators import WRITERS
from npu_guard.training.writer import Writer
from npu_guard.verification.runtime import Runtime

UNEVEN = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [0, 1, 1, 0]}
OPERATORS = [
    ("DepthToSpace", (2, 8, 3, 3), {"blocksize": 2}),
    ("AveragePool", (2, 3, 7, 8), UNEVEN),
    ("AveragePool", (2, 3, 7, 8), {**UNEVEN, "count_include_pad": 1}),
    ("AveragePool", (2, 3, 7), {"kernel_shape": [3], "strides": [2], "pads": [0, 1]}),
    ("MaxPool", (2, 3, 7, 8), UNEVEN),
    ("Softplus", (2, 3, 7), {}),
]


def written(path: Path) -> nn.Module:
    graph = Graph.read(path)
    with Runtime() as runtime:
        graph.run(runtime, {"x": example(graph.document.proto.graph.input[0])})
    writer = Writer(graph, "Block", lambda _: False, {})
    writer.write(graph.ops, {"x": "x"}, {}, WRITERS)
    block = writer.written
    block.doc, block.arguments, block.result = "One operator.", ["x: Tensor"], writer.value("y")
    made: nn.Module = code_module(module_text([block])).Block()
    return made.eval()


def example(value: onnx.ValueInfoProto) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
    return (30 * np.random.default_rng(0).normal(size=shape)).astype(np.float32)


@pytest.mark.parametrize(("name", "shape", "attributes"), OPERATORS)
def test_operator_is_itself_again(name: str, shape: tuple[int, ...], attributes: dict[str, object], tmp_path: Path) -> None:
    node = helper.make_node(name, ["x"], ["y"], **attributes)
    values = [helper.make_tensor_value_info(n, 1, s) for n, s in (("x", shape), ("y", None))]
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "x.onnx")
    x = example(values[0])
    block = written(tmp_path / "x.onnx")
    export(block, {"x": torch.from_numpy(x)}, tmp_path / "again.onnx")
    with Runtime() as runtime:
        wanted = runtime.run(*Graph.read(tmp_path / "x.onnx").document.runnable(), [{"x": x}])[0]["y"]
    assert np.abs(block(torch.from_numpy(x)).numpy() - wanted).max() < 1e-5
    again = onnx.load(tmp_path / "again.onnx").graph.node
    assert [n.op_type for n in again] == [name]
    given = {a.name: helper.get_attribute_value(a) for a in again[0].attribute}
    assert {k: given[k] for k in attributes} == attributes


def test_parts_of_the_batch_grow_with_it(tmp_path: Path) -> None:
    """What lay behind each other for one sample lies so in blocks of samples."""
    text = "g (float[4,3] x) => (y) { a, b = Split<axis = 0, num_outputs = 2>(x)  y = Sub(a, b) }"
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 18]> {text}')
    onnx.save(model, tmp_path / "x.onnx")
    block, x = written(tmp_path / "x.onnx"), torch.randn(12, 3)
    assert torch.equal(block(x), x[:6] - x[6:])


class Bounded(nn.Module):
    """Bounds on both sides, which a device has by Max and Min and not by Clip, and softplus."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y.clamp(-1.5, 2.5) + functional.softplus(y) + torch.maximum(y, torch.ones(8, 1, 1))


def test_bounds_stay_apart_in_the_export(tmp_path: Path) -> None:
    """Torch's exporter makes a Clip of Max and Min where the bounds are behind; there is none on this device."""
    torch.manual_seed(0)
    done = npu_guard.torch.land(Bounded().eval(), {"x": torch.randn(1, 4, 6, 6)}, tmp_path / "npu", profile="ort-nnapi")
    assert done.proof.same_bits
    assert not done.manifest.refused


class Recurrent(nn.Module):
    """Its module gives a tuple, and the steps of the fixed model are made for one sample."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.steps, self.out = nn.Conv2d(4, 8, 1), nn.LSTM(8, 12, batch_first=True), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.out(self.steps(self.conv(x).mean(2).transpose(1, 2))[0])
        return result


def test_recurrence_is_refused_in_a_sentence(tmp_path: Path) -> None:
    torch.manual_seed(0)
    with pytest.raises(NotVerified, match="a batch of 3 fails"):
        npu_guard.torch.land(Recurrent().eval(), {"x": torch.randn(1, 4, 3, 4)}, tmp_path / "npu")
    assert not (tmp_path / "npu").exists()


@pytest.mark.parametrize(
    ("pads", "more", "form"),
    [
        ([2, 1, 1, 1], [0, 0], "output_padding=(1, 0)"),
        ([2, 1, 2, 2], [1, 0], "[:, :, :, :-1]"),
        ([4, 0, 0, 3], [0, 1], "[:, :, 4:, :-3]"),
    ],
)
def test_a_transposed_convolution_has_other_pads_at_its_end(pads: list[int], more: list[int], form: str, tmp_path: Path) -> None:
    """Torch has the same at both ends: what goes further is output_padding where it takes as much, and cropped elsewhere."""
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(4, 3, 5, 5)).astype(np.float32), rng.normal(size=6).astype(np.float32)
    node = helper.make_node(
        "ConvTranspose", ["x", "w", "b"], ["y"], pads=pads, strides=[2, 2], output_padding=more, group=2, kernel_shape=[5, 5]
    )
    values = [helper.make_tensor_value_info(n, 1, s) for n, s in (("x", (2, 4, 6, 7)), ("y", None))]
    constants = [onnx.numpy_helper.from_array(a, n) for a, n in ((kernel, "w"), (bias, "b"))]
    graph = helper.make_graph([node], "g", values[:1], values[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "x.onnx")
    seen, x = Graph.read(tmp_path / "x.onnx"), example(values[0])
    with Runtime() as runtime:
        seen.run(runtime, {"x": x})
    for trained in (True, False):
        writer = Writer(seen, "Block", lambda _, trained=trained: trained, {})
        writer.write(seen.ops, {"x": "x"}, {}, WRITERS)
        block = writer.written
        block.doc, block.arguments, block.result = "One operator.", ["x: Tensor"], writer.value("y")
        assert form in module_text([block])
        with torch.no_grad():
            assert np.allclose(constructed(block)(torch.from_numpy(x)).numpy(), seen.values["y"], atol=1e-3)
