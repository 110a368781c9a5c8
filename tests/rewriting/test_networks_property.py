"""Random small networks out of the zoo's blocks, with odd sizes and widths: `fix` leaves no error, and the numbers are the same.

`NPU_GUARD_EXAMPLES=500` draws as many networks, new ones each time; otherwise a few that are always the same.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from npu_guard.checking import registry
from npu_guard.file.save import save_document
from npu_guard.fixing import catalog
from npu_guard.pipeline.fix import fix_model
from npu_guard.project.config import Config
from npu_guard.results.findings import Applied, ModelReport, Outcome, Severity
from npu_guard.results.proof import PROVED
from npu_guard.rewriting.substitution import EXACT
from npu_guard.verification.runtime import Runtime

PROFILE = registry.profile("aimotive-aiware")
SUBSTITUTIONS = [s for s in catalog.substitutions() if s.exactness == EXACT]
DEVICES = (
    "aimotive-aiware", "rockchip-rk3588", "qualcomm-htp", "ethos-u85", "ti-tidl:AM68A", "nvidia-dla", "ort-nnapi", "kneron:KL720",
    "axera:AX650", "drobotics-bpu:X5",
)  # fmt: skip
LONG = int(os.environ.get("NPU_GUARD_EXAMPLES", "0"))
APART = 1e-5
"""Root mean square of a difference, relative to that of what came out: 100 dB."""


@dataclass(frozen=True)
class Map:
    """A feature map in the making: its name, channels and extents."""

    name: str
    c: int
    h: int
    w: int

    @property
    def positions(self) -> int:
        return self.h * self.w


@dataclass
class Net:
    """A network in the making, and the numbers that choose between spellings."""

    rng: np.random.Generator
    batch: int
    """0 where it is left open."""
    opset: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def op(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        made = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op_type, list(inputs), made, name=f"n{len(self.nodes)}", **attributes))
        return made[0]

    def constant(self, array: Any, dtype: Any = np.float32) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(array, dtype), f"w{len(self.weights)}"))
        return self.weights[-1].name

    def ints(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def weight(self, *shape: int) -> str:
        return self.constant(self.rng.standard_normal(shape) / np.sqrt(max(1, int(np.prod(shape[1:])))))

    def vector(self, size: int) -> str:
        return self.constant(self.rng.uniform(-0.5, 0.5, size))

    def conv(self, x: Map, width: int, kernel: tuple[int, int] = (1, 1), *, group: int = 1, stride: int = 1) -> Map:
        pads = [kernel[0] // 2, kernel[1] // 2] * 2
        weights = self.weight(width, x.c // group, *kernel), self.vector(width)
        name = self.op("Conv", x.name, *weights, group=group, pads=pads, strides=[stride] * 2)
        h, w = ((e + 2 * (k // 2) - k) // stride + 1 for e, k in ((x.h, kernel[0]), (x.w, kernel[1])))
        return Map(name, width, h, w)

    def mean(self, op_type: str, x: str, *axes: int, keepdims: int = 1) -> str:
        if self.opset < 18:
            return self.op(op_type, x, axes=list(axes), keepdims=keepdims)
        return self.op(op_type, x, self.ints(*axes), keepdims=keepdims)

    def resized(self, x: Map, h: int, w: int, mode: str) -> str:
        """By sizes where the batch is known, else by scales."""
        if self.batch:
            return self.op("Resize", x.name, "", "", self.ints(self.batch, x.c, h, w), mode=mode)
        return self.op("Resize", x.name, "", self.constant([1, 1, h / x.h, w / x.w]), mode=mode)

    def like(self, x: Map, name: str) -> Map:
        return replace(x, name=name)

    def linear(self, x: str, inputs: int, outputs: int, bias: bool) -> str:
        product = self.op("MatMul", x, self.constant(self.rng.standard_normal((inputs, outputs)) / np.sqrt(inputs)))
        return self.op("Add", product, self.vector(outputs)) if bias else product


def _conv(net: Net, x: Map, a: int, b: int) -> Map:
    kernel = [(1, 1), (3, 3), (3, 1), (5, 3)][b % 4]
    made = net.conv(x, 1 + a % 23, kernel, stride=2 if b % 5 == 4 and min(x.h, x.w) > 4 else 1)
    return net.like(made, net.op(("Relu", "LeakyRelu", "Tanh")[a % 3], made.name))


def _normed(net: Net, x: Map, a: int, b: int) -> Map:
    c = x.c
    scale = [net.constant(net.rng.uniform(0.5, 1.5, c)) for _ in range(2)]
    return net.like(x, net.op("BatchNormalization", x.name, scale[0], net.vector(c), net.vector(c), scale[1]))


def _depthwise(net: Net, x: Map, a: int, b: int) -> Map:
    return net.conv(x, x.c * (1 + (b % 4 == 0)), (3, 3), group=x.c)


def _residual(net: Net, x: Map, a: int, b: int) -> Map:
    inner = net.conv(x, 1 + a % 13, (1, 1))
    branch = net.conv(net.like(inner, net.op("Relu", inner.name)), x.c, (3, 3))
    return net.like(x, net.op("Add", *((x.name, branch.name) if b % 2 else (branch.name, x.name))))


def _concat(net: Net, x: Map, a: int, b: int) -> Map:
    left, right = net.conv(x, 1 + a % 9), net.conv(x, 1 + b % 11, (3, 3))
    parts = [left, right, x] if x.c < 30 and a % 2 else [left, right]
    return Map(net.op("Concat", *(p.name for p in parts), axis=1), sum(p.c for p in parts), x.h, x.w)


def _split(net: Net, x: Map, a: int, b: int) -> Map:
    if x.c < 2:
        return x
    cut = 1 + a % (x.c - 1)
    first = net.op("Split", x.name, net.ints(cut, x.c - cut), outputs=2, axis=1)
    one, two = Map(first, cut, x.h, x.w), Map(first[:-1] + "1", x.c - cut, x.h, x.w)
    width = 1 + b % 9
    return Map(net.op("Add", net.conv(one, width).name, net.conv(two, width, (3, 3)).name), width, x.h, x.w)


def _eca(net: Net, x: Map, a: int, b: int) -> Map:
    taps = (3, 5, 4, 7)[a % 4]
    pads = [(taps - 1) // 2, taps // 2]
    pooled = net.op("GlobalAveragePool", x.name)
    if b % 3 == 0:
        row = net.op("Reshape", pooled, net.ints(net.batch, 1, 1, x.c))
        made = net.op("Conv", row, net.weight(1, 1, 1, taps), pads=[0, pads[0], 0, pads[1]])
        gate = net.op("Sigmoid", made)
        column = net.op("Reshape", gate, net.ints(net.batch, x.c, 1, 1))
    elif b % 3 == 1:
        row = net.op("Transpose", net.op("Squeeze", pooled, net.ints(3)), perm=[0, 2, 1])
        made = net.op("Conv", row, net.weight(1, 1, taps), pads=pads)
        column = net.op("Sigmoid", net.op("Unsqueeze", net.op("Transpose", made, perm=[0, 2, 1]), net.ints(3)))
    else:
        flat = net.mean("ReduceMean", x.name, 2, 3, keepdims=0)
        made = net.op("Conv", net.op("Unsqueeze", flat, net.ints(1)), net.weight(1, 1, taps), net.vector(1), pads=pads)
        column = net.op("HardSigmoid", net.op("Reshape", made, net.ints(0, x.c, 1, 1)))
    return net.like(x, net.op("Mul", *((x.name, column) if a % 2 else (column, x.name))))


def _se(net: Net, x: Map, a: int, b: int) -> Map:
    inner = 1 + a % 9
    pooled = net.op("GlobalAveragePool", x.name)
    flat = net.op("Flatten", pooled) if b % 2 else net.op("Squeeze", pooled, net.ints(2, 3))
    hidden = net.op("Relu", net.op("Gemm", flat, net.weight(inner, x.c), net.vector(inner), transB=1))
    gate = net.op("Sigmoid", net.op("Gemm", hidden, net.weight(inner, x.c)))
    back = net.op("Unsqueeze", gate, net.ints(2, 3)) if a % 2 else net.op("Reshape", gate, net.ints(net.batch, x.c, 1, 1))
    return net.like(x, net.op("Mul", x.name, back))


def _cbam(net: Net, x: Map, a: int, b: int) -> Map:
    wide = net.conv(x, (264, 300, 520, 12)[a % 4])
    mean, peak = net.mean("ReduceMean", wide.name, 1), net.mean("ReduceMax", wide.name, 1)
    both = Map(net.op("Concat", mean, peak, axis=1), 2, x.h, x.w)
    gate = net.op("Sigmoid", net.conv(both, 1, (7, 7)).name)
    if b % 3 == 0:
        gate = net.op("Expand", gate, net.ints(1, wide.c, x.h, x.w))
    return net.conv(net.like(wide, net.op("Mul", wide.name, gate)), 1 + b % 20)


def _axial(net: Net, x: Map, a: int, b: int) -> Map:
    taps = (19, 18, 21, 35)[a % 4]
    group = x.c if b % 3 else 1
    made = net.conv(x, x.c, (taps, 1), group=group)
    crossed = net.conv(x, x.c, (1, taps), group=group)
    return net.like(made, net.op("Add", made.name, crossed.name)) if (made.h, made.w) == (crossed.h, crossed.w) else made


def _square(net: Net, x: Map, a: int, b: int) -> Map:
    return net.conv(x, 1 + a % 9, (19, 19), stride=1 + b % 2)


def _tokens(net: Net, x: Map, a: int, b: int) -> Map:
    """ConvNeXt's block and token MLPs: norm, two linears, a scale for each channel, in several layouts."""
    n, c, inner = net.batch, x.c, 1 + a % 30
    if b % 3 == 0:
        t = net.op("Transpose", x.name, perm=[0, 2, 3, 1])
    elif b % 3 == 1:
        t = net.op("Transpose", net.op("Reshape", x.name, net.ints(n, c, x.positions)), perm=[0, 2, 1])
    else:
        t = net.op("Reshape", net.op("Transpose", x.name, perm=[0, 2, 3, 1]), net.ints(n, x.positions, c))
    if a % 3 == 0 and net.opset >= 17 and c > 2:
        t = net.op("LayerNormalization", t, net.vector(c), net.vector(c), epsilon=1e-3)
    elif a % 3 == 1:
        mean = net.mean("ReduceMean", t, -1)
        t = net.op("Mul", net.op("Sub", t, mean), net.vector(c))
    h = net.op(("Relu", "Erf", "Sigmoid")[b % 3], net.linear(t, c, inner, bias=b % 2 == 0))
    o = net.op("Mul", net.linear(h, inner, c, bias=a % 2 == 0), net.vector(c))
    if b % 4 == 0:
        o = net.op("Add", o, t)
    if b % 3 == 0:
        back = net.op("Transpose", o, perm=[0, 3, 1, 2])
    elif b % 3 == 1:
        back = net.op("Reshape", net.op("Transpose", o, perm=[0, 2, 1]), net.ints(n, c, x.h, x.w))
    else:
        back = net.op("Transpose", net.op("Reshape", o, net.ints(n, x.h, x.w, c)), perm=[0, 3, 1, 2])
    return net.like(x, net.op("Add", x.name, back) if a % 2 else back)


