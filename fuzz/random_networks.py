"""Small random networks of the layers that real ones have, by a seed, and mutants of them that one limit of a device refuses."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper

_FLOAT = onnx.TensorProto.FLOAT
Shape = tuple[int, ...]


class Network:
    """A graph under construction; each method adds a layer behind the last value."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.version = self.random.choice((9, 13, 13, 17, 18))
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.last, self.shape = "x", (1, self.random.choice((8, 16)), self.random.choice((6, 8)), self.random.choice((6, 8)))
        self.first = self.shape

    def weight(self, array: np.ndarray) -> str:
        """A tensor of the graph."""
        self.weights.append(numpy_helper.from_array(array, f"w{len(self.weights)}"))
        return self.weights[-1].name

    def numbers(self, *shape: int) -> str:
        """Weights of a shape; their values do not matter."""
        return self.weight(np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape))

    def add(self, op: str, inputs: list[str], shape: Shape, **attributes: object) -> str:
        """A node, whose output is the last value from now on."""
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        self.last, self.shape = name, shape
        return name

    def reduce(self, op: str, axes: list[int], keepdims: int) -> str:
        """A reduction, its axes where the operator set has them."""
        shape = tuple(1 if i in axes else d for i, d in enumerate(self.shape) if keepdims or i not in axes)
        if self.version >= (13 if op == "ReduceSum" else 18):
            return self.add(op, [self.last, self.weight(np.array(axes, np.int64))], shape, keepdims=keepdims)
        return self.add(op, [self.last], shape, axes=axes, keepdims=keepdims)

    def model(self) -> onnx.ModelProto:
        """The network, as far as it has come."""
        ends = [helper.make_tensor_value_info(self.last, _FLOAT, self.shape)]
        graph = helper.make_graph(
            self.nodes, "network", [helper.make_tensor_value_info("x", _FLOAT, self.first)], ends, self.weights
        )
        return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", self.version)])


