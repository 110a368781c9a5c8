from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from npu_guard.graph.graph import is_known
from npu_guard.rewriting.node_numbers import padding_before
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_SHORT = ({"ops": ["Conv"], "metric": "pads", "max": 7, "consequence": "host"},)
_BELOW = ({"ops": ["Conv"], "metric": "pads", "below": "kernel", "consequence": "host"},)


class ConvPaddingToPad(Substitution):
    """A Conv that is padded further than the device can becomes one without padding, behind a Pad.

    Both read zeros outside of the map, so every window has the same numbers. It is how rates of 24 and 36 (DeepLab's pyramid)
    reach devices whose padding is limited by the kernel.
    """

    name = "conv-padding-to-pad"
    roots = ("Conv",)
    alone = True
    operators = dict.fromkeys(("Conv", "Pad"), "supported")
    good = (
        Example(
            "g (float[1,4,30,28] x, float[8,4,3,3] w) => (y) { y = Conv<dilations = [12,24], pads = [12,24,12,24]>(x, w) }",
            ops=("Pad", "Conv"),
            require=_SHORT,
            title="a large rate",
        ),
        Example(
            """g (float[2,4,20,30] x, float[4,1,3,19] w, float[4] b) => (y)
            { y = Conv<group = 4, strides = [2,1], auto_pad = "SAME_LOWER">(x, w, b) }""",
            ops=("Pad", "Conv"),
            require=_SHORT,
            title="depthwise, strided, padded by itself",
        ),
        Example(
            "g (float[1,4,6] x, float[8,4,2] w) => (y) { y = Conv<pads = [3,0]>(x, w) }",
            ops=("Pad", "Conv"),
            require=_BELOW,
            title="a causal one, in an old opset",
            opset=10,
        ),
        Example(
            'g (float["N",4,6,5] x, float[8,4,2,2] w) => (y) { y = Conv<pads = [3,0,1,0]>(x, w) }',
            ops=("Pad", "Conv"),
            require=_BELOW,
            title="of an open batch",
        ),
    )
    bad = (
        Example(
            'g (float[1,4,"H",9] x, float[8,4,3,3] w) => (y) { y = Conv<auto_pad = "SAME_UPPER", dilations = [9,9]>(x, w) }',
            refused="its shapes are not known",
            require=_SHORT,
        ),
        Example(
            'g (float[1,4,19,19] x, float[8,4,"K",3] w) => (y) { y = Conv<pads = [9,9,9,9]>(x, w) }',
            refused="its shapes are not known",
            require=_SHORT,
        ),
        Example(
            """g (float[1,4,9,9] x, float[8,4,3,3] w, bool b) => (y)
            { y = If<then_branch = t () => (c) { c = Conv<pads = [9,9,9,9]>(x, w) },
                     else_branch = e () => (r) { r = Relu(x) }>(b) }""",
            refused="it is inside a subgraph",
            require=_SHORT,
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        if not ctx.bounded("Conv", "pads", "pad.max"):
            return None
        if node.graph.parent is not None:
            raise Refused("it is inside a subgraph")
        x, weight = node.inputs[0], node.inputs[1]
        assert x is not None
        assert weight is not None
        if x.shape is None or weight.shape is None or not is_known(weight.shape[2:]):
            raise Refused("its shapes are not known; fix them with --input-shape")
        rank = len(weight.shape) - 2
        mode = node.attr("auto_pad", "NOTSET")
        if mode in ("NOTSET", b"NOTSET"):
            pads = [int(p) for p in node.attr("pads") or [0] * 2 * rank]
        else:
            pads = _automatic(node, x, weight, rank)
        if not any(pads):
            return None
        return Match(self, node, (node,), (node.output,), pads)

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return _written(match, build, match.facts)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """One zero of the padding at the other end."""
        pads, rank = [*match.facts], len(match.facts) // 2
        axis = next(i for i in range(rank) if pads[i] or pads[i + rank])
        step = 1 if pads[axis + rank] else -1
        pads[axis] += step
        pads[axis + rank] -= step
        return _written(match, build, pads)


def _automatic(node: Node, x: Value, weight: Value, rank: int) -> list[int]:
    """Zeros in front along each axis, then behind, of a Conv that works its padding out itself. Raises Refused."""
    shape, after, window = ((v.shape or ())[2:] for v in (x, node.output, weight))
    if not (is_known(shape) and is_known(after) and is_known(window)):
        raise Refused("its shapes are not known; fix them with --input-shape")
    front, behind = [], []
    for i in range(rank):
        size, out, kernel = shape[i], after[i], window[i]
        stride, rate = (int((node.attr(name) or [1] * rank)[i]) for name in ("strides", "dilations"))
        reach = (kernel - 1) * rate + 1
        front.append(padding_before(node, i, reach, stride, size, out))
        behind.append(max((out - 1) * stride + reach - size - front[-1], 0))
    return [*front, *behind]


def _written(match: Match, build: Builder, pads: Sequence[int]) -> Mapping[Value, str]:
    node, rank = match.root, len(pads) // 2
    amounts = [0, 0, *pads[:rank], 0, 0, *pads[rank:]]
    if build.opset < 11:
        padded = build.op("Pad", node.inputs[0], pads=amounts)
    else:
        padded = build.op("Pad", node.inputs[0], build.ints(*amounts))
    return {node.output: build.like(node, padded, *node.inputs[1:], pads=[0] * 2 * rank, auto_pad=None)[0]}
