"""Random networks of a few operators, as pairs for `verification.py`: images, tokens, masks, indices, and ends of all types."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

OPSET, IR = 17, 8
_T = onnx.TensorProto
CHANNELS, EXTENT = 8, 10


class Builder:
    """Nodes and weights of a graph under construction."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []

    def constant(self, array: NDArray[Any], what: str) -> str:
        """A weight; the name begins with what it is."""
        name = f"{what}_{len(self.weights)}"
        self.weights.append(onnx.numpy_helper.from_array(np.asarray(array), name))
        return name

    def drawn(self, shape: tuple[int, ...], what: str, scale: float | None = None) -> str:
        """A weight of normally distributed numbers, scaled to keep the size of what it is multiplied with."""
        fan = int(np.prod(shape[1:])) if len(shape) > 1 else 1
        factor = fan**-0.5 if scale is None else scale
        return self.constant((self.rng.standard_normal(shape) * factor).astype(np.float32), what)

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """The output of a new node."""
        name = f"t{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(op_type, list(inputs), [name], name=f"n{len(self.nodes)}", **attributes))
        return name


def network(rng: np.random.Generator) -> onnx.ModelProto:
    """A network with one or two outputs."""
    build = Builder(rng)
    kind = rng.integers(0, 3)
    x = {0: _image, 1: _bytes, 2: _ids}[int(kind)](build)
    for _ in range(int(rng.integers(2, 5))):
        x = rng.choice(np.array(BLOCKS, dtype=object))(build, x)  # type: ignore[arg-type]
    head = int(rng.integers(0, 6))
    dtype = _T.FLOAT
    outputs = [x]
    if head == 1:
        dtype, outputs = _T.INT64, [build.op("ArgMax", x, axis=1, keepdims=0)]
    elif head == 2:
        scale, zero = build.constant(np.float32(0.05), "scale"), build.constant(np.uint8(128), "zero")
        dtype, outputs = _T.UINT8, [build.op("QuantizeLinear", x, scale, zero)]
    elif head == 3:
        outputs = [x, build.op("Sigmoid", x)]
    elif head == 4:
        boxes = build.op("Mul", x, build.constant(np.float32(640.0), "factor"))
        outputs = [build.op("Concat", boxes, build.op("Sigmoid", x), axis=1)]
    graph = onnx.helper.make_graph(
        build.nodes, "g", build.inputs, [onnx.helper.make_tensor_value_info(o, dtype, None) for o in outputs], build.weights
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR)
    return onnx.shape_inference.infer_shapes(model)


def _image(build: Builder) -> str:
    build.inputs.append(onnx.helper.make_tensor_value_info("image", _T.FLOAT, [1, 3, EXTENT, EXTENT]))
    return build.op(
        "Conv", "image", build.drawn((CHANNELS, 3, 3, 3), "weight"), build.drawn((CHANNELS,), "bias", 0.3), pads=[1] * 4
    )


def _bytes(build: Builder) -> str:
    build.inputs.append(onnx.helper.make_tensor_value_info("pixels", _T.UINT8, [1, 3, EXTENT, EXTENT]))
    x = build.op("Div", build.op("Cast", "pixels", to=_T.FLOAT), build.constant(np.float32(255.0), "factor"))
    return _first(build, x)


def _first(build: Builder, x: str) -> str:
    return build.op("Conv", x, build.drawn((CHANNELS, 3, 3, 3), "weight"), build.drawn((CHANNELS,), "bias", 0.3), pads=[1] * 4)


def _ids(build: Builder) -> str:
    build.inputs.append(onnx.helper.make_tensor_value_info("ids", _T.INT64, [1, EXTENT * EXTENT]))
    x = build.op("Gather", build.drawn((40, CHANNELS), "weight", 1.0), "ids", axis=0)
    x = build.op("Transpose", x, perm=[0, 2, 1])
    return build.op("Reshape", x, build.constant(np.array([1, CHANNELS, EXTENT, EXTENT]), "shape"))


