"""Regions of a model in which feature maps are tokens: where they begin and end, and what stands in the way.

A region begins where a map is reshaped or transposed (or at an input [B, N, C]) and ends where the map is back in
[B, C, H, W] (or at an output). Inside, every tensor is a view of a map, and every operator is one on maps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec import Struct, field

from npu_guard.analysis.layout import RUNNING
from npu_guard.analysis.rearrangement import collapses_to_vector, rearrangement
from npu_guard.base.errors import Undecidable
from npu_guard.base.text import short
from npu_guard.checking.context import Context
from npu_guard.graph.graph import Node, Value
from npu_guard.graph.handlers import Handlers, OfKind
from npu_guard.rewriting.map_writer import Map, Writer, static_shape
from npu_guard.rewriting.substitution import Refused
from npu_guard.rewriting.tokens import attention, operators, slices
from npu_guard.rewriting.tokens.operators import Step
from npu_guard.rewriting.views import View, moves, size

Translate = Callable[[Step], list[Map]]
_REDUCTIONS = OfKind("reduction", without={"ArgMax ArgMin": "they give positions, not maps"})
SPOKEN_OF = OfKind("reduction", also="MatMul Attention Gemm LayerNormalization", without=_REDUCTIONS.without)
"""Operators beside rearrangements that rules speak about on tokens."""
OPERATORS: Handlers[Translate] = Handlers(
    {
        "unary": operators.elementwise, "broadcasting": operators.elementwise, "reduction": operators.reduction,
        "view": operators.relabel,
    },
    {
        "Transpose": operators.relabel,
        "LayerNormalization": operators.normalization,
        "BatchNormalization": operators.batch_normalization,
        "Dropout": operators.refused_dropout,
        "Gemm": operators.gemm,
        "MatMul": attention.matmul,
        "Softmax": attention.softmax,
        "Attention": attention.attention,
        "Split": slices.split,
        "Slice": slices.slice_,
        "Gather": slices.gather,
        "Concat": slices.concat,
    },
    {
        "CastLike": "its second input is no operand",
        **_REDUCTIONS.without,
        "GroupNormalization InstanceNormalization LRN LpNormalization MeanVarianceNormalization RMSNormalization"
        " SimplifiedLayerNormalization": "on tokens they are rare; written out by their definition they are known",
        "LogSoftmax Hardmax": "no attention has them",
        "LinearAttention": "no exporter writes it yet",
        "Einsum MatMulInteger QLinearMatMul": "their operands are not laid out here",
    },
    covers=("normalization", "softmax", "attention", "product"),
)  # fmt: skip
"""Operators that are known on tokens."""


class Region(Struct, eq=False):
    """Nodes that hang together by tensors that are no maps."""

    ctx: Context
    nodes: list[Node] = field(default_factory=list)
    exits: list[Value] = field(default_factory=list)
    """Values that the rest of the model reads, or that are its outputs."""
    inner: dict[Value, Map] = field(default_factory=dict)
    """Tensors that are no maps themselves; only their views mean anything before the rewrite."""
    shapes: list[Node] = field(default_factory=list)
    """Shape operators that read a tensor of the region and answer for the rest of the model."""
    blocked: tuple[Node, str] | None = None
    """The first node that cannot be translated, with the reason."""
    edges: int = 0
    """Operators that have to rearrange inputs and outputs of the model, which must keep their form."""

    @property
    def products(self) -> list[Node]:
        """Nodes that multiply two activations which stand for maps."""
        known = [*self.nodes, *([self.blocked[0]] if self.blocked else [])]
        return [n for n in known if n.op_type in ("MatMul", "Attention") and is_product(n, self.ctx)]

    @property
    def root(self) -> Node:
        """The node that the region is named after: its first product, else its first node."""
        return next(iter(self.products or self.nodes), self.blocked[0] if self.blocked else self.nodes[0])


def is_product(node: Node, ctx: Context) -> bool:
    """Whether a node multiplies activations with more axes than weights have."""
    active = [v for v in node.inputs[:3] if v is not None and not ctx.is_constant(v)]
    return len(active) > 1 and all(v.shape is None or len(v.shape) > 2 for v in active)


class Maps(Mapping[Value, Map]):
    """What a value is as a map: found in the region, or a map, or an input [B, N, C]."""

    def __init__(self, ctx: Context, inner: dict[Value, Map], writer: Writer) -> None:
        self.ctx = ctx
        self.inner = inner
        self.writer = writer
        self._entries: dict[Value, Map] = {}

    def __getitem__(self, value: Value) -> Map:
        if value in self.inner:
            return self.inner[value]
        if value not in self._entries:
            found = self._entry(value)
            if found is None:
                raise KeyError(value)
            self._entries[value] = found
        return self._entries[value]

    def __iter__(self) -> Iterator[Value]:
        return iter(self.inner)

    def __len__(self) -> int:
        return len(self.inner)

    def _entry(self, value: Value) -> Map | None:
        if self.ctx.is_constant(value) or value.initializer is not None or value.graph.parent is not None:
            return None
        try:
            shape = static_shape(value)
        except Refused:
            return None
        if len(shape) == 4:
            return Map(View.of_map(shape), (value,), value.dtype)
        if not is_token_input(value):
            return None
        view = View.of_tokens(shape)
        return Map(view, (self.writer.rearranged(value, moves(view.axes, view.stored)),), value.dtype)


def is_token_input(value: Value) -> bool:
    """Whether it is an input [B, N, C] of the model."""
    return value.is_input and value.initializer is None and value.shape is not None and len(value.shape) == 3


def translated(node: Node, ctx: Context, maps: Maps) -> Iterator[tuple[Value, Map]]:
    """Outputs of a node as maps. Raises Refused."""
    if node in ctx.analysis.elided:
        source = node.inputs[0]
        assert source is not None
        if source not in maps:  # a constant that takes its type from tokens, say
            raise Refused(f"{node.op} {short(node.label)!r} passes on what is no map")
        yield node.output, maps[source]
        return
    translate = OPERATORS.get(node.op_type) if not node.domain else None
    if translate is None:
        raise Refused(f"{node.op} {short(node.label)!r} is not known on tokens")
    try:
        results = translate(Step(node, ctx, maps.writer, maps))
    except Undecidable as gap:
        raise Refused(gap.reason) from None
    yield from zip([o for o in node.outputs if o is not None], results, strict=False)


def regions(ctx: Context) -> Mapping[Node, Region]:
    """Regions by the node that they are named after; found once for each context."""
    return ctx.analysis_of(_find)


def _find(ctx: Context) -> Mapping[Node, Region]:
    growing = _Growing(ctx)
    for node in ctx.analysis.model.graph.walk():
        if node.output not in ctx.analysis.static:
            growing.take(node)
    for region in growing.regions:
        _close(region)
    return {region.root: region for region in growing.regions}


class _Growing:
    """The regions of a model while its nodes are taken up in order."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.maps = Maps(ctx, {}, Writer(ctx))
        self.regions: dict[Region, None] = {}
        self.home: dict[Value, Region] = {}
        """The region that each tensor is in."""
        self.lost: set[Value] = set()
        """Values made from tokens that could not be followed: of no region, and no maps either, until an operator wants maps."""

    def take(self, node: Node) -> None:
        """Add the node to the regions that it reads from, as one, or begin one; where that is Refused, it blocks them."""
        operands = [v for v in node.inputs if v is not None and not self.ctx.is_constant(v)]
        joined = list(dict.fromkeys(self.home[v] for v in operands if v in self.home))
        if not self.lost.isdisjoint(operands):
            if node.op_type in OPERATORS or node in self.ctx.analysis.elided:
                self._lose(node)
            for region in joined:
                region.blocked = region.blocked or (node, "")
            return
        if not joined:
            if not self._begins(node, operands):
                return
            joined = [Region(self.ctx)]
        region = self._merged(joined)
        try:
            if node.graph.parent is not None:
                raise Refused(f"{short(node.label)!r} inside a subgraph reads it")
            results = list(translated(node, self.ctx, self.maps))
        except Refused as refusal:
            if region.nodes or node.op_type in SPOKEN_OF:
                region.blocked = region.blocked or (node, refusal.reason)
                self.regions[region] = None
            self._lose(node)
            return
        self.regions[region] = None
        region.nodes.append(node)
        for value, result in results:
            if result.view.is_map and not result.is_scores:
                region.exits.append(value)
            else:
                self.maps.inner[value] = region.inner[value] = result
                self.home[value] = region

    def _lose(self, node: Node) -> None:
        self.lost.update(o for o in node.outputs if o is not None)

    def _begins(self, node: Node, operands: Sequence[Value]) -> bool:
        """Whether a map becomes tokens at the node, or tokens come in from outside."""
        if node.domain or node in self.ctx.analysis.elided:
            return False
        from_map = node.op_type in RUNNING and len(operands) == 1 and len(operands[0].shape or ()) == 4
        return from_map or any(is_token_input(v) for v in operands)

    def _merged(self, regions: Sequence[Region]) -> Region:
        """One region out of several that a node joins."""
        first, *others = regions
        for other in others:
            first.nodes += other.nodes
            first.exits += other.exits
            first.inner |= other.inner
            first.blocked = first.blocked or other.blocked
            self.home.update(dict.fromkeys(other.inner, first))
            self.regions.pop(other, None)
        if others:
            first.nodes.sort(key=self.ctx.order.__getitem__)
        return first


