from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from npu_guard.analysis.layout import MOVING
from npu_guard.base.text import short
from npu_guard.results.proof import ROUNDING
from npu_guard.rewriting.depth.folded import RANK, Depths, shape_of
from npu_guard.rewriting.depth.operators import has_form, write
from npu_guard.rewriting.depth.windows import WINDOWS
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value


class Rank5ToRank4(Substitution):
    """A three-dimensional network becomes a two-dimensional one with its depth folded into the channels.

    `[B,C,D,H,W]` is kept as the map `[B,D*C,H,W]`, depth by depth. A convolution K of k taps along the depth, with stride s and
    begin padding p, is y[o] = sum over t of K[t] * x[o s - p + t]: the 2-D kernels K[t] side by side, over the maps of the
    depths that are read, which are one run of channels. So each output depth is one 2-D convolution with the same weight (shorter
    at the ends, where padding is left out), and n output depths at once are one convolution with a block-Toeplitz weight. The
    n is taken for which multiply-accumulates, weights and copies together are least. Groups are done tap by tap and summed.

    Max and mean over a 3-D window are those over its height and width, then over its depths. Batch norm repeats its vectors,
    operators on each element run on the whole map, and depth by depth where channels are broadcast. Reductions take space first,
    then depths by Add or Max. A linear Resize is separable: depths are blended with fixed weights, and height and width
    are left to a 2-D Resize. The model's inputs keep their rank: each is taken apart once, into slices of one depth.
    """

    name = "rank5-to-rank4"
    roots = tuple(sorted(WINDOWS))
    rank = RANK
    limits = {"tensor.rank_max": 4}
    good = (
        Example(
            """g (float[1,3,5,9,7] x) => (y)
            <float[8,3,3,3,3] w, float[8] b>
            { c = Conv<pads = [1,1,0,1,1,1], strides = [2,2,1], dilations = [1,1,2]>(x, w, b)  r = Relu(c)
              p = GlobalAveragePool(r)  y = Flatten(p) }""",
            label=ROUNDING,
        ),
        Example(
            """g (float[2,2,6,8,8] x, float[2,1,6,8,8] m) => (y)
            <float[8,2,3,3,3] w, float[8] s, float[8] b, float[8] n, float[8] v = {1,2,3,4,5,6,7,8}, float[1] e = {0.000001},
             int64[5] sizes = {2,1,3,4,4}, int64[3] space = {2,3,4}>
            { c = Conv<pads = [1,1,1,1,1,1]>(x, w)  a = BatchNormalization(c, s, b, n, v)  r = Relu(a)
              p = MaxPool<kernel_shape = [3,3,3], strides = [2,2,2], pads = [1,1,1,1,1,1]>(r)
              i = Resize<mode = "linear">(m, , , sizes)  f = Mul(p, i)  t = ReduceSum<keepdims = 0>(f, space)
              u = ReduceSum<keepdims = 0>(i, space)  k = Add(u, e)  y = Div(t, k) }""",
            title="masked, as a weighted mean",
        ),
        Example(
            """g (float[1,4,3,6,6] x) => (y)
            <float[4,1,3,3,3] d, float[8,4,1,1,1] w, float[1,8,1,1,1] k, int64[1] channels = {1}>
            { a = Conv<group = 4, pads = [1,1,1,1,1,1]>(x, d)  h = Add(a, x)  c = Conv(h, w)  g = GlobalAveragePool(c)
              s = Sigmoid(g)  m = Mul(c, s)  n = Mul(m, k)  e = Concat<axis = 1>(n, c)  q = ReduceMax(e, channels)
              o = AveragePool<kernel_shape = [3,2,2], pads = [1,0,1,1,0,1]>(q)  y = Squeeze(o, channels) }""",
            title="depthwise, gated, joined, pooled",
            label=ROUNDING,
        ),
        Example(
            """g (float[1,4,2,5,6] x) => (y)
            <float[4,3,2,2,2] w, float[3] b, float[5] up = {1,1,2,2,2}, float[8,3,8,1,1] v, int64[1] depth = {2}>
            { t = ConvTranspose<strides = [2,2,2]>(x, w, b)  r = Resize<mode = "linear">(t, , up)  c = Conv(r, v)
              y = Squeeze(c, depth) }""",
            title="upwards",
        ),
    )
    bad = (
        Example(
            """g (float[1,2,4,6,6] x, float[4,2,3,3,3] w) => (y)
            { y = Conv(x, w) }""",
            refused="the weights of Conv 'y' are not constant",
        ),
        Example(
            """g (float[1,2,4,6,6] x) => (y)
            <float[4,2,3,3,3] w, int64 a = {2}> { c = Conv(x, w)  y = CumSum(c, a) }""",
            refused="CumSum 'y' computes on 'c', which has depth, and has no form on maps",
        ),
        Example(
            """g (float[1,2,"D",6,6] x) => (y)
            <float[4,2,3,3,3] w> { y = Conv(x, w) }""",
            refused="is not known; fix it with --input-shape",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        x = node.inputs[0] if node.inputs else None
        if x is None or x.shape is None or len(x.shape) != RANK:
            return None
        if node.graph.parent is not None:
            raise Refused("it is inside a subgraph")
        found = ctx.analysis_of(_no_regions)
        if node not in found:
            region = _Region.around(node, ctx, ctx.order)
            found.update(dict.fromkeys(region.nodes, region))
        region = found[node]
        if node is not region.speaker:
            return None  # the first window speaks for all; without one, the axes need not be depth and space
        if region.stranger is not None:
            stranger, value = region.stranger
            text = f"{stranger.op} {short(stranger.label)!r} computes on {short(value.name)!r}, which has depth"
            raise Refused(f"{text}, and has no form on maps")
        for tensor in dict.fromkeys(v for n in region.nodes for v in (*n.inputs, *n.outputs) if _is_deep(v, ctx)):
            shape_of(tensor)
        return Match(self, node, region.nodes, region.exits, ctx)

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return _written(match, Depths(match.facts, build))

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """Kernels that are upside down along the depth, which keeps every shape."""
        return _written(match, Depths(match.facts, build, wrong=True))


def _no_regions(_: Context) -> dict[Node, _Region]:
    """Regions by their nodes, before any is found."""
    return {}


def _written(match: Match, to: Depths) -> Mapping[Value, str]:
    for node in match.nodes:
        write(node, to)
    return to.exits(match.replaced)


class _Region(Struct, frozen=True):
    """Nodes that tensors of rank 5 join, in order, what is needed outside, an operator that cannot go along, the first window."""

    nodes: tuple[Node, ...]
    exits: tuple[Value, ...]
    stranger: tuple[Node, Value] | None
    speaker: Node | None

    @staticmethod
    def around(seed: Node, ctx: Context, order: Mapping[Node, int]) -> _Region:
        nodes, stack = {seed}, [seed]
        seen: set[Value] = set()
        strangers: dict[Node, Value] = {}
        while stack:
            for value, other in _beside(stack.pop(), ctx, seen):
                if other in nodes or ctx.is_constant(other.output):
                    continue
                if has_form(other, ctx):
                    nodes.add(other)
                    stack.append(other)
                elif other.domain or other.op_type not in MOVING:  # what only moves data is where the region ends
                    strangers.setdefault(other, value)
        ordered = tuple(sorted(nodes, key=order.__getitem__))
        made = [v for n in ordered for v in n.outputs if v is not None]
        exits = tuple(v for v in made if v.is_output or any(c not in nodes for c in v.consumers))
        first = min(strangers, key=lambda n: order.get(n, -1), default=None)
        speaker = next((n for n in ordered if n.op_type in WINDOWS), None)
        return _Region(ordered, exits, None if first is None else (first, strangers[first]), speaker)


def _is_deep(value: Value | None, ctx: Context) -> bool:
    return value is not None and value.shape is not None and len(value.shape) == RANK and not ctx.is_constant(value)


def _beside(node: Node, ctx: Context, seen: set[Value]) -> Iterator[tuple[Value, Node]]:
    """Producers and readers of the tensors of rank 5 at a node, of each tensor once: thousands may read the same."""
    for value in (*node.inputs, *node.outputs):
        if value is not None and value not in seen and _is_deep(value, ctx):
            seen.add(value)
            if value.producer is not None:
                yield value, value.producer
            yield from ((value, reader) for reader in value.consumers)
