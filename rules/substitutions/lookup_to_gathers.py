from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from npu_guard.rewriting import grids
from npu_guard.rewriting.node_numbers import numbers
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_AXES, _FLAT = "axis by axis", "flat"


class LookupToGathers(Substitution):
    """GatherElements and GatherND at constant places become Slices and Gathers along one axis each.

    Where the indices are all combinations of places of each axis, these places are taken axis by axis: a range by a Slice, any
    others by a Gather. Other indices are one Gather on the tensor with the axes that are indexed in a row.
    """

    name = "lookup-to-gathers"
    roots = ("GatherElements", "GatherND")
    alone = True
    operators = dict.fromkeys(("Slice", "Gather", "Reshape"), "supported")
    good = (
        Example(
            "g (float[2,6,3] x) => (y) <int64[2,2,3] i = {5,5,5,2,2,2,5,5,5,2,2,2}> { y = GatherElements<axis = 1>(x, i) }",
            ops=("Gather",),
            title="the same rows everywhere",
        ),
        Example(
            "g (float[3,4] x) => (y) <int64[2,2] i = {1, 1, 2, 2}> { y = GatherElements(x, i) }",
            ops=("Slice", "Slice"),
            title="rows in a row, and the first columns",
        ),
        Example(
            "g (float[3,4] x) => (y) <int64[2,4] i = {1, 0, 2, -1, 0, 0, 1, 1}> { y = GatherElements(x, i) }",
            ops=("Reshape", "Gather", "Reshape"),
            title="other rows in each column",
        ),
        Example(
            "g (float[4,5,6] x) => (y) <int64[3,2] i = {1, 0, 2, -1, 0, 3}> { y = GatherND(x, i) }",
            ops=("Reshape", "Gather"),
            title="pairs of places",
        ),
        Example(
            "g (float[4,5,6] x) => (y) <int64[2,3,2] i = {1,0, 1,2, 1,4, 3,0, 3,2, 3,4}> { y = GatherND(x, i) }",
            ops=("Gather", "Gather"),
            title="combinations of rows and columns",
        ),
    )
    bad = (
        Example("g (float[3,4] x, int64[2,4] i) => (y) { y = GatherElements(x, i) }", refused="its indices are computed"),
        Example(
            "g (float[2,4,5] x) => (y) <int64[2,1] i = {1, 2}> { y = GatherND<batch_dims = 1>(x, i) }",
            refused="it looks up in each batch apart",
        ),
        Example(
            'g (float[3,"N"] x) => (y) <int64[2,1] i = {1, 2}> { y = GatherND(x, i) }',
            refused="its shapes are not known",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        data, indices = ctx.input(node, 0), ctx.input(node, 1)
        if node.op_type == "GatherND" and node.attr("batch_dims", 0):
            raise Refused("it looks up in each batch apart")
        shape, out = numbers(data), numbers(node.output)
        if shape is None or out is None:
            raise Refused("its shapes are not known; fix them with --input-shape")
        try:
            if node.op_type == "GatherND":
                places = grids.of_tuples(data, indices, ctx)
            else:
                places = grids.of_elements(node, data, indices, ctx)
        except Refused:
            known = ctx.analysis.constants.get(indices)
            if known is None:
                raise
            return Match(self, node, (node,), (node.output,), (shape, out, known), variant=_FLAT)
        return Match(self, node, (node,), (node.output,), (shape, out, places), variant=_AXES)

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return {match.root.output: _written(match, build, 0)}

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """All places one further on."""
        return {match.root.output: _written(match, build, 1)}


def _written(match: Match, build: Builder, on: int) -> str:
    node, (shape, out, places) = match.root, match.facts
    x = node.inputs[0]
    assert x is not None
    if match.variant == _AXES:
        return _by_axes(build, x.name, shape, out, [[(p + on) % n for p in ps] for ps, n in zip(places, shape, strict=True)])
    indices = np.asarray(places, np.int64)
    if node.op_type == "GatherND":
        count = indices.shape[-1]
        spots = np.ravel_multi_index(tuple(np.moveaxis(indices, -1, 0)), shape[:count], mode="wrap")
    else:
        axis = node.attr("axis", 0) % len(shape)
        count = len(shape)
        spots = np.ravel_multi_index(
            tuple(indices if i == axis else np.indices(indices.shape)[i] for i in range(count)), shape, mode="wrap"
        )
    extent = math.prod(shape[:count])
    spots = (spots.reshape(-1) + on) % extent
    flat = x.name if count == 1 else build.op("Reshape", x, build.ints(extent, *shape[count:]))
    made = build.op("Gather", flat, build.constant(np.asarray(spots, np.int64), "indices"), axis=0)
    return made if (spots.size, *shape[count:]) == tuple(out) else build.op("Reshape", made, build.ints(*out))


def _by_axes(build: Builder, x: str, shape: Sequence[int], out: Sequence[int], places: Sequence[Sequence[int]]) -> str:
    made = x
    for axis, here in enumerate(places):
        if tuple(here) == grids.whole(shape[axis]):
            continue
        ranges = grids.runs(here)
        if len(ranges) == 1:
            made = build.slice(made, axis, *ranges[0])
        else:
            made = build.op("Gather", made, build.constant(np.asarray(here, np.int64), "indices"), axis=axis)
    if tuple(map(len, places)) != tuple(out) or made == x:
        made = build.op("Reshape", made, build.ints(*out))
    return made
