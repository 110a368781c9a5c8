"""Which part each axis of a value has: batch, channels or space.

An axis number tells that only while a tensor has all its axes. A reduction without `keepdims` and a Squeeze drop axes, and those
that stay keep their part: of `[B,C,H,W]` summed over C, `[B,H,W]` is a batch and two axes of space. So a value of fewer axes
than the map that it came from has a `View`: where each of its axes lies in the map. One with all axes has parts by position.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import onnx
from msgspec import Struct

from npu_guard.analysis.axes import reduced_axes
from npu_guard.analysis.einsum import single_operand
from npu_guard.base.errors import Undecidable
from npu_guard.graph.graph import Node, Value, is_known
from npu_guard.graph.handlers import OfKind
from npu_guard.results.findings import Dim

if TYPE_CHECKING:
    from npu_guard.analysis.analyze import Analysis

BATCH, CHANNELS, SPACE = "batch", "channels", "space"
MAP_RANK = 4
"""Axes of a feature map [B, C, H, W]; a tensor of as many or more has parts by position."""
_REDUCTIONS = OfKind("reduction")
_REGROUPING = OfKind("view")
_ANEW = frozenset(
    {"Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "DeformConv", "LSTM", "GRU", "RNN", "Attention", "Einsum", "OneHot",
     "GatherND", "Range", "Loop", "Scan", "If"}
)  # fmt: skip
"""Operators whose output has parts by position, whatever goes in."""
_INDICES = frozenset({onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL})
"""Element types of positions and masks, which are no maps."""
_LOOK_BACK = 8
"""Reshapes in a row through which a shape is recognized as one that was there before."""


class View(Struct, frozen=True):
    """Where the axes of a value lie in a map of `rank` axes, in rising order; axes of the map that are left out have extent 1."""

    axes: tuple[int, ...]
    rank: int

    def full(self, dims: Sequence[Dim]) -> tuple[Dim, ...]:
        """The value's extents as those of the map."""
        whole: list[Dim] = [1] * self.rank
        for axis, extent in zip(self.axes, dims, strict=True):
            whole[axis] = extent
        return tuple(whole)


def role(axis: int) -> str:
    """Part of an axis in [B, C, ...]."""
    return (BATCH, CHANNELS, SPACE)[min(axis, 2)]


