"""The whole of a model, node by node: what rearranges, multiplies or reduces tensors of any axes is written on maps.

A node takes part where one of its tensors is no map, or where it is one that makes such tensors. Nodes that hang together
by tensors that are no maps are one region: it begins at maps (or where a tensor of other axes is brought into one), and ends so.
A node that has no form here stays, with the rearrangements before and behind it that it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct, field

from npu_guard.analysis.static import BROADCASTING
from npu_guard.base.errors import Undecidable
from npu_guard.base.text import short
from npu_guard.checking.context import Context
from npu_guard.graph.graph import Node, Value
from npu_guard.rewriting.maps import elementwise, matrices, norms, regroup, slices
from npu_guard.rewriting.maps.algebra import Maps
from npu_guard.rewriting.maps.edges import FLOATS, Tensors, written_back
from npu_guard.rewriting.maps.factors import Abilities
from npu_guard.rewriting.maps.program import Given, Program, shape_of
from npu_guard.rewriting.maps.step import Step
from npu_guard.rewriting.maps.tensors import Laid
from npu_guard.rewriting.substitution import Refused

Translate = Callable[[Step], list[Laid]]
BOOL = 9
_UNARY = (
    *("Relu", "Gelu", "Erf", "Sigmoid", "Tanh", "Exp", "Log", "Sqrt", "Neg", "Abs", "Clip", "LeakyRelu", "Elu", "Selu", "Celu"),
    *(
        "HardSigmoid",
        "HardSwish",
        "Swish",
        "Mish",
        "Softplus",
        "Softsign",
        "Reciprocal",
        "ThresholdedRelu",
        "Cast",
        "Floor",
        "Ceil",
    ),
    *("Round", "Sign", "Sin", "Cos", "Atan", "Not"),
)
_RELABEL = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose")
_REDUCTIONS = (
    *("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum"),
    *("ReduceLogSumExp", "ReduceProd"),
)
OPERATORS: Mapping[str, Translate] = {
    **dict.fromkeys(_RELABEL, regroup.relabel),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), regroup.blocks),
    "Expand": regroup.expand,
    "Tile": regroup.tile,
    **dict.fromkeys(_UNARY, elementwise.unary),
    **dict.fromkeys(sorted(BROADCASTING), elementwise.binary),
    "Add": elementwise.masked,
    "Where": elementwise.where,
    "IsNaN": elementwise.asks_nan,
    "BatchNormalization": elementwise.batch_normalization,
    **dict.fromkeys(_REDUCTIONS, norms.reduction),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), norms.pooled),
    **dict.fromkeys(("Softmax", "LogSoftmax"), norms.softmaxed),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"), norms.layer_normalization),
    "InstanceNormalization": norms.instance_normalization,
    "GroupNormalization": norms.group_normalization,
    "LpNormalization": norms.unit_length,
    "MatMul": matrices.matmul,
    "Gemm": matrices.gemm,
    "Einsum": matrices.einsum,
    "Attention": matrices.attention,
    "Conv": matrices.conv,
    "Slice": slices.slice_,
    "Split": slices.split,
    "Gather": slices.gather,
    "GatherND": slices.gather_nd,
    "Concat": slices.concat,
    "Pad": slices.pad,
}
"""Operators that have a form on maps."""
_NORMS = ("LayerNormalization", "RMSNormalization", "InstanceNormalization", "GroupNormalization", "LpNormalization")
STARTS = frozenset(
    {
        *(
            *_RELABEL,
            "DepthToSpace",
            "SpaceToDepth",
            "Expand",
            "Tile",
            "MatMul",
            "Gemm",
            "Einsum",
            "Attention",
            "Gather",
            "GatherND",
            "Where",
        ),
        *(*_NORMS, "Softmax", "LogSoftmax", *_REDUCTIONS),
    }
)
"""Operators that begin a region also where all their tensors are maps: what a device may not take on them."""


_DTYPES = frozenset((*FLOATS, BOOL))


class Region(Struct, eq=False):
    """Nodes that hang together, and what they have to provide."""

    program: Program
    nodes: list[Node] = field(default_factory=list)
    maps: dict[Value, Given] = field(default_factory=dict)
    """Values that are maps themselves, and what takes their place."""
    exits: dict[Value, Given] = field(default_factory=dict)
    """Values that the rest of the model reads, or that are its outputs, and what takes their place."""
    shapes: list[Node] = field(default_factory=list)
    """Shape operators that read a tensor of the region and answer for the rest of the model."""
    refused: str = ""
    """Why a node of it, or behind it, has no form, where there is one."""
    stuck: bool = False
    """Whether that keeps the whole from being written."""


def abilities(ctx: Context, *, convolved: bool = True) -> Maps:
    """What is known beforehand of the device, as far as it helps to write what it takes."""

    def longest(op: str, *limits: str) -> int:
        return min((*ctx.bounds(op, "kernel", limits[0]), *ctx.bounds(op, "stride", limits[1])), default=32)

    def lacks(op: str) -> bool:
        found = ctx.profile.operator(op)
        return ctx.profile.unlisted is not None if found is None else found.status == "refused"

    can = Abilities(
        longest("Conv", "conv.kernel_max", "conv.stride_max"), ctx.limit("channels.multiple_of") or 1,
        transposed=not lacks("ConvTranspose"), unfolded=longest("ConvTranspose", "conv.kernel_max", "conv.stride_max"),
        convolved=convolved, rearranged=ctx.limit("layout.rearrange") is not False,
    )  # fmt: skip
    axes, opset = ctx.limit("reduce.axes"), ctx.analysis.model.opsets.get("", 0)
    program = Program(opset, sliced=lacks("Split"))
    lacking = frozenset(op for op in ("ReduceSum", "ReduceMin", "ReduceMax", "LogSoftmax", "Min") if lacks(op))
    reduced = None if axes is None else tuple(tuple(a) for a in axes)
    return Maps(program, can, reduced, ctx.limit("reduce.max_channels"), lacking)


class Lowered(Struct, frozen=True):
    """Regions of a model by their first nodes, and nodes outside of all that have no form, with the reason."""

    regions: Mapping[Node, Region]
    refused: Mapping[Node, str]


def lowered(ctx: Context, maps: Maps) -> Lowered:
    """The whole of a model."""
    lowering = _Lowering(ctx, maps)
    regions = lowering.found()
    inside = {n for r in regions for n in r.nodes}
    return Lowered({r.nodes[0]: r for r in regions}, {n: why for n, why in lowering.refused.items() if n not in inside})


def _starting(ctx: Context) -> set[Node]:
    """Nodes that begin a region: one of their tensors is no map, or they are such as devices take on few maps."""
    found = set()
    for node in ctx.analysis.model.graph.nodes:
        if node.op_type not in OPERATORS or node.output.dtype not in _DTYPES:
            continue
        sure = node.op_type in STARTS or (node.op_type == "Pad" and slices.pad_mode(node) != "constant")
        for value in (*node.inputs, *node.outputs):
            if value is None or (value.shape is not None and (sure or len(value.shape) == 4)) or ctx.is_constant(value):
                continue
            if value.shape is None:
                sure = False
                break
            sure = True
        if sure:
            found.add(node)
    return found


class _Lowering:
    def __init__(self, ctx: Context, maps: Maps) -> None:
        self.ctx = ctx
        self.maps = maps
        self.tensors = Tensors(ctx, maps)
        self.home: dict[Value, Region] = {}
        self.homes: dict[Region, list[Value]] = {}
        self.regions: dict[Region, None] = {}
        self.refused: dict[Node, str] = {}
        self.order = {n: i for i, n in enumerate(ctx.analysis.model.graph.nodes)}

    def found(self) -> list[Region]:
        """All regions, in order of their first nodes."""
        starting = self.ctx.analysis_of(_starting)
        for node in self.ctx.analysis.model.graph.nodes if starting else ():
            starts = node in starting
            if (starts or self.home) and node.output not in self.ctx.analysis.static:
                self._visit(node, starts)
        for region in self.regions:
            self._close(region)
        return sorted(self.regions, key=lambda r: self.order[r.nodes[0]])

    def _visit(self, node: Node, starts: bool) -> None:
        given = [v for v in node.inputs if v is not None and not self.ctx.is_constant(v)]
        joined = list(dict.fromkeys(self.home[v] for v in given if v in self.home))
        if node in self.ctx.analysis.elided:
            source = node.inputs[0]
            if source in self.home and source is not None:
                self._add(node, joined, [(node.output, self.tensors[source])])
            return
        if node.domain or not given or not (joined or starts):
            return
        translate = OPERATORS.get(node.op_type)
        count = len(self.maps.program.lines)
        self.maps.program.origin = node
        try:
            if translate is None:
                raise Refused(f"{node.op} {short(node.label)!r} has no form on maps")
            made = translate(Step(node, self.ctx, self.maps, self.tensors))
        except (Refused, Undecidable) as refusal:
            del self.maps.program.lines[count:]
            self.maps.program.forget()
            self.refused[node] = refusal.reason
            for region in joined:
                region.refused = region.refused or refusal.reason
            return
        outputs = [o for o in node.outputs if o is not None]
        for value, laid in zip(outputs, made, strict=False):
            if laid.shape != shape_of(value):
                raise AssertionError(f"{node.op} {node.label}: {laid.shape} for {shape_of(value)}")
        self._add(node, joined, list(zip(outputs, made, strict=False)))

    def _add(self, node: Node, joined: list[Region], made: list[tuple[Value, Laid]]) -> None:
        region = max(joined, key=lambda r: len(r.nodes)) if joined else Region(self.maps.program)
        for other in joined:
            if other is not region:
                self._join(region, other)
        region.nodes.append(node)
        self.regions[region] = None
        for value, laid in made:
            if laid.is_map:
                region.maps[value] = laid.name
            else:
                self.tensors.inner[value] = laid
                self.home[value] = region
                self.homes.setdefault(region, []).append(value)

    def _join(self, region: Region, other: Region) -> None:
        """Make the other a part of the region; of two, the larger one stays, so that a value changes its home seldom."""
        region.nodes += other.nodes
        region.maps |= other.maps
        region.refused = region.refused or other.refused
        values = self.homes.pop(other, [])
        self.home.update(dict.fromkeys(values, region))
        self.homes.setdefault(region, []).extend(values)
        self.regions.pop(other, None)

    def _close(self, region: Region) -> None:
        """What the rest of the model needs, brought into the form that it has there."""
        region.nodes.sort(key=self.order.__getitem__)
        inside = set(region.nodes)
        made = [v for n in region.nodes for v in n.outputs if v is not None]
        asking = dict.fromkeys(c for v in made for c in v.consumers if c.op_type in ("Shape", "Size") and not c.domain)
        region.shapes = [n for n in asking if self._is_asked(n, inside)]
        inside.update(asking)
        needed = [v for v in made if v.is_output or any(c not in inside for c in v.consumers)]
        exits: dict[Value, Given] = {}
        for value in needed:
            producer = value.producer
            assert producer is not None
            self.maps.program.origin = producer
            try:
                exits[value] = region.maps[value] if value in region.maps else written_back(self.maps, self.tensors[value])
            except Refused as refusal:
                region.refused, region.stuck = refusal.reason, True
                return
        region.exits = exits

    def _is_asked(self, node: Node, inside: set[Node]) -> bool:
        """Whether what a Shape operator says is needed outside of the region."""
        stack = [node]
        while stack:
            for value in stack.pop().outputs:
                for reader in value.consumers if value is not None else ():
                    if reader.output in self.ctx.analysis.static:
                        stack.append(reader)
                    elif reader not in inside:
                        return True
        return node.output.is_output
