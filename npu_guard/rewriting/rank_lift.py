"""Regions of tensors of lower rank, raised to maps [B, C, H, W] by axes of extent 1.

A one-dimensional network gains a row; vectors behind a pool gain a row and a column. Each operator in a region says how it
looks on maps. What enters or leaves by a Reshape, Squeeze or Unsqueeze of just such axes is joined without it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from npu_guard.analysis.layout import RUNNING
from npu_guard.checking.context import Context
from npu_guard.graph.graph import Node, Value
from npu_guard.graph.handlers import Handlers, OfKind
from npu_guard.rewriting.node_numbers import numbers, padded, passes, reduced, sliced
from npu_guard.rewriting.substitution import Array, Builder, Match

UNARY = OfKind("unary", without={"CastLike": "its second input is not translated"})
"""Operators on each element of their first input."""
Form = Literal["each", "operands", "reduction", "along", "positions"]
FORMS: Handlers[Form] = Handlers(
    {"unary": "each", "global pooling": "each", "broadcasting": "operands", "reduction": "reduction", "softmax": "along"},
    {
        "BatchNormalization": "each", "InstanceNormalization": "each", "GroupNormalization": "each", "Concat": "along",
        "Split": "along", "Slice": "positions", "Pad": "positions",
    },
    {
        **UNARY.without,
        "ArgMax ArgMin": "they give positions, not maps",
        "LRN LayerNormalization LpNormalization MeanVarianceNormalization RMSNormalization SimplifiedLayerNormalization":
            "their axes are not translated; networks over sequences have them on tokens",
    },
    covers=("normalization",),
)  # fmt: skip
"""How an operator looks on maps: as on tensors of any rank, with all operands as maps, or with its axes translated."""


class Lifting(Struct, frozen=True):
    """Tensors of rank `rank` become maps, which have axes of extent 1 at `axes` in addition."""

    rank: int
    axes: tuple[int, ...]

    def axis(self, axis: int) -> int:
        """Where an axis of the tensor is in the map."""
        return [a for a in range(4) if a not in self.axes][axis % self.rank]

    def missing(self, rank: int) -> tuple[int, ...]:
        """Axes that a tensor of this rank lacks to be a map, or to be broadcast against one."""
        if rank >= self.rank:
            return self.axes[rank - self.rank :]
        return tuple(a - self.rank + rank for a in self.axes) if rank else ()

    def as_map(self, shape: Sequence[int]) -> tuple[int, ...] | None:
        """The map's shape, None for what is neither a tensor of the lifting, nor its map, nor between them."""
        if not self.rank <= len(shape) <= 4:
            return None
        full = list(shape)
        for axis in self.missing(len(shape)):
            full.insert(axis, 1)
        return tuple(full) if all(full[a] == 1 for a in self.axes) else None

    def constant(self, array: Array) -> Array:
        """A constant that is broadcast against tensors, as one that is broadcast against maps."""
        shape = list(array.shape)
        for axis in self.missing(array.ndim):
            shape.insert(axis, 1)
        return array.reshape(shape)


class Region(Struct, frozen=True):
    """Nodes that belong together, in order, values that are needed outside, and the node that speaks for all."""

    nodes: tuple[Node, ...]
    exits: tuple[Value, ...]
    speaker: Node | None
    inside: frozenset[Node]


def _no_regions(_: Context) -> dict[Node, Region]:
    """Regions by their nodes, before any is found."""
    return {}


