from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

from npu_guard.rewriting.node_numbers import numbers
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_SMALL = ({"ops": ["Conv"], "metric": "stride", "max": 2, "consequence": "host"},)
_EQUAL = (
    {"ops": ["Conv"], "metric": "stride", "equal": True, "consequence": "host"},
    {"ops": ["Slice"], "metric": "value.steps", "is": 1, "consequence": "host"},
)
_ONE = ({"ops": ["Conv"], "metric": "stride", "max": 1, "consequence": "host"},)


class ConvStrideToSlice(Substitution):
    """A Conv with a long stride becomes one with a divisor of that stride, and a Slice with steps behind it.

    The windows of the long stride are some of those of the short one: with s = d r, every r-th. The others are computed for
    nothing, so the largest divisor that the device takes is the cheapest. A device without steps cuts rows by three operators:
    [B, C, r H, W] as [B, C H, r, W], of which the first row of each r is taken, and back; columns likewise.

    Along an axis that gives one position only, any stride is the same: a stride of 1 x 2 over a map of one row is one of 2 x 2.
    """

    name = "conv-stride-to-slice"
    last = True  # a Conv may be wrong for another reason
    roots = ("Conv",)
    alone = True
    operators = dict.fromkeys(("Conv", "Slice", "Relu"), "supported")
    good = (
        Example(
            "g (float[1,3,8,12] x, float[8,3,4,4] w) => (y) { y = Conv<strides = [4,4]>(x, w) }",
            ops=("Conv", "Slice"),
            require=_SMALL,
            title="patches of a vision transformer",
        ),
        Example(
            "g (float[1,4,13,11] x, float[8,2,3,5] w, float[8] b) => (y)"
            "{ y = Conv<strides = [3,2], pads = [1,2,0,1], group = 2, dilations = [2,1]>(x, w, b) }",
            ops=("Conv", "Slice"),
            require=_ONE,
            title="padded, dilated, in groups",
        ),
        Example(
            "g (float[2,4,33] x, float[8,4,7] w) => (y) { y = Conv<strides = [6], pads = [3,3]>(x, w) }",
            ops=("Conv", "Slice"),
            require=_SMALL,
            title="a sequence",
        ),
        Example(
            "g (float[1,4,9,9] x, float[8,4,3,3] w) => (y) { y = Conv<strides = [4,1], pads = [1,1,1,1]>(x, w) }",
            ops=("Conv", "Slice"),
            require=_SMALL,
            title="along one axis",
        ),
        Example(
            "g (float[1,4,1,33] x, float[8,4,1,5] w) => (y) { y = Conv<strides = [1,2], pads = [0,2,0,1]>(x, w) }",
            ops=("Conv",),
            require=_EQUAL,
            title="a stride over one row is any stride",
        ),
        Example(
            "g (float[1,4,9,7] x, float[8,4,3,3] w) => (y) { y = Conv<strides = [2,1], pads = [1,1,1,1]>(x, w) }",
            ops=("Conv", "Reshape", "Slice", "Reshape"),
            require=_EQUAL,
            operators={**dict.fromkeys(("Conv", "Slice", "Relu", "Reshape"), "supported")},
            title="a device with equal strides and no steps: one row more is computed and left out",
        ),
        Example(
            "g (float[2,4,6,12] x, float[8,4,3,3] w) => (y) { y = Conv<strides = [1,3]>(x, w) }",
            ops=("Conv", "Reshape", "Slice", "Reshape"),
            require=_EQUAL,
            operators={**dict.fromkeys(("Conv", "Slice", "Relu", "Reshape"), "supported")},
            title="columns of such a device",
        ),
    )
    bad = (
        Example(
            'g (float[1,4,9,9] x, float[8,4,3,3] w) => (y) { y = Conv<strides = [4,4], auto_pad = "SAME_UPPER">(x, w) }',
            refused="its padding follows from auto_pad",
            require=_SMALL,
        ),
        Example(
            'g (float[1,4,"H",9] x, float[8,4,3,3] w) => (y) { y = Conv<strides = [4,4]>(x, w) }',
            refused="its shapes are not known",
            require=_SMALL,
        ),
        Example(
            """g (float[1,4,9,9] x, float[8,4,3,3] w, bool b) => (y)
            { y = If<then_branch = t () => (c) { c = Conv<strides = [4,4]>(x, w) },
                     else_branch = e () => (r) { r = Relu(x) }>(b) }""",
            refused="it is inside a subgraph",
            require=_SMALL,
        ),
    )

    def match(self, node: Node, ctx: Context) -> Sequence[Match]:
        strides = [int(s) for s in node.attr("strides") or ()]
        longest, opset = max(strides, default=1), node.graph.model.opsets.get("", 1)
        if longest == 1:
            return []
        if opset < 10:
            raise Refused(f"opset {opset} has no Slice with steps")
        extents = numbers(node.output)
        if extents is None or numbers(node.input(0)) is None:
            raise Refused("its shapes are not known; fix them with --input-shape")
        stated = node.attr("auto_pad", "NOTSET")
        if stated not in ("NOTSET", b"NOTSET", "VALID", b"VALID"):
            raise Refused("its padding follows from auto_pad")
        found: dict[Hashable, Match] = {}
        free = tuple(longest if n == 1 else s for s, n in zip(strides, extents[2:], strict=True))
        if free != tuple(strides):
            found[free, False] = Match(self, node, (node,), (node.output,), (free, (), extents, None), (free, False))
        plain = len(strides) == 2 and 1 in ctx.bounds("Slice", "value") and ctx.limit("layout.rearrange") is not False
        way = numbers(node.input(0)) if plain else None
        one = [n == 0 for n in _beyond(node, numbers(node.input(0)) or ())]  # a stride along such an axis is any stride
        known = [n for n in ctx.bounds("Conv", "stride", "conv.stride_max") if n < longest]
        for most in dict.fromkeys((*(known or (longest - 1,)), 1)):
            shorter = [max(d for d in range(1, min(s, most) + 1) if s % d == 0) for s in strides]
            shorter = [max(shorter) if o else d for d, o in zip(shorter, one, strict=True)]
            steps = [1 if o else s // d for s, d, o in zip(strides, shorter, one, strict=True)]
            variant = (tuple(shorter), plain)
            found.setdefault(variant, Match(self, node, (node,), (node.output,), (shorter, steps, extents, way), variant))
        return list(found.values())

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._write(match, build, 0)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The windows next to the right ones, where there are any; of one window, the one before."""
        return self._write(match, build, 1)

    def _write(self, match: Match, build: Builder, late: int) -> Mapping[Value, str]:
        node, (shorter, steps, extents, source) = match.root, match.facts
        if not steps:
            pads = [int(p) for p in node.attr("pads") or [0] * 2 * len(shorter)]
            changed = {"pads": [*pads[:-1], pads[-1] + late]} if late else {}
            return {node.output: build.like(node, *node.inputs, strides=list(shorter), **changed)[0]}
        if source is not None:
            return {node.output: _by_reshape(node, build, shorter, steps, extents, source, late)}
        (dense,) = build.like(node, *node.inputs, strides=list(shorter))
        axes = [i for i, step in enumerate(steps) if step > 1]
        ends = [late + (extents[i + 2] - 1) * steps[i] + 1 for i in axes]
        cut = ([late for _ in axes], ends, [i + 2 for i in axes], [steps[i] for i in axes])
        return {node.output: build.op("Slice", dense, *(build.ints(*numbers) for numbers in cut))}


def _beyond(node: Node, source: Sequence[int]) -> list[int]:
    """How far the first window is from the end of each axis, with its padding."""
    rank = len(source) - 2
    pads = list(node.attr("pads") or [0] * 2 * rank)
    dilations = node.attr("dilations") or [1] * rank
    return [
        source[i + 2] + int(pads[i]) + int(pads[i + rank]) - (k - 1) * int(dilations[i]) - 1 for i, k in enumerate(_kernel(node))
    ]


def _kernel(node: Node) -> list[int]:
    stated = node.attr("kernel_shape") or (node.inputs[1].shape or () if node.inputs[1] is not None else ())[2:]
    return [k for k in stated if isinstance(k, int)]


def _by_reshape(
    node: Node, build: Builder, shorter: Sequence[int], steps: Sequence[int], extents: Sequence[int], source: Sequence[int],
    late: int,
) -> str:  # fmt: skip
    """The windows that are wanted, without steps: as many are computed as make whole runs, beyond the padding where need be."""
    pads = list(node.attr("pads") or [0, 0, 0, 0])
    have: list[int] = []
    for i, (step, beyond) in enumerate(zip(steps, _beyond(node, source), strict=True)):
        more = max(0, (extents[i + 2] * step - 1) * shorter[i] - beyond) if step > 1 else 0
        pads[i + 2] += more
        have.append((beyond + more) // shorter[i] + 1)
    (x,) = build.like(node, *node.inputs, strides=list(shorter), pads=pads, auto_pad=None)
    batch, channels = extents[:2]
    for i, step in enumerate(steps):
        if step == 1:
            continue
        if have[i] > extents[i + 2] * step:
            x = build.slice(x, i + 2, 0, extents[i + 2] * step)
        have[i] = extents[i + 2]
        rows, columns = have
        apart = (batch, channels * rows, step, columns) if i == 0 else (batch, channels * rows, columns, step)
        x = build.slice(build.op("Reshape", x, build.ints(*apart)), i + 2, late % step, late % step + 1)
        x = build.op("Reshape", x, build.ints(batch, channels, rows, columns))
    return x
