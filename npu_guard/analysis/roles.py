"""Which part each axis of a value has: batch, channels or space.

An axis number tells that only while a tensor has all its axes. A reduction without `keepdims` and a Squeeze drop axes, and those
that stay keep their part: of `[B,C,H,W]` summed over C, `[B,H,W]` is a batch and two axes of space. So a value of fewer axes
than the map that it came from has a `View`: where each of its axes lies in the map. One with all axes has parts by position, but
where an operator of ONNX Runtime takes maps as [B, H, W, C].
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from npu_guard.analysis import einsum
from npu_guard.analysis.axes import reduced_axes
from npu_guard.analysis.views import MAP_RANK, View, by_position, channels_last, embedded, role, same_extents
from npu_guard.base.errors import Undecidable
from npu_guard.graph.graph import Node, Value
from npu_guard.graph.handlers import OfKind
from npu_guard.graph.plain import LAYOUTS, is_channels_last
from npu_guard.results.findings import Dim

if TYPE_CHECKING:
    from npu_guard.analysis.analyze import Analysis

_REGROUPING = OfKind("view")
_ANEW = frozenset(
    {"Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "DeformConv", "LSTM", "GRU", "RNN", "Attention", "Einsum", "OneHot",
     "GatherND", "Range", "Loop", "Scan", "If"}
)  # fmt: skip
"""Operators whose output has parts by position, whatever goes in."""
_LOOK_BACK = 8
"""Reshapes in a row through which a shape is recognized as one that was there before."""


class Roles:
    """The views of one model's values, worked out in one pass over its nodes once somebody asks about fewer axes than a map's."""

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis
        self._carried: dict[Value, View] | None = None

    @functools.cached_property
    def has_channels_last(self) -> bool:
        """Whether some operator of the model takes maps with channels last."""
        model = self.analysis.model
        return not LAYOUTS.isdisjoint(model.opsets) and any(is_channels_last(node) for node in model.graph.walk())

    @property
    def carried(self) -> Mapping[Value, View]:
        """Views of those values that have others than their position says."""
        if self._carried is None:
            from npu_guard.analysis.wanted_views import asked_views  # few models need it

            asked = asked_views(self.analysis, self.has_channels_last)
            self._carried = {value: view for value, view in asked.items() if value.producer is None}
            for node in self.analysis.model.graph.walk():
                self._carry(node, asked)
        return self._carried

    def carried_view(self, value: Value) -> View | None:
        """The view of a value of known rank, None where its parts are by position."""
        if value.shape is None or (len(value.shape) >= MAP_RANK and not self.has_channels_last):
            return None
        return self.carried.get(value)

    def view(self, value: Value) -> View:
        """Where the axes of a value of known rank lie."""
        return self.carried_view(value) or by_position(value)

    def is_flat_tokens(self, value: Value) -> bool:
        """Whether `[N,C]` is the tokens `[1,N,C]` without their batch of 1, as simplifiers leave them for a Gemm."""
        if value.shape is None or len(value.shape) != 2 or value.shape[0] == 1:
            return False
        return self.view(value).axes[0] > 0

    def moved(self, node: Node) -> Iterator[tuple[Value, int, int]]:
        """Operands of a broadcasting operator with the axis of theirs that lies along one of another part, and where it lies."""
        out = node.output
        rank = len(out.shape or ())
        if rank >= MAP_RANK and not self.has_channels_last and node.op_type != "Einsum":
            for value in node.inputs:  # no generator, as this runs once for each Add of a model
                if value is not None and value.shape is not None and len(value.shape) != rank:
                    break
            else:
                return
        from npu_guard.analysis.wanted_views import INDICES, places

        for value, along in places(node):
            if along == tuple(range(rank)) and self.carried_view(value) is None and self.carried_view(out) is None:
                continue
            if value.dtype in INDICES or self.analysis.is_constant(value):
                continue
            here, there = self.view(value), self.view(out)
            for axis, extent in enumerate(value.shape or ()):
                to = there.axes[along[axis]]
                if extent != 1 and role(here.axes[axis]) != role(to):
                    yield value, axis, to

    def _carry(self, node: Node, asked: Mapping[Value, View]) -> None:
        """Note what the node's outputs have of the parts that went in."""
        assert self._carried is not None
        for output in node.outputs:
            if output is None or output.shape is None or output in self.analysis.static:
                continue
            if len(output.shape) >= MAP_RANK and not self.has_channels_last:
                continue
            view = self._derived(node, output, output.shape, asked)
            if view is not None and view != by_position(output) and any(d != 1 for d in output.shape):
                self._carried[output] = view

    def _derived(self, node: Node, output: Value, dims: tuple[Dim, ...], asked: Mapping[Value, View]) -> View | None:
        """The view that follows from the inputs, None where the output has parts by position."""
        if is_channels_last(node):
            return channels_last(len(dims)) if len(dims) > 2 else None
        x = node.input(0)
        if x is not None and x.shape is not None:
            if node.kind == "reduction":
                return self._reduced(node, x, dims)
            if node.op_type == "Transpose" and not node.domain:
                return asked.get(output) or self._transposed(node, x)
            if _REGROUPING.get(node.op_type) and not node.domain:
                return asked.get(output) or self._regrouped(node, x, dims)
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
        from npu_guard.analysis.wanted_views import keeps_places

        view = self.view(best)
        return view if view.rises or keeps_places(node) or node.kind == "product" else None

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
        return None if view.rank > MAP_RANK else view.without(axes)

    def _transposed(self, node: Node, x: Value) -> View | None:
        """A Transpose that takes a map back into the order of its axes leaves them there; any other keeps the layout it finds."""
        view = self.carried_view(x)
        perm = node.attributes.get("perm") or tuple(reversed(range(len(x.shape or ()))))
        if view is None or len(perm) != len(view.axes):
            return None
        return None if not view.rises and View(tuple(view.axes[a] for a in perm), view.rank).rises else view

    def _regrouped(self, node: Node, x: Value, dims: tuple[Dim, ...]) -> View | None:
        """What a Reshape leaves of the parts: all where only axes of extent 1 come and go."""
        assert x.shape is not None
        exact = node.op_type in ("Squeeze", "Unsqueeze")
        source: Value | None = x
        for _ in range(_LOOK_BACK):
            if source is None or source.shape is None:
                return None
            if same_extents(source.shape, dims, exact and source is x):
                view = self.view(source)
                if len(dims) > view.rank or view.rank > MAP_RANK or (len(dims) == view.rank and not view.last):
                    return None
                return embedded(view, source.shape, dims)
            before = source.producer
            if before is None or before.op_type not in _REGROUPING or before.domain or source in self.analysis.static:
                return None
            source = before.input(0)
        return None

    def _summed(self, node: Node, x: Value) -> View | None:
        """Einsum over one operand: axes stay that have a label in the result. A product of elements has those of an operand."""
        if (terms := einsum.elementwise(node)) is not None:
            whole = (v for v, labels in zip(node.inputs, terms[0], strict=False) if v is not None and labels == terms[1])
            return next((view for v in whole if (view := self.carried_view(v)) is not None), None)
        axes = einsum.summed(node)
        return None if axes is None or x.shape is None or max(axes) >= len(x.shape) else self._without(x, set(axes))
