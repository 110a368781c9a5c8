"""Emits nodes on maps [B, C, H, W]: into a Builder, or nowhere, which tells how many there would be and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import onnx
from msgspec import Struct
from msgspec.structs import replace

from npu_guard.base.text import short
from npu_guard.checking.context import Context
from npu_guard.graph.graph import Value, is_known
from npu_guard.graph.ops import find_operator
from npu_guard.rewriting.scaled import scaled
from npu_guard.rewriting.substitution import Array, Builder, Refused
from npu_guard.rewriting.views import CHANNELS, Moves, View, size

Name = str | Value
OPSET = 13
"""The oldest in which Softmax runs over one axis and Split takes its sizes as an input, as they are written here."""


class Map(Struct, frozen=True):
    """A map under construction: one tensor, or several that follow each other along channels (one for each head)."""

    view: View
    parts: tuple[Name, ...]
    dtype: int
    spent: int = 0
    """Nodes that were needed for it, where it holds scores of attention; else 0."""

    @property
    def is_scores(self) -> bool:
        """Whether its channels are the positions of another map."""
        return self.spent > 0

    @property
    def channels(self) -> int:
        """Channels of the whole."""
        return size(self.view.channels)


class Writer:
    """Nodes and constants for one region. Without a builder, values of weights are zeros and names mean nothing."""

    def __init__(self, ctx: Context, builder: Builder | None = None) -> None:
        self.ctx = ctx
        self.count = 0
        self._builder = builder
        self._constants: dict[Hashable, str] = {}
        self._pieces: dict[Hashable, tuple[Name, ...]] = {}
        self._opset = ctx.analysis.model.opsets.get("", 0)

    def op(self, op_type: str, *inputs: Name | None, **attributes: Any) -> str:
        """A node with one output."""
        self.count += 1
        return f"{self.count}" if self._builder is None else self._builder.op(op_type, *inputs, **attributes)

    def weight(self, value: Value) -> Array:
        """A constant of the model, also one that follows from shapes."""
        if self._builder is not None:
            return self._builder.weight(value, self.ctx.analysis.constants.get)
        small = self.ctx.analysis.constants.get(value)
        if small is not None:
            return small
        return np.broadcast_to(np.zeros((), onnx.helper.tensor_dtype_to_np_dtype(value.dtype)), self.ctx.shape(value))

    def constant(self, make: Callable[[], Array], key: Hashable = None) -> str:
        """An initializer; `key` tells which one it is where it may be needed again."""
        if self._builder is None:
            return ""
        if key is None:
            return self._builder.constant(make())
        if key not in self._constants:
            self._constants[key] = self._builder.constant(make())
        return self._constants[key]

    def product(self, make: Callable[[], Array], factor: float) -> str:
        """An initializer, times a float32."""
        if factor == 1.0 or self._builder is None:
            return self.constant(make)
        array = make()
        return scaled(self._builder, array, factor, array.dtype)

    def reciprocal_root(self, number: int, dtype: int) -> str:
        """An initializer of the float next to 1 / sqrt(number)."""
        if self._builder is None:
            return ""
        from fractions import Fraction

        from npu_guard.proof.exact import Exact

        return self._builder.rounded(Exact.root(Fraction(1, number)), onnx.helper.tensor_dtype_to_np_dtype(dtype))

    def ints(self, *values: int) -> str:
        """An int64 vector."""
        return self.constant(lambda: np.asarray(values, np.int64), ("ints", values))

    def scalar(self, value: float, dtype: int) -> str:
        """A number of a map's type."""
        return self.constant(lambda: np.asarray(value, onnx.helper.tensor_dtype_to_np_dtype(dtype)), ("scalar", value, dtype))

    def whole(self, x: Map) -> Name:
        """The map as one tensor."""
        return self.concat(x.parts) if len(x.parts) > 1 else x.parts[0]

    def concat(self, names: Sequence[Name]) -> Name:
        """Tensors in a row along channels, made once."""
        key = ("concat", *names)
        if len(names) == 1:
            return names[0]
        if key not in self._pieces:
            self._pieces[key] = (self.op("Concat", *names, axis=CHANNELS),)
        return self._pieces[key][0]

    def split(self, name: Name, sizes: Sequence[int]) -> tuple[Name, ...]:
        """A tensor in pieces along channels, made once."""
        if len(sizes) == 1:
            return (name,)
        key = ("split", name, *sizes)
        if key not in self._pieces:
            self.count += 1
            made = [f"{self.count}.{i}" for i in range(len(sizes))]
            if self._builder is not None:
                made = self._builder.op_many("Split", name, self.ints(*sizes), outputs=len(sizes), axis=CHANNELS)
            self._pieces[key] = tuple(made)
        return self._pieces[key]

    def divided(self, x: Map, parts: int) -> tuple[Name, ...]:
        """The map in equal parts along channels."""
        return x.parts if len(x.parts) == parts else self.split(self.whole(x), [x.channels // parts] * parts)

    def slice(self, name: Name, axes: Sequence[int], starts: Sequence[int], ends: Sequence[int]) -> Name:
        """A piece of a tensor."""
        return self.op("Slice", name, self.ints(*starts), self.ints(*ends), self.ints(*axes))

    def reduce(self, op_type: str, name: Name, axes: Sequence[int]) -> str:
        """A reduction that keeps its axes."""
        if self._opset >= find_operator(op_type).inputs[1].since:
            return self.op(op_type, name, self.ints(*axes), keepdims=1)
        return self.op(op_type, name, axes=list(axes), keepdims=1)

    def rearranged(self, name: Name, how: Moves) -> Name:
        """A tensor with other axes: what has to stay of the model's rearrangements."""
        if how.split is not None:
            name = self.op("Reshape", name, self.ints(*how.split))
        if how.order is not None:
            name = self.op("Transpose", name, perm=list(how.order))
        return self.op("Reshape", name, self.ints(*how.merge)) if how.merge is not None else name

    def biased(self, name: Name, make: Callable[[], Array]) -> Name | None:
        """A convolution from here with a bias added to it; None where it has one or is no convolution."""
        if self._builder is None:
            return None
        node = next((n for n in reversed(self._builder.nodes) if n.output[0] == name), None)
        if node is None or node.op_type != "Conv" or len(node.input) > 2:
            return None
        node.input.append(self.constant(lambda: make().reshape(-1)))
        return name


def map_parts(x: Map, function: Callable[[Name], Name], view: View | None = None) -> Map:
    """The map with something done to each of its parts."""
    return replace(x, parts=tuple(function(part) for part in x.parts), view=view or x.view)


def static_shape(value: Value) -> tuple[int, ...]:
    """The shape, wholly known. Raises Refused."""
    dims = value.shape
    if not is_known(dims) or 0 in dims:
        raise Refused(f"the shape of {short(value.name)!r} is not known; fix it with --input-shape")
    return dims
