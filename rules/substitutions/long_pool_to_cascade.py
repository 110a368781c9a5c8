from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from npu_guard.results.proof import SAMPLED
from npu_guard.rewriting.node_numbers import numbers, share_before
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_SHORT = ({"ops": ["MaxPool"], "metric": "kernel", "max": 5, "consequence": "host"},)
MOST = 8
"""Pools, one behind the other."""


class LongPoolToCascade(Substitution):
    """A MaxPool over a window that is too long for the device becomes pools over short ones, one behind the other.

    The maximum over k + l - 1 elements in a row is the maximum over l of the maxima over k. Padding is never the largest, so each
    pool has its share of it and windows at the edges see what is inside, as before: 13 x 13 with 6 around, as in spatial pyramid
    pooling, is three times 5 x 5 with 2 around. The last one has the stride. Exact; the proof, which counts how often an element
    is seen, does not know that it does not matter to a maximum.
    """

    name = "long-pool-to-cascade"
    roots = ("MaxPool",)
    alone = True
    operators = {"MaxPool": "supported"}
    good = (
        Example(
            """g (float[1,4,20,17] x) => (y) { y = MaxPool<kernel_shape = [13,13], pads = [6,6,6,6]>(x) }""",
            ops=("MaxPool", "MaxPool", "MaxPool"),
            require=_SHORT,
            label=SAMPLED,
            title="spatial pyramid pooling",
        ),
        Example(
            """g (float[2,3,31,12] x) => (y)
            { y = MaxPool<kernel_shape = [9,3], strides = [2,3], pads = [3,1,0,0]>(x) }""",
            ops=("MaxPool", "MaxPool"),
            require=_SHORT,
            label=SAMPLED,
            title="strided, long along one axis, padded unevenly",
        ),
        Example(
            "g (float[1,4,50] x) => (y) { y = MaxPool<kernel_shape = [8], strides = [8], ceil_mode = 1>(x) }",
            ops=("MaxPool", "MaxPool"),
            require=_SHORT,
            label=SAMPLED,
            title="a sequence, with a last window that is not whole",
        ),
        Example(
            """g (float[1,4,20,16] x) => (y)
            { y = MaxPool<kernel_shape = [7,7], strides = [3,3], auto_pad = "SAME_UPPER">(x) }""",
            ops=("MaxPool", "MaxPool"),
            require=_SHORT,
            label=SAMPLED,
            title="padded as its size asks for",
        ),
    )
    bad = (
        Example(
            'g (float[1,4,"H",9] x) => (y) { y = MaxPool<kernel_shape = [7,7]>(x) }',
            refused="its shapes are not known",
            require=_SHORT,
        ),
        Example(
            "g (float[1,4,9,9] x) => (y, i) { y, i = MaxPool<kernel_shape = [7,7]>(x) }",
            refused="it also tells where the largest elements are",
            require=_SHORT,
        ),
        Example(
            "g (float[1,4,9,50] x) => (y) { y = MaxPool<kernel_shape = [1,40]>(x) }",
            refused="it would take 10 pools, more than 8",
            require=_SHORT,
        ),
        Example(
            "g (float[1,4,20,20] x) => (y) { y = MaxPool<kernel_shape = [7,7], dilations = [2,2]>(x) }",
            refused="its taps lie apart",
            require=_SHORT,
        ),
    )

    def match(self, node: Node, ctx: Context) -> Sequence[Match] | None:
        kernel = [int(k) for k in node.attr("kernel_shape") or ()]
        limits = [n for n in ctx.bounds("MaxPool", "kernel", "pool.window_max") if 1 < n < max(kernel, default=0)]
        if not limits:
            return None
        if any(int(d) > 1 for d in node.attr("dilations") or ()):
            raise Refused("its taps lie apart")
        if any(v is not None and (v.consumers or v.is_output) for v in node.outputs[1:]):
            raise Refused("it also tells where the largest elements are")
        size, out = numbers(node.input(0)), numbers(node.output)
        if size is None or out is None:
            raise Refused("its shapes are not known; fix them with --input-shape")
        sides = [_sides(node, i, size[i + 2], out[i + 2], k) for i, k in enumerate(kernel)]
        ways = [(n, max(len(_parts(k, n)) for k in kernel)) for n in limits]
        if ways[0][1] > MOST:
            raise Refused(f"it would take {ways[0][1]} pools, more than {MOST}")
        return [Match(self, node, (node,), (node.output,), (kernel, sides, n), variant=n) for n, count in ways if count <= MOST]

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return _written(match, build, 0)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The last pool is an element shorter along the longest axis, and has so much less of the padding."""
        return _written(match, build, 1)


def _sides(node: Node, axis: int, size: int, out: int, kernel: int) -> tuple[int, int]:
    """Padding in front and behind; of the latter as much as the last window needs."""
    rank = len(node.attr("kernel_shape"))
    stride, mode = int((node.attr("strides") or [1] * rank)[axis]), node.attr("auto_pad", "NOTSET")
    reach = (out - 1) * stride + kernel
    if mode == "NOTSET":
        front = int((node.attr("pads") or [0] * 2 * rank)[axis])
    else:
        front = 0 if mode == "VALID" else share_before(reach - size, mode)
    return front, max(0, reach - size - front)


def _parts(kernel: int, limit: int) -> list[int]:
    """Windows of at most `limit` elements, one behind the other; odd ones where the whole is odd, which are padded evenly."""
    count = -(-(kernel - 1) // (limit - 1))
    unit = 2 if kernel % 2 and (limit - 1) // 2 * 2 * count >= kernel - 1 else 1
    left = (kernel - 1) // unit
    cuts = [left * i // max(1, count) for i in range(count + 1)]
    return [unit * (b - a) + 1 for a, b in pairwise(cuts)] or [1]


def _shares(total: int, parts: Sequence[int]) -> list[int]:
    """The padding of each pool, in proportion to its window; less than that."""
    whole = max(1, sum(k - 1 for k in parts))
    cuts = [0, *(total * n // whole for n in accumulate(k - 1 for k in parts))]
    return [b - a for a, b in pairwise(cuts)]


def _written(match: Match, build: Builder, shorter: int) -> Mapping[Value, str]:
    node, (kernel, sides, limit) = match.root, match.facts
    rank, count = len(kernel), max(len(_parts(k, limit)) for k in kernel)
    parts = [[1] * (count - len(p)) + p for p in (_parts(k, limit) for k in kernel)]
    fronts, behind = ([_shares(side[end], p) for side, p in zip(sides, parts, strict=True)] for end in (0, 1))
    x: str | Value | None = node.inputs[0]
    assert x is not None
    longest = max(range(rank), key=lambda i: kernel[i])
    for step in range(count):
        last = step == count - 1
        window = [p[step] for p in parts]
        pads = [s[step] for s in (*fronts, *behind)]
        if last and shorter:
            window[longest] -= 1
            place = longest if pads[longest] else rank + longest
            pads[place] = max(0, pads[place] - 1)
        x = build.op(
            "MaxPool", x, kernel_shape=window, pads=pads,
            strides=list(node.attr("strides") or [1] * rank) if last else [1] * rank,
        )  # fmt: skip
    return {node.output: str(x)}
