from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from npu_guard.rewriting.quantized import relaid
from npu_guard.rewriting.substitution import Array, Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_ONE = ({"ops": ["Conv", "ConvTranspose"], "metric": "group", "is": 1},)
MOST = 1 << 22
"""Elements of a dense weight beyond which the model is the wrong one for the device."""


class GroupsToDense(Substitution):
    """A convolution in groups becomes a dense one whose weights are zero between the groups.

    Group i of g reads channels i C/g to (i+1) C/g - 1 and writes as many of M. The dense weight [M, C, ...] has the weights of
    group i in that block and zeros elsewhere, so each output adds zeros to what it was: equal but for the order of summation, at
    g times the weights and multiply-accumulates. The weight [C, M/g, ...] of a ConvTranspose becomes [C, M, ...] in the same way.
    """

    name = "groups-to-dense"
    last = True  # a Conv in groups may be wrong for another reason
    roots = ("Conv", "ConvTranspose")
    alone = True
    good = (
        Example(
            "g (float[1,6,7,5] x) => (y) <float[9,2,3,3] w, float[9] b> { y = Conv<group = 3, pads = [1,1,1,1]>(x, w, b) }",
            ops=("Conv",),
            require=_ONE,
        ),
        Example(
            "g (float[2,5,6,9] x) => (y) <float[5,1,3,1] w> { y = Conv<group = 5, strides = [2,1], dilations = [2,1]>(x, w) }",
            ops=("Conv",),
            require=_ONE,
            title="depthwise, strided, dilated",
        ),
        Example(
            """g (float[1,6,5,4] x) => (y) <float[6,1,4,4] w>
            { y = ConvTranspose<group = 6, strides = [2,2], pads = [1,1,1,1]>(x, w) }""",
            ops=("ConvTranspose",),
            require=_ONE,
            title="depthwise and transposed",
        ),
        Example(
            """g (float[1,4,5,4] x) => (y) <float[4,3,2,3] w, float[6] b>
            { y = ConvTranspose<group = 2, strides = [2,1]>(x, w, b) }""",
            ops=("ConvTranspose",),
            require=_ONE,
            title="two groups, transposed, with a bias",
        ),
    )
    bad = (
        Example(
            "g (float[1,6,7,5] x, float[6,1,3,3] w) => (y) { y = Conv<group = 6>(x, w) }",
            refused="its weights are not constant",
            require=_ONE,
        ),
        Example(
            "g (float[1,4096,7,5] x) => (y) <float[4096,1,3,3] w> { y = Conv<group = 4096>(x, w) }",
            refused="150,994,944 dense weights",
            require=_ONE,
        ),
        Example(
            """g (float[1,6,7,5] x, bool c) => (y) <float[6,1,3,3] w>
            { y = If(c)<then_branch = t () => (u) { u = Conv<group = 6>(x, w) },
                        else_branch = e () => (v) { v = Relu(x) }> }""",
            refused="inside a subgraph",
            require=_ONE,
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        groups, weight = int(node.attr("group", 1)), node.input(1)
        if groups == 1 or weight is None:
            return None
        if node.graph.parent is not None:
            raise Refused("it is inside a subgraph")
        if not ctx.is_constant(weight):
            raise Refused("its weights are not constant")
        if (elements := math.prod(ctx.shape(weight)) * groups) > MOST:
            raise Refused(f"it would take {elements:,} dense weights, more than {MOST:,}")
        return Match(self, node, (node,), (node.output,), (groups, ctx.shape(weight)))

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return _written(match, build, 0)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """Each group reads the channels of the next one."""
        return _written(match, build, 1)


def _written(match: Match, build: Builder, shift: int) -> Mapping[Value, str]:
    node, (groups, shape) = match.root, match.facts
    value = node.inputs[1]
    assert value is not None
    rows, columns = shape[0] // groups, shape[1]
    dense = (shape[0], columns * groups, *shape[2:])

    def spread(weight: Array) -> Array:
        whole = np.zeros(dense, weight.dtype)
        for i in range(groups):
            at = (i + shift) % groups * columns
            whole[i * rows : (i + 1) * rows, at : at + columns] = weight[i * rows : (i + 1) * rows]
        return whole

    weight = relaid(build, value, dense, spread)
    return {node.output: build.like(node, node.inputs[0], weight, *node.inputs[2:], group=1)[0]}
