"""Nodes on maps as a list, with the shape of every tensor, before anything is written: to be weighed, then told to a Builder."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from msgspec import Struct, field
from msgspec.structs import replace

from npu_guard.graph.graph import Node, Value
from npu_guard.rewriting.substitution import Array, Builder, Refused

Shape = tuple[int, ...]
SOFTMAX = 13
"""The opset from which on Softmax runs over one axis."""


class Constant(Struct, frozen=True, eq=False):
    """An initializer that is made when it is written."""

    shape: Shape
    make: Callable[[Builder], Array]
    dtype: np.dtype[Any]


class Tensor(Struct, frozen=True, eq=False):
    """What a node of the program makes."""

    shape: Shape
    dtype: int


Operand = Value | Constant | Tensor | None
Given = Value | Tensor


class Line(Struct, frozen=True, eq=False):
    """One node."""

    op_type: str
    inputs: tuple[Operand, ...]
    outputs: tuple[Tensor, ...]
    attributes: Mapping[str, Any]
    origin: Node | None


class Program(Struct):
    """What is to be written. Equal constants are one, and what was split or joined before is not split or joined again."""

    opset: int
    sliced: bool = False
    """Whether pieces are cut by a Slice each, for want of Split."""
    lines: list[Line] = field(default_factory=list)
    origin: Node | None = None
    """The node of the model from which the next lines are."""
    _constants: dict[Hashable, Constant] = field(default_factory=dict)
    _pieces: dict[Hashable, tuple[Given, ...]] = field(default_factory=dict)
    _joined: dict[Tensor, tuple[int, tuple[Given, ...]]] = field(default_factory=dict)

    def forget(self) -> None:
        """Do not use again what was split or joined: the lines that did it are gone."""
        self._pieces.clear()
        self._joined.clear()

    def op(self, op_type: str, shape: Sequence[int], *inputs: Operand, dtype: int | None = None, **attributes: Any) -> Tensor:
        """A node with one output of this shape; its type is that of the first input where none is given."""
        first = next(i for i in inputs if isinstance(i, (Value, Tensor)))
        made = Tensor(tuple(shape), first.dtype if dtype is None else dtype)
        self.lines.append(Line(op_type, inputs, (made,), attributes, self.origin))
        return made

    def constant(self, key: Hashable, shape: Sequence[int], make: Callable[[], Array], dtype: Any) -> Constant:
        """A constant that follows from its key: made once, however often it is asked for."""
        if key not in self._constants:
            self._constants[key] = Constant(tuple(shape), lambda _: make(), np.dtype(dtype))
        return self._constants[key]

    def ints(self, *values: int) -> Constant:
        """An int64 vector."""
        return self.constant(("ints", values), (len(values),), lambda: np.asarray(values, np.int64), np.int64)

    def number(self, value: float, like: Given) -> Constant:
        """A scalar of a tensor's type."""
        dtype = onnx.helper.tensor_dtype_to_np_dtype(like.dtype)
        return self.constant(("number", value, like.dtype), (), lambda: np.asarray(value, dtype), dtype)

    def split(self, x: Given, axis: int, sizes: Sequence[int]) -> tuple[Given, ...]:
        """A tensor in pieces along one axis."""
        if len(sizes) == 1:
            return (x,)
        if (apart := self._parted(x, axis, sizes)) is not None:
            return apart
        key = ("split", x, axis, *sizes)
        if key not in self._pieces:
            shape = shape_of(x)
            made = tuple(Tensor((*shape[:axis], n, *shape[axis + 1 :]), x.dtype) for n in sizes)
            if self.sliced:
                ends = np.cumsum([0, *sizes]).tolist()
                self._pieces[key] = tuple(self.cut(x, axis, a, b) for a, b in itertools.pairwise(ends))
                return self._pieces[key]
            if self.opset < SOFTMAX:
                self.lines.append(Line("Split", (x,), made, {"axis": axis, "split": list(sizes)}, self.origin))
            else:
                self.lines.append(Line("Split", (x, self.ints(*sizes)), made, {"axis": axis}, self.origin))
            self._pieces[key] = made
        return self._pieces[key]

    def _parted(self, x: Given, axis: int, sizes: Sequence[int]) -> tuple[Given, ...] | None:
        """Pieces of what was joined, where each ends between two parts: these are joined apart, and equal pieces are one."""
        along, parts = self._joined.get(x, (axis, ())) if isinstance(x, Tensor) else (axis, ())
        ends = list(itertools.accumulate((shape_of(p)[axis] for p in parts), initial=0)) if along == axis else []
        borders = list(itertools.accumulate(sizes, initial=0))
        if not parts or not set(borders) <= set(ends):
            return None
        return tuple(self.concat(parts[ends.index(a) : ends.index(b)], axis) for a, b in itertools.pairwise(borders))

    def concat(self, parts: Sequence[Given], axis: int) -> Given:
        """Tensors in a row along one axis."""
        if len(parts) == 1:
            return parts[0]
        key = ("concat", axis, *parts)
        if key not in self._pieces:
            shape = list(shape_of(parts[0]))
            shape[axis] = sum(shape_of(p)[axis] for p in parts)
            made = self.op("Concat", shape, *parts, axis=axis)
            self._pieces[key] = (made,)
            self._joined[made] = axis, tuple(parts)
        return self._pieces[key][0]

    def cut(self, x: Given, axis: int, start: int, end: int) -> Given:
        """A range of one axis."""
        shape = list(shape_of(x))
        if (start, end) == (0, shape[axis]):
            return x
        if isinstance(x, Tensor) and x in self._joined and self._joined[x][0] == axis:
            ends = np.cumsum([0, *(shape_of(p)[axis] for p in self._joined[x][1])]).tolist()
            if start in ends and end in ends:
                return self.concat(self._joined[x][1][ends.index(start) : ends.index(end)], axis)
        key = ("cut", x, axis, start, end)
        if key not in self._pieces:
            shape[axis] = end - start
            self._pieces[key] = (self.op("Slice", shape, x, self.ints(start), self.ints(end), self.ints(axis)),)
        return self._pieces[key][0]

    def two(self, op_type: str, x: Given, y: Operand, dtype: int | None = None) -> Tensor:
        """An element-wise operator with broadcasting."""
        assert y is not None
        shape = np.broadcast_shapes(shape_of(x), shape_of(y))
        return self.op(op_type, shape, x, y, dtype=dtype)

    def one(self, op_type: str, x: Given, **attributes: Any) -> Tensor:
        """An operator on each element."""
        return self.op(op_type, shape_of(x), x, **attributes)

    def reduce(self, op_type: str, x: Given, axes: Sequence[int]) -> Tensor:
        """A reduction that keeps its axes."""
        shape = [1 if i in axes else n for i, n in enumerate(shape_of(x))]
        if self.opset < (13 if op_type == "ReduceSum" else 18):
            return self.op(op_type, shape, x, axes=list(axes), keepdims=1)
        return self.op(op_type, shape, x, self.ints(*axes), keepdims=1)

    def biased(self, x: Given, bias: Constant) -> Tensor | None:
        """A convolution of this program again, with a bias; None where the tensor is none, or has one."""
        line = next((n for n in reversed(self.lines) if x in n.outputs), None) if isinstance(x, Tensor) else None
        if line is None or line.op_type != "Conv" or len(line.inputs) > 2:
            return None
        return self.op("Conv", shape_of(x), *line.inputs, bias, **line.attributes)

    def _needed(self, ends: Sequence[Operand], source: Callable[[Operand], Operand]) -> list[Line]:
        """Lines that the ends need, with what their inputs stand for, each behind those that it reads. Raises Refused.

        What a value stands for may be made by a later line than one that reads the value, so the order of lines is kept only
        as far as that allows.
        """
        makers: dict[object, int] = {output: i for i, line in enumerate(self.lines) for output in line.outputs}
        reads: dict[int, Line] = {}
        waiting = [makers[e] for e in ends if e in makers]
        while waiting:
            i = waiting.pop()
            if i not in reads:
                reads[i] = replace(self.lines[i], inputs=tuple(map(source, self.lines[i].inputs)))
                if foreign := [x for x in reads[i].inputs if isinstance(x, Tensor) and x not in makers]:
                    raise Refused(f"a tensor of shape {foreign[0].shape} is laid out in another region")
                waiting += [makers[x] for x in reads[i].inputs if x in makers]
        missing = {i: {makers[x] for x in line.inputs if x in makers} for i, line in reads.items()}
        readers: dict[int, list[int]] = {i: [] for i in reads}
        for i, before in missing.items():
            for j in before:
                readers[j].append(i)
        ready = [i for i, before in missing.items() if not before]
        heapq.heapify(ready)
        ordered: list[Line] = []
        while ready:
            i = heapq.heappop(ready)
            ordered.append(reads[i])
            for j in readers[i]:
                missing[j].discard(i)
                if not missing[j]:
                    heapq.heappush(ready, j)
        return ordered

    def write(
        self,
        build: Builder,
        wanted: Sequence[Given],
        made: Mapping[Value, Given],
        change: Callable[[Line], Line] = lambda line: line,
    ) -> list[str]:
        """Emit what the wanted tensors need; their names. `made` are values of the model that are made here as well."""

        def source(x: Operand) -> Operand:
            while isinstance(x, Value) and x in made:
                x = made[x]
            return x

        ends = [source(w) for w in wanted]
        kept = [change(line) for line in self._needed(ends, source)]
        names: dict[object, str] = {}
        for line in kept:
            build.origin = line.origin or build.match.root
            given: list[str | Value | None] = []
            for operand in line.inputs:
                if isinstance(operand, Constant) and operand not in names:
                    names[operand] = _initializer(build, operand)
                given.append(operand if operand is None or isinstance(operand, Value) else names[operand])
            made_here = build.op_many(line.op_type, *given, outputs=len(line.outputs), **line.attributes)
            names.update(zip(line.outputs, made_here, strict=True))
        return [w.name if isinstance(w, Value) else names[w] for w in ends]


def _initializer(build: Builder, constant: Constant) -> str:
    def make() -> Array:
        return np.ascontiguousarray(constant.make(build), constant.dtype).reshape(constant.shape)

    if constant.dtype == np.int64:
        return build.constant(make(), "ints")
    return build.later(constant.shape, make, constant.dtype)


def shape_of(x: Value | Tensor | Constant) -> Shape:
    """The shape of an operand. Raises Refused where it is not wholly known."""
    if not isinstance(x, Value):
        return x.shape
    dims = tuple(d for d in x.shape or () if isinstance(d, int))
    if x.shape is None or len(dims) < len(x.shape) or 0 in dims:
        raise Refused(f"the shape of {x.name!r} is not known; fix it with --input-shape")
    return dims


def bytes_of(shape: Sequence[int]) -> int:
    """Bytes of a tensor of float32."""
    return 4 * math.prod(shape)