class Lifter:
    """Finds the regions of one lifting. `special` has operators that only this lifting knows: when, and how.

    The first of the operators in `speakers` speaks for its region.
    """

    def __init__(
        self, lifting: Lifting, special: Mapping[str, tuple[Callable[[Node, Context], bool], Emit]], speakers: Collection[str]
    ) -> None:
        self.lifting = lifting
        self.speakers = speakers
        self.special = special

    def region(self, seed: Node, ctx: Context) -> Region:
        """All nodes that tensors of the lifting join to the seed."""
        found = ctx.analysis_of(_no_regions, self)
        if seed not in found:
            nodes, stack = {seed}, [seed]
            seen: set[Value] = set()
            while stack:
                for other in self._beside(stack.pop(), ctx, seen):
                    if other not in nodes and self.can(other, ctx):
                        nodes.add(other)
                        stack.append(other)
            ordered = tuple(sorted(nodes, key=ctx.order.__getitem__))
            made = [v for n in ordered for v in n.outputs if v is not None]
            exits = tuple(v for v in made if v.is_output or any(c not in nodes for c in v.consumers))
            speaker = next((n for n in ordered if n.op_type in self.speakers), None)
            found.update(dict.fromkeys(ordered, Region(ordered, exits, speaker, frozenset(nodes))))
        return found[seed]

    def can(self, node: Node, ctx: Context) -> bool:
        """Whether the node has a form on maps."""
        if node.domain or node.graph.parent is not None or not node.inputs or ctx.is_constant(node.output):
            return False
        form = FORMS.get(node.op_type)
        if self.is_view(node) or (form == "reduction" and self.ends(node, ctx)):
            return True
        if not all(self.holds(v) for v in node.outputs):
            return False
        if node.op_type in self.special and self.special[node.op_type][0](node, ctx):
            return True
        if form != "reduction" and (self.skips(node, ctx) or node.op_type == "Split"):
            form = "each"
        return form is not None and _HAS_FORM[form](self, node, ctx)

    def _each(self, node: Node, ctx: Context) -> bool:
        return self.holds(node.inputs[0]) and not node.attr("training_mode", 0)

    def _reduction(self, node: Node, ctx: Context) -> bool:
        return bool(reduced(node, ctx)) and (self.holds(node.inputs[0]) or self.makes(node, ctx))

    def _along(self, node: Node, ctx: Context) -> bool:
        return all(self.holds(v) for v in node.inputs)

    def _positions(self, node: Node, ctx: Context) -> bool:
        stated = sliced(node, ctx) if node.op_type == "Slice" else padded(node, ctx)
        return self.holds(node.inputs[0]) and stated is not None

    def _operands(self, node: Node, ctx: Context) -> bool:
        """Tensors of the lifting, and constants of fewer axes; not by the rules of operator sets before 7."""
        if "broadcast" in node.attributes:
            return False
        small = (v is not None and ctx.is_constant(v) and len(v.shape or ()) < self.lifting.rank for v in node.inputs)
        return all(v is None or self.holds(v) or fits for v, fits in zip(node.inputs, small, strict=True))

    def holds(self, value: Value | None) -> bool:
        """Whether the value is a tensor of the lifting."""
        return value is not None and value.shape is not None and len(value.shape) == self.lifting.rank

    def makes(self, node: Node, ctx: Context) -> bool:
        """Whether a reduction makes a tensor of the lifting out of a map."""
        x = node.inputs[0]
        from_map = x is not None and x.shape is not None and len(x.shape) == 4
        return from_map and reduced(node, ctx) == self.lifting.axes and not node.attr("keepdims", 1)

    def ends(self, node: Node, ctx: Context) -> bool:
        """Whether a reduction over all of space drops the axes of a tensor that has just one."""
        whole = self.lifting.rank == 3 and self.holds(node.inputs[0]) and reduced(node, ctx) == (2,)
        return whole and not node.attr("keepdims", 1)

    def skips(self, node: Node, ctx: Context) -> bool:
        """Whether the node hands its input on, at most spread as its readers would by themselves."""
        spreads = node.op_type == "Expand" and node in ctx.analysis.elided
        return passes(node, ctx) or (spreads and self.holds(node.inputs[0]) and not ctx.is_constant(node.output))

    def is_view(self, node: Node) -> bool:
        """Whether the node adds or drops nothing but axes in which tensor and map differ."""
        before, after = numbers(node.input(0)), numbers(node.output)
        if before is None or after is None or len(before) == len(after) or node.op_type not in RUNNING:
            return False
        return self.lifting.as_map(before) is not None and self.lifting.as_map(before) == self.lifting.as_map(after)

    def rewrite(self, match: Match, build: Builder) -> dict[Value, str]:
        """Emit the match's region on maps; its facts are the region and the context. The result has a name for each exit."""
        region, ctx = match.facts
        raised = Raised(self, ctx, build)
        for node in region.nodes:
            raised.add(node)
        return raised.names(region.exits)

    def _beside(self, node: Node, ctx: Context, seen: set[Value]) -> Iterator[Node]:
        """Producers and readers of the tensors at a node, of each tensor once: thousands may read the same."""
        for value in (*node.inputs, *node.outputs):
            if value is None or value in seen:
                continue
            seen.add(value)
            if value.shape is None or not self.lifting.rank <= len(value.shape) < 4 or ctx.is_constant(value):
                continue
            if value.producer is not None:
                yield value.producer
            yield from value.consumers


