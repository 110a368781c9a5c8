from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from npu_guard.rewriting import strip
from npu_guard.rewriting.substitution import Builder, Example, Match, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

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
    roots = ("Conv",)
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

    def match(self, node: Node, ctx: Context) -> Match | None:
        found = strip.match_strip(node, ctx)
        return None if found is None else Match(self, node, (*found.nodes, *found.shapes), found.replaced, found)

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._build(match, build, shift=0)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The band one channel off, as from a padding miscounted."""
        return self._build(match, build, shift=1)

    def _build(self, match: Match, build: Builder, shift: int) -> Mapping[Value, str]:
        found = match.facts

        def convolution(node: Node, name: str) -> str:
            weight, bias = node.input(1), node.input(2)
            assert weight is not None
            band = np.roll(strip.band_weight(node, build.weight(weight), found.channels), shift, 0)[:, :, None, None]
            offset = [] if bias is None else [build.constant(np.repeat(build.weight(bias), found.channels))]
            return build.op("Conv", name, build.constant(band), *offset, kernel_shape=[1, 1])

        return strip.write_strip(found, build, convolution)
