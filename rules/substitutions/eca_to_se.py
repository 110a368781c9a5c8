from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx

from npu_guard.lift import UNARY, numbers, reduced
from npu_guard.strip import SCALING, over_channels, trace
from npu_guard.substitution import Array, Builder, Example, Refused, Site, Substitution

if TYPE_CHECKING:
    from npu_guard.context import Context
    from npu_guard.graph import Node, Value

LIMITS = {"layout.rearrange": False, "layout.vectors": False, "conv.rank": [4], "channels.multiple_of": 8}


class EcaToSe(Substitution):
    """A one-dimensional convolution over the channels of a pooled map becomes a 1x1 convolution.

    Channel i of the result is the sum over taps t of w[t] times channel j = i - p + d*t, where p is the padding in front and
    d the dilation; channels that do not exist count as zero. As a matrix that is W[i,j] = w[t]: a band along the diagonal
    (Toeplitz), and a matrix over channels of `[B,C,1,1]` is a 1x1 convolution C -> C. Pool, 1x1 convolution, sigmoid, product
    is the form of squeeze-and-excitation, here with the very same numbers.

    The views that lay the channels along an axis of space, and those that bring them back, are gone, whichever operators
    spell them; element-wise operators and further convolutions in between stay in order.
    """

    name = "eca-to-se"
    rules = ("NPU102", "NPU104", "NPU105", "NPU401")
    anchors = ("Conv",)
    limits = LIMITS
    good = (
        Example(
            """g (float[1,16,4,6] x) => (y)
            <float[1,1,1,5] w, int64[4] row = {1,1,1,16}, int64[4] map = {1,16,1,1}>
            { p = GlobalAveragePool(x)  r = Reshape(p, row)  c = Conv<pads = [0,2,0,2]>(r, w)
              s = Sigmoid(c)  m = Reshape(s, map)  y = Mul(x, m) }""",
            ops=("GlobalAveragePool", "Conv", "Sigmoid", "Mul"),
            title="Conv2d on a [B,1,1,C] view",
        ),
        Example(
            """g (float[2,16,4,6] x) => (y)
            <float[1,1,4] w, float[1] b, int64[1] last = {-1}>
            { p = GlobalAveragePool(x)  q = Squeeze(p, last)  t = Transpose<perm = [0,2,1]>(q)  c = Conv<pads = [1,2]>(t, w, b)
              u = Transpose<perm = [0,2,1]>(c)  v = Unsqueeze(u, last)  s = HardSigmoid(v)  y = Mul(x, s) }""",
            ops=("GlobalAveragePool", "Conv", "HardSigmoid", "Mul"),
            title="as published, an even kernel with bias",
        ),
        Example(
            """g (float[1,16,4,6] x) => (y)
            <float[1,1,3] w, int64[3] row = {1,1,16}, int64[4] map = {1,16,1,1}, int64[4] full = {1,16,4,6}>
            { p = ReduceMean<axes = [2,3], keepdims = 0>(x)  r = Reshape(p, row)  c = Conv<auto_pad = "SAME_UPPER">(r, w)
              s = Sigmoid(c)  m = Reshape(s, map)  e = Expand(m, full)  y = Mul(x, e) }""",
            ops=("ReduceMean", "Conv", "Sigmoid", "Expand", "Mul"),
            opset=17,
            title="from a pool without axes of space",
        ),
        Example(
            """g (float[1,16,1,1] p) => (y, z)
            <float[1,1,3,3] w, float half = {0.5}, int64[2] vector = {1,16}, int64[4] row = {1,1,16,1}>
            { f = Reshape(p, vector)  r = Reshape(f, row)  c = Conv<pads = [2,1,2,1], dilations = [2,1]>(r, w)  a = Relu(c)
              d = Conv<pads = [1,1,1,1]>(a, w)  h = Mul(half, d)  k = Shape(d)  z = Cast<to = 1>(k)
              v = Flatten(h)  y = Softmax(v) }""",
            ops=("Conv", "Relu", "Conv", "Mul", "Squeeze", "Softmax", "Constant", "Cast"),
            limits={"layout.rearrange": False},
            title="two of them, by way of a vector, to a vector",
        ),
    )
    bad = (
        Example(
            """g (float[1,16,1,1] p) => (y)
            <float[1,1,3] w, int64[3] row = {1,1,16}> { r = Reshape(p, row)  y = Conv(r, w) }""",
            refused="gives 14 positions for 16 channels",
        ),
        Example(
            """g (float[1,16,1,1] p) => (y)
            <float[2,2,3] w, int64[3] row = {1,2,8}, int64[4] map = {1,16,1,1}>
            { r = Reshape(p, row)  c = Conv<pads = [1,1]>(r, w)  y = Reshape(c, map) }""",
            refused="it has 2 input channels",
        ),
        Example(
            """g (float[1,16,1,1] p, float[1,1,3] w) => (y)
            <int64[3] row = {1,1,16}, int64[4] map = {1,16,1,1}>
            { r = Reshape(p, row)  c = Conv<pads = [1,1]>(r, w)  y = Reshape(c, map) }""",
            refused="its weights are not constant",
        ),
        Example(
            """g (float[1,16,1,1] p) => (y)
            <float[1,1,3] w, int64[3] row = {1,1,16}> { r = Reshape(p, row)  c = Conv<pads = [1,1]>(r, w)  y = Sigmoid(c) }""",
            refused="no way back: the model gives 'y', in which 16 channels lie in space",
        ),
        Example(
            """g (float[1,16,1,2] p) => (y)
            <float[1,1,3] w, int64[3] row = {1,1,32}, int64[4] map = {1,16,1,2}>
            { r = Reshape(p, row)  c = Conv<pads = [1,1]>(r, w)  y = Reshape(c, map) }""",
            refused="is not pooled to 1x1",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Site | None:
        if ctx.limit("layout.rearrange") is not False or node.graph.parent is not None:
            return None
        if not over_channels(node, ctx):
            _refuse_larger_map(node, ctx)
            return None
        x, weight, out = (numbers(v) or () for v in (node.inputs[0], node.input(1), node.output))
        for axis, what in ((1, "input"), (0, "output")):
            if weight[axis] != 1:
                raise Refused(f"it has {weight[axis]} {what} channels")
        if not ctx.is_constant(node.input(1)):
            raise Refused("its weights are not constant")
        if x != out:
            raise Refused(f"it gives {math.prod(out[1:])} positions for {math.prod(x[1:])} channels")
        strip = trace(node, ctx)
        replaced = (strip.end, *(s.output for s in strip.shapes))
        return Site(self, node, (*strip.nodes, *strip.shapes), replaced, (strip, ctx))

    def rewrite(self, site: Site, build: Builder) -> Mapping[Value, str]:
        return self._build(site, build, shift=0)

    def mutant(self, site: Site, build: Builder) -> Mapping[Value, str]:
        """The band one channel off, as from a padding miscounted."""
        return self._build(site, build, shift=1)

    def _build(self, site: Site, build: Builder, shift: int) -> Mapping[Value, str]:
        strip, ctx = site.facts
        name = _pooled(strip.pooled, ctx, build)
        value = strip.pooled
        for node in strip.steps:
            build.origin = node
            if node.op_type == "Conv":
                weight = build.weight(node.inputs[1])
                band = np.roll(_band(node, weight, strip.channels), shift, 0)[:, :, None, None]
                bias = [] if node.input(2) is None else [build.constant(np.repeat(build.weight(node.inputs[2]), strip.channels))]
                name = build.op("Conv", name, build.constant(band), *bias, kernel_shape=[1, 1])
            elif node.op_type in UNARY:
                name = build.like(node, name, *node.inputs[1:])[0]
            elif node.op_type in SCALING:
                operands = (name if v is value else build.constant(build.weight(v).reshape(1)) for v in node.inputs)
                name = build.like(node, *operands)[0]
            value = node.output
        build.origin = strip.steps[-1]
        if (rank := len(strip.end.shape)) < 4:
            name = build.squeeze(name, *range(rank, 4))
        shapes = {s.output: build.op("Constant", value=onnx.numpy_helper.from_array(ctx.array(s.output))) for s in strip.shapes}
        return {strip.end: name, **shapes}


def _refuse_larger_map(node: Node, ctx: Context) -> None:
    """Refuse a convolution of one channel over what a rearrangement has made of a larger map."""
    before = node.inputs[0].producer if node.inputs[0] is not None else None
    weight = numbers(node.input(1))
    if before is None or before not in ctx.rearrangements or weight is None or weight[:2] != (1, 1) or max(weight) == 1:
        return
    source = ctx.analysis.origin(before.inputs[0]) if before.inputs[0] is not None else before.output
    raise Refused(f"{ctx.show(source)} is not pooled to 1x1")


def _pooled(value: Value, ctx: Context, build: Builder) -> str:
    """The pooled map with its axes of space."""
    if (rank := len(value.shape or ())) == 4:
        return value.name
    node = value.producer
    if node is not None and node.op_type.startswith("Reduce") and rank == 2 and node.inputs[0] is not None:
        build.origin = node
        if len(node.inputs[0].shape or ()) == 4 and reduced(node, ctx) == (2, 3):
            return build.reduce(node.op_type, node.inputs[0], (2, 3))
    return build.unsqueeze(value, *range(rank, 4))


def _band(node: Node, weight: Array, channels: int) -> Array:
    """The convolution along its one axis of extent > 1, as a matrix; of the other axis just the tap on the only row counts."""
    assert node.inputs[0] is not None
    extents = (numbers(node.inputs[0]) or ())[2:]
    rank = len(extents)
    dilations, strides = (node.attr(name) or [1] * rank for name in ("dilations", "strides"))
    matrix = np.zeros((channels, channels), weight.dtype)
    for taps in itertools.product(*map(range, weight.shape[2:])):
        reach = [t * d - _begin(node, a, weight.shape[a + 2], d) for a, (t, d) in enumerate(zip(taps, dilations, strict=True))]
        along = next(a for a, extent in enumerate(extents) if extent > 1)
        if any(offset for a, offset in enumerate(reach) if a != along):
            continue
        i = np.arange(channels)
        j = i * strides[along] + reach[along]
        inside = (j >= 0) & (j < channels)
        matrix[i[inside], j[inside]] += weight[(0, 0, *taps)]
    return matrix


def _begin(node: Node, axis: int, kernel: int, dilation: int) -> int:
    """Padding in front; where the operator chooses it, it keeps the extent."""
    total = (kernel - 1) * dilation
    mode = node.attr("auto_pad", "NOTSET")
    if mode == "NOTSET":
        return int((node.attr("pads") or [0] * 4)[axis])
    return {"VALID": 0, "SAME_UPPER": total // 2}.get(mode, total - total // 2)
