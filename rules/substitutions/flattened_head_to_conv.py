from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx
from msgspec import Struct

from npu_guard.analysis.layout import RUNNING
from npu_guard.base.text import short
from npu_guard.rewriting.node_numbers import numbers, passes
from npu_guard.rewriting.rank_lift import Lifter, Lifting, Raised
from npu_guard.rewriting.scaled import scaled
from npu_guard.rewriting.substitution import Array, Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

LIMITS = {"layout.rearrange": False, "layout.vectors": False, "conv.kernel_max": 17}


class FlattenedHeadToConv(Substitution):
    """Matrix products behind a flatten become convolutions on the map that was flattened.

    A vector `[B,K]` is the map `[B,K,1,1]`, and y = alpha x W + beta b on the one is the 1x1 convolution with the weight
    alpha W^T and the bias beta b on the other. All that is joined to it by vectors goes along (activations, batch norm,
    sums, softmax), so the views that step down to vectors, and those that step up again as in squeeze-and-excitation, are
    gone. At an output of the model one view remains, behind which nothing is computed.

    Where a map of H x W > 1 positions is flattened, row (c, h, w) of the matrix is the tap (h, w) for channel c: a
    convolution with a kernel of H x W and no padding has one position, at which it sums the same products.
    """

    name = "flattened-head-to-conv"
    roots = ("Flatten", "Reshape", "Squeeze", "Gemm", "MatMul")
    limits = LIMITS
    good = (
        Example(
            """g (float[2,16,3,5] x) => (y)
            <float[10,16] w, float[10] b> { p = GlobalAveragePool(x)  v = Flatten(p)
              y = Gemm<transB = 1, alpha = 0.5, beta = 2.0>(v, w, b) }""",
            ops=("GlobalAveragePool", "Conv", "Squeeze"),
        ),
        Example(
            """g (float[1,16,3,5] x) => (y)
            <float[16,24] w, float[24] b, float[24] m, float[24] s = {1,2,3,4,5,6,7,8,1,2,3,4,5,6,7,8,1,2,3,4,5,6,7,8},
             float[24,8] u, float[1,8] c>
            { v = ReduceMean<axes = [2,3], keepdims = 0>(x)  h = MatMul(v, w)  a = Add(h, b)
              n = BatchNormalization(a, b, m, m, s)  r = Relu(n)  d = Dropout(r)  l = Gemm(d, u, c)
              y = Softmax<axis = -1>(l) }""",
            ops=("ReduceMean", "Conv", "Add", "BatchNormalization", "Relu", "Conv", "Softmax", "Squeeze"),
            opset=13,
            title="two layers behind a mean",
        ),
        Example(
            """g (float[1,16,3,5] x) => (y)
            <float[8,16] w, float[16,8] u, int64[2] flat = {1,16}, int64[4] map = {1,16,1,1}>
            { p = GlobalAveragePool(x)  v = Reshape(p, flat)  h = Gemm<transB = 1>(v, w)  r = Relu(h)  e = Gemm<transB = 1>(r, u)
              s = Sigmoid(e)  m = Reshape(s, map)  y = Mul(x, m) }""",
            ops=("GlobalAveragePool", "Conv", "Relu", "Conv", "Sigmoid", "Mul"),
            title="squeeze-and-excitation with linear layers",
        ),
        Example(
            """g (float[1,4,3,5] x) => (y)
            <float[60,8] w, float[8] b> { v = Flatten(x)  h = Gemm(v, w, b)  y = Relu(h) }""",
            ops=("Conv", "Relu", "Squeeze"),
            title="a map of 3 x 5 positions",
        ),
        Example(
            """g (float[2,4,3,5] x) => (y)
            <float[8,60] w, float[1,8] b, int64[2] flat = {2,-1}> { t = Transpose<perm = [0,2,3,1]>(x)  v = Reshape(t, flat)
              y = Gemm<transB = 1>(v, w, b) }""",
            ops=("Conv", "Squeeze"),
            title="flattened with the channels last",
        ),
    )
    bad = (
        Example(
            """g (float[1,16,1,1] x) => (y)
            <float[16,8] w, float[8] g> { v = Flatten(x)  h = Gemm(v, w)  y = LayerNormalization(h, g) }""",
            refused="LayerNormalization 'y' reads the vector 'h' and has no form on maps",
        ),
        Example(
            """g (float[1,4,3,5] x) => (y)
            <float[60,8] w> { v = Flatten(x)  r = Relu(v)  y = MatMul(r, w) }""",
            refused="Relu 'r' reads the flattened map",
        ),
        Example(
            """g (float[2,16,3,1] x) => (y)
            <float[16,8] w, int64[2] rows = {6,16}>
            { t = Transpose<perm = [0,2,3,1]>(x)  v = Reshape(t, rows)  y = MatMul(v, w) }""",
            refused="[6, 16] is no vector of each image",
        ),
    )

    def __init__(self) -> None:
        self._lifter = Lifter(Lifting(2, (2, 3)), dict.fromkeys(LAYERS, (_is_layer, self._as_conv)), self.roots)

    def match(self, node: Node, ctx: Context) -> Match | None:
        if not self._lifter.can(node, ctx):
            return None
        region = self._lifter.region(node, ctx)
        if node is not region.speaker:
            return None  # the first one speaks for all
        for value in region.exits:
            reader = next((r for r in ctx.analysis.readers(value) if r not in region.inside), None)
            if reader is not None and self._lifter.holds(value):
                name = short(reader.label)
                raise Refused(f"{reader.op} {name!r} reads the vector {short(value.name)!r} and has no form on maps")
        before: list[Node] = []
        for layer in region.nodes:
            vectors = (v for v in layer.inputs if v is not None and self._lifter.holds(v) and not ctx.is_constant(v))
            for flat in (self._flat(v, ctx) for v in vectors if v.producer not in region.inside):
                if flat is not None and layer.op_type not in LAYERS:
                    raise Refused(f"{layer.op} {short(layer.label)!r} reads the flattened map {short(flat.vector.name)!r}")
                before += flat.nodes if flat is not None else ()
        if all(self._lifter.is_view(n) or passes(n, ctx) for n in region.nodes) and all(map(self._lifter.holds, region.exits)):
            return None  # nothing is computed, and nothing steps back to maps
        return Match(self, node, (*dict.fromkeys(before), *region.nodes), region.exits, (region, ctx))

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._lifter.rewrite(match, build)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """Rows of the matrices in another order, which keeps every shape."""
        result = self._lifter.rewrite(match, build)
        for tensor in build.initializers:
            if len(tensor.dims) == 4:
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.roll(onnx.numpy_helper.to_array(tensor), 1, 0), tensor.name))
        return result

    def _flat(self, vector: Value, ctx: Context) -> _Flat | None:
        """As `_flattened`, once for all layers that read the vector."""
        known = ctx.analysis_of(_no_flats)
        if vector not in known:
            known[vector] = _flattened(vector, ctx)
        return known[vector]

    def _as_conv(self, node: Node, raised: Raised) -> Sequence[str]:
        """The layer as a convolution over the whole map that its vector was."""
        build, x = raised.build, node.inputs[0]
        assert x is not None
        assert node.inputs[1] is not None
        matrix = build.weight(node.inputs[1])
        matrix = matrix.T if node.attr("transB", 0) else matrix
        flat = None if x in raised.maps else self._flat(x, raised.ctx)
        weight = matrix.T[:, :, None, None] if flat is None else flat.kernel(matrix.T)
        bias = []
        if (given := node.input(2)) is not None:
            values = np.broadcast_to(build.weight(given).reshape(-1), weight.shape[:1])
            bias = [scaled(build, values, node.attr("beta", 1.0), matrix.dtype)]
        source = raised.map(x) if flat is None else flat.source
        return [
            build.op(
                "Conv",
                source,
                scaled(build, weight, node.attr("alpha", 1.0), matrix.dtype),
                *bias,
                kernel_shape=list(weight.shape[2:]),
            )
        ]


