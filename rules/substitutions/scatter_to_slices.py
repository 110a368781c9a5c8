from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from npu_guard.rewriting import grids
from npu_guard.rewriting.arithmetic import FLOATS
from npu_guard.rewriting.node_numbers import numbers
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

MOST = 64
"""Parts that are joined along one axis."""
_ARITHMETIC = {"none": "", "add": "Add", "mul": "Mul", "max": "Max", "min": "Min"}


class ScatterToSlices(Substitution):
    """Elements that are written at constant places become Slices and a Concat.

    x[:, :, 1:, 1:] = u and x[:, [2, 5]] += u, as PyTorch exports them: ScatterND and ScatterElements whose indices are all
    combinations of places of each axis. Along the first axis that is not written as a whole, the result is joined from parts
    of what was there and parts of what is new, and the latter are made in the same way along the next axis. With a reduction,
    what was there at these places is taken out and added.
    """

    name = "scatter-to-slices"
    roots = ("ScatterND", "ScatterElements")
    alone = True
    operators = dict.fromkeys(("Slice", "Concat", "Reshape", "Add", "Mul", "Expand"), "supported")
    good = (
        Example(
            "g (float[9,4,7] x, float[3,4,7] u) => (y) <int64[3,1] i = {5, 6, 7}> { y = ScatterND(x, i, u) }",
            ops=("Slice", "Slice", "Concat"),
            title="some of the first axis",
        ),
        Example(
            """g (float[1,2,5,4] x, float[1,2,4,3] u) => (y)
            <int64[1,1,1,1,1] a = {0}, int64[1,2,1,1,1] b = {0, 1}, int64[1,1,4,1,1] c = {1, 2, 3, 4},
             int64[1,1,1,3,1] d = {-3, -2, -1}, int64[5] s = {1, 2, 4, 3, 1}>
            { p = Expand(a, s)  q = Expand(b, s)  r = Expand(c, s)  t = Expand(d, s)
              i = Concat<axis = -1>(p, q, r, t)  y = ScatterND(x, i, u) }""",
            title="x[:, :, 1:, 1:] = u, as PyTorch writes it",
        ),
        Example(
            """g (float[1,2,50,40] x, float[1,2,49,39] u) => (y)
            <int64[1,1,49,1] c, int64[39] d, int64[1,1,1,1] a = {0}, int64[2,1,1] b = {0, 1}, int64[4] s = {1, 2, 49, 39},
             int64[1] e = {-1}>
            { p = Expand(a, s)  q = Expand(b, s)  r = Expand(c, s)  t = Expand(d, s)
              k = Unsqueeze(p, e)  l = Unsqueeze(q, e)  m = Unsqueeze(r, e)  n = Unsqueeze(t, e)
              i = Concat<axis = -1>(k, l, m, n)  y = ScatterND(x, i, u) }""".replace(
                "int64[1,1,49,1] c", f"int64[1,1,49,1] c = {{{','.join(map(str, range(1, 50)))}}}"
            ).replace("int64[39] d", f"int64[39] d = {{{','.join(map(str, range(1, 40)))}}}"),
            title="the same of more elements than are looked at one by one",
        ),
        Example(
            """g (float[2,6,3] x, float[2,2,3] u) => (y) <int64[2,2,3] i = {5,5,5,2,2,2,5,5,5,2,2,2}>
            { y = ScatterElements<axis = 1, reduction = "add">(x, i, u) }""",
            ops=("Slice", "Slice", "Concat", "Add", "Slice", "Slice", "Slice", "Slice", "Concat"),
            title="added to rows that lie apart, in another order",
        ),
        Example(
            "g (float[1,8,4,4] x, float[1,2,1,4,4] u) => (y) <int64[1,2,1,2] i = {0,1,0,3}> { y = ScatterND(x, i, u) }",
            ops=("Reshape", "Slice", "Slice", "Slice", "Slice", "Slice", "Concat"),
            title="channels, of which each has an axis too many",
        ),
        Example(
            "g (float[3,4] x, float[2,2] u) => (y) <int64[2,2] i = {1, 1, 2, 2}> { y = ScatterElements(x, i, u) }",
            ops=("Slice", "Slice", "Concat", "Slice", "Concat"),
            title="a part of an axis that no index names",
        ),
    )
    bad = (
        Example(
            "g (float[9,4] x, float[3,4] u, int64[3,1] i) => (y) { y = ScatterND(x, i, u) }",
            refused="its indices are computed",
        ),
        Example(
            "g (float[9,4] x, float[2] u) => (y) <int64[2,2] i = {5, 1, 6, 2}> { y = ScatterND(x, i, u) }",
            refused="its indices are no combinations of places of each axis",
        ),
        Example(
            "g (float[9,4] x, float[3,4] u) => (y) <int64[3,1] i = {5, 6, 5}> { y = ScatterND(x, i, u) }",
            refused="it writes to one place twice",
        ),
        Example(
            'g (float[9,"N"] x, float[2,"N"] u) => (y) <int64[2,1] i = {5, 6}> { y = ScatterND(x, i, u) }',
            refused="its shapes are not known",
        ),
        Example(
            "g (float[3,2] x, float[1,2] u) => (y) <int64[1,2] i = {1, 2}> { y = ScatterElements(x, i, u) }",
            refused="its indices are no combinations of places of each axis",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        data, indices, updates = (ctx.input(node, i) for i in range(3))
        if node.op_type == "ScatterND":
            places = grids.of_tuples(data, indices, ctx)
        else:
            places = grids.of_elements(node, data, indices, ctx)
        shape, given = numbers(data), numbers(updates)
        if shape is None or given is None or math.prod(given) != math.prod(map(len, places)):
            raise Refused("its shapes are not known; fix them with --input-shape")
        if any(len(set(p)) < len(p) for p in places):
            raise Refused("it writes to one place twice")
        if max((len(grids.runs(p)) for p in places), default=0) * 2 > MOST:
            raise Refused(f"more than {MOST} parts would be joined along one axis")
        reduction = _ARITHMETIC.get(node.attr("reduction", "none"))
        if reduction is None or (reduction and node.output.dtype not in FLOATS):
            raise Refused("its elements are neither float32, float16 nor double")
        return Match(self, node, (node,), (node.output,), (places, shape, reduction))

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return _written(match, build, 0)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """All that is new lands one place on."""
        return _written(match, build, 1)


def _written(match: Match, build: Builder, on: int) -> Mapping[Value, str]:
    node, (places, shape, reduction) = match.root, match.facts
    data, updates = node.inputs[0], node.inputs[2]
    assert data is not None
    assert updates is not None
    box = tuple(map(len, places))
    new = updates.name if numbers(updates) == box else build.op("Reshape", updates, build.ints(*box))
    axes = [i for i, p in enumerate(places) if p != grids.whole(shape[i])]

    def put(old: str, axes: Sequence[int]) -> str:
        """What stands at the places of these axes and all of those behind them, with what is new in it."""
        if not axes:
            return build.op(reduction, old, new) if reduction else new
        axis, rest = axes[0], axes[1:]
        at = [(p + on) % shape[axis] for p in places[axis]]
        picked = old
        if rest or reduction:
            picked = _joined(build, [build.slice(old, axis, a, b) for a, b in grids.runs(at)], axis)
        inner = put(picked, rest)
        source = {p: i for i, p in enumerate(at)}
        # Runs of old places and of new ones, in the order of the result.
        parts: list[list[int]] = []
        for place in range(shape[axis]):
            index, fresh = (source[place], 1) if place in source else (place, 0)
            if parts and parts[-1][2] == fresh and parts[-1][1] == index:
                parts[-1][1] += 1
            else:
                parts.append([index, index + 1, fresh])
        pieces = [
            inner if fresh and b - a == len(at) else build.slice(inner if fresh else old, axis, a, b) for a, b, fresh in parts
        ]
        return _joined(build, pieces, axis)

    made = put(data.name, axes)
    return {node.output: made if made in build.names else build.op("Reshape", made, build.ints(*shape))}


def _joined(build: Builder, parts: Sequence[str], axis: int) -> str:
    return build.op("Concat", *parts, axis=axis) if len(parts) > 1 else parts[0]