class Roles:
    """The views of one model's values, worked out in one pass over its nodes once somebody asks about fewer axes than a map's."""

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis
        self._carried: dict[Value, View] | None = None

    @property
    def carried(self) -> Mapping[Value, View]:
        """Views of those values that have others than their position says."""
        if self._carried is None:
            self._carried = {}
            for node in self.analysis.model.graph.walk():
                self._carry(node)
        return self._carried

    def view(self, value: Value) -> View:
        """Where the axes of a value of known rank lie."""
        assert value.shape is not None
        if len(value.shape) < MAP_RANK and (carried := self.carried.get(value)) is not None:
            return carried
        return by_position(value)

    def is_flat_tokens(self, value: Value) -> bool:
        """Whether `[N,C]` is the tokens `[1,N,C]` without their batch of 1, as simplifiers leave them for a Gemm."""
        if value.shape is None or len(value.shape) != 2 or value.shape[0] == 1:
            return False
        return self.view(value).axes[0] > 0

    def moved(self, node: Node) -> Iterator[tuple[Value, int, int]]:
        """Operands of a broadcasting operator with the axis of theirs that lies along one of another part, and where it lies.

        Broadcasting puts the axes that an operand lacks in front, as an Unsqueeze would.
        """
        out = node.output
        if out.shape is None:
            return
        rank = len(out.shape)
        for value in node.inputs:
            if value is None or value.shape is None:
                continue
            if len(value.shape) > rank:  # the output is declared wrongly
                continue
            if len(value.shape) == rank and (rank >= MAP_RANK or (value not in self.carried and out not in self.carried)):
                continue
            if value.dtype in _INDICES or self.analysis.is_constant(value):
                continue
            here, there, front = self.view(value), self.view(out), rank - len(value.shape)
            for axis, extent in enumerate(value.shape):
                if extent != 1 and role(here.axes[axis]) != role(there.axes[axis + front]):
                    yield value, axis, there.axes[axis + front]

    def _carry(self, node: Node) -> None:
        """Note what the node's outputs have of the parts that went in."""
        assert self._carried is not None
        for output in node.outputs:
            if output is None or output.shape is None or len(output.shape) >= MAP_RANK or output in self.analysis.static:
                continue
            view = self._derived(node, output, output.shape)
            if view is not None and view != by_position(output) and any(d != 1 for d in output.shape):
                self._carried[output] = view

    def _derived(self, node: Node, output: Value, dims: tuple[Dim, ...]) -> View | None:
        """The view that follows from the inputs, None where the output has parts by position."""
        x = node.input(0)
        if node.domain == "" and x is not None and x.shape is not None:
            if _REDUCTIONS.get(node.op_type):
                return self._reduced(node, x, dims)
            if _REGROUPING.get(node.op_type):
                return self._regrouped(node, x, dims)
            if node.op_type == "Gather" and (table := node.input(1)) is not None and table.shape == ():
                axis = node.attr("axis", 0) % max(len(x.shape), 1)
                return self._without(x, {axis})
            if node.op_type == "Einsum":
                return self._summed(node, x)
        if node.op_type in _ANEW or not self._carried:
            return None
        known = [v for v in node.inputs if v is not None and v.shape is not None and len(v.shape) == len(dims)]
        active = [v for v in known if not self.analysis.is_constant(v)]
        if not any(v in self._carried for v in active):
            return None
        best = max(active, key=lambda v: (sum(d != 1 for d in v.shape or ()), v in self.carried))
        return self.view(best)

    def _reduced(self, node: Node, x: Value, dims: tuple[Dim, ...]) -> View | None:
        assert x.shape is not None
        if len(dims) == len(x.shape):
            return self.view(x)
        try:
            return self._without(x, set(reduced_axes(node, self.analysis.constants)))
        except Undecidable:
            return None

    def _without(self, x: Value, axes: set[int]) -> View | None:
        """The view of a value that has lost some axes."""
        view = self.view(x)
        if view.rank > MAP_RANK:
            return None
        return View(tuple(a for i, a in enumerate(view.axes) if i not in axes), view.rank)

    def _regrouped(self, node: Node, x: Value, dims: tuple[Dim, ...]) -> View | None:
        """What a Reshape leaves of the parts: all where only axes of extent 1 come and go."""
        assert x.shape is not None
        exact = node.op_type in ("Squeeze", "Unsqueeze")
        source: Value | None = x
        for _ in range(_LOOK_BACK):
            if source is None or source.shape is None:
                return None
            if _same_extents(source.shape, dims, exact and source is x):
                view = self.view(source)
                return None if len(dims) >= view.rank or view.rank > MAP_RANK else _embedded(view, source.shape, dims)
            before = source.producer
            if before is None or before.op_type not in _REGROUPING or before.domain or source in self.analysis.static:
                return None
            source = before.input(0)
        return None

    def _summed(self, node: Node, x: Value) -> View | None:
        """Einsum over one operand: those axes stay that have a label in the result."""
        terms = single_operand(node)
        if terms is None or x.shape is None or len(terms[0]) != len(x.shape):
            return None
        return self._without(x, {i for i, label in enumerate(terms[0]) if label not in terms[1]})


def by_position(value: Value) -> View:
    """The view of a value about which nothing else is known."""
    assert value.shape is not None
    rank = len(value.shape)
    if rank == 2 and looks_like_tokens(value):
        return View((1, 2), 3)
    if rank == 1 and value.shape[0] != 1 and value.graph.model.input_batches <= {1}:
        return View((1,), 2)
    return _POSITIONS[rank] if rank < len(_POSITIONS) else View(tuple(range(rank)), rank)


_POSITIONS = tuple(View(tuple(range(rank)), rank) for rank in range(8))


def looks_like_tokens(value: Value) -> bool:
    """Whether `[N,C]`, of which no more is known, is the tokens `[1,N,C]` without their batch of 1.

    Vectors of N maps, such as a detector's regions, are a batch of N.
    """
    shape = value.shape
    if not is_known(shape) or len(shape) != 2 or shape[0] == 1:
        return False
    model = value.graph.model
    return shape[0] not in model.map_batches and model.input_batches == {1}


def _same_extents(before: Sequence[Dim], after: Sequence[Dim], exact: bool) -> bool:
    """Whether the axes of extent > 1 are the same, in order; `exact` where the operator says so itself."""
    old, new = [d for d in before if d != 1], [d for d in after if d != 1]
    return len(old) == len(new) if exact else old == new and None not in old


def _embedded(view: View, before: Sequence[Dim], after: Sequence[Dim]) -> View | None:
    """The same parts for other axes of extent 1; None where there is no room for those in front of one that has a part."""
    carried = iter([axis for axis, extent in zip(view.axes, before, strict=True) if extent != 1])
    axes: list[int] = []
    for extent in after:
        last = axes[-1] if axes else -1
        axis = next(carried) if extent != 1 else last + 1
        if axis <= last or axis >= view.rank:
            return None
        axes.append(axis)
    return View(tuple(axes), view.rank)