def _attention(net: Net, x: Map, a: int, b: int) -> Map:
    if x.positions > 40:
        return _tokens(net, x, a, b)
    d, n = (2, 3, 8)[a % 3], net.batch
    flat = [net.op("Reshape", net.conv(x, c).name, net.ints(n, c, x.positions)) for c in (d, d, x.c)]
    query, key, value = flat
    scores = net.op("MatMul", net.op("Transpose", query, perm=[0, 2, 1]), key)
    if b % 2:
        scores = net.op("Mul", scores, net.constant(d**-0.5))
    weights = net.op("Softmax", scores, axis=-1)
    if b % 3:
        mixed = net.op("MatMul", value, net.op("Transpose", weights, perm=[0, 2, 1]))
    else:
        rows = net.op("MatMul", weights, net.op("Transpose", value, perm=[0, 2, 1]))
        mixed = net.op("Transpose", rows, perm=[0, 2, 1])
    back = net.op("Reshape", mixed, net.ints(n, x.c, x.h, x.w))
    return net.like(x, net.op("Add", x.name, net.op("Mul", back, net.constant(0.7))))


def _transformer(net: Net, x: Map, a: int, b: int) -> Map:
    """Pre-norm encoder block: heads out of one projection, residuals, an MLP."""
    heads, d = (1, 2, 3)[a % 3], (2, 4, 5)[b % 3]
    n, c, count = net.batch, heads * d, x.positions
    if count > 30 or net.opset < 17:
        return _attention(net, x, a, b)
    flat = net.op("Reshape", net.conv(x, c).name, net.ints(n, c, count))
    tokens = net.op("Transpose", flat, perm=[0, 2, 1])

    def norm(t: str) -> str:
        return net.op("LayerNormalization", t, net.vector(c), net.vector(c), epsilon=1e-2)

    joint = net.linear(norm(tokens), c, 3 * c, bias=a % 2 == 0)
    first = net.op("Split", joint, net.ints(c, c, c), outputs=3, axis=2)
    parts = [net.op("Reshape", first[:-1] + str(i), net.ints(n, count, heads, d)) for i in range(3)]
    q, k, v = (net.op("Transpose", p, perm=[0, 2, 3, 1] if i == 1 else [0, 2, 1, 3]) for i, p in enumerate(parts))
    scores = net.op("Softmax", net.op("Div", net.op("MatMul", q, k), net.constant(d**0.5)), axis=-1)
    mixed = net.op("Reshape", net.op("Transpose", net.op("MatMul", scores, v), perm=[0, 2, 1, 3]), net.ints(n, count, c))
    tokens = net.op("Add", tokens, net.linear(mixed, c, c, bias=b % 2 == 0))
    hidden = net.op("Relu", net.linear(norm(tokens), c, 2 * c + 1, bias=True))
    tokens = net.op("Add", tokens, net.linear(hidden, 2 * c + 1, c, bias=False))
    return Map(net.op("Reshape", net.op("Transpose", tokens, perm=[0, 2, 1]), net.ints(n, c, x.h, x.w)), c, x.h, x.w)


