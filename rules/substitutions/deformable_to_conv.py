from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from npu_guard.rewriting import deformable, mixing
from npu_guard.rewriting.map_writer import static_shape
from npu_guard.rewriting.sampling import Geometry, Sample
from npu_guard.rewriting.substitution import APPROXIMATE, Array, Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

LONGEST = 17
"""Taps along each axis where the device sets no limit."""
GAIN_DB = 0.1
"""What the kernel has to gain over the taps where they are without offsets; less is chance."""
EXACT_DB = 80.0
"""From here on nothing but rounding is left, and nothing has to be gained."""


class DeformableToConv(Substitution):
    """A deformable convolution becomes a plain one, with its taps where the offsets put them on average.

    DeformConv gives y[o,p] = b[o] + sum over c, t of w[o,c,t] m[t,p] x[c, p + t + d[t,p]], with offsets d and a mask m that the
    network computes, and x between pixels interpolated bilinearly. A sample at u + f is (1-f) x[u] + f x[u+1] along each axis:
    linear in x. A plain convolution has one set a[t,u] of such weights for each tap, the same at every position p:

        W[o,c,u] = sum over t of w[o,c,t] a[t,u],   a[t,u] = mean over p of m[t,p] hat(u - t - d[t,p]),   hat(z) = max(0, 1 - |z|)

    From that mean, ridge regression on calibration activations moves a[t] to what comes closest to the samples that tap t takes.
    The kernel grows ring by ring, as long as each gains half a decibel and the device has one as long. Where offsets and mask
    are the same at all positions, a is those very weights and the result is exact. The branch that computes the offsets is
    gone. Refused where the same taps without offsets, times the mean of their mask, come as close on held-out samples.
    """

    name = "deformable-to-conv"
    exactness = APPROXIMATE
    roots = ("DeformConv",)
    limits = {"conv.kernel_max": 17}
    operators = {"DeformConv": "judged"}
    good = (
        Example(
            """g (float[1,4,9,11] x) => (y)
            <float[8,4,3,3] w, float[8] b, float[1,18,1,1] d, int64[4] s = {1,18,9,11}> {
                o = Expand(d, s)  y = DeformConv<pads = [1,1,1,1]>(x, w, o, b) }""",
            ops=("Conv",),
            title="offsets that do not change",
        ),
        Example(
            """g (float[1,4,12,13] x) => (y)
            <float[8,2,3,3] w, float[36,4,3,3] v, float[36] d, float[18,4,1,1] u, float near = {0.3}> {
                o0 = Conv<pads = [1,1,1,1], strides = [2,2]>(x, v, d)  o1 = Tanh(o0)  o2 = Mul(o1, near)  o = Add(o2, near)
                m0 = Conv<strides = [2,2]>(x, u)  m = Sigmoid(m0)
                h = DeformConv<pads = [1,1,1,1], strides = [2,2], group = 2, offset_group = 2>(x, w, o, "", m)  y = Relu(h) }""",
            ops=("Conv", "Relu"),
            title="offsets and mask from the map, strided, in groups",
        ),
        Example(
            """g (float[2,3,12,10] x, float[2,8,9,7] o) => (y)
            <float[8,3,2,2] w, float two = {2.0}> {
                t = Tanh(o)  a = Add(t, two)  y = DeformConv<dilations = [3,3]>(x, w, a) }""",
            ops=("Conv",),
            title="dilated, not padded, offsets from elsewhere",
        ),
        Example(
            """g (float[1,4,9,8] x) => (y)
            <float[6,4,1,1] w, float[2,4,5,5] v, float[2] d> {
                o0 = Conv<pads = [2,2,2,2]>(x, v, d)  o1 = Sigmoid(o0)  o = Neg(o1)  y = DeformConv(x, w, o) }""",
            ops=("Conv",),
            title="a single tap",
        ),
    )
    bad = (
        Example(
            "g (float[1,4,9,8] x, float[8,4,3,3] w, float[1,18,7,6] o) => (y) { y = DeformConv(x, w, o) }",
            refused="its weights are not constant",
        ),
        Example(
            """g (float[1,4,"H",8] x, float[1,18,"H",6] o) => (y)
            <float[8,4,3,3] w> { y = DeformConv<pads = [1,0,1,0]>(x, w, o) }""",
            refused="fix it with --input-shape",
        ),
        Example(
            """g (float[1,4,30,30] x, float[1,50,6,6] o) => (y)
            <float[8,4,5,5] w> { y = DeformConv<dilations = [6,6]>(x, w, o) }""",
            refused="its taps lie 25 pixels apart, more than the 17 of the longest kernel",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        x, weight, offset = node.inputs[:3]
        if node.graph.parent is not None or x is None or weight is None or offset is None:
            return None
        if not all(v is None or ctx.is_constant(v) for v in (weight, node.input(3))):
            raise Refused("its weights are not constant")
        longest = ctx.limit("conv.kernel_max") or LONGEST
        geometry = _geometry(node, static_shape(x), static_shape(weight), static_shape(node.output))
        reach = max(taps[-1] - taps[0] + 1 for taps in zip(*geometry.taps, strict=True))
        if reach > longest:
            raise Refused(f"its taps lie {reach} pixels apart, more than the {longest} of the longest kernel")
        nodes = mixing.fallen(node.output, x, ctx)
        return Match(self, node, nodes, (node.output,), (geometry, longest, ctx))

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._build(match, build, mirrored=False)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The kernel mirrored, as if the offsets pointed the other way."""
        return self._build(match, build, mirrored=True)

    def _build(self, match: Match, build: Builder, mirrored: bool) -> Mapping[Value, str]:
        geometry, longest, ctx = match.facts
        node = match.root
        x, value = node.inputs[0], node.inputs[1]
        assert x is not None
        assert value is not None
        weight = build.weight(value)
        bias = None if node.input(3) is None else build.weight(node.inputs[3])  # type: ignore[arg-type]
        watched = [v for v in (x, node.inputs[2], node.input(4)) if v is not None]
        captured = build.activations(*dict.fromkeys(v for v in (*watched, node.output) if not ctx.is_constant(v)))
        fixed = {v: build.weight(v) for v in watched if ctx.is_constant(v)}

        def array(v: Value | None, sample: Mapping[str, Array]) -> Array | None:
            return None if v is None else fixed[v] if v in fixed else sample[v.name]

        samples = [
            Sample(array(x, s), array(node.inputs[2], s), array(node.input(4), s), s[node.output.name])  # type: ignore[arg-type]
            for s in captured
        ]
        found = deformable.fit_deformable(samples, weight, np.zeros(len(weight)) if bias is None else bias, geometry, longest)
        if not (found.held_out >= found.unmoved + GAIN_DB or found.held_out >= EXACT_DB):
            raise Refused(f"offsets that change cannot be told from none: {found.describe()}")
        build.promise(found.worst, found.describe())
        build.origin = node
        kernel = (found.weight[:, :, ::-1, ::-1] if mirrored else found.weight).astype(weight.dtype)
        window, pads = found.window.padded(geometry)
        name = build.op(
            "Conv", x, build.constant(kernel), *([] if bias is None else [node.inputs[3]]), kernel_shape=list(window.extent),
            pads=pads, strides=list(geometry.strides), group=geometry.groups,
        )  # fmt: skip
        return {node.output: name}


def _geometry(node: Node, x: tuple[int, ...], weight: tuple[int, ...], out: tuple[int, ...]) -> Geometry:
    def pair(name: str, default: int) -> tuple[int, int]:
        first, second, *_ = node.attr(name) or (default, default)
        return int(first), int(second)

    if len(x) != 4:
        raise Refused("it does not run on a map [B, C, H, W]")
    return Geometry(
        size=(x[2], x[3]), out=(out[2], out[3]), kernel=(weight[2], weight[3]), strides=pair("strides", 1), begin=pair("pads", 0),
        dilations=pair("dilations", 1), groups=node.attr("group", 1), offset_groups=node.attr("offset_group", 1),
    )  # fmt: skip