def _conv(build: Builder, x: str) -> str:
    dilation = int(build.rng.integers(1, 3))
    group = int(build.rng.choice([1, 2, CHANNELS]))
    weight = build.drawn((CHANNELS, CHANNELS // group, 3, 3), "weight")
    bias = build.drawn((CHANNELS,), "bias", 0.3)
    return build.op("Conv", x, weight, bias, pads=[dilation] * 4, dilations=[dilation] * 2, group=group)


def _activation(build: Builder, x: str) -> str:
    kind = str(build.rng.choice(["Relu", "Sigmoid", "Tanh", "LeakyRelu", "Elu", "HardSwish", "HardSigmoid", "Clip", "Softplus"]))
    if kind == "Clip":
        return build.op("Clip", x, build.constant(np.float32(0.0), "low"), build.constant(np.float32(6.0), "high"))
    attributes = {"LeakyRelu": {"alpha": 0.1}, "Elu": {"alpha": 1.0}, "HardSigmoid": {"alpha": 0.2}}.get(kind, {})
    return build.op(kind, x, **attributes)


def _norm(build: Builder, x: str) -> str:
    scale = build.constant(build.rng.uniform(0.5, 1.5, CHANNELS).astype(np.float32), "gain")
    bias = build.drawn((CHANNELS,), "bias", 0.3)
    if build.rng.random() < 0.5:
        return build.op("InstanceNormalization", x, scale, bias, epsilon=1e-3)
    mean, variance = (
        build.drawn((CHANNELS,), "mean", 0.3),
        build.constant(build.rng.uniform(0.5, 2.0, CHANNELS).astype(np.float32), "variance"),
    )
    return build.op("BatchNormalization", x, scale, bias, mean, variance, epsilon=1e-3)


def _gate(build: Builder, x: str) -> str:
    pooled = build.op("GlobalAveragePool", x)
    return build.op("Mul", x, build.op("Sigmoid", build.op("Conv", pooled, build.drawn((CHANNELS, CHANNELS, 1, 1), "weight"))))


def _window(build: Builder, x: str) -> str:
    kind = str(build.rng.choice(["MaxPool", "AveragePool"]))
    return build.op(kind, x, kernel_shape=[3, 3], pads=[1] * 4)


def _attention(build: Builder, x: str) -> str:
    tokens = build.op("Transpose", _rows(build, x), perm=[0, 2, 1])
    q, k, v = (build.op("MatMul", tokens, build.drawn((CHANNELS, CHANNELS), "weight")) for _ in range(3))
    scores = build.op("MatMul", q, build.op("Transpose", k, perm=[0, 2, 1]))
    scores = build.op("Mul", scores, build.constant(np.float32(CHANNELS**-0.5), "factor"))
    mixed = build.op("MatMul", build.op("Softmax", scores, axis=2), v)
    back = build.op("Transpose", mixed, perm=[0, 2, 1])
    return build.op("Reshape", back, build.constant(np.array([1, CHANNELS, EXTENT, EXTENT]), "shape"))


def _rows(build: Builder, x: str) -> str:
    return build.op("Reshape", x, build.constant(np.array([1, CHANNELS, EXTENT * EXTENT]), "shape"))


def _masked(build: Builder, x: str) -> str:
    mask = build.constant(build.rng.random((1, 1, EXTENT, EXTENT)) < 0.7, "mask")
    return build.op("Where", mask, x, build.constant(np.float32(-1.0), "fill"))


def _shift(build: Builder, x: str) -> str:
    """A map moved by one: padded on one side, cut on the other."""
    padded = build.op(
        "Pad", x, build.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1]), "pads"), build.constant(np.float32(0.5), "fill")
    )
    bounds = [build.constant(np.array(a), what) for a, what in (([0, 0], "starts"), ([EXTENT, EXTENT], "ends"), ([2, 3], "axes"))]
    return build.op("Slice", padded, *bounds)


def _residual(build: Builder, x: str) -> str:
    return build.op("Add", x, _activation(build, _conv(build, x)))


def _shuffle(build: Builder, x: str) -> str:
    order = build.constant(build.rng.permutation(CHANNELS), "order")
    return build.op("Gather", x, order, axis=1)


BLOCKS = (_conv, _activation, _norm, _gate, _window, _attention, _masked, _shift, _residual, _shuffle, _activation)
