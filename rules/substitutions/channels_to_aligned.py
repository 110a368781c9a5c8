from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx

from npu_guard.analysis.channels.segments import Layout
from npu_guard.rewriting.quantized import relaid
from npu_guard.rewriting.substitution import Array, Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.analysis.channels.flow import Carry, Extent
    from npu_guard.analysis.channels.paddings import Region
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_EIGHT = {"channels.multiple_of": 8}


class ChannelsToAligned(Substitution):
    """Convolutions and Gemms get filters of zeros up to the next multiple, and their readers zero weights.

    A filter of zeros with a bias of zero makes a channel of zeros, and a reader whose weights for that channel are zero does
    not see it. In between, the padding is carried: through element-wise operators, batch norm, pooling, Resize, Pad and
    reductions over space, depthwise and grouped convolutions (each group padded by itself), Concat and Split (the readers'
    weights are re-ordered), constants for each channel (padded too), and Flatten (each channel brings its pixels). An Add or
    Mul ties its operands, so a residual stage is widened as a whole. Where f(0) is not zero, as for Sigmoid, the padding is
    some other finite number; zero weights take that as well, and the product with a padded map is zero again.

    What would see the padding is given the original width by a Slice right in front of it: an output of the model, a mean or a
    maximum over channels, Softmax and normalisation over channels, operators that are not known here. Carrying comes first,
    because a Slice is an operator more. Channels that a Split or Concat sends different ways each begin at a whole block.

    Exact but for the order of summation. A map of one channel stays as it is.
    """

    name = "channels-to-aligned"
    roots = ("Conv", "ConvTranspose", "Gemm", "MatMul")
    last = True  # widths are those of what the others have written
    limits = _EIGHT
    good = (
        Example(
            """g (float[1,3,9,7] x) => (float[1,16,9,7] y)
            <float[12,3,3,3] w, float[12] b, float[12,12,1,1] v, float[16,12,3,3] u>
            {
                a = Conv<pads = [1,1,1,1]>(x, w, b)  r = Relu(a)  c = Conv(r, v)
                s = Add(c, r)  y = Conv<pads = [1,1,1,1]>(s, u)
            }""",
            ops=("Conv", "Relu", "Conv", "Add", "Conv"),
            title="a residual",
        ),
        Example(
            """g (float[1,8,9,7] x) => (y)
            <float[12,8,1,1] w, float[20,8,3,3] v, float[20] b, float[5,32,1,1] u>
            {
                p = Conv(x, w)  q = Conv<pads = [1,1,1,1]>(x, v, b)
                j = Concat<axis = 1>(p, q)  y = Conv(j, u)
            }""",
            ops=("Conv", "Conv", "Concat", "Conv", "Slice"),
            title="joined, and an output of the model",
        ),
        Example(
            """g (float[1,3,8,8] x) => (float[1,8,8,8] y)
            <float[20,3,3,3] w, float[20,1,3,3] d, float[20] b, float[5,20,1,1] s, float[20,5,1,1] t, float[8,20,1,1] v>
            {
                a = Conv<pads = [1,1,1,1]>(x, w)  c = Conv<group = 20, pads = [1,1,1,1]>(a, d, b)  r = HardSwish(c)
                g = GlobalAveragePool(r)  h = Conv(g, s)  i = Relu(h)  j = Conv(i, t)  k = Sigmoid(j)
                m = Mul(r, k)  y = Conv(m, v)
            }""",
            ops=("Conv", "Conv", "HardSwish", "GlobalAveragePool", "Conv", "Relu", "Conv", "Sigmoid", "Mul", "Conv"),
            title="depthwise, with a gate for each channel",
        ),
        Example(
            """g (float[1,8,6,6] x) => (float[1,16,8,8] y)
            <float[20,2,3,3] w, float[20] c, float[20] b, float[20] m, float[20] s = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9,1,2},
             float[20,3,2,2] t, float[16,12,1,1] v>
            {
                a = Conv<group = 4>(x, w)  n = BatchNormalization(a, c, b, m, s)
                d = ConvTranspose<group = 4, strides = [2,2]>(n, t)  y = Conv(d, v)
            }""",
            ops=("Conv", "BatchNormalization", "ConvTranspose", "Conv"),
            title="each group is padded by itself",
        ),
        Example(
            """g (float[1,8,6,6] x) => (y)
            <float[12,8,1,1] w, int64[2] parts = {5, 7}, float[7,5,1,1] u, float[7,1,1] b>
            { a = Conv(x, w)  p, q = Split<axis = 1>(a, parts)  k = Conv(p, u)  s = Sub(b, q)  y = Mul(k, s) }""",
            ops=("Conv", "Split", "Conv", "Sub", "Mul", "Slice"),
            title="a part of the channels, and a constant for each",
        ),
        Example(
            """g (float[2,3,8,8] x) => (y)
            <float[12,3,3,3] w, float[10,108] v, float[10] b>
            { a = Conv<strides = [3,3], pads = [1,1,1,1]>(x, w)  r = Exp(a)  f = Flatten(r)  y = Gemm<transB = 1>(f, v, b) }""",
            ops=("Conv", "Exp", "Flatten", "Gemm", "Slice"),
            title="a flattened map: each channel brings nine columns of the weight",
        ),
        Example(
            """g (float[1,3,8,8] x) => (y)
            <float[12,3,3,3] w, float[16,12,1,1] v>
            { a = Conv(x, w)  m = ReduceMean<keepdims = 1, axes = [1]>(a)  s = Mul(a, m)  y = Conv(s, v) }""",
            ops=("Conv", "Slice", "ReduceMean", "Mul", "Conv"),
            opset=17,
            title="a mean over channels, which must not see the padding",
        ),
        Example(
            """g (float[1,8,6,6] x) => (float[1,12,6,6] y)
            <float[12,8,1,1] w, int64[6] parts = {2, 2, 2, 2, 2, 2}>
            {
                a = Conv(x, w)  p, q, r, s, t, u = Split<axis = 1>(a, parts)
                y = Concat<axis = 1>(q, p, s, r, u, t)
            }""",
            ops=("Conv", "Slice", "Split", "Concat"),
            title="parts that would be padding for the most part",
        ),
    )
    bad = (
        Example(
            "g (float[1,8,9,9] x, float[12,8,3,3] w) => (y) { y = Conv(x, w) }",
            refused="weight 'w' of Conv 'y' is not constant",
        ),
        Example(
            "g (float[1,8,9,9] x, float[12,8,3,3] w) => (y) <float[12,8,3,3] w> { y = Conv(x, w) }",
            refused="a caller may override it",
        ),
        Example(
            """g (float[1,8,9,9] x) => (y) <float[12,8,3,3] r>
            { w = LpNormalization(r)  y = Conv(x, w) }""",
            refused="computed by operators that are not evaluated here",
        ),
        Example(
            """g (float[1,8,9,9] x, bool c) => (y) <float[12,8,3,3] w>
            { y = If (c) <
                then_branch = yes () => (float[1,12,7,7] p) { p = Conv(x, w) },
                else_branch = no () => (float[1,12,7,7] q) { q = Conv(x, w) }
            > }""",
            refused="inside a subgraph",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        multiple = ctx.limit("channels.multiple_of")
        if multiple is None:
            return None
        region = ctx.channels.regions.get(node)
        if region is not None:
            return Match(self, node, region.nodes, region.replaced, region)
        reason, shape = ctx.channels.reasons.get(node), node.output.shape
        width = shape[1] if shape is not None and len(shape) > 1 else None
        if reason is not None and isinstance(width, int) and width > 1 and width % multiple:
            raise Refused(reason)
        return None

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return _Widening(match.facts, build).run()

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The padding is behind the channels where they are made, and taken to be in front of them where they are read."""
        return _Widening(match.facts, build, late=True).run()


class _Widening:
    """One rewrite: the names that values have so far, widened and in their original width."""

    def __init__(self, region: Region, build: Builder, *, late: bool = False) -> None:
        self._region = region
        self._build = build
        self._late = late
        self._wide: dict[Value, str] = {}
        self._raw: dict[Value, str] = {}

    def run(self) -> dict[Value, str]:
        for carry in self._region.carries:
            self._build.origin = carry.node
            self._emit(carry)
        return {v: self._original(v) for v in self._region.replaced}

    def _emit(self, carry: Carry) -> None:
        node, build = carry.node, self._build
        count = max(len(node.inputs), *(k + 1 for k in carry.numbers if isinstance(k, int)), 0)
        made = build.op_many(node.op_type, *(self._input(carry, i) for i in range(count)), outputs=len(node.outputs))
        self._wide.update((v, name) for v, name in zip(node.outputs, made, strict=True) if v is not None)
        numbers = {key: [self._extent(e) for e in extents] for key, extents in carry.numbers.items()}
        for attribute in node.proto.attribute:
            # Equal parts need not be equal when they are widened.
            if attribute.name not in numbers and not (attribute.name == "num_outputs" and numbers):
                build.nodes[-1].attribute.append(attribute)
        for key, found in numbers.items():
            if isinstance(key, str):
                build.nodes[-1].attribute.append(onnx.helper.make_attribute(key, found[0] if key == "group" else found))

    def _input(self, carry: Carry, index: int) -> str | None:
        value, build = carry.node.input(index), self._build
        if index in carry.numbers:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(value.dtype if value is not None else onnx.TensorProto.INT64)
            return build.constant(np.asarray([self._extent(e) for e in carry.numbers[index]], dtype), "ints")
        if index in carry.wide:
            return self._wide.get(carry.wide[index], carry.wide[index].name)
        if index in carry.raw:
            return self._original(carry.raw[index])
        if index in carry.kept:
            return build.constant(carry.kept[index], "constant")
        if index in carry.stretch and value is not None:
            return self._stretched(carry, index, value)
        return None if value is None else value.name

    def _stretched(self, carry: Carry, index: int, value: Value) -> str:
        """A constant whose axes follow widened channels; the very one where none does."""
        build, fill = self._build, carry.stretch[index].fill
        shape = [n for n in value.shape or () if isinstance(n, int)]
        moves: list[tuple[int, int, Array]] = []
        for axis, (followed, groups) in carry.stretch[index].axes.items():
            layout = self._region.layouts.get(followed)
            if layout is not None:
                late = self._late and carry.width > 0 and followed in carry.wide.values()
                moves.append((axis, layout.width() // groups, layout.index(groups, late=late)))
                shape[axis] = moves[-1][1]
        if not moves:
            return value.name

        def move(array: Array) -> Array:
            for axis, width, at in moves:
                dims = list(array.shape)
                dims[axis] = width
                result = np.full(dims, fill, array.dtype)
                result[(slice(None),) * axis + (at,)] = array
                array = result
            return array

        if fill == 0:
            return relaid(build, value, shape, move)
        return build.later(shape, lambda: move(build.weight(value)), onnx.helper.tensor_dtype_to_np_dtype(value.dtype))

    def _extent(self, extent: Extent) -> int:
        if isinstance(extent, int):
            return extent
        value, units = extent
        return self._region.layouts.get(value, Layout(((units, units),))).width(units)

    def _original(self, value: Value) -> str:
        """The value in its original width, cut out of the widened one where that is another."""
        layout, wide = self._region.layouts.get(value), self._wide.get(value, value.name)
        if layout is None:
            return wide
        if value not in self._raw:
            build, origin = self._build, self._build.origin
            build.origin = value.producer or origin
            kept = layout.index(late=self._late)
            runs = np.split(kept, np.flatnonzero(np.diff(kept) != 1) + 1)
            pieces = [self._slice(value, wide, int(run[0]), int(run[-1]) + 1) for run in runs]
            self._raw[value] = pieces[0] if len(pieces) == 1 else build.op("Concat", *pieces, axis=1)
            build.origin = origin
        return self._raw[value]

    def _slice(self, value: Value, wide: str, start: int, end: int) -> str:
        build = self._build
        if value.graph.model.opsets.get("", 1) < 10:
            return build.op("Slice", wide, starts=[start], ends=[end], axes=[1])
        return build.op("Slice", wide, build.ints(start), build.ints(end), build.ints(1))
