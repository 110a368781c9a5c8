"""Products of two maps over a static grid, as attention needs them, from operators that maps have.

Scores. The positions of K move into channels: a one-hot depthwise convolution whose window is the whole grid turns
`[B, C, H, W]` into `[B, C N, 1, 1]`, and every channel of Q is repeated N times. Their product holds K[c, j] Q[c, p] at
channel (c, j) and position p; halves are added until C is gone, and N score maps are left.

Mixing. The N attention maps are repeated C times and multiplied by V, its positions in channels; a grouped convolution of
ones sums each run of N channels, which gives the C channels of the result.

Where the device has no such convolutions, or channels do not fill its blocks, both sums run position by position instead
(`Slice`, `Mul`, `ReduceSum` over channels, `Add`), about 6N nodes for each head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from msgspec import Struct
from msgspec.structs import replace

from npu_guard.checking.context import Context
from npu_guard.file.tensors import BITS
from npu_guard.rewriting.map_writer import Map, Name, Writer
from npu_guard.rewriting.one_hot import one_hot_weights
from npu_guard.rewriting.substitution import Refused
from npu_guard.rewriting.views import BATCH, CHANNELS, COLUMNS, ROWS, Axis, View, aligned, atoms, size

NODE_BUDGET = 4096
"""Nodes in the place of one attention, where the profile does not say."""
PIECE_BYTES = 32 << 20
"""Wished size of the largest tensor; channels are done in pieces until it fits."""
PIECE_BYTES_MAX = 256 << 20
"""Where the smallest piece is larger than that, position by position is the only way."""
KeysRight = Callable[[View], bool]
"""Asked with the view of scores whose channels are the positions of the right operand: whether that is what softmax needs."""


class Grid(Struct, frozen=True):
    """Positions on their way into channels: window lengths along rows and columns, or None where windows cannot do it."""

    rows: int
    columns: int
    steps: tuple[tuple[int, ...], tuple[int, ...]] | None

    @property
    def count(self) -> int:
        """Number of positions."""
        return self.rows * self.columns

    def positions(self) -> list[tuple[int, int]]:
        """Row and column of each position, in the order in which they become channels."""
        steps = self.steps or ((self.rows,), (self.columns,))
        order = [np.arange(n).reshape(s[::-1]).T.ravel() for n, s in zip((self.rows, self.columns), steps, strict=True)]
        return [(int(y), int(x)) for y in order[0] for x in order[1]]


def product(w: Writer, x: Map, y: Map, keys_right: KeysRight) -> Map:
    """MatMul of two maps: scores of attention, or their application to values. Raises Refused."""
    rank = max(len(x.view.axes), len(y.view.axes))
    if min(len(x.view.axes), len(y.view.axes)) < 2:
        raise Refused("a product with a vector")
    left, right = (replace(m.view, axes=((),) * (rank - len(m.view.axes)) + m.view.axes) for m in (x, y))
    batch = [(i, i) for i in range(rank - 2) if left.axes[i] and right.axes[i]]
    left, right = aligned(left, right, [*batch, (rank - 1, rank - 2)])
    outer = tuple(a or b for a, b in zip(left.axes[:-2], right.axes[:-2], strict=True))
    summed = frozenset(left.axes[-1])
    inside = [bool(summed <= set(v.channels)) for v in (left, right)]
    if left.stored[BATCH] != right.stored[BATCH]:
        raise Refused("its operands have different batches")
    x, y = replace(x, view=left), replace(y, view=right)
    if all(inside) and not (x.is_scores or y.is_scores):
        return _scores(w, x, y, outer, summed, keys_right)
    if inside[0] and summed == set(right.space):
        return _mixed(w, x, y, left.axes[-2], right.axes[-1], (*outer, left.axes[-2], right.axes[-1]))
    if inside[1] and summed == set(left.space):
        return _mixed(w, y, x, right.axes[-1], left.axes[-2], (*outer, left.axes[-2], right.axes[-1]))
    if summed == set(left.space) == set(right.space):
        raise Refused("it sums over the positions of both operands (attention over channels, or linear attention)")
    raise Refused("it is not attention between the positions of whole maps (windows, or a mixed order of axes)")


def _scores(w: Writer, x: Map, y: Map, outer: Sequence[Axis], summed: frozenset[object], keys_right: KeysRight) -> Map:
    left, right = x.view, y.view
    heads = tuple(a for a in left.channels if a not in summed)
    whole = set(left.axes[-2]) == set(left.space) and set(right.axes[-1]) == set(right.space)
    batched = set(atoms(outer)) == {*left.stored[BATCH], *heads}
    if not whole or not batched or left.channels != right.channels or left.channels[: len(heads)] != heads:
        raise Refused("its operands hold heads, channels and positions in different orders, or are windows of a map")

    def view(query: View, keys: Axis, axes: tuple[Axis, ...]) -> View:
        return View((query.stored[BATCH], heads + keys, *query.stored[ROWS:]), axes)

    grid, right, keys = key_order(w.ctx, right)
    result = view(left, keys, (*outer, left.axes[-2], right.axes[-1]))
    query, key = x, y
    if not keys_right(result):
        grid, left, keys = key_order(w.ctx, left)
        result = view(y.view, keys, (*outer, left.axes[-2], y.view.axes[-1]))
        query, key = y, x
    before, width = w.count, x.channels // size(heads)
    parts = _written_scores(w, query, key, width, grid)
    return Map(result, parts, x.dtype, max(1, w.count - before))


def key_order(ctx: Context, view: View) -> tuple[Grid, View, Axis]:
    """The grid of a map, its view split as the windows need it, and its positions in the order of their channels."""
    rows, columns = size(view.stored[ROWS]), size(view.stored[COLUMNS])
    limit = ctx.limit("conv.kernel_max") or max(rows, columns)
    steps = _windows(rows, limit), _windows(columns, limit)
    if steps[0] is None or steps[1] is None:
        return Grid(rows, columns, None), view, view.space
    try:
        split = view.grouped(ROWS, steps[0][::-1]).grouped(COLUMNS, steps[1][::-1])
    except Refused:
        return Grid(rows, columns, None), view, view.space
    order = atoms((*_runs(split.stored[ROWS], steps[0]), *_runs(split.stored[COLUMNS], steps[1])))
    return Grid(rows, columns, (steps[0], steps[1])), split, order


def _windows(extent: int, limit: int) -> tuple[int, ...] | None:
    """Lengths of windows that take an axis apart, the innermost first; as few as the limit allows."""
    if extent <= limit:
        return (extent,)
    for window in range(limit, 1, -1):
        rest = _windows(extent // window, limit) if extent % window == 0 else None
        if rest is not None:
            return (window, *rest)
    return None


def _runs(axis: Axis, steps: Sequence[int]) -> list[Axis]:
    """Factors of an axis, taken apart in windows whose outermost comes first, in the order of the windows."""
    runs, at = [], len(axis)
    for step in steps:
        end = at
        while size(axis[at:end]) != step:
            at -= 1
        runs.append(axis[at:end])
    return runs


def _written_scores(w: Writer, query: Map, key: Map, width: int, grid: Grid) -> tuple[Name, ...]:
    """One score map for each position of the keys; one tensor for each head."""
    count, heads, total = grid.count, query.channels // width, query.channels
    piece = _piece(w.ctx, query, total, grid, lambda p: width % p == 0 or p % width == 0)
    if piece is None:
        _afford(w.ctx, count, 6 * count * heads)
        pairs = zip(w.divided(query, heads), w.divided(key, heads), strict=True)
        return tuple(w.concat([_dot(w, q, _at(w, k, at)) for at in grid.positions()]) for q, k in pairs)
    sums: list[list[Name]] = [[] for _ in range(heads)]
    pieces = zip(w.divided(query, total // piece), w.divided(key, total // piece), strict=True)
    for i, (q, k) in enumerate(pieces):
        repeated = w.op("Conv", q, _ones(w, query.dtype, piece * count, 1), group=piece, kernel_shape=[1, 1])
        terms = w.op("Mul", repeated, _gathered(w, k, piece, grid, query.dtype))
        run = min(piece, width)
        for j, part in enumerate(w.split(terms, [run * count] * (piece // run))):
            sums[(i * piece + j * run) // width].append(_halved(w, part, run, count))
    return tuple(_added(w, found) for found in sums)


def _mixed(w: Writer, scores: Map, values: Map, queries: Axis, free: Axis, axes: tuple[Axis, ...]) -> Map:
    """Values of all positions, weighted with the attention that each query pays to them."""
    grid, view, keys = key_order(w.ctx, values.view)
    attention = scores.view
    heads = attention.channels[: len(attention.channels) - len(keys)]
    if attention.channels[len(heads) :] != keys or view.channels[: len(heads)] != heads:
        raise Refused("attention and values hold their heads or positions in different orders")
    if set(free) != set(view.channels[len(heads) :]) or set(queries) != set(attention.space):
        raise Refused("attention is mixed over a part of the map only")
    before, width = w.count, values.channels // size(heads)
    name = _written_mix(w, scores, values, width, grid)
    spent = scores.spent + w.count - before
    _afford(w.ctx, grid.count, spent)
    return Map(View((attention.stored[BATCH], view.channels, *attention.stored[ROWS:]), axes), (name,), values.dtype)


def _written_mix(w: Writer, scores: Map, values: Map, width: int, grid: Grid) -> Name:
    count, total = grid.count, values.channels
    attention = w.divided(scores, total // width)
    piece = _piece(w.ctx, scores, total, grid, lambda _: True)
    if piece is None:
        _afford(w.ctx, count, scores.spent + 3 * count * len(attention))
        positions, mixed = grid.positions(), []
        for name, v in zip(attention, w.divided(values, total // width), strict=True):
            maps = w.split(name, [1] * count)
            mixed.append(_added(w, [w.op("Mul", m, _at(w, v, at)) for m, at in zip(maps, positions, strict=True)]))
        return w.concat(mixed)
    sums: list[Name] = []
    for i, v in enumerate(w.divided(values, total // piece)):
        repeated = w.concat([attention[(i * piece + c) // width] for c in range(piece)])
        terms = w.op("Mul", repeated, _gathered(w, v, piece, grid, values.dtype))
        sums.append(w.op("Conv", terms, _ones(w, values.dtype, piece, count), group=piece, kernel_shape=[1, 1]))
    return w.concat(sums)


def _piece(ctx: Context, queries: Map, channels: int, grid: Grid, fits: Callable[[int], bool]) -> int | None:
    """Channels that are done together: as many as memory allows, in whole blocks of the device; None where that is none."""
    grouped = ctx.limit("conv.group_max") is None and ctx.limit("conv.group_channels_multiple") is None
    if grid.steps is None or not grouped:
        return None
    block = ctx.limit("channels.multiple_of") or 1
    each = size(atoms((queries.view.stored[BATCH], queries.view.space))) * grid.count * BITS.get(queries.dtype, 32) // 8
    largest = ctx.limit("tensor.bytes_max") or PIECE_BYTES_MAX
    sizes = [p for p in range(block, channels + 1, block) if channels % p == 0 and fits(p) and p * each <= largest]
    return max((p for p in sizes if p * each <= PIECE_BYTES), default=min(sizes, default=None))


def _afford(ctx: Context, positions: int, nodes: int) -> None:
    budget = ctx.limit("attention.node_budget") or NODE_BUDGET
    if nodes > budget:
        text = f"attention over {positions} positions would take {nodes} nodes, more than the budget of {budget}"
        raise Refused(f"{text}; an axial convolution comes close")


def _gathered(w: Writer, name: Name, channels: int, grid: Grid, dtype: int) -> Name:
    """Positions moved into channels, by one-hot windows."""
    kind = onnx.helper.tensor_dtype_to_np_dtype(dtype)
    for axis, steps in enumerate(grid.steps or ()):
        for step in steps:
            if step > 1:
                shape = (step, 1) if axis == 0 else (1, step)
                key = "one-hot", channels, shape, dtype
                weight = w.constant(lambda: one_hot_weights(channels, range(step), shape, kind), key)  # noqa: B023 - called at once
                name = w.op("Conv", name, weight, group=channels, kernel_shape=list(shape), strides=list(shape))
                channels *= step
    return name


def _ones(w: Writer, dtype: int, outputs: int, inputs: int) -> str:
    shape = (outputs, inputs, 1, 1)
    return w.constant(lambda: np.ones(shape, onnx.helper.tensor_dtype_to_np_dtype(dtype)), ("ones", shape, dtype))


def _halved(w: Writer, name: Name, channels: int, count: int) -> Name:
    """The sum of `channels` runs of `count` maps: one half onto the other, until one run is left."""
    odd: list[Name] = []
    while channels > 1:
        half, rest = divmod(channels, 2)
        first, second, *left = w.split(name, [half * count] * 2 + [count] * rest)
        name, channels = w.op("Add", first, second), half
        odd += left
    return _added(w, [name, *odd])


def _added(w: Writer, names: Sequence[Name]) -> Name:
    total = names[0]
    for name in names[1:]:
        total = w.op("Add", total, name)
    return total


def _at(w: Writer, name: Name, at: tuple[int, int]) -> Name:
    """One position of a map."""
    return w.slice(name, (ROWS, COLUMNS), at, (at[0] + 1, at[1] + 1))


def _dot(w: Writer, name: Name, other: Name) -> Name:
    return w.reduce("ReduceSum", w.op("Mul", name, other), (CHANNELS,))
