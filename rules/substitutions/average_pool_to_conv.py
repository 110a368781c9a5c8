from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import onnx

from npu_guard.proof.exact import Exact
from npu_guard.results.proof import ROUNDING
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_SQUARE = ({"ops": ["AveragePool"], "metric": "kernel", "max": 3, "consequence": "host"},)
_FLOATS = frozenset({1, 10, 11})
MOST = 1 << 22
"""Weights that the convolution may have."""


class AveragePoolToConv(Substitution):
    """An AveragePool becomes a depthwise Conv whose weights are all 1 / k.

    The mean of the k elements of a window is the sum of their k-th parts. Padding counts as zeros, in both; a pool that leaves
    it out of the count is another form's. Exact but for the rounding of 1 / k.
    """

    name = "average-pool-to-conv"
    roots = ("AveragePool",)
    alone = True
    operators = dict.fromkeys(("AveragePool", "Conv"), "supported")
    good = (
        Example(
            "g (float[1,4,9,14] x) => (y) { y = AveragePool<kernel_shape = [3,7], strides = [3,7]>(x) }",
            ops=("Conv",),
            require=_SQUARE,
            label=ROUNDING,
            title="windows longer than those of the device",
        ),
        Example(
            """g (float[2,3,9,8] x) => (y)
            { y = AveragePool<kernel_shape = [4,4], strides = [2,1], pads = [1,0,2,3], count_include_pad = 1>(x) }""",
            ops=("Conv",),
            require=_SQUARE,
            title="with padding that counts; a 16th is a float",
        ),
        Example(
            "g (float[1,5,20] x) => (y) { y = AveragePool<kernel_shape = [5], strides = [5]>(x) }",
            ops=("Conv",),
            require=_SQUARE,
            label=ROUNDING,
            title="a sequence",
        ),
        Example(
            'g (float["N",4,9,9] x) => (y) { y = AveragePool<kernel_shape = [4,2], auto_pad = "VALID", dilations = [1,2]>(x) }',
            ops=("Conv",),
            require=_SQUARE,
            title="of an open batch, with gaps",
        ),
    )
    bad = (
        Example(
            "g (float[1,4,9,9] x) => (y) { y = AveragePool<kernel_shape = [5,5], pads = [2,2,2,2]>(x) }",
            refused="it leaves its padding out of the count",
            require=_SQUARE,
        ),
        Example(
            "g (float[1,4,9,10] x) => (y) { y = AveragePool<kernel_shape = [5,4], strides = [2,3], ceil_mode = 1>(x) }",
            refused="it rounds the number of its windows up",
            require=_SQUARE,
        ),
        Example(
            'g (float[1,4,9,9] x) => (y) { y = AveragePool<kernel_shape = [4,4], auto_pad = "SAME_UPPER">(x) }',
            refused="its padding follows from auto_pad",
            require=_SQUARE,
        ),
        Example(
            "g (float[1,C,9,9] x) => (y) { y = AveragePool<kernel_shape = [4,4]>(x) }",
            refused="its channels are not known",
            require=_SQUARE,
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        x = ctx.input(node, 0)
        if node.graph.parent is not None:
            raise Refused("it is inside a subgraph")
        if x.dtype not in _FLOATS:
            raise Refused("its elements are neither float32, float16 nor double")
        if node.attr("ceil_mode", 0):
            raise Refused("it rounds the number of its windows up")
        if node.attr("auto_pad", "NOTSET") not in ("NOTSET", b"NOTSET", "VALID", b"VALID"):
            raise Refused("its padding follows from auto_pad")
        if any(node.attr("pads") or ()) and not node.attr("count_include_pad", 0):
            raise Refused("it leaves its padding out of the count")
        channels = (x.shape or (None, None))[1]
        if not isinstance(channels, int):
            raise Refused("its channels are not known; fix them with --input-shape")
        kernel = [int(k) for k in node.attr("kernel_shape")]
        if channels * math.prod(kernel) > MOST:
            raise Refused(f"it would take {channels * math.prod(kernel):,} weights")
        return Match(self, node, (node,), (node.output,), (channels, kernel))

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return _written(match, build, 0)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """Divided by one element less than a window has."""
        return _written(match, build, 1)


def _written(match: Match, build: Builder, fewer: int) -> Mapping[Value, str]:
    node, (channels, kernel) = match.root, match.facts
    shape, count = (channels, 1, *kernel), math.prod(kernel)
    part = Exact.of(Fraction(1, max(count - fewer, 1) if count > 1 else 2)).map(lambda v: np.full(shape, v))
    dtype = onnx.helper.tensor_dtype_to_np_dtype(node.output.dtype)
    weight = build.later(shape, lambda: part.rounded(dtype), dtype, "parts", exact=lambda: part)
    kept = {name: node.attr(name) for name in ("strides", "pads", "dilations") if node.attr(name)}
    return {node.output: build.op("Conv", node.inputs[0], weight, group=channels, kernel_shape=kernel, **kept)}