def convolution(net: Network) -> None:
    b, c, h, w = net.shape
    kernel, out = net.random.choice((1, 3)), net.random.choice((8, 16, 12))
    pads = [kernel // 2] * 4 if net.random.random() < 0.7 or min(h, w) < 4 else [0] * 4
    size = [e + pads[0] * 2 - kernel + 1 for e in (h, w)]
    net.add("Conv", [net.last, net.numbers(out, c, kernel, kernel), net.numbers(out)], (b, out, *size), pads=pads)


def depthwise(net: Network) -> None:
    c = net.shape[1]
    net.add("Conv", [net.last, net.numbers(c, 1, 3, 3)], net.shape, group=c, pads=[1] * 4)


def activation(net: Network) -> None:
    op = net.random.choice(("Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSwish", "Softplus", "Erf", "Elu"))
    op = "Relu" if op == "HardSwish" and net.version < 14 else op
    net.add(op, [net.last], net.shape)


def clip(net: Network) -> None:
    bounds = [net.weight(np.array(v, np.float32)) for v in (0, net.random.choice((6, 1)))]
    net.add("Clip", [net.last, *bounds], net.shape)


def normalization(net: Network) -> None:
    c = net.shape[1]
    net.add("BatchNormalization", [net.last, *(net.numbers(c) for _ in range(4))], net.shape)


def pool(net: Network) -> None:
    b, c, h, w = net.shape
    if min(h, w) >= 4:
        op = net.random.choice(("MaxPool", "AveragePool"))
        net.add(op, [net.last], (b, c, h // 2, w // 2), kernel_shape=[2, 2], strides=[2, 2])


def excitation(net: Network) -> None:
    start, shape = net.last, net.shape
    net.reduce("ReduceMean", [2, 3], 1)
    c = shape[1]
    net.add("Conv", [net.last, net.numbers(c, c, 1, 1)], net.shape)
    net.add("Sigmoid", [net.last], net.shape)
    net.add("Mul", [start, net.last], shape)


def attention_over_space(net: Network) -> None:
    start, shape, keepdims = net.last, net.shape, net.random.randrange(2)
    parts = []
    for op in ("ReduceMax", "ReduceMean"):
        net.last, net.shape = start, shape
        net.reduce(op, [1], keepdims)
        if not keepdims:
            net.add("Unsqueeze", [net.last, net.weight(np.array([1], np.int64))], (1, 1, *shape[2:]))
        parts.append(net.last)
    net.add("Concat", parts, (1, 2, *shape[2:]), axis=1)
    net.add("Conv", [net.last, net.numbers(1, 2, 3, 3)], (1, 1, *shape[2:]), pads=[1] * 4)
    net.add("Sigmoid", [net.last], net.shape)
    net.add("Mul", [start, net.last], shape)


def resize(net: Network) -> None:
    b, c, h, w = net.shape
    if max(h, w) <= 16:
        scales = net.weight(np.array([1, 1, 2, 2], np.float32))
        mode = net.random.choice(("nearest", "linear"))
        net.add("Resize", [net.last, "", scales], (b, c, 2 * h, 2 * w), mode=mode)


def residual(net: Network) -> None:
    start, c = net.last, net.shape[1]
    net.add("Conv", [net.last, net.numbers(c, c, 3, 3)], net.shape, pads=[1] * 4)
    net.add(net.random.choice(("Add", "Mul", "Max", "Sub")), [start, net.last], net.shape)


def scaled(net: Network) -> None:
    c = net.shape[1]
    shape = net.random.choice(((1, c, 1, 1), (c, 1, 1), (1,), ()))
    net.add(net.random.choice(("Add", "Mul")), [net.last, net.numbers(*shape)], net.shape)


def split(net: Network) -> None:
    c = net.shape[1]
    if c % 2 == 0:
        parts, sizes = [f"n{len(net.nodes)}", f"n{len(net.nodes)}b"], net.weight(np.array([c // 2, c // 2], np.int64))
        net.nodes.append(helper.make_node("Split", [net.last, sizes], parts, parts[0], axis=1))
        net.add("Concat", parts[::-1], net.shape, axis=1)


def crop(net: Network) -> None:
    b, c, h, w = net.shape
    if h > 3:
        starts, ends, axes = (net.weight(np.array([v], np.int64)) for v in (1, h, 2))
        net.add("Slice", [net.last, starts, ends, axes], (b, c, h - 1, w))


def pad(net: Network) -> None:
    b, c, h, w = net.shape
    mode = net.random.choice(("constant", "reflect", "edge"))
    net.add("Pad", [net.last, net.weight(np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))], (b, c, h + 2, w + 2), mode=mode)


def rearranged(net: Network) -> None:
    b, c, h, w = net.shape
    net.add("Transpose", [net.last], (b, c, w, h), perm=[0, 1, 3, 2])


def there_and_back(net: Network) -> None:
    shape = net.shape
    flat = net.weight(np.array([shape[0], shape[1], shape[2] * shape[3]], np.int64))
    net.add("Reshape", [net.last, flat], (shape[0], shape[1], shape[2] * shape[3]))
    net.add("Reshape", [net.last, net.weight(np.array(shape, np.int64))], shape)


def softmax(net: Network) -> None:
    net.add("Softmax", [net.last], net.shape, axis=net.random.choice((1, 2, 3)))


def row_mean(net: Network) -> None:
    shape = net.shape
    net.reduce(net.random.choice(("ReduceMean", "ReduceSum", "ReduceMax")), [net.random.choice((2, 3))], 1)
    net.add("Sigmoid", [net.last], net.shape)
    net.add("Expand", [net.last, net.weight(np.array(shape, np.int64))], shape)


def slopes(net: Network) -> None:
    c = net.shape[1]
    net.add("PRelu", [net.last, net.numbers(*net.random.choice(((c, 1, 1), (1,))))], net.shape)


def head(net: Network) -> None:
    b, c, _, _ = net.shape
    if net.random.random() < 0.5:
        net.add("GlobalAveragePool", [net.last], (b, c, 1, 1))
        net.add("Flatten", [net.last], (b, c))
    else:
        net.reduce("ReduceMean", [2, 3], 0)
    out = net.random.choice((8, 10))
    if net.random.random() < 0.5:
        net.add("Gemm", [net.last, net.numbers(out, c), net.numbers(out)], (b, out), transB=1)
    else:
        net.add("MatMul", [net.last, net.numbers(c, out)], (b, out))


def tokens(net: Network) -> None:
    b, c, h, w = net.shape
    net.add("Reshape", [net.last, net.weight(np.array([b, c, h * w], np.int64))], (b, c, h * w))
    net.add("Transpose", [net.last], (b, h * w, c), perm=[0, 2, 1])
    net.add("MatMul", [net.last, net.numbers(c, 8)], (b, h * w, 8))
    net.add("Softmax", [net.last], net.shape, axis=-1)


def upsample(net: Network) -> None:
    b, c, h, w = net.shape
    if max(h, w) <= 16:
        scales = net.weight(np.array([1, 1, 2, 2], np.float32))
        net.add("Upsample", [net.last, scales], (b, c, 2 * h, 2 * w), mode=net.random.choice(("nearest", "linear")))


def plain_activation(net: Network) -> None:
    net.add(net.random.choice(("Relu", "Sigmoid", "Tanh", "LeakyRelu")), [net.last], net.shape)


def transposed(net: Network) -> None:
    b, c, h, w = net.shape
    if max(h, w) <= 16:
        net.add("ConvTranspose", [net.last, net.numbers(c, 8, 2, 2)], (b, 8, 2 * h, 2 * w), strides=[2, 2])


def shuffled(net: Network) -> None:
    b, c, h, w = net.shape
    net.add("Reshape", [net.last, net.weight(np.array([b, 2, c // 2, h, w], np.int64))], (b, 2, c // 2, h, w))
    net.add("Transpose", [net.last], (b, c // 2, 2, h, w), perm=[0, 2, 1, 3, 4])
    net.add("Reshape", [net.last, net.weight(np.array([b, c, h, w], np.int64))], (b, c, h, w))


def blocks(net: Network) -> None:
    b, c, h, w = net.shape
    if c % 4 == 0 and max(h, w) <= 16:
        net.add("DepthToSpace", [net.last], (b, c // 4, 2 * h, 2 * w), blocksize=2)
        net.add("SpaceToDepth", [net.last], (b, c, h, w), blocksize=2)


def gathered(net: Network) -> None:
    order = net.weight(np.arange(net.shape[1], dtype=np.int64)[::-1].copy())
    net.add("Gather", [net.last, order], net.shape, axis=1)


def instances(net: Network) -> None:
    net.add("InstanceNormalization", [net.last, net.numbers(net.shape[1]), net.numbers(net.shape[1])], net.shape)


def attention(net: Network) -> None:
    b, c, h, w = net.shape
    net.add("Reshape", [net.last, net.weight(np.array([b, c, h * w], np.int64))], (b, c, h * w))
    keys = net.last
    net.add("Transpose", [net.last], (b, h * w, c), perm=[0, 2, 1])
    net.add("MatMul", [net.last, keys], (b, h * w, h * w))
    net.add("Softmax", [net.last], net.shape, axis=-1)


def two_products(net: Network) -> None:
    b, c, _, _ = net.shape
    net.reduce("ReduceMean", [2, 3], 0)
    net.add("MatMul", [net.last, net.numbers(c, 16)], (b, 16))
    net.add("Add", [net.last, net.numbers(16)], (b, 16))
    net.add("Relu", [net.last], net.shape)
    net.add("MatMul", [net.last, net.numbers(16, 8)], (b, 8))


_LAYERS: tuple[Callable[[Network], None], ...] = (
    convolution, convolution, depthwise, activation, activation, clip, normalization, pool, excitation, attention_over_space,
    resize, residual, scaled, split, crop, pad, rearranged, there_and_back, softmax, row_mean, slopes,
    transposed, shuffled, blocks, gathered, instances,
)  # fmt: skip
_ENDS: tuple[Callable[[Network], None] | None, ...] = (None, head, tokens, attention, two_products)


_OLD_LAYERS: tuple[Callable[[Network], None], ...] = (
    convolution, depthwise, plain_activation, normalization, pool, upsample, residual, scaled, there_and_back, rearranged,
)  # fmt: skip
"""Those that opset 9 has, in words that opset 11 has too."""


def network(seed: int) -> onnx.ModelProto:
    """A network of two to seven layers."""
    net = Network(seed)
    for _ in range(net.random.randint(2, 7)):
        net.random.choice(_LAYERS if net.version > 9 else _OLD_LAYERS)(net)
    end = net.random.choice(_ENDS) if net.version > 9 else None
    if end is not None:
        end(net)
    return net.model()


def mutants(seed: int) -> Iterator[tuple[str, str, onnx.ModelProto, onnx.ModelProto]]:
    """Pairs that differ by one step over a limit of aimotive-aiware: the rule that has to tell, the label, within and beyond."""
    beyond: dict[str, tuple[Callable[[Network, int], None], int, int]] = {
        "NPU201": (lambda net, k: _filters(net, 8, k), 17, 18),
        "NPU401": (lambda net, n: _filters(net, n, 1), 8, 9),
        "NPU501": (_enlarged, 2, 3),
        "NPU301": (lambda net, axis: _reduced(net, [2, 3][axis:]), 0, 1),
        "NPU402": (_lengthened, 4, 5),
    }
    for rule, (build, within, over) in beyond.items():
        pair = []
        for size in (within, over):
            net = Network(seed)
            net.version = max(net.version, 13)
            for _ in range(Network(seed).random.randint(1, 3)):
                net.random.choice((activation, normalization, residual))(net)
            build(net, size)
            label = net.last
            net.add("Relu", [net.last], net.shape)
            pair.append(net.model())
        yield rule, label, pair[0], pair[1]


def _filters(net: Network, out: int, kernel: int) -> None:
    b, c, h, w = net.shape
    size = (h + 2 * (kernel // 2) - kernel + 1, w + 2 * (kernel // 2) - kernel + 1)
    net.add("Conv", [net.last, net.numbers(out, c, kernel, kernel)], (b, out, *size), pads=[kernel // 2] * 4)


def _enlarged(net: Network, times: int) -> None:
    b, c, h, w = net.shape
    scales = net.weight(np.array([1, 1, times, times], np.float32))
    net.add("Resize", [net.last, "", scales], (b, c, times * h, times * w), mode="nearest",
            coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip


def _reduced(net: Network, axes: list[int]) -> None:
    net.reduce("ReduceMean", axes, 1)


def _lengthened(net: Network, rank: int) -> None:
    shape = net.shape if rank == 4 else (*net.shape, 1)
    net.add("Reshape", [net.last, net.weight(np.array(shape, np.int64))], shape)
