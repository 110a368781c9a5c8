from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx

from npu_guard.graph.graph import is_known
from npu_guard.results.proof import ROUNDING
from npu_guard.rewriting.node_numbers import share_before
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
    alone = True
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
        Example(
            """g (float[1,3,8,9] x) => (y)
            { y = AveragePool<kernel_shape = [3,3], pads = [1,1,1,1], strides = [2,2], ceil_mode = 1>(x) }""",
            ops=("AveragePool", "Mul"),
            require=_COUNTED,
            title="with ceil_mode, where the last windows reach beyond the padding",
        ),
        Example(
            'g (float[1,3,8,9] x) => (y) { y = AveragePool<kernel_shape = [2,3], strides = [2,2], auto_pad = "SAME_UPPER">(x) }',
            ops=("AveragePool", "Mul"),
            require=_COUNTED,
            title="with auto_pad",
        ),
    )
    bad = (
        Example(
            'g (float[1,3,"H",7] x) => (y) { y = AveragePool<kernel_shape = [3,3], pads = [1,1,1,1]>(x) }',
            refused="its shapes are not known",
            require=_COUNTED,
        ),
        Example(
            """g (float[1,3,8,8] x, bool b) => (y)
            { y = If<then_branch = t () => (c) { c = AveragePool<kernel_shape = [3,3], pads = [1,1,1,1]>(x) },
                     else_branch = e () => (r) { r = Relu(x) }>(b) }""",
            refused="it is inside a subgraph",
            require=_COUNTED,
        ),
        Example(
            'g (float[1,3,8,"W"] x) => (y) { y = AveragePool<kernel_shape = [3,3], auto_pad = "SAME_LOWER">(x) }',
            refused="its shapes are not known",
            require=_COUNTED,
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        if node.attr("count_include_pad", 0):
            return None
        if node.graph.parent is not None:
            raise Refused("it is inside a subgraph")
        if not (is_known(ctx.input(node, 0).shape) and is_known(node.output.shape)):
            raise Refused("its shapes are not known; fix them with --input-shape")
        shape, result = ctx.shape(ctx.input(node, 0)), ctx.shape(node.output)
        kernel = [int(k) for k in node.attr("kernel_shape")]
        strides, dilations = ([int(n) for n in node.attr(name) or [1] * len(kernel)] for name in ("strides", "dilations"))
        needed = [
            (m - 1) * s + (k - 1) * d + 1 - n
            for k, s, d, n, m in zip(kernel, strides, dilations, shape[2:], result[2:], strict=True)
        ]
        pads = _pads_before(node, needed)
        pads += [max(need - before, 0) for need, before in zip(needed, pads, strict=True)]
        if not any(pads):
            return None
        inside = [
            [sum(0 <= at * s - p + t * d < n for t in range(k)) for at in range(m)]
            for k, s, d, p, n, m in zip(kernel, strides, dilations, pads, shape[2:], result[2:], strict=False)
        ]
        if any(0 in counts for counts in inside):
            raise Refused("a window lies in the padding alone")
        return Match(self, node, (node,), (node.output,), (kernel, inside, pads))

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return _written(match, build, match.facts[1])

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The edges of the first axis that has any are not told from the middle."""
        kernel, inside, _ = match.facts
        axis = next(i for i, counts in enumerate(inside) if set(counts) != {kernel[i]})
        return _written(match, build, [[kernel[i]] * len(c) if i == axis else c for i, c in enumerate(inside)])


def _pads_before(node: Node, needed: Sequence[int]) -> list[int]:
    """The padding before each axis of space, where all windows together need so much more than there is."""
    automatic = node.attr("auto_pad", "NOTSET")
    if automatic.startswith("SAME"):
        return [share_before(need, automatic) for need in needed]
    stated = [] if automatic == "VALID" else [int(p) for p in node.attr("pads") or ()]
    return stated[: len(needed)] or [0] * len(needed)


def _written(match: Match, build: Builder, inside: Sequence[Sequence[int]]) -> Mapping[Value, str]:
    node, (kernel, _, pads) = match.root, match.facts
    dtype = onnx.helper.tensor_dtype_to_np_dtype(node.output.dtype)
    shape = (1, 1, *map(len, inside))

    def make() -> Array:
        factors = [[k / n for n in counts] for k, counts in zip(kernel, inside, strict=True)]
        return np.asarray([np.prod(f) for f in itertools.product(*factors)], dtype).reshape(shape)

    pooled = build.like(node, node.inputs[0], count_include_pad=1, pads=pads, ceil_mode=None, auto_pad=None)[0]
    return {node.output: build.op("Mul", pooled, build.later(shape, make, dtype))}
