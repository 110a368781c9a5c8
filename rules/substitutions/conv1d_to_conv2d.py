from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from npu_guard.rewriting.rank_lift import Lifter, Lifting, Raised
from npu_guard.rewriting.strip import over_channels
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_WINDOWS = ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool")
_PER_AXIS = {"kernel_shape": 1, "strides": 1, "dilations": 1, "output_padding": 0, "output_shape": 1}
"""Attributes with a number for each axis of space, and what a row has there."""


class Conv1dToConv2d(Substitution):
    """A one-dimensional network becomes a two-dimensional one that is one row high.

    On `[B,C,1,L]` a kernel `[O,I,1,k]` with no padding above and below is the kernel `[O,I,k]` on `[B,C,L]`: the same
    products, the same sums. All that is joined to the convolution by tensors of rank 3 goes along (element-wise operators,
    batch norm, pooling, Concat, Split, reductions, softmax), so the row is put in once where a tensor comes from outside
    and taken out once where it leaves. A Squeeze, Unsqueeze or Reshape of that row at the border is gone. The channels stay
    channels throughout, so nothing is rearranged in memory.

    A convolution over the channels of a pooled map is left to eca-to-se.
    """

    name = "conv1d-to-conv2d"
    roots = ("Conv", "ConvTranspose")
    rank = 3
    limits = {"conv.rank": [4]}
    good = (
        Example(
            """g (float[1,8,32] x) => (y)
            <float[16,4,3] w, float[16] b> { y = Conv<group = 2, pads = [2,0], strides = [2], dilations = [1]>(x, w, b) }""",
            ops=("Unsqueeze", "Conv", "Squeeze"),
        ),
        Example(
            """g (float[2,8,33] x) => (y, p)
            <float[8,8,3] w, float[8] s, float[8] b, float[8] m, float[8] v = {1,2,3,4,5,6,7,8}, float[8,1] k, float[8,8,4] u>
            { c = Conv<auto_pad = "SAME_UPPER">(x, w)  n = BatchNormalization(c, s, b, m, v)  r = Relu(n)  a = Mul(r, k)
              d = Add(a, x)  e = Concat<axis = 1>(d, r)  p = MaxPool<kernel_shape = [3], strides = [2], pads = [1,0]>(e)
              f = AveragePool<kernel_shape = [2], count_include_pad = 1, pads = [0,1]>(d)
              y = ConvTranspose<strides = [3], output_padding = [1], pads = [1,1], dilations = [2]>(f, u) }""",
            ops=(
                *("Unsqueeze", "Conv", "BatchNormalization", "Relu", "Mul", "Add", "Concat", "MaxPool", "AveragePool"),
                *("ConvTranspose", "Squeeze", "Squeeze"),
            ),
            title="a whole network",
        ),
        Example(
            """g (float[1,8,1,20] x) => (y)
            <float[8,8,5] w, int64[1] two = {2}, int64[4] back = {1,8,1,20}>
            { s = Squeeze(x, two)  c = Conv<pads = [2,2]>(s, w)  r = Relu(c)  y = Reshape(r, back) }""",
            ops=("Conv", "Relu"),
            title="between a Squeeze and a Reshape, which are not needed",
        ),
        Example(
            """g (float[1,8,20] x) => (y)
            <float[16,8,3] w, int64[1] two = {2}, int64[1] end = {-2}>
            { c = Conv<pads = [4,4], dilations = [2]>(x, w)  h = Slice(c, two, end, two)
              a, b = Split<axis = 1>(h)  g = Sigmoid(b)  m = Mul(a, g)  y = ReduceMean<axes = [2]>(m) }""",
            ops=("Unsqueeze", "Conv", "Slice", "Split", "Sigmoid", "Mul", "ReduceMean", "Squeeze"),
            opset=12,
            title="gated, pooled, in an old opset",
        ),
        Example(
            """g (float[1,8,20] x, float[1,20,3] t) => (y, z)
            <float[8,8,3] w, float[8] b, int64[2] front = {2,0}, int64[1] last = {-1}>
            { p = Pad(x, front, , last)  c = Conv(p, w, b)  m = MatMul(c, t)  s = Shape(c)  f = Cast<to = 1>(s)
              y = Add(m, f)  z = ReduceMax<keepdims = 0>(c, last) }""",
            ops=("Unsqueeze", "Pad", "Conv", "ReduceMax", "Squeeze", "MatMul", "Shape", "Cast", "Add", "Squeeze"),
            title="causal, pooled, and read by what stays as it is",
        ),
    )
    bad = (
        Example(
            "g (float[1,8,32] x, float[8,8,3] w) => (y) { y = Conv(x, w) }",
            refused="its weights are not constant",
        ),
        Example(
            """g (float[1,4096,8] x) => (y) <int64[3] s = {2048, 4096, 3}>
            { v = ConstantOfShape(s)  y = Conv(x, v) }""",
            refused="computed by ConstantOfShape, and 25,165,824 numbers are more than",
        ),
        Example(
            """g (float[1,8,32] x, bool b) => (y) <float[8,8,1] w>
            { y = If<then_branch = t () => (c) { c = Conv(x, w) }, else_branch = e () => (r) { r = Relu(x) }>(b) }""",
            refused="inside a subgraph",
        ),
    )

    def __init__(self) -> None:
        self._lifter = Lifter(Lifting(3, (2,)), dict.fromkeys(_WINDOWS, (_liftable, _lifted)), self.roots)

    def match(self, node: Node, ctx: Context) -> Match | None:
        if not self._lifter.holds(node.inputs[0]) or over_channels(node, ctx):
            return None
        if node.graph.parent is not None:
            raise Refused("it is inside a subgraph")
        if not ctx.is_constant(node.input(1)):
            raise Refused("its weights are not constant")
        region = self._lifter.region(node, ctx)
        if node is not region.speaker:
            return None  # the first convolution speaks for all
        return Match(self, node, region.nodes, region.exits, (region, ctx))

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._lifter.rewrite(match, build)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """Padding at the wrong end, which keeps every shape."""
        result = self._lifter.rewrite(match, build)
        for node in build.nodes:
            for attribute in node.attribute:
                if attribute.name == "pads":
                    attribute.ints[:] = [attribute.ints[i] for i in (0, 3, 2, 1)]
                elif attribute.name == "auto_pad":
                    attribute.s = b"SAME_LOWER"
        return result


def _liftable(node: Node, ctx: Context) -> bool:
    """Whether this is a window on one axis, with constant weights and one output."""
    x = node.inputs[0]
    if x is None or x.shape is None or len(x.shape) != 3 or len(node.outputs) > 1:
        return False
    return node.op_type not in Conv1dToConv2d.roots or (ctx.is_constant(node.input(1)) and not over_channels(node, ctx))


def _lifted(node: Node, raised: Raised) -> Sequence[str]:
    """The window with one row."""
    changed: dict[str, Any] = {
        name: [row, *node.attributes[name]] for name, row in _PER_AXIS.items() if node.attributes.get(name)
    }
    if node.attributes.get("pads"):
        begin, end = node.attributes["pads"]
        changed["pads"] = [0, begin, 0, end]
    inputs: list[str | Value | None] = [raised.map(node.inputs[0])]
    if node.op_type in Conv1dToConv2d.roots and node.inputs[1] is not None:
        inputs += [raised.build.constant(raised.build.weight(node.inputs[1])[:, :, None]), *node.inputs[2:]]
    return raised.build.like(node, *inputs, **changed)
