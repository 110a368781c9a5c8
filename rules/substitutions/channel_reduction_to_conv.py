from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import onnx

from npu_guard.proof.exact import Exact
from npu_guard.results.proof import ROUNDING
from npu_guard.rewriting.node_numbers import over_channels
from npu_guard.rewriting.substitution import Builder, Example, Match, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_REFUSED: Mapping[str, str] = {"ReduceMean": "refused", "ReduceSum": "refused", "Conv": "supported", "Reshape": "supported"}
_SPACE = {"ReduceMean": "supported", "ReduceSum": "supported", "Conv": "supported"}
_NOT_CHANNELS = ({"ops": ["ReduceMean", "ReduceSum"], "metric": "axes", "not_in": [1]},)


class ChannelReductionToConv(Substitution):
    """A mean or sum over channels becomes a 1x1 convolution with one output channel.

    sum over c of x[c] is a product with a row of ones, the mean one with a row of 1/C. Where axes of space are reduced as well,
    they go first, while a reduction along them is left. Where the reduction drops its axes, a Reshape does. Exact but for the
    order of summation, and the rounding of 1/C where C is no power of two.
    """

    name = "channel-reduction-to-conv"
    roots = ("ReduceMean", "ReduceSum")
    alone = True
    operators = _REFUSED
    good = (
        Example("g (float[1,8,4,6] x) => (y) <int64[1] a = {1}> { y = ReduceMean(x, a) }", ops=("Conv",)),
        Example(
            "g (float[2,12,3,5] x) => (y) { y = ReduceMean<axes = [-3]>(x) }", ops=("Conv",), opset=13, label=ROUNDING,
            title="the mean of twelve, from the end",
        ),
        Example("g (float[1,7,3,5] x) => (y) { y = ReduceSum<axes = [1], keepdims = 0>(x) }", ops=("Conv", "Reshape"), opset=11),
        Example(
            "g (float[1,8,3,5] x) => (y) <int64[3] a = {3, 1, 2}> { y = ReduceMean(x, a) }",
            ops=("ReduceMean", "Conv"),
            operators=_SPACE,
            require=_NOT_CHANNELS,
            title="over all of the map",
        ),
    )  # fmt: skip
    bad = (
        Example("g (float[1,8,4,6] x, int64[1] a) => (y) { y = ReduceMean(x, a) }", refused="its axes are computed"),
        Example(
            'g (float[1,"C",4,6] x) => (y) <int64[1] a = {1}> { y = ReduceMean(x, a) }', refused="its shape is not known"
        ),
        Example(
            "g (int32[1,8,4,6] x) => (y) <int64[1] a = {1}> { y = ReduceSum(x, a) }", refused="is not of floating point"
        ),
        Example("g (float[2,8,4,6] x) => (y) <int64[2] a = {0, 1}> { y = ReduceMean(x, a) }", refused="over the batch"),
    )  # fmt: skip

    def match(self, node: Node, ctx: Context) -> Match | None:
        found = over_channels(node, ctx, _FLOATS, "what it reduces")
        return None if found is None else Match(self, node, (node,), (node.output,), found)

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return _written(match, build, 0)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The last channel is left out."""
        return _written(match, build, 1)


_FLOATS = frozenset({1, 10, 11})


def _written(match: Match, build: Builder, without: int) -> Mapping[Value, str]:
    node, (axes, shape) = match.root, match.facts
    channels, mean = shape[1], node.op_type == "ReduceMean"
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(node.output.dtype))
    name: str | Value | None = node.inputs[0]
    assert name is not None
    if space := [a for a in axes if a != 1]:
        name = build.reduce(node.op_type, name, sorted(space))
    factors = np.full((1, channels, 1, 1), Fraction(1, channels) if mean else Fraction(1), object)
    factors[:, channels - without :] = Fraction(0)
    name = build.op("Conv", name, build.rounded(Exact.of(factors), dtype), kernel_shape=[1, 1])
    if not node.attr("keepdims", 1):
        left = [0, *(n for a, n in enumerate(shape) if a and a not in axes)]
        name = build.op("Reshape", name, build.ints(*left))
    return {node.output: name}
