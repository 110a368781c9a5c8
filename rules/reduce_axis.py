from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from npu_guard.analysis import einsum
from npu_guard.analysis.facts import shown
from npu_guard.checking.rule import Case, Draft, Rule
from npu_guard.device.measure import GLOBAL_POOLS
from npu_guard.graph.plain import plain

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node
    from npu_guard.results.findings import Dim

_LIMIT = {"reduce.axes": [[1], [2, 3]]}


class ReduceAxis(Rule):
    """A reduction runs over other axes than those that the device reduces together.

    *What it does*

    Compares the axes of every Reduce operator, ArgMax and ArgMin with the sets in `reduce.axes`. Axes of extent 1 do not
    count. A set with 2 and 3 in it means all of space, whatever the rank: axis 2 of `[B,C,L]`, axes 2, 3 and 4 of
    `[B,C,D,H,W]`. An axis keeps its part when others are dropped: of `[B,H,W]` behind a sum over channels, axis 1 is the height,
    and a global pool over it is a mean along the width alone.

    *Why it matters*

    There is one adder tree over channels and one accumulator over the whole map. A sum along rows alone has no unit.

    *What to do*

    Reduce over channels alone or over all of space. A mean over one axis of space is a pooling or a convolution along it.
    """

    code = "NPU301"
    name = "reduce-axis"
    ops = (
        *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd"),
        *("ReduceSum", "ReduceSumSquare", "ArgMax", "ArgMin"),
        *GLOBAL_POOLS, "Einsum",
    )  # fmt: skip
    limits = ("reduce.axes",)
    good = (
        Case("g (float[1,8,4,4] x) => (y) { y = ReduceMean<axes = [-1,-2]>(x) }", _LIMIT, opset=17, title="all of space"),
        Case("g (float[1,8,4,4] x) => (y) <int64[1] a = {1}> { y = ReduceMax(x, a) }", _LIMIT, title="channels alone"),
        Case("g (float[1,8,4,1] x) => (y) <int64[1] a = {2}> { y = ReduceSum(x, a) }", _LIMIT, title="the width is 1"),
        Case("g (float[1,8,1,1] x) => (y) { y = ReduceMean(x) }", _LIMIT, title="of all axes only channels have an extent"),
        Case('g (float[1,"C",1,1] x) => (y) <int64[1] a = {3}> { y = ReduceSum(x, a) }', _LIMIT, title="an axis of extent 1"),
        Case('g (float[1,8,"H","W"] x) => (y) <int64[2] a = {2, 3}> { y = ReduceSum(x, a) }', _LIMIT, title="whatever H is"),
        Case("g (float[1,8,16] x) => (y) <int64[1] a = {2}> { y = ReduceSum(x, a) }", _LIMIT, title="all of space at rank 3"),
        Case("g (float[1,8,2,4,4] x) => (y) <int64[3] a = {2, 3, 4}> { y = ReduceSum(x, a) }", _LIMIT, title="and at rank 5"),
        Case("g (float[1,8,4,4] x) => (y) { y = ReduceSum<noop_with_empty_axes = 1>(x) }", _LIMIT, title="reduces nothing"),
        Case("g (float[1,8,4,4] x) => (y) { y = ArgMax<axis = 1>(x) }", _LIMIT),
    )
    bad = (
        Case(
            "g (float[1,8,4,4] x) => (float[1,8,4,1] y) <int64[1] a = {-1}> { y = ReduceMean(x, a) }",
            _LIMIT,
            expect=(("y", (3,)),),
            allowed="1 or (2, 3)",
            title="along rows",
        ),
        Case(
            "g (float[1,8,4,4] x) => (float[1,1,1,1] y) { y = ReduceMean(x) }",
            _LIMIT,
            expect=(("y", (0, 1, 2, 3)),),
            allowed="1 or (2, 3)",
            title="channels and space at once",
        ),
        Case(
            "g (float[1,8,2,4,4] x) => (y) { y = ReduceMean<axes = [3,4]>(x) }",
            _LIMIT,
            expect=(("y", (3, 4)),),
            allowed="1 or (2, 3)",
            opset=17,
            title="two of the three axes of space",
        ),
        Case(
            """g (float[1,8,6,4] x) => (float[1,4] y) <int64[1] a = {1}>
            { m = ReduceMax<keepdims = 0>(x, a)  y = ReduceMean<keepdims = 0>(m, a) }""",
            _LIMIT,
            expect=(("y", (2,)),),
            allowed="1 or (2, 3)",
            title="the height, as the channels were dropped",
        ),
        Case(
            "g (float[1,8,6,4] x) => (y) <int64[1] a = {1}> { m = ReduceSum<keepdims = 0>(x, a)  y = GlobalAveragePool(m) }",
            _LIMIT,
            expect=(("y", (3,)),),
            allowed="1 or (2, 3)",
            title="a pool that has the width alone left",
        ),
        Case(
            'g (float[1,8,4,"W"] x) => (y) <int64[1] a = {1}> { m = ReduceSum(x, a)  y = ArgMax<axis = 2>(x) }',
            {"reduce.axes": [[1]]},
            expect=(("y", (2,)),),
            allowed="1",
        ),
        Case(
            'g (float[1,8,4,"W"] x) => (y) <int64[1] a = {2}> { y = ReduceSum(x, a) }',
            _LIMIT,
            undecided=("y",),
            title="W may be 1",
        ),
        Case(
            "g (float[1,8,4,4] x, int64[1] a) => (y) { y = ReduceSum(x, a) }",
            _LIMIT,
            undecided=("y",),
            title="axes that are computed",
        ),
    )

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        sets: Sequence[Sequence[int]] = ctx.limit("reduce.axes")
        x = ctx.input(node, 0)
        if plain(node) in GLOBAL_POOLS:
            if ctx.map_dims(x) == ctx.map_order(x):
                return  # over all of space, which is its own operator
            own = tuple(range(2, ctx.rank(x)))
        elif node.op_type == "Einsum":
            own = einsum.summed(node) or ()
        else:
            own = ctx.axes(node)
        axes, dims = ctx.map_axes(x, own), ctx.map_dims(x)
        # The answer is yes where one of the sets differs from the axes by extents of 1 alone; reducing nothing is fine too.
        differences = [_extents(set(axes) ^ _on_rank(s, len(dims)), dims) for s in ((), *sets)]
        if any(all(d == 1 for d in difference) for difference in differences):
            return
        for difference in differences:
            if not any(isinstance(d, int) and d != 1 for d in difference):
                ctx.shape(x)  # undecidable: what is not known may be 1
        allowed = " or ".join(str(s[0]) if len(s) == 1 else str(tuple(s)) for s in sets)
        text = f"{node.op} over {'axis' if len(own) == 1 else 'axes'} {', '.join(map(str, own))} of {ctx.show(x)}"
        if axes != own:
            text += f", which {'is' if len(axes) == 1 else 'are'} {', '.join(map(str, axes))} of the map {shown(dims)}"
        yield Draft(text, limit="reduce.axes", measured=axes, allowed=allowed, value=x)


def _on_rank(axes: Sequence[int], rank: int) -> set[int]:
    """A set of the limit on a tensor of this rank: 2 and 3 together are all of space."""
    return {a for a in axes if a < 2} | set(range(2, rank)) if {2, 3} <= set(axes) else {a for a in axes if a < rank}


def _extents(axes: Iterable[int], dims: Sequence[Dim]) -> list[Dim]:
    return [dims[axis] for axis in axes if axis < len(dims)]
