from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from npu_guard.results.proof import ROUNDING
from npu_guard.rewriting.interpolation import samplings
from npu_guard.rewriting.resample_forms import Form, differ, form, reaches, wrong
from npu_guard.rewriting.resampling import Resampler
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

LIMITS = {"resize": [{"mode": "nearest", "scales": [2]}], "conv.kernel_max": 17}
_FLOATS = frozenset({1, 10, 11, 16})


class ResizeToFixedConvTranspose(Substitution):
    """A Resize that the device lacks becomes convolutions, or sums of neighbours, with fixed weights.

    Resize is linear in its input and separable: y[o] = sum over i of w[o,i] x[i] along one axis after the other, and on a static
    grid the w are numbers. Pixels beyond the edge are the edge's, so it is repeated there first, by Slice and Concat.

    Where p outputs further on the same weights come one input further on (nearest, linear and cubic at whole scales, or
    align_corners where (out-1)/(in-1) is whole), y is a depthwise transposed convolution with stride p, whose kernel has
    w[o,i] at o - p i. Where one output further on they come s inputs further on, it is a window with stride s: a mean, or a
    depthwise convolution. Where each output has weights of its own (align_corners at a whole scale p), the inputs that it reads
    are o // p + j for a few j: pixels are repeated p times, shifted by j p, multiplied with a constant map for each j, and
    summed. At any other scale each neighbour is put together from slices, within a budget of operators.
    """

    name = "resize-to-fixed-conv-transpose"
    roots = ("Resize", "Upsample")
    alone = True
    limits = LIMITS
    good = (
        Example(
            """g (float[1,8,5,7] x) => (y)
            <float[4] s = {1, 1, 3, 3}> { y = Resize(x, , s) }""",
            ops=("ConvTranspose",),
        ),
        Example(
            """g (float[2,8,5,7] x) => (y)
            <float[4] s = {1, 1, 2, 4}> { y = Resize<mode = "linear">(x, , s) }""",
            ops=("Slice", "Slice", "Concat", "Slice", "Slice", "Concat", "ConvTranspose"),
            title="linear, the edges repeated",
        ),
        Example(
            """g (float[1,8,5,7] x) => (y)
            <float[4] s = {1, 1, 4, 4}>
            { y = Resize<mode = "linear", coordinate_transformation_mode = "align_corners">(x, , s) }""",
            title="align_corners, at a whole scale",
            label=ROUNDING,
        ),
        Example(
            """g (float[1,8,5,7] x) => (y)
            <int64[4] s = {1, 8, 13, 19}>
            { y = Resize<mode = "linear", coordinate_transformation_mode = "align_corners">(x, , , s) }""",
            ops=("ConvTranspose",),
            title="align_corners, three pixels between any two",
            label=ROUNDING,
        ),
        Example(
            """g (float[1,8,64,48] x) => (y)
            <int64[4] s = {1, 8, 4, 3}> { y = Resize<mode = "linear">(x, , , s) }""",
            ops=("Conv",),
            title="a sixteenth: the mean of the two pixels in the middle, from where the window begins",
        ),
        Example(
            """g (float[1,8,5,7] x) => (y)
            <float[4] s = {1, 1, 2, 2}> { y = Resize<mode = "cubic">(x, , s) }""",
            ops=("Slice", "Slice", "Concat", "Slice", "Slice", "Concat", "ConvTranspose"),
            title="cubic",
        ),
        Example(
            """g (float[1,8,5,7] x) => (y)
            <int64[4] s = {1, 8, 7, 12}> { y = Resize<mode = "linear">(x, , , s) }""",
            title="at scales that are not whole",
            label=ROUNDING,
        ),
        Example(
            'g (float[1,8,5,7] x) => (y) <float[4] s = {1, 1, 3, 2}> { y = Upsample<mode = "linear">(x, s) }',
            opset=9,
            title="of an old opset",
            label=ROUNDING,
        ),
    )
    bad = (
        Example(
            """g (float[1,8,5,7] x, float[4] s) => (float[1,8,"H","W"] y)
            { y = Resize(x, , s) }""",
            refused="its shapes are not known",
        ),
        Example(
            """g (float[1,8,8,8] x) => (y)
            <float[4] s = {1, 1, 0.5, 0.5}> { y = Resize<mode = "linear", antialias = 1>(x, , s) }""",
            refused="it is antialiased",
        ),
        Example(
            """g (float[1,8,8,8] x) => (y)
            <float[4] s = {1, 2, 2, 2}> { y = Resize<mode = "linear">(x, , s) }""",
            refused="it resizes batch or channels",
        ),
        Example(
            """g (float[1,8,8,8] x) => (y)
            <float[8] r = {0,0,0,0,1,1,1,1}, int64[4] s = {1, 8, 4, 4}>
            { y = Resize<mode = "linear", coordinate_transformation_mode = "tf_crop_and_resize">(x, r, , s) }""",
            refused="it crops by a region of interest",
        ),
    )

    def match(self, node: Node, ctx: Context) -> list[Match] | None:
        x = node.inputs[0]
        if x is None or x.shape is None or len(x.shape) > 4:
            return None
        if len(x.shape) < 4:
            raise Refused(f"its input has rank {len(x.shape)}")
        if node.output.dtype not in _FLOATS:
            raise Refused("its elements are no floating-point numbers")
        axes = samplings(node, ctx)
        if not all(axis.trivial for axis in axes[:2]):
            raise Refused("it resizes batch or channels")
        return [Match(self, node, (node,), (node.output,), (axes[2:], reach), reach) for reach in differ(axes[2:], reaches(ctx))]

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        (height, width), reach = match.facts
        return _written(match, build, form(height, reach), form(width, reach))

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """Every pixel taken from its neighbour, which keeps every shape."""
        (height, width), reach = match.facts
        return _written(match, build, form(wrong(height), reach), form(wrong(width), reach))


def _written(match: Match, build: Builder, height: Form, width: Form) -> Mapping[Value, str]:
    x = match.root.inputs[0]
    assert x is not None
    assert x.shape is not None
    channels = x.shape[1]
    assert isinstance(channels, int)
    name = Resampler(match.facts[1], build, x, channels).write(x, height, width)
    return {match.root.output: name if build.nodes else build.op("Identity", name)}