def _close(region: Region) -> None:
    """What has to be provided to the rest of the model, and what that costs."""
    inside = set(region.nodes)
    region.shapes = list(dict.fromkeys(n for v in region.inner for n in v.consumers if _answers(n, region, inside)))
    region.exits = [v for v in region.exits if v.is_output or any(c not in inside for c in v.consumers)]
    for value, found in region.inner.items():
        if not value.is_output:
            continue
        if found.is_scores:
            reason = f"the attention weights {short(value.name)!r} are an output of the model"
            region.blocked = region.blocked or (region.nodes[-1], reason)
        region.exits.append(value)
        before, after = tuple(map(size, found.view.stored)), found.view.shape
        if not collapses_to_vector(before, after) and rearrangement("Reshape", before, after) is not None:
            region.edges += _steps(found.view, out=True)
    entries = {v for n in region.nodes for v in n.inputs if v is not None and is_token_input(v)}
    region.edges += sum(_steps(View.of_tokens(static_shape(v)), out=False) for v in entries)


def _answers(node: Node, region: Region, inside: set[Node]) -> bool:
    """Whether what a Shape operator says is needed outside of the region."""
    if node.op_type not in ("Shape", "Size") or node.domain or node.graph.parent is not None:
        return False
    stack = [node]
    while stack:
        current = stack.pop()
        for value in current.outputs:
            for reader in value.consumers if value is not None else ():
                if reader.output in region.ctx.analysis.static:
                    stack.append(reader)
                elif reader not in inside:
                    return True
    return node.output.is_output


def _steps(view: View, out: bool) -> int:
    """Findings that a rearrangement at an edge leaves."""
    return max(1, (moves(view.stored, view.axes) if out else moves(view.axes, view.stored)).steps)
