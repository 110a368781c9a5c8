from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx

from npu_guard.graph.graph import is_known
from npu_guard.results.proof import ROUNDING
from npu_guard.rewriting.substitution import Array, Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_COUNTED = ({"ops": ["AveragePool"], "metric": "attr.count_include_pad", "is": 1, "when": {"padded": True}},)


class AveragePoolToCounted(Substitution):
    """An AveragePool that leaves its padding out of the count becomes one that counts it, times a constant map.

    Both sum the same elements, as what is padded is zero. One divides by the k elements of the window, the other by the n that
    lie inside. So the mean of the inside is that of the whole window times k / n, a number for each position that follows
    from the shapes alone: 1 except at the edges. Exact but for one more rounding.
    """

    name = "average-pool-to-counted"
    roots = ("AveragePool",)
    good = (
        Example(
            "g (float[1,3,8,7] x) => (y) { y = AveragePool<kernel_shape = [3,3], pads = [1,1,1,1]>(x) }",
            ops=("AveragePool", "Mul"),
            require=_COUNTED,
        ),
        Example(
            "g (float[2,3,9,6] x) => (y) { y = AveragePool<kernel_shape = [3,2], pads = [1,0,2,1], strides = [2,1]>(x) }",
            ops=("AveragePool", "Mul"),
            require=_COUNTED,
            title="strided, unequal",
        ),
        Example(
            "g (float[1,4,5,1] x) => (y) { y = AveragePool<kernel_shape = [5,1], pads = [2,0,2,0]>(x) }",
            ops=("AveragePool", "Mul"),
            require=_COUNTED,
            title="along one axis, where a window of 5 has 3 inside: 5/3 is no float",
            label=ROUNDING,
        ),
        Example(
            """g (float[1,2,8,8] x) => (y)
            { y = AveragePool<kernel_shape = [2,2], pads = [1,1,1,1], strides = [2,2], count_include_pad = 0>(x) }""",
            ops=("AveragePool", "Mul"),
            require=_COUNTED,
            opset=11,
            title="an old opset",
        ),
    )
    bad = (
        Example(
            'g (float[1,3,"H",7] x) => (y) { y = AveragePool<kernel_shape = [3,3], pads = [1,1,1,1]>(x) }',
            refused="its shapes are not known",
            require=_COUNTED,
        ),
        Example(
            """g (float[1,3,8,8] x) => (y)
            { y = AveragePool<kernel_shape = [3,3], pads = [1,1,1,1], strides = [2,2], ceil_mode = 1>(x) }""",
            refused="ceil_mode",
            require=_COUNTED,
        ),
        Example(
            'g (float[1,3,8,8] x) => (y) { y = AveragePool<kernel_shape = [3,3], auto_pad = "SAME_UPPER">(x) }',
            refused="auto_pad",
            require=_COUNTED,
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        if node.attr("count_include_pad", 0):
            return None
        if node.attr("auto_pad", "NOTSET") not in ("NOTSET", b"NOTSET", "VALID", b"VALID"):
            raise Refused("its padding follows from auto_pad")
        pads = [int(p) for p in node.attr("pads") or ()]
        if not any(pads):
            return None
        if node.attr("ceil_mode", 0):
            raise Refused("with ceil_mode, windows reach beyond the padding")
        if node.graph.parent is not None:
            raise Refused("it is inside a subgraph")
        if not (is_known(ctx.input(node, 0).shape) and is_known(node.output.shape)):
            raise Refused("its shapes are not known; fix them with --input-shape")
        shape, result = ctx.shape(ctx.input(node, 0)), ctx.shape(node.output)
        kernel = [int(k) for k in node.attr("kernel_shape")]
        strides, dilations = ([int(n) for n in node.attr(name) or [1] * len(kernel)] for name in ("strides", "dilations"))
        inside = [
            [sum(0 <= at * s - p + t * d < n for t in range(k)) for at in range(m)]
            for k, s, d, p, n, m in zip(kernel, strides, dilations, pads, shape[2:], result[2:], strict=False)
        ]
        if any(0 in counts for counts in inside):
            raise Refused("a window lies in the padding alone")
        return Match(self, node, (node,), (node.output,), (kernel, inside))

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return _written(match, build, match.facts[1])

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The edges of the first axis that has any are not told from the middle."""
        kernel, inside = match.facts
        axis = next(i for i, counts in enumerate(inside) if set(counts) != {kernel[i]})
        return _written(match, build, [[kernel[i]] * len(c) if i == axis else c for i, c in enumerate(inside)])


def _written(match: Match, build: Builder, inside: Sequence[Sequence[int]]) -> Mapping[Value, str]:
    node, kernel = match.root, match.facts[0]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(node.output.dtype)
    shape = (1, 1, *map(len, inside))

    def make() -> Array:
        factors = [[k / n for n in counts] for k, counts in zip(kernel, inside, strict=True)]
        return np.asarray([np.prod(f) for f in itertools.product(*factors)], dtype).reshape(shape)

    pooled = build.like(node, node.inputs[0], count_include_pad=1)[0]
    return {node.output: build.op("Mul", pooled, build.later(shape, make, dtype))}
