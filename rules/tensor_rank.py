from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.analysis.layout import MOVING
from npu_guard.analysis.static import is_read
from npu_guard.checking.rule import Case, Draft, Rule
from npu_guard.device.keys import EVERY

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value


class TensorRank(Rule):
    """An activation has more axes than the device can address.

    *What it does*

    Compares the rank of every operator's inputs and outputs with `tensor.rank_max`. Constants do not count, nor do
    tensors between operators that the compiler folds away. One finding for each operator, at its tensor of highest rank;
    operators that only move data (Reshape, Transpose, Slice, Split ...) count where they make such a tensor from one that
    fits, so that the number of findings does not hang on how an exporter spells the way through. An input of the model that such
    operators alone read is spoken of itself.

    *Why it matters*

    The device addresses a map by batch, channel, row and column. There is no further index.

    *What to do*

    Keep frames, heads or windows in the batch or channel axis, and write a 3-D convolution as a sum of 2-D ones.
    """

    code = "NPU402"
    name = "tensor-rank"
    ops = (EVERY,)
    limits = ("tensor.rank_max",)
    good = (
        Case(
            "g (float[1,8,4,4] x) => (float[1,8,4,4] y) { y = Relu(x) }",
            limits={"tensor.rank_max": 4},
            title="rank 4 is the most that fits",
        ),
        Case(
            """g (float[1,8,4,4] x) => (float[1,8,16] y, z)
            <float[1,1,8,4,4] c, int64[3] shape = {1, 8, 16}> { y = Reshape(x, shape)  z = Relu(c) }""",
            limits={"tensor.rank_max": 4},
            title="a constant of rank 5",
        ),
        Case(
            'g (float["N",8,"H","W"] x) => (y) { y = Relu(x) }',
            limits={"tensor.rank_max": 4},
            title="the extents need not be known",
        ),
    )
    bad = (
        Case(
            "g (float[1,8,2,4,4] x) => (float[1,8,2,4,4] y) { y = Relu(x) }",
            limits={"tensor.rank_max": 4},
            expect=(("y", 5),),
        ),
        Case(
            """g (float[1,8,4,4] x) => (float[1,16,2,2,2] y)
            <int64[6] split = {1, 8, 2, 2, 2, 2}, int64[5] shape = {1, 16, 2, 2, 2}>
            { b = Reshape(x, split)  y = Reshape(b, shape) }""",
            limits={"tensor.rank_max": 4},
            expect=(("b", 6),),
            title="made by one operator; the next only moves data",
        ),
        Case(
            """g (float[1,8,4,4] x) => (float[1,8,4,4] y)
            <int64[5] up = {1, 8, 1, 4, 4}, int64[4] down = {1, 8, 4, 4}>
            { a = Reshape(x, up)  b = Relu(a)  y = Reshape(b, down) }""",
            limits={"tensor.rank_max": 4},
            expect=(("a", 5), ("b", 5)),
            title="where it is made and where it is computed with",
        ),
        Case(
            "g (float[1,8,2,4,4] x) => (a, b) { p, q = Split<axis = 2, num_outputs = 2>(x)  a = Squeeze(p)  b = Squeeze(q) }",
            limits={"tensor.rank_max": 4},
            expect=(("x", 5),),
            title="an input of the model, cut into frames",
        ),
        Case(
            "g (float[1,8,2,4,4] x) => (float[1,8,2,4,4] y) <int64[10] p = {0,0,0,0,0,0,0,0,0,0}> { y = Pad(x, p) }",
            limits={"tensor.rank_max": 4},
            expect=(("x", 5),),
            title="an input of the model that leaves it as it came",
        ),
        Case(
            "g (float[] x) => (y) { y = Relu(x) }",
            limits={"tensor.rank_max": 4},
            undecided=("y",),
            title="an input of unknown rank",
        ),
        Case(
            "g (float[] x, float[1,2,3,4,5] z) => (y) { y = Add(x, z) }",
            limits={"tensor.rank_max": 4},
            expect=(("y", 5),),
            title="one tensor is enough",
        ),
    )

    def needed(self, ctx: Context) -> bool:
        allowed = ctx.limit("tensor.rank_max")
        return any(shape is None or len(shape) > allowed for _, shape in ctx.kinds)

    def check_input(self, value: Value, ctx: Context) -> Iterable[Draft]:
        allowed = ctx.limit("tensor.rank_max")
        if value.shape is None or len(value.shape) <= allowed:
            return
        readers = list(ctx.analysis.reading(value))  # None where it leaves the model as it came
        if readers and all(r is None or _only_moves(r, ctx) for r in readers):  # else one that computes with it speaks of it
            text = f"{ctx.show(value)} has rank {len(value.shape)}, more than {allowed}"
            yield Draft(text, limit="tensor.rank_max", measured=len(value.shape), value=value)

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        allowed = ctx.limit("tensor.rank_max")
        if all(v is None or (v.shape is not None and len(v.shape) <= allowed) for v in (*node.inputs, *node.outputs)):
            return
        given = (v for v in (*node.inputs, node.output, *filter(is_read, node.outputs[1:])) if v is not None and v.name)
        values = [v for v in given if not ctx.is_constant(v)]
        known = [v for v in values if v.shape is not None]
        highest = max(known, key=ctx.rank, default=None)
        if highest is not None and ctx.rank(highest) > allowed:
            if _only_moves(node, ctx):
                return
            rank = ctx.rank(highest)
            text = f"{ctx.show(highest)} has rank {rank}, more than {allowed}"
            yield Draft(text, limit="tensor.rank_max", measured=rank, value=highest)
            return
        for value in values:
            ctx.rank(value)  # undecidable where it is not known


def _only_moves(node: Node, ctx: Context) -> bool:
    """Whether the node moves the data of a tensor of too high a rank, which is spoken of where it is made."""
    x = node.input(0)
    if node.op not in MOVING or x is None or x.shape is None or ctx.is_constant(x):
        return False
    return len(x.shape) > int(ctx.limit("tensor.rank_max"))
