from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from npu_guard.graph.graph import is_known
from npu_guard.rewriting.node_numbers import reduced
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_POOLS = {"ReduceMax": "MaxPool", "GlobalMaxPool": "MaxPool", "ReduceMean": "AveragePool", "GlobalAveragePool": "AveragePool"}
_REFUSED: Mapping[str, Any] = {**dict.fromkeys(_POOLS, "refused"), "MaxPool": "supported", "AveragePool": "supported"}
MOST = 8
"""Pools in a row beyond which the model is the wrong one for the device."""
_FLOATS = frozenset({1, 10, 11, 16})


class ReductionToPool(Substitution):
    """A maximum or mean over axes of space becomes a pool whose window is all of them, or several pools in a row.

    The window is as long as the axis, so one element is left. Where that is longer than the device's windows, a window of k that
    moves by k leaves the maxima of blocks, and the maximum of maxima of blocks is that of the whole; a last block that is not
    full is filled with padding, which no maximum takes. The mean of the means of equal blocks is the mean of the whole, so for
    means k divides the extent. A maximum is the same bit by bit, a mean but for the order of summation.
    """

    name = "reduction-to-pool"
    roots = tuple(_POOLS)
    alone = True
    operators = _REFUSED
    good = (
        Example("g (float[1,4,12,7] x) => (y) <int64[1] a = {2}> { y = ReduceMax(x, a) }", ops=("MaxPool",)),
        Example(
            "g (float[2,3,32,5] x) => (y) { y = ReduceMax<axes = [2,3]>(x) }",
            ops=("MaxPool", "MaxPool"),
            require=({"ops": ["MaxPool"], "metric": "kernel", "max": 8},),
            opset=13,
            title="32 rows, with windows of 8",
        ),
        Example(
            "g (float[1,3,36,5] x) => (y) <int64[1] a = {-2}> { y = ReduceMean(x, a) }",
            ops=("AveragePool", "AveragePool"),
            require=({"ops": ["AveragePool"], "metric": "kernel", "max": 7},),
            title="the mean of means of equal parts",
        ),
        Example(
            "g (float[1,3,13,11] x) => (y) { y = GlobalMaxPool(x) }",
            ops=("MaxPool", "MaxPool"),
            require=({"ops": ["MaxPool"], "metric": "kernel", "max": 5},),
            title="prime extents",
        ),
        Example("g (float[1,3,6,5] x) => (y) { y = GlobalAveragePool(x) }", ops=("AveragePool",)),
        Example(
            "g (float[2,3,6,5] x) => (y) { y = ReduceMax<axes = [-1], keepdims = 0>(x) }",
            ops=("MaxPool", "Squeeze"),
            operators={**_REFUSED, "Squeeze": "supported"},
            opset=13,
            title="an axis that goes",
        ),
    )
    bad = (
        Example(
            """g (float[1,3,6,5] x, bool b) => (y)
            { y = If<then_branch = t () => (c) { c = GlobalMaxPool(x) }, else_branch = e () => (r) { r = Relu(x) }>(b) }""",
            refused="it is inside a subgraph",
        ),
        Example(
            'g (float[1,3,"H",5] x) => (y) { y = GlobalMaxPool(x) }',
            refused="its shape is not known",
        ),
        Example(
            "g (int32[1,3,6,5] x) => (y) <int64[1] a = {2}> { y = ReduceMax(x, a) }",
            refused="is not of floating point",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Sequence[Match] | None:
        x, pool = ctx.input(node, 0), _POOLS[node.op_type]
        if x.shape is None or len(x.shape) != 4:
            return None
        axes = (2, 3) if node.op_type.startswith("Global") else reduced(node, ctx)
        if axes is None or not axes or not set(axes) <= {2, 3}:
            return None
        if node.graph.parent is not None:
            raise Refused("it is inside a subgraph")
        if x.dtype not in _FLOATS:
            raise Refused("what it reduces is not of floating point")
        if not is_known(x.shape):
            raise Refused("its shape is not known; fix it with --input-shape")
        extents = [extent if axis in axes else 1 for axis, extent in enumerate(ctx.shape(x))][2:]
        found: dict[tuple[tuple[int, ...], ...], None] = {}
        for limit in (max(extents), *ctx.bounds(pool, "kernel", "pool.window_max")):
            windows = [_windows(extent, limit, exact=pool == "AveragePool") for extent in extents]
            if all(w is not None for w in windows):
                found[tuple(w or () for w in windows)] = None
        made = [Match(self, node, (node,), (node.output,), (extents, w, axes), w) for w in found if max(map(len, w)) <= MOST]
        return made or None

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return _written(match, build, _POOLS[match.root.op_type])

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The mean for the maximum, and the maximum for the mean."""
        return _written(match, build, "AveragePool" if _POOLS[match.root.op_type] == "MaxPool" else "MaxPool")


def _windows(extent: int, limit: int, *, exact: bool) -> tuple[int, ...] | None:
    """Lengths of windows that leave one element, one behind the other, as few as can be; None where there are none."""
    windows = []
    while extent > 1:
        if extent <= limit:
            window = extent
        elif exact:
            window = next((n for n in range(limit, 1, -1) if extent % n == 0), 0)
        else:
            window = limit
        if window < 2:
            return None
        windows.append(window)
        extent = -(-extent // window)
    return tuple(windows)


def _written(match: Match, build: Builder, pool: str) -> Mapping[Value, str]:
    node, (extents, windows, dropped) = match.root, match.facts
    assert node.inputs[0] is not None
    name: str | Value = node.inputs[0]
    for i in range(max(map(len, windows), default=0) or 1):
        kernel = [w[i] if i < len(w) else 1 for w in windows]
        short = [-n % k for n, k in zip(extents, kernel, strict=True)]
        pads: dict[str, Any] = {"pads": [0, 0, *short]} if any(short) else {}
        name = build.op(pool, name, kernel_shape=kernel, strides=kernel, **pads)
        extents = [-(-n // k) for n, k in zip(extents, kernel, strict=True)]
    assert isinstance(name, str)
    return {node.output: name if node.attr("keepdims", 1) else build.squeeze(name, *dropped)}