_HAS_FORM: Mapping[Form, Callable[[Lifter, Node, Context], bool]] = {
    "each": Lifter._each,
    "operands": Lifter._operands,
    "reduction": Lifter._reduction,
    "along": Lifter._along,
    "positions": Lifter._positions,
}
"""Whether a node has its form on maps, where its outputs are tensors of the lifting."""


class Raised:
    """A region while it is rewritten: the maps that stand for its tensors."""

    def __init__(self, lifter: Lifter, ctx: Context, build: Builder) -> None:
        self.lifter = lifter
        self.ctx = ctx
        self.build = build
        self.maps: dict[Value, str] = {}
        """Names of maps by the tensors that they stand for."""

    def add(self, node: Node) -> None:
        """Emit the node on maps."""
        self.build.origin = node
        self.maps.update((v, name) for v, name in zip(node.outputs, self._emit(node), strict=False) if v is not None)

    def names(self, exits: Sequence[Value]) -> dict[Value, str]:
        """What takes the place of each exit, with the axes that its readers expect."""
        made = {output for node in self.build.nodes for output in node.output}
        result: dict[Value, str] = {}
        for value in exits:
            assert value.producer is not None
            self.build.origin, name = value.producer, self.maps[value]
            rank = len(value.shape or ())
            if axes := self.lifter.lifting.missing(rank) if rank >= self.lifter.lifting.rank else tuple(range(rank, 4)):
                name = self.build.squeeze(name, *axes)
            elif name not in made or name in result.values():
                name = self.build.op("Identity", name)  # one map, two names in the model
            result[value] = name
        return result

    def map(self, value: Value | None) -> str | None:
        """Name of the map that stands for an operand."""
        if value is None or value in self.maps:
            return None if value is None else self.maps[value]
        axes = self.lifter.lifting.missing(len(value.shape or ()))
        if not axes:
            name = value.name
        elif self.ctx.is_constant(value):
            name = self.build.constant(self.lifter.lifting.constant(self.build.weight(value)))
        else:
            name = self.build.unsqueeze(value, *axes)
        self.maps[value] = name
        return name

    def _emit(self, node: Node) -> Sequence[str]:
        lifting, build = self.lifter.lifting, self.build
        if self.lifter.is_view(node) or self.lifter.skips(node, self.ctx):
            return [self.map(node.inputs[0]) or ""]
        special = self.lifter.special.get(node.op_type)
        if special is not None and special[0](node, self.ctx):
            return special[1](node, self)
        form = FORMS.get(node.op_type)
        if form == "reduction":
            axes = reduced(node, self.ctx) or ()
            if self.lifter.makes(node, self.ctx):
                return [build.reduce(node.op_type, node.inputs[0] or "", axes)]
            found = {lifting.axis(a) for a in axes}
            return [build.reduce(node.op_type, self.map(node.inputs[0]) or "", sorted(found | ({2} if 3 in found else set())))]
        if form == "each":
            return build.like(node, self.map(node.inputs[0]), *node.inputs[1:])
        if form == "along":
            axis = lifting.axis(node.attr("axis", 0))
            mapped = len(node.inputs) if node.op_type == "Concat" else 1  # what else a Split has are sizes
            return build.like(node, *map(self.map, node.inputs[:mapped]), *node.inputs[mapped:], axis=axis)
        if node.op_type == "Slice":
            places = [lifting.axis(a) for a in sliced(node, self.ctx) or ()]
            if len(node.inputs) == 1:
                return build.like(node, self.map(node.inputs[0]), axes=places)
            return build.like(node, self.map(node.inputs[0]), *node.inputs[1:3], build.ints(*places), *node.inputs[4:])
        if node.op_type == "Pad":
            sides = dict(zip(map(lifting.axis, range(lifting.rank)), padded(node, self.ctx) or (), strict=True))
            pads = [sides.get(axis, (0, 0))[end] for end in (0, 1) for axis in range(4)]
            if len(node.inputs) == 1:
                return build.like(node, self.map(node.inputs[0]), pads=pads)
            return build.like(node, self.map(node.inputs[0]), build.ints(*pads), *node.inputs[2:3])
        return build.like(node, *map(self.map, node.inputs))


Emit = Callable[[Node, Raised], Sequence[str]]