def _channel_gate(net: Net, x: Map, a: int, b: int) -> Map:
    """CBAM's first half, whose two branches share their weights."""
    inner = 1 + a % 9
    weights = [net.weight(inner, x.c, 1, 1), net.vector(inner), net.weight(x.c, inner, 1, 1)]
    gates = []
    for op in ("ReduceMean", "ReduceMax"):
        hidden = net.op("Relu", net.op("Conv", net.mean(op, x.name, 2, 3), *weights[:2]))
        gates.append(net.op("Conv", hidden, weights[2]))
    return net.like(x, net.op("Mul", x.name, net.op("Sigmoid", net.op("Add", *gates))))


def _dilated(net: Net, x: Map, a: int, b: int) -> Map:
    k, d = ((3, 2), (19, 1), (7, 3), (2, 2))[a % 4]
    pads = [(k - 1) * d // 2] * 2 + [((k - 1) * d + 1) // 2] * 2
    width = 1 + b % 12
    name = net.op("Conv", x.name, net.weight(width, x.c, k, k), dilations=[d, d], pads=pads)
    return Map(net.op("Clip", name, net.constant(-1.0), net.constant(1.5)), width, x.h, x.w)


def _constants(net: Net, x: Map, a: int, b: int) -> Map:
    kind = ("Add", "Mul", "Sub", "PRelu")[a % 4]
    return net.like(x, net.op(kind, x.name, net.constant(net.rng.uniform(0.5, 1.5, (x.c, 1, 1)))))


def _resize(net: Net, x: Map, a: int, b: int) -> Map:
    if x.positions > 200:
        return x
    if b % 2:
        return Map(net.op("Resize", x.name, "", net.constant([1, 1, 2, 2]), mode="nearest"), x.c, 2 * x.h, 2 * x.w)
    return Map(net.resized(x, 2 * x.h, 2 * x.w, "linear"), x.c, 2 * x.h, 2 * x.w)


def _upward(net: Net, x: Map, a: int, b: int) -> Map:
    if x.positions > 200:
        return x
    k, width = (2, 4, 20)[b % 3], 1 + a % 12
    pads = [(k - 2) // 2] * 4
    name = net.op("ConvTranspose", x.name, net.weight(x.c, width, k, k), net.vector(width), strides=[2, 2], pads=pads)
    return Map(name, width, 2 * x.h, 2 * x.w)


def _pool(net: Net, x: Map, a: int, b: int) -> Map:
    if min(x.h, x.w) < 4:
        return net.like(x, net.op("AveragePool", x.name, kernel_shape=[3, 3], pads=[1] * 4))
    return Map(net.op("MaxPool", x.name, kernel_shape=[2, 2], strides=[2, 2]), x.c, x.h // 2, x.w // 2)


def _pyramid(net: Net, x: Map, a: int, b: int) -> Map:
    """The pooled branch of ASPP."""
    pooled = net.conv(Map(net.op("GlobalAveragePool", x.name), x.c, 1, 1), 1 + a % 9)
    spread = net.resized(pooled, x.h, x.w, "linear") if b % 2 else net.op("Expand", pooled.name, net.ints(1, pooled.c, x.h, x.w))
    return Map(net.op("Concat", x.name, spread, axis=1), x.c + pooled.c, x.h, x.w)


BLOCKS: tuple[Callable[[Net, Map, int, int], Map], ...] = (
    _conv, _normed, _depthwise, _residual, _concat, _split, _eca, _se, _cbam, _axial, _square, _tokens, _attention, _resize,
    _upward, _pool, _pyramid, _transformer, _channel_gate, _dilated, _constants,
)  # fmt: skip


def _head(net: Net, x: Map, kind: str, classes: int) -> str:
    if kind == "map":
        return x.name
    if kind == "whole" and max(x.h, x.w) <= 17:
        return net.op("Gemm", net.op("Flatten", x.name), net.weight(classes, x.c * x.positions), net.vector(classes), transB=1)
    if kind == "mean":
        return net.linear(net.mean("ReduceMean", x.name, 2, 3, keepdims=0), x.c, classes, bias=True)
    flat = net.op("Reshape", net.op("GlobalAveragePool", x.name), net.ints(net.batch, -1))
    return net.op("Softmax", net.op("Gemm", flat, net.weight(classes, x.c), net.vector(classes), transB=1), axis=1)


@st.composite
def networks(draw: st.DrawFn) -> onnx.ModelProto:
    net = Net(
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        draw(st.sampled_from([1, 1, 2, 0])),
        draw(st.sampled_from([13, 17, 20])),
    )
    odd = st.sampled_from([3, 4, 5, 7, 13, 19])
    given = Map("x", draw(st.sampled_from([1, 3, 5, 8, 12, 20])), draw(odd), draw(odd))
    maps, small = [given], st.integers(0, 59)
    for block, at, a, b in draw(
        st.lists(st.tuples(st.sampled_from(BLOCKS), st.integers(0, 3), small, small), min_size=1, max_size=5)
    ):
        x = maps[-1 - at] if at < len(maps) else maps[-1]
        made = block(net, x, a, b)
        if made is not x:
            maps.append(made)
    if len(maps) == 1:
        maps.append(_conv(net, given, 1, 1))
    last = _head(
        net, maps[-1], draw(st.sampled_from(["map", "map", "whole", "mean", "pooled"])), draw(st.sampled_from([1, 7, 10]))
    )
    read = {i for node in net.nodes for i in node.input}
    outputs = dict.fromkeys([last, *(m.name for m in maps[1:] if m.name not in read)])
    return built(net, (given.c, given.h, given.w), outputs)


@st.composite
def rows(draw: st.DrawFn) -> onnx.ModelProto:
    """Networks of one-dimensional convolutions on [B, C, L]."""
    net = Net(np.random.default_rng(draw(st.integers(0, 2**32 - 1))), draw(st.sampled_from([1, 2, 0])), 17)
    x, c, size = "x", draw(st.sampled_from([1, 3, 8, 12])), draw(st.sampled_from([7, 13, 40]))
    given, small = (c, size), st.integers(0, 59)

    def conv(x: str, inputs: int, width: int, taps: int, group: int = 1) -> str:
        pads = [taps // 2, (taps - 1) // 2]
        return net.op("Conv", x, net.weight(width, inputs // group, taps), net.vector(width), pads=pads, group=group)

    steps = st.tuples(st.sampled_from(["conv", "residual", "concat", "depthwise", "norm", "pool"]), small, small)
    for kind, a, b in [("conv", draw(small), draw(small)), *draw(st.lists(steps, max_size=4))]:
        if kind == "conv":
            x, c = net.op("Relu", conv(x, c, 1 + a % 14, (1, 3, 19, 4)[b % 4])), 1 + a % 14
        elif kind == "residual":
            x = net.op("Add", x, conv(net.op("Relu", conv(x, c, 1 + a % 9, 3)), 1 + a % 9, c, 1))
        elif kind == "concat":
            x, c = net.op("Concat", conv(x, c, 1 + a % 9, 3), conv(x, c, 1 + b % 9, 1), axis=1), 2 + a % 9 + b % 9
        elif kind == "depthwise":
            x = net.op("Sigmoid", conv(x, c, c, 5, group=c))
        elif kind == "norm":
            scale = [net.constant(net.rng.uniform(0.5, 1.5, c)) for _ in range(2)]
            x = net.op("BatchNormalization", x, scale[0], net.vector(c), net.vector(c), scale[1])
        elif size > 3:
            x, size = net.op("MaxPool", x, kernel_shape=[2], strides=[2]), size // 2
    if draw(st.booleans()):
        x = net.op("Gemm", net.op("Flatten", net.op("GlobalAveragePool", x)), net.weight(7, c), net.vector(7), transB=1)
    return built(net, given, [x])


def built(net: Net, shape: Sequence[int], outputs: Iterable[str]) -> onnx.ModelProto:
    graph = helper.make_graph(
        net.nodes, "g",
        [helper.make_tensor_value_info("x", 1, [net.batch or "N", *shape])],
        [helper.make_tensor_value_info(n, 1, None) for n in outputs],
        net.weights,
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", net.opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made, strict_mode=True)


class Lasting(Runtime):
    """One process for all networks: leaving it does not end it."""

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def lasting() -> Iterator[Lasting]:
    runtime = Lasting()
    yield runtime
    runtime.close()


def drawn(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return settings(
        max_examples=LONG or examples, deadline=None, suppress_health_check=list(HealthCheck), derandomize=not LONG,
        print_blob=bool(LONG), database=None,
    )  # fmt: skip


@drawn(24)
@given(model=networks())
def test_random_networks_of_the_zoos_blocks(
    model: onnx.ModelProto, lasting: Lasting, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("npu_guard.pipeline.fix_floats.Runtime", lambda *_: lasting)
    fix_and_prove(model, tmp_path_factory.mktemp("net"))


@drawn(6)
@given(model=rows())
def test_random_networks_of_one_dimension(
    model: onnx.ModelProto, lasting: Lasting, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("npu_guard.pipeline.fix_floats.Runtime", lambda *_: lasting)
    fix_and_prove(model, tmp_path_factory.mktemp("net"))


@drawn(10)
@given(model=networks(), device=st.sampled_from(DEVICES))
def test_random_networks_on_drawn_devices(
    model: onnx.ModelProto,
    device: str,
    lasting: Lasting,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No more is found than before, the numbers are the same, and what is fixed is left as it is."""
    monkeypatch.setattr("npu_guard.pipeline.fix_floats.Runtime", lambda *_: lasting)
    folder = tmp_path_factory.mktemp("net")
    source, target = folder / "model.onnx", folder / "fixed.onnx"
    onnx.save(model, source)
    profile = registry.profile(device)
    report = fix_model(str(source), profile, Config(device), SUBSTITUTIONS, seeds=(0,))
    assert failures(report.after) <= failures(report.before)
    assert not report.after.crashes
    if not report.applied:
        return
    assert report.verification.verdict == "equal", report.verification
    save_document(report.document, target)
    agree(model, onnx.load(target), report.applied)
    again = fix_model(str(target), profile, Config(device), SUBSTITUTIONS, seeds=(0,))
    assert not again.applied, [a.substitution for a in again.applied]


def failures(report: ModelReport) -> tuple[int, int]:
    """Errors and warnings."""
    found = [f.severity for f in report.findings if f.outcome is Outcome.FAIL]
    return found.count(Severity.ERROR), found.count(Severity.WARNING)


def test_what_nobody_reads_is_mended_as_well(tmp_path: Path) -> None:
    net = Net(np.random.default_rng(0), 1, 17)
    x = Map("x", 3, 5, 7)
    net.conv(net.conv(x, 5, (3, 3)), 9, (19, 1))
    fix_and_prove(built(net, (3, 5, 7), [net.conv(x, 8, (3, 3)).name]), tmp_path)


def fix_and_prove(model: onnx.ModelProto, folder: Path) -> None:
    """Everything that is promised of a network that exact substitutions cover."""
    source, target = folder / "model.onnx", folder / "fixed.onnx"
    onnx.save(model, source)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    report = fix_model(str(source), PROFILE, Config(), SUBSTITUTIONS, seeds=(0,))
    left = [(f.rule, f.location.node, f.message) for f in report.after.findings if f.severity is Severity.ERROR]
    undecided = [f for f in report.after.findings if f.outcome is not Outcome.FAIL]
    assert not left, (left, report.refused)
    assert not undecided
    assert not report.after.crashes
    assert {a.verification.verdict for a in report.applied} <= {"equal"}
    if not report.applied:
        return
    assert report.verification.verdict == "equal", report.verification
    save_document(report.document, target)
    assert hashlib.sha256(source.read_bytes()).hexdigest() == digest
    onnx.checker.check_model(str(target), full_check=True)
    agree(model, onnx.load(target), report.applied)


def agree(before: onnx.ModelProto, after: onnx.ModelProto, applied: Sequence[Applied]) -> None:
    """ONNX's own evaluator, in numpy: in double the two models agree to the last digits, and to those of a float where a form
    rounds constants that it computes, as the factors of a norm. In single they do to 100 dB by ONNX Runtime, where the network
    itself does not make more than that of the last bits of its input.
    """
    shape = tuple(d.dim_value or 3 for d in before.graph.input[0].type.tensor_type.shape.dim)
    x = np.random.default_rng(7).standard_normal(shape)
    for a, b in zip(evaluate(before, x), evaluate(after, x), strict=True):
        near = 1e-10 if all(x.verification.proof and x.verification.proof.label == PROVED for x in applied) else 1e-7
        np.testing.assert_allclose(a, b, rtol=0, atol=near * max(1.0, np.abs(a).max()))
    single = x.astype(np.float32)
    worst = max(apart(a, b) for a, b in zip(run(before, single), run(after, single), strict=True))
    assert worst <= APART or amplified(before, single) > APART / 4, worst


def apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm((a - b).astype(np.float64)) / (np.linalg.norm(a.astype(np.float64)) or 1.0))


def amplified(model: onnx.ModelProto, x: np.ndarray) -> float:
    """How far an output moves, relative to itself, when all numbers that are fed move by half a last bit."""
    moved = np.nextafter(x, np.float32(np.inf)).astype(np.float64)
    return max(apart(a, b) for a, b in zip(evaluate(model, x), evaluate(model, (x + moved) / 2), strict=True))


def run(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})  # type: ignore[no-any-return]


def evaluate(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for tensor in wide.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    for value in (*wide.graph.input, *wide.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    del wide.graph.value_info[:]
    for node in wide.graph.node:
        if node.op_type == "ConvTranspose":
            without_groups(wide.graph, node)
    return ReferenceEvaluator(wide).run(None, {"x": x.astype(np.float64)})  # type: ignore[return-value]


def without_groups(graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    """Dense weights for a ConvTranspose in groups, which onnx 1.22's evaluator cuts by outputs where it has to by inputs."""
    (groups,) = [a.i for a in node.attribute if a.name == "group"] or [1]
    (weight,) = [numpy_helper.to_array(t) for t in graph.initializer if t.name == node.input[1]]
    rows, columns = weight.shape[0] // groups, weight.shape[1]
    dense = np.zeros((weight.shape[0], columns * groups, *weight.shape[2:]), weight.dtype)
    for i in range(groups):
        dense[i * rows : (i + 1) * rows, i * columns : (i + 1) * columns] = weight[i * rows : (i + 1) * rows]
    name = f"{node.output[0]} dense"
    graph.initializer.append(numpy_helper.from_array(dense, name))
    node.input[1] = name
    kept = [a for a in node.attribute if a.name != "group"]
    del node.attribute[:]
    node.attribute.extend(kept)
