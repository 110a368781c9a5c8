"""Tensors [B, C, D, H, W] as maps [B, D*C, H, W]: the depth folded into the channels, depth by depth.

Depth stands outside and channels inside. So the depths that a window reads are one run of channels, a convolution over it has
the original's weights side by side, and operators on each element, batch norm and windows in height and width run once for all
depths. A tensor is kept as one map, as parts of it, or both, whichever its readers ask for; none is made twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import onnx
from msgspec import Struct, field

from npu_guard.base.text import short
from npu_guard.checking.context import Context
from npu_guard.graph.graph import Value
from npu_guard.proof.exact import Exact
from npu_guard.rewriting.node_numbers import numbers
from npu_guard.rewriting.substitution import Array, Builder, Refused

RANK = 5
NODE_BUDGET = 4096
"""Operators that may take the place of one network; beyond that its depth is better put into the batch by its author."""


class Folded(Struct, eq=False):
    """A tensor of rank 5 as maps. `windows` has the names of parts by the depths that they hold, in order."""

    channels: int
    depth: int
    windows: dict[tuple[int, ...], str] = field(default_factory=dict)

    @property
    def every(self) -> tuple[int, ...]:
        """All depths: the key of the one map that holds the whole tensor."""
        return tuple(range(self.depth))


def shape_of(value: Value | None) -> tuple[int, ...]:
    """The shape. Raises Refused where an extent is not known."""
    found = numbers(value)
    if found is None or 0 in found:
        name = "" if value is None else f" of {short(value.name)!r}"
        raise Refused(f"the shape{name} is not known; fix it with --input-shape")
    return found


class Depths:
    """Writes a region of rank 5 on folded maps."""

    def __init__(self, ctx: Context, build: Builder, *, wrong: bool = False) -> None:
        self.ctx = ctx
        self.build = build
        self.wrong = wrong
        """For the mutant: the taps along the depth run backwards."""
        self.made: dict[Value, Folded | str] = {}
        """What stands for each value: maps, or the name of a tensor of lower rank."""

    def fold(self, value: Value) -> Folded:
        """The maps that stand for an activation of rank 5; one from outside of the region is taken apart here."""
        found = self.made.get(value)
        if found is None:
            _, channels, depth, _, _ = shape_of(value)
            slices = [value.name]
            if depth > 1:
                slices = self.split(value, 2, [1] * depth)
            found = Folded(channels, depth, {(d,): self.build.squeeze(name, 2) for d, name in enumerate(slices)})
            self.made[value] = found
        assert isinstance(found, Folded)
        return found

    def folded(self, name: str, channels: int, depth: int) -> Folded:
        """Maps of which the whole is there."""
        return Folded(channels, depth, {tuple(range(depth)): name})

    def pieces(self, names: Sequence[str], channels: int) -> Folded:
        """Maps of which each depth is there."""
        return Folded(channels, len(names), {(d,): name for d, name in enumerate(names)})

    def whole(self, x: Folded) -> str:
        """The one map of all depths."""
        return self.window(x, x.every)

    def piece(self, x: Folded, depth: int) -> str:
        """The map of one depth; a tensor of one depth is the same at all."""
        return self.window(x, (depth if x.depth > 1 else 0,))

    def window(self, x: Folded, depths: Sequence[int]) -> str:
        """The map of some depths, in any order: a run of the whole's channels, or parts put together."""
        key = tuple(depths)
        if key not in x.windows:
            if x.every in x.windows and key == tuple(range(key[0], key[-1] + 1)):
                first, last = key[0] * x.channels, (key[-1] + 1) * x.channels
                x.windows[key] = self.build.slice(x.windows[x.every], 1, first, last)
            else:
                x.windows[key] = self.concat([self.window(x, run) for run in _runs(x, key)])
        return x.windows[key]

    def concat(self, names: Sequence[str], axis: int = 1) -> str:
        """Maps side by side."""
        return names[0] if len(names) == 1 else self.build.op("Concat", *names, axis=axis)

    def split(self, x: str | Value, axis: int, sizes: Sequence[int]) -> list[str]:
        """Parts of one axis."""
        if self.build.opset < 13:
            return self.build.op_many("Split", x, outputs=len(sizes), axis=axis, split=list(sizes))
        return self.build.op_many("Split", x, self.build.ints(*sizes), outputs=len(sizes), axis=axis)

    def apart(self, x: Folded) -> list[str]:
        """The map of each depth, by one Split where only the whole is there."""
        if x.depth > 1 and x.every in x.windows and not any((d,) in x.windows for d in x.every):
            parts = self.split(x.windows[x.every], 1, [x.channels] * x.depth)
            x.windows.update({(d,): name for d, name in enumerate(parts)})
        return [self.piece(x, d) for d in x.every]

    def total(self, op_type: str, names: Sequence[str]) -> str:
        """Maps joined element by element: Add, Max or Min."""
        if op_type != "Add":
            return names[0] if len(names) == 1 else self.build.op(op_type, *names)
        result = names[0]
        for name in names[1:]:
            result = self.build.op("Add", result, name)
        return result

    def scaled(self, name: str, factors: Fraction | Array, like: Value) -> str:
        """A map times a fraction, or times an array of such that is broadcast against it."""
        if np.all(np.asarray(factors) == 1):
            return name
        return self.build.op("Mul", name, self.build.rounded(Exact.of(factors), dtype_of(like), "factor"))

    def constant(self, value: Value, channels: int, depth: int, at: int | None = None) -> str:
        """A constant that is broadcast against a tensor of rank 5, as one for its map, or for one depth of it."""
        array = self.build.weight(value)
        if array.size == 1:
            return value.name if array.ndim <= 4 else self.build.constant(array.reshape(()), "constant")
        full = array.reshape((1,) * (RANK - array.ndim) + array.shape)
        if at is not None:
            return self.build.constant(full[:, :, at if full.shape[2] > 1 else 0], "constant")
        if full.shape[1:3] != (1, 1):
            full = np.broadcast_to(full, (full.shape[0], channels, depth, *full.shape[3:]))
        return self.build.constant(folded_array(full), "constant")

    def exits(self, values: Sequence[Value]) -> dict[Value, str]:
        """What takes the place of values outside of the region, with their own axes."""
        made = {output for node in self.build.nodes for output in node.output}
        result: dict[Value, str] = {}
        for value in values:
            found = self.made[value]
            assert value.producer is not None
            self.build.origin = value.producer
            if isinstance(found, Folded):
                result[value] = self._unfolded(value, found)
            else:
                result[value] = found if found in made and found not in result.values() else self.build.op("Identity", found)
        self.afford()
        return result

    def _unfolded(self, value: Value, x: Folded) -> str:
        """The tensor itself, in as few operators as there are: no device that cannot hold it runs any of them."""
        if x.depth == 1 or x.channels == 1:
            return self.build.unsqueeze(self.whole(x), 2 if x.depth == 1 else 1)
        apart = self.build.op("Reshape", self.whole(x), self.build.ints(0, x.depth, x.channels, *shape_of(value)[3:]))
        return self.build.op("Transpose", apart, perm=[0, 2, 1, 3, 4])

    def afford(self) -> None:
        """Raises Refused where the region takes too many operators."""
        if len(self.build.nodes) > NODE_BUDGET:
            raise Refused(f"it would take more than {NODE_BUDGET} operators")


def folded_array(array: Array) -> Array:
    """[B, C, D, H, W] as [B, D*C, H, W]."""
    b, c, d, h, w = array.shape
    return array.transpose(0, 2, 1, 3, 4).reshape(b, d * c, h, w)


def dtype_of(value: Value) -> np.dtype[np.generic]:
    """The element type as numpy has it."""
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.dtype))


def _runs(x: Folded, key: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Depths in runs, each as long as one part of the tensor can give it: of consecutive depths where the whole is there."""
    if x.every not in x.windows:
        return [(d,) for d in key]
    runs: list[tuple[int, ...]] = []
    for depth in key:
        if runs and depth == runs[-1][-1] + 1:
            runs[-1] = (*runs[-1], depth)
        else:
            runs.append((depth,))
    return runs
