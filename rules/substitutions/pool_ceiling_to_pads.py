from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from npu_guard.rewriting.node_numbers import numbers
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_NO_CEILING = ({"ops": ["MaxPool", "AveragePool"], "metric": "attr.ceil_mode", "is": 0, "consequence": "host"},)


class PoolCeilingToPads(Substitution):
    """A pool that rounds the number of its windows up becomes one that rounds down, padded for its last window.

    With extent n, padding p and q, window k and stride s there are ceil((n + p + q - k) / s) + 1 windows. Padding at the end
    that makes n + p + q - k a multiple of s gives as many when rounded down: the windows are the same. A maximum leaves padding
    out, and so does a mean that does not count it. A mean that counts its padding does not count what lies beyond, so
    it is written as one that counts none, where it has no padding of its own.
    """

    name = "pool-ceiling-to-pads"
    roots = ("MaxPool", "AveragePool")
    alone = True
    good = (
        Example(
            "g (float[1,4,8,7] x) => (y) { y = MaxPool<kernel_shape = [3,3], strides = [2,2], ceil_mode = 1>(x) }",
            ops=("MaxPool",),
            require=_NO_CEILING,
            title="the pool of SqueezeNet",
        ),
        Example(
            "g (float[1,4,8,11] x) => (y) { y = AveragePool<kernel_shape = [3,4], strides = [2,3], ceil_mode = 1>(x) }",
            ops=("AveragePool",),
            require=_NO_CEILING,
            title="a mean",
        ),
        Example(
            """g (float[2,4,10,9] x) => (y)
            { y = MaxPool<kernel_shape = [3,3], strides = [2,2], pads = [1,1,1,1], dilations = [2,2], ceil_mode = 1>(x) }""",
            ops=("MaxPool",),
            require=_NO_CEILING,
            title="padded and dilated",
        ),
        Example(
            "g (float[1,4,10] x) => (y) { y = MaxPool<kernel_shape = [3], strides = [2], ceil_mode = 1>(x) }",
            ops=("MaxPool",),
            require=_NO_CEILING,
            title="a sequence",
        ),
    )
    bad = (
        Example(
            """g (float[1,4,8,8] x) => (y) { y = AveragePool<
                kernel_shape = [3,3], strides = [2,2], pads = [1,1,1,1], ceil_mode = 1, count_include_pad = 1>(x) }""",
            refused="it counts its padding, and not what lies beyond",
            require=_NO_CEILING,
        ),
        Example(
            'g (float[1,4,"H",8] x) => (y) { y = MaxPool<kernel_shape = [3,3], strides = [2,2], ceil_mode = 1>(x) }',
            refused="its shapes are not known",
            require=_NO_CEILING,
        ),
        Example(
            "g (float[1,4,9,8] x) => (y) { y = MaxPool<kernel_shape = [1,2], strides = [3,5], ceil_mode = 1>(x) }",
            refused="a window would lie in the padding",
            require=_NO_CEILING,
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        if not node.attr("ceil_mode", 0) or node.attr("auto_pad", b"NOTSET") not in ("NOTSET", b"NOTSET"):
            return None
        before, after = numbers(node.input(0)), numbers(node.output)
        if before is None or after is None:
            raise Refused("its shapes are not known; fix them with --input-shape")
        if any(v is not None for v in node.outputs[1:]):
            raise Refused("its indices are read too")
        rank = len(before) - 2
        pads = [int(p) for p in node.attr("pads") or [0] * 2 * rank]
        ones = [1] * rank
        kernel, strides = node.attr("kernel_shape"), node.attr("strides") or ones
        own = any(pads)
        for i, (k, s, d) in enumerate(zip(kernel, strides, node.attr("dilations") or ones, strict=True)):
            span = (k - 1) * d + 1
            more = max(0, (after[i + 2] - 1) * s + span - before[i + 2] - pads[i] - pads[rank + i])
            pads[rank + i] += more
            if more and pads[rank + i] >= span:
                raise Refused("a window would lie in the padding")
            if more and own and node.op_type == "AveragePool" and node.attr("count_include_pad", 0):
                raise Refused("it counts its padding, and not what lies beyond")
        return Match(self, node, (node,), (node.output,), pads)

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._write(match, build, match.facts)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """Padding in front instead of behind; where there is none, a step to the side."""
        rank = len(match.facts) // 2
        turned = [*match.facts[rank:], *match.facts[:rank]]
        return self._write(match, build, turned)

    def _write(self, match: Match, build: Builder, pads: list[int]) -> Mapping[Value, str]:
        node = match.root
        counted = {"count_include_pad": None} if not any(node.attr("pads") or ()) else {}
        return {node.output: build.like(node, *node.inputs, ceil_mode=None, pads=pads, **counted)[0]}
