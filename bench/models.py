"""Write the models that the benchmark runs on into a folder: `python bench/models.py FOLDER`.

A process of its own, because the peak memory that the system reports for a child is never below that of the
process that started it; so the measuring process stays small.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
IR_VERSION = 10
WIDE = 4096
LAYER_BYTES = WIDE * WIDE * 4
INLINE_LAYERS = 23
"""1.54 GB; protobuf ends at 2 GiB."""
EXTERNAL_LAYERS = 24
BLOCK = random.Random(1).randbytes(1 << 20)


def main(folder: Path) -> None:
    """All models, each written once."""
    save(resnet18(), folder / "resnet18.onnx")
    for nodes in (1_000, 10_000, 100_000):
        save(chain(nodes), folder / f"chain_{nodes}.onnx")
    save(resnet50_eca(), folder / "resnet50_eca.onnx")
    inline_weights(folder / "inline.onnx")
    inline_weights(folder / "inline_kernel.onnx", kernel=19)
    external_weights(folder / "external.onnx")


def save(model: onnx.ModelProto, path: Path) -> None:
    path.write_bytes(model.SerializeToString())


def finish(graph: onnx.GraphProto) -> onnx.ModelProto:
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="npu-guard bench"
    )


def info(name: str, shape: list[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


class Net:
    """A graph in the making, each operator's output feeding the next."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, *shape: int) -> str:
        size = 4
        for extent in shape:
            size *= extent
        raw = (BLOCK * (size // len(BLOCK) + 1))[:size]
        self.weights.append(helper.make_tensor(f"w{len(self.weights)}", TensorProto.FLOAT, shape, raw, raw=True))
        return self.weights[-1].name

    def add(self, op: str, *inputs: str, **attributes: object) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], f"n{len(self.nodes)}", **attributes))
        return name

    def conv(self, x: str, inputs: int, outputs: int, kernel: int, stride: int = 1) -> str:
        """Convolution and batch norm, whose parameters pass through Identity, as torch's older exporter leaves them."""
        pad = kernel // 2
        y = self.add("Conv", x, self.weight(outputs, inputs, kernel, kernel), strides=[stride] * 2, pads=[pad] * 4)
        return self.add("BatchNormalization", y, *(self.add("Identity", self.weight(outputs)) for _ in range(4)))


def resnet18() -> onnx.ModelProto:
    """ResNet-18 with its classifier: 45 MB."""
    net = Net()
    x = net.add("Relu", net.conv("image", 3, 64, 7, 2))
    x = net.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    inputs = 64
    for outputs in (64, 128, 256, 512):
        for stride in (1 if outputs == 64 else 2, 1):
            y = net.add("Relu", net.conv(x, inputs, outputs, 3, stride))
            y = net.conv(y, outputs, outputs, 3)
            shortcut = net.conv(x, inputs, outputs, 1, stride) if (inputs, stride) != (outputs, 1) else x
            x = net.add("Relu", net.add("Add", y, shortcut))
            inputs = outputs
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    x = net.add("Gemm", x, net.weight(1000, 512), net.weight(1000), transB=1)
    return finish(helper.make_graph(net.nodes, "resnet18", [info("image", [1, 3, 384, 640])], [info(x, [1, 1000])], net.weights))