LAYERS = ("Gemm", "MatMul")
FAR = 64
"""Views through which a vector is followed back to the map that it was."""
_FLOATS = frozenset({1, 10, 11})


def _is_layer(node: Node, ctx: Context) -> bool:
    """Whether the node applies a constant matrix to vectors."""
    x, weight, bias = node.inputs[0], node.input(1), node.input(2)
    shapes = [numbers(v) for v in (x, weight)]
    if any(s is None or len(s) != 2 for s in shapes) or node.attr("transA", 0) or node.output.dtype not in _FLOATS:
        return False
    wide = numbers(bias) if bias is not None else ()
    # One number, or one for each output; a bias for each image would be no convolution's.
    plain = wide is not None and ctx.is_constant(bias) and math.prod(wide[:-1]) == 1
    return plain and not ctx.is_constant(x) and ctx.is_constant(weight)


class _Flat(Struct, frozen=True):
    """A vector and the map that it was; `order` is that of the Transpose between, `nodes` what nothing else needs."""

    vector: Value
    source: Value
    order: tuple[int, ...]
    nodes: tuple[Node, ...]

    def kernel(self, weight: Array) -> Array:
        """Rows of a matrix over the vector, as kernels over the map."""
        shape = numbers(self.source) or ()
        taps = weight.reshape([len(weight), *(shape[a] for a in self.order[1:])])
        return taps.transpose([0, *(self.order.index(a) for a in (1, 2, 3))])


def _no_flats(_: Context) -> dict[Value, _Flat | None]:
    """Flattened maps by their vectors, before any is looked for."""
    return {}


def _flattened(vector: Value, ctx: Context) -> _Flat | None:
    """The map of which a vector holds all values; None for a vector that no view made. Raises Refused where it is no map."""
    steps: list[Node] = []
    value, shape = vector, numbers(vector) or ()
    while (node := value.producer) is not None and (node.kind == "view" or passes(node, ctx)):
        steps.append(node)
        assert node.inputs[0] is not None
        value = node.inputs[0]
        if len(value.shape or ()) == 4 or len(steps) == FAR:
            break
    if not any(n.op_type in RUNNING for n in steps):
        return None
    found = numbers(value) or ()
    if len(found) != 4 or found[0] != shape[0]:
        raise Refused(f"{ctx.show(vector)} is no vector of each image")
    order: tuple[int, ...] = (0, 1, 2, 3)
    if (node := value.producer) is not None and node.op_type == "Transpose" and node.attr("perm", (3,))[0] == 0:
        assert node.inputs[0] is not None
        steps.append(node)
        value, order = node.inputs[0], tuple(node.attr("perm"))
    return _Flat(vector, value, order, tuple(_unshared(steps, ctx)))


def _unshared(steps: Sequence[Node], ctx: Context) -> Iterator[Node]:
    """Steps back from the vector up to the first that something else needs too."""
    for node, following in zip(steps, (None, *steps), strict=False):
        readers = ctx.analysis.readers(node.output) if following is None else node.output.consumers
        layers = all(r.op_type in LAYERS and _is_layer(r, ctx) for r in readers) if following is None else readers == [following]
        if node.output.is_output or not layers:
            return
        yield node
