"""Which view the readers of a value ask for: an operator with channels last of its data, broadcasting of what has fewer axes.

That counts where nothing else says where the axes lie: at an input of the model, and behind a Transpose or a Reshape, which then
brings a map into another layout and rearranges nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import onnx

from npu_guard.analysis import einsum
from npu_guard.analysis.views import MAP_RANK, View, by_place, by_position, channels_last, embedded, same_extents
from npu_guard.graph.graph import Node, Value
from npu_guard.graph.op_words import Kind
from npu_guard.graph.plain import is_channels_last

if TYPE_CHECKING:
    from npu_guard.analysis.analyze import Analysis

INDICES = frozenset({onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL})
"""Element types of positions and masks, which are no maps."""
_SAME_PLACE: frozenset[Kind] = frozenset(
    {"unary", "broadcasting", "gate", "identity", "quantization", "softmax", "data mover", "cumulative", "reduction"}
)
_OTHER_PLACE = frozenset({"Transpose", "DepthToSpace", "SpaceToDepth", "Col2Im", "GatherND"})
"""Data movers that do not leave each axis where it was, whatever layout the map has."""
_ALSO_SAME_PLACE = frozenset({"Resize", "Upsample", "LayerNormalization"})


def keeps_places(node: Node) -> bool:
    """Whether the axes of what comes out lie where those of equal number that went in do, in whichever layout."""
    if node.op_type in _ALSO_SAME_PLACE:
        return not node.domain
    return node.kind in _SAME_PLACE and node.op_type not in _OTHER_PLACE


def places(node: Node) -> Iterator[tuple[Value, tuple[int, ...]]]:
    """Operands of a broadcasting operator, each with the axes of the output along which its own lie.

    Broadcasting puts the axes that an operand lacks in front; an Einsum that is a product of elements names them.
    """
    out = node.output
    if out.shape is None:
        return
    labels = einsum.elementwise(node)
    for index, value in enumerate(node.inputs):
        if value is None or value.shape is None or len(value.shape) > len(out.shape):
            continue
        if node.domain and node.operator.role(index) != "data":
            continue  # a scale
        if labels is None:
            yield value, tuple(range(len(out.shape) - len(value.shape), len(out.shape)))
        elif len(labels[0][index]) == len(value.shape):
            yield value, tuple(labels[1].index(label) for label in labels[0][index])


class _Asked:
    """One pass over the nodes from the last to the first."""

    def __init__(self, analysis: Analysis, has_channels_last: bool) -> None:
        self.analysis = analysis
        self.views: dict[Value, View] = _lying_last(analysis) if has_channels_last else {}
        self.different: set[Value] = set()
        """Values of which readers ask for different views."""
        self.used: set[Value] = set()
        """Values that somebody reads by their own axes."""
        for node in reversed(list(analysis.model.graph.walk())):
            if node.output not in analysis.static:
                self._ask(node)

    def _ask(self, node: Node) -> None:
        out = node.output
        if is_channels_last(node):
            for value, formal in zip(node.inputs, node.operator.inputs, strict=False):
                if value is not None and value.shape is not None and formal.role == "data" and len(value.shape) > 2:
                    self._say(value, channels_last(len(value.shape)))
        elif out.shape is None:
            self._use(node)
        elif node.kind == "broadcasting" or node.op_type == "Expand" or einsum.elementwise(node) is not None:
            self._lay(node)
        elif node.kind == "view":
            self._regroup(node)
        elif keeps_places(node):
            for value in node.inputs:
                if value is not None and value.shape is not None and len(value.shape) == len(out.shape):
                    self._hand_on(out, value)
        elif node.op_type != "Transpose":
            self._use(node)

    def _lay(self, node: Node) -> None:
        """A broadcasting operator lays operands of fewer axes along those of its output; of the others it tells what is known."""
        out = node.output
        assert out.shape is not None
        whole = self.views.get(out) or by_position(out)
        for value, axes in places(node):
            if len(axes) < len(out.shape):
                self._say(value, View(tuple(whole.axes[axis] for axis in axes), whole.rank, whole.last))
            else:
                self._hand_on(out, value)

    def _regroup(self, node: Node) -> None:
        """A Reshape asks for the parts of what it gives where only axes of extent 1 come."""
        x, out = node.inputs[0] if node.inputs else None, node.output
        if x is None or x.shape is None or out.shape is None:
            return
        wanted = self.views.get(out) or (by_place(len(out.shape)) if len(out.shape) >= MAP_RANK else None)
        if wanted is not None and len(x.shape) < len(out.shape) and same_extents(x.shape, out.shape, node.op_type == "Unsqueeze"):
            view = embedded(wanted, out.shape, x.shape)
            if view is not None:
                self._say(x, view)
                return
        self.used.add(x)

    def _hand_on(self, out: Value, value: Value) -> None:
        if out in self.used:
            self.used.add(value)
        if out in self.different:
            self.different.add(value)
        if out in self.views:
            self._say(value, self.views[out])

    def _use(self, node: Node) -> None:
        self.used.update(v for v in node.inputs if v is not None)

    def _say(self, value: Value, view: View) -> None:
        if value.dtype in INDICES or self.analysis.is_constant(value):
            return
        if self.views.setdefault(value, view) != view:
            self.different.add(value)


def _lying_last(analysis: Analysis) -> dict[Value, View]:
    """What operators with channels last give, and what follows from it with the same axes: what joins it lies so too."""
    found: dict[Value, View] = {}
    for node in analysis.model.graph.walk():
        out = node.output
        if out.shape is None or len(out.shape) < 3 or out in analysis.static:
            continue
        same = (v for v in node.inputs if v in found and v is not None and len(v.shape or ()) == len(out.shape))
        if is_channels_last(node) or (keeps_places(node) and any(same)):
            found[out] = channels_last(len(out.shape))
    return found


def asked_views(analysis: Analysis, has_channels_last: bool) -> Mapping[Value, View]:
    """Views of those values that have the one that their readers ask for: with channels last, and of inputs without a batch."""
    inputs = {v for v in analysis.model.graph.inputs if v.initializer is None and _lacks_batch(v)}
    if not has_channels_last and not inputs:
        return {}
    asked = _Asked(analysis, has_channels_last)
    free = inputs - asked.used
    return {
        value: view for value, view in asked.views.items() if value not in asked.different and (not view.rises or value in free)
    }


def _lacks_batch(value: Value) -> bool:
    """Whether a tensor of fewer axes than a map has no batch in front, as its first extent is not that of the model's maps."""
    shape = value.shape
    if not shape or len(shape) >= MAP_RANK or not isinstance(shape[0], int) or shape[0] == 1:
        return False
    maps = [v.shape[0] for v in value.graph.model.graph.inputs if v.shape is not None and len(v.shape) >= MAP_RANK]
    return bool(maps) and shape[0] not in maps