class Drawn(Net):
    """The same with weights of the size that training leaves, for models that are run."""

    def __init__(self) -> None:
        super().__init__()
        self.rng = np.random.default_rng(0)

    def weight(self, *shape: int) -> str:
        return self.put(self.rng.standard_normal(shape, dtype=np.float32) / np.float32(math.prod(shape[1:]) ** 0.5))

    def put(self, array: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(array, f"w{len(self.weights)}"))
        return self.weights[-1].name

    def conv(self, x: str, inputs: int, outputs: int, kernel: int, stride: int = 1) -> str:
        y = self.add("Conv", x, self.weight(outputs, inputs, kernel, kernel), strides=[stride] * 2, pads=[kernel // 2] * 4)
        # Scale, bias, mean and variance: the branches of a residual network must not blow up what they are added to.
        ranges = (0.5, 1.0), (-0.1, 0.1), (-0.1, 0.1), (0.9, 1.1)
        norm = [self.put(self.rng.uniform(*ends, outputs).astype(np.float32)) for ends in ranges]
        return self.add("BatchNormalization", y, *norm)

    def eca(self, x: str, channels: int) -> str:
        """Efficient channel attention: a one-dimensional convolution over the channels of the pooled map."""
        row = self.add("Reshape", self.add("GlobalAveragePool", x), self.put(np.array([1, 1, 1, channels])))
        gate = self.add("Sigmoid", self.add("Conv", row, self.weight(1, 1, 1, 5), pads=[0, 2, 0, 2]))
        return self.add("Mul", x, self.add("Reshape", gate, self.put(np.array([1, channels, 1, 1]))))


def resnet50_eca() -> onnx.ModelProto:
    """ResNet-50 with ECA in each of its 16 blocks: 102 MB."""
    net = Drawn()
    x = net.add("Relu", net.conv("image", 3, 64, 7, 2))
    x = net.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    inputs = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            stride = 2 if block == 0 and width > 64 else 1
            y = net.add("Relu", net.conv(x, inputs, width, 1))
            y = net.add("Relu", net.conv(y, width, width, 3, stride))
            y = net.eca(net.conv(y, width, 4 * width, 1), 4 * width)
            shortcut = net.conv(x, inputs, 4 * width, 1, stride) if block == 0 else x
            x = net.add("Relu", net.add("Add", y, shortcut))
            inputs = 4 * width
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    x = net.add("Gemm", x, net.weight(1000, 2048), net.weight(1000), transB=1)
    shapes = [info("image", [1, 3, 384, 640])], [info(x, [1, 1000])]
    return finish(helper.make_graph(net.nodes, "resnet50_eca", *shapes, net.weights))


def chain(nodes: int) -> onnx.ModelProto:
    """Conv, Relu and Add in turn, every convolution with weights of its own."""
    net = Net()
    x = before = "x"
    for index in range(nodes):
        if index % 3 == 0:
            before, x = x, net.add("Conv", x, net.weight(8, 8, 1, 1))
        else:
            x = net.add("Relu", x) if index % 3 == 1 else net.add("Add", x, before)
    shape = [1, 8, 32, 32]
    return finish(helper.make_graph(net.nodes, "chain", [info("x", shape)], [info(x, shape)], net.weights))


def wide_graph(layers: int, kernel: int = 0) -> onnx.GraphProto:
    """1x1 convolutions of 4096 to 4096 channels, without their weights; first a depthwise one, if a kernel is given."""
    net = Net()
    x = "x"
    if kernel:
        x = net.add("Conv", x, net.weight(WIDE, 1, kernel, kernel), group=WIDE, pads=[kernel // 2] * 4)
    for layer in range(layers):
        x = net.add("Conv", x, f"wide{layer}")
    shape = [1, WIDE, 8, 8]
    return helper.make_graph(net.nodes, "wide", [info("x", shape)], [info(x, shape)], net.weights)


def inline_weights(path: Path, kernel: int = 0, layers: int = INLINE_LAYERS, *, empty: bool = False) -> None:
    """Weights inside the file, written piece by piece: building the message would take several gigabytes.

    `empty` ones are holes in the file: zeros that take no room on the disk.
    """
    graph = wide_graph(layers, kernel)
    model = finish(graph)
    model.ClearField("graph")
    heads = []
    for layer in range(layers):
        tensor = TensorProto(name=f"wide{layer}", dims=[WIDE, WIDE, 1, 1], data_type=TensorProto.FLOAT).SerializeToString()
        head = tensor + tag(TensorProto.RAW_DATA_FIELD_NUMBER, LAYER_BYTES)
        heads.append(tag(onnx.GraphProto.INITIALIZER_FIELD_NUMBER, len(head) + LAYER_BYTES) + head)
    structure = graph.SerializeToString()
    size = len(structure) + sum(len(head) + LAYER_BYTES for head in heads)
    with path.open("wb") as file:
        file.write(model.SerializeToString() + tag(onnx.ModelProto.GRAPH_FIELD_NUMBER, size) + structure)
        for head in heads:
            file.write(head)
            fill(file, LAYER_BYTES, empty)


def external_weights(path: Path, layers: int = EXTERNAL_LAYERS, *, empty: bool = False) -> None:
    """Weights in a file beside the model."""
    graph = wide_graph(layers)
    data = path.with_suffix(".data")
    with data.open("wb") as file:
        for layer in range(layers):
            tensor = graph.initializer.add(name=f"wide{layer}", dims=[WIDE, WIDE, 1, 1], data_type=TensorProto.FLOAT)
            tensor.data_location = TensorProto.EXTERNAL
            entries = {"location": data.name, "offset": file.tell(), "length": LAYER_BYTES}
            for key, value in entries.items():
                tensor.external_data.add(key=key, value=str(value))
            fill(file, LAYER_BYTES, empty)
    save(finish(graph), path)


def fill(file: BinaryIO, size: int, empty: bool) -> None:
    """So many bytes at the end of a file: noise, or a hole."""
    if empty:
        file.truncate(file.seek(size, 1))
    else:
        file.writelines(blocks(size))


def blocks(size: int) -> Iterator[bytes]:
    for start in range(0, size, len(BLOCK)):
        yield BLOCK[: size - start]


def tag(field: int, length: int) -> bytes:
    """Head of a length-delimited protobuf field."""
    return varint(field << 3 | 2) + varint(length)


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
