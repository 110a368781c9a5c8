from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import Struct

from npu_guard.rewriting import strip
from npu_guard.rewriting.fitting import fit_parts, sample_weights
from npu_guard.rewriting.rank_lift import UNARY
from npu_guard.rewriting.substitution import APPROXIMATE, Array, Builder, Example, Match, Refused, Substitution
from npu_guard.verification.ratio import signal_to_noise

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

LIMITS = {"layout.rearrange": False, "layout.vectors": False, "conv.rank": [4]}
REDUCTION = 16
"""Channels for each of the bottleneck, as squeeze-and-excitation was published."""
BLOCK = 8
"""Channels that the bottleneck is a multiple of, where the device does not say."""
GAIN_DB = 0.1
"""What the bottleneck has to gain over a gate that does not change; less is chance."""
RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Variance of the directions that the samples do not show, relative to the mean one."""


class EcaToBottleneckSe(Substitution):
    """A one-dimensional convolution over the channels of a pooled map becomes two 1x1 convolutions with a bottleneck.

    The convolution is z = B p + c with a banded matrix B of C x C (see eca-to-se, which is exact and goes first). The form of
    squeeze-and-excitation has 2 C r weights in the place of C x C, for r = C/16, at least 8:

        z' = V relu(U p + a) + b

    Pooled maps of one network vary in a few directions only. Of all matrices of rank r, V U = E E^T B loses the least of z, with
    the r largest eigenvectors of B S B^T in E and the covariance S of p on calibration samples (reduced-rank regression), to
    which a multiple of the identity is added for what the samples do not show. The shift a makes the hidden values positive
    on twice the range that they have on the samples, so relu passes them whole; b takes the shift out again and adds the mean.

    For devices on which C x C weights are too many. It is refused where a gate that does not change comes as close on held-out
    samples, and needs fine-tuning.
    """

    name = "eca-to-bottleneck-se"
    exactness = APPROXIMATE
    roots = ("Conv",)
    limits = LIMITS
    good = (
        Example(
            """g (float[16,32,4,6] x) => (y)
            <float[1,1,1,5] w, int64[4] row = {16,1,1,32}, int64[4] map = {16,32,1,1}>
            { p = GlobalAveragePool(x)  r = Reshape(p, row)  c = Conv<pads = [0,2,0,2]>(r, w)
              s = Sigmoid(c)  m = Reshape(s, map)  y = Mul(x, m) }""",
            ops=("GlobalAveragePool", "Conv", "Relu", "Conv", "Sigmoid", "Mul"),
            title="Conv2d on a [B,1,1,C] view",
        ),
        Example(
            """g (float[12,24,4,6] x) => (y)
            <float[1,1,4] w, float[1] b, int64[1] last = {-1}>
            { p = GlobalAveragePool(x)  q = Squeeze(p, last)  t = Transpose<perm = [0,2,1]>(q)  c = Conv<pads = [1,2]>(t, w, b)
              u = Transpose<perm = [0,2,1]>(c)  v = Unsqueeze(u, last)  s = HardSigmoid(v)  y = Mul(x, s) }""",
            ops=("GlobalAveragePool", "Conv", "Relu", "Conv", "HardSigmoid", "Mul"),
            title="as published, an even kernel with bias",
        ),
        Example(
            """g (float[16,24,4,6] x) => (y)
            <float[1,1,3] w, int64[3] row = {16,1,24}, int64[4] map = {16,24,1,1}, float[1] half = {0.5}>
            { p = ReduceMean<axes = [2,3], keepdims = 0>(x)  r = Reshape(p, row)  c = Conv<auto_pad = "SAME_UPPER">(r, w)
              d = Mul(half, c)  s = Sigmoid(d)  m = Reshape(s, map)  y = Mul(x, m) }""",
            ops=("ReduceMean", "Conv", "Relu", "Conv", "Mul", "Sigmoid", "Mul"),
            opset=17,
            title="scaled in front of the gate",
        ),
        Example(
            """g (float[20,40,1,1] p) => (y)
            <float[1,1,3] w, int64[3] row = {20,1,40}, int64[4] map = {20,40,1,1}>
            { a = Tanh(p)  r = Reshape(a, row)  c = Conv<pads = [2,2], dilations = [2]>(r, w)  m = Reshape(c, map)
              y = Clip(m) }""",
            ops=("Tanh", "Conv", "Relu", "Conv", "Clip"),
            title="dilated, on a map that is pooled already",
        ),
    )
    bad = (
        Example(
            """g (float[1,16,1,1] p) => (y)
            <float[1,1,3] w, int64[3] row = {1,1,16}, int64[4] map = {1,16,1,1}>
            { r = Reshape(p, row)  c = Conv<pads = [1,1]>(r, w)  y = Reshape(c, map) }""",
            refused="a bottleneck of 8 has no fewer weights than a matrix of 16 channels",
        ),
        Example(
            """g (float[1,32,1,1] p) => (y)
            <float[1,1,3] w, int64[3] row = {1,1,32}, int64[4] map = {1,32,1,1}>
            { r = Reshape(p, row)  c = Conv<pads = [1,1]>(r, w)  a = Relu(c)  d = Conv<pads = [1,1]>(a, w)
              y = Reshape(d, map) }""",
            refused="2 convolutions follow each other",
        ),
        Example(
            """g (float[1,32,1,1] p, float[1,1,3] w) => (y)
            <int64[3] row = {1,1,32}, int64[4] map = {1,32,1,1}>
            { r = Reshape(p, row)  c = Conv<pads = [1,1]>(r, w)  y = Reshape(c, map) }""",
            refused="its weights are not constant",
        ),
        Example(
            """g (float[1,32,1,1] p) => (y)
            <float[1,1,3] w, int64[3] row = {1,1,32}> { r = Reshape(p, row)  c = Conv<pads = [1,1]>(r, w)  y = Sigmoid(c) }""",
            refused="no way back: the model gives 'y', in which 32 channels lie in space",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        found = strip.match_strip(node, ctx)
        if found is None:
            return None
        count = sum(step.op_type == "Conv" for step in found.steps)
        if count > 1:
            raise Refused(f"{count} convolutions follow each other")
        block = ctx.limit("channels.multiple_of") or BLOCK
        width = -(-max(BLOCK, found.channels // REDUCTION) // block) * block
        if 2 * width >= found.channels:
            raise Refused(f"a bottleneck of {width} has no fewer weights than a matrix of {found.channels} channels")
        return Match(self, node, (*found.nodes, *found.shapes), found.replaced, (found, width))

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._build(match, build, shifted=True)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """No shift, so that relu cuts off what is below the mean."""
        return self._build(match, build, shifted=False)

    def _build(self, match: Match, build: Builder, shifted: bool) -> Mapping[Value, str]:
        found, width = match.facts
        node: Node = match.root
        x, end = node.inputs[0], found.end
        assert x is not None
        samples = build.activations(x, end)
        weight = build.weight(node.inputs[1])  # type: ignore[arg-type]  # a Conv has weights
        bias = 0.0 if node.input(2) is None else float(build.weight(node.inputs[2]).reshape(-1)[0])  # type: ignore[arg-type]
        channels = found.channels
        pooled = [s[x.name].reshape(-1, channels).astype(np.float64) for s in samples]
        targets = [s[end.name].reshape(-1, channels).astype(np.float64) for s in samples]
        sample_weights(pooled, targets)
        matrix = strip.band_weight(node, weight, channels).astype(np.float64)
        gate = _fit(pooled, matrix, bias, width)
        cut = fit_parts([len(p) for p in pooled])[2]
        close, still = (
            [_tail(found, node, z, build) for z in made]
            for made in ([gate.run(p) for p in pooled], [np.broadcast_to(gate.run(gate.mean), p.shape) for p in pooled])
        )
        held_out, constant = (_ratio(np.concatenate(targets)[cut:], np.concatenate(made)[cut:]) for made in (close, still))
        note = f"held-out {held_out:.1f} dB (a gate that does not change {constant:.1f}), {channels} -> {width} -> {channels}"
        if not held_out >= constant + GAIN_DB:
            raise Refused(f"a bottleneck does not beat a gate that does not change: {note}")
        build.promise(min(map(_ratio, targets, close)), note)
        gate = gate if shifted else gate.moved(-gate.down @ gate.mean)

        def convolutions(_: Node, name: str) -> str:
            for i, (kernel, offset) in enumerate(((gate.down, gate.shift), (gate.up, gate.bias))):
                constants = (build.constant(a.astype(weight.dtype)) for a in (kernel[:, :, None, None], offset))
                name = build.op("Conv", build.op("Relu", name) if i else name, *constants, kernel_shape=[1, 1])
            return name

        return strip.write_strip(found, build, convolutions)


class _Gate(Struct, frozen=True):
    """up relu(down p + shift) + bias, fitted to samples with this mean."""

    down: Array
    shift: Array
    up: Array
    bias: Array
    mean: Array

    def run(self, p: Array) -> Array:
        return np.asarray(np.maximum(p @ self.down.T + self.shift, 0.0) @ self.up.T + self.bias)

    def moved(self, shift: Array) -> _Gate:
        """With another shift, and the same result where relu cuts nothing off."""
        return _Gate(self.down, shift, self.up, self.bias + self.up @ (self.shift - shift), self.mean)


def _fit(pooled: Sequence[Array], matrix: Array, bias: float, width: int) -> _Gate:
    """The bottleneck that keeps most of `matrix @ p`; the last third of the samples is held out, and has no say."""
    rows = np.concatenate(pooled)
    _, half, cut, _ = fit_parts([len(p) for p in pooled])
    # The two halves of the fit choose between them how much of what is not seen is expected.
    errors = []
    for ridge in RIDGES:
        mean, kept = _directions(rows[:half], matrix, ridge, width)
        left = (rows[half:cut] - mean) @ matrix.T
        errors.append(float(np.square(left - left @ kept @ kept.T).sum()))
    mean, kept = _directions(rows[:cut], matrix, RIDGES[int(np.argmin(errors))], width)
    down = kept.T @ matrix
    hidden = rows[:cut] @ down.T
    low, high = hidden.min(0), hidden.max(0)
    shift = (high - low) / 2 - low
    return _Gate(down, shift, kept, matrix @ mean + bias - kept @ (shift + down @ mean), mean)


def _directions(rows: Array, matrix: Array, ridge: float, width: int) -> tuple[Array, Array]:
    """The mean, and orthogonal directions [C, width] in which `matrix @ p` varies most."""
    mean = rows.mean(0)
    covariance = (rows - mean).T @ (rows - mean) / len(rows)
    spread = covariance + ridge * (float(np.trace(covariance)) / len(covariance) or 1.0) * np.eye(len(covariance))
    return mean, np.linalg.eigh(matrix @ spread @ matrix.T)[1][:, ::-1][:, :width]


def _tail(found: strip.Strip, conv: Node, z: Array, build: Builder) -> Array:
    """What the steps behind the convolution make of its output [rows, C]."""
    from onnx.reference import ReferenceEvaluator

    value = conv.output
    for node in found.steps[found.steps.index(conv) + 1 :]:
        if node.op_type in UNARY or node.op_type in strip.SCALING:
            given = [None if v is None else z if v is value else build.weight(v).astype(z.dtype).reshape(-1) for v in node.inputs]
            if node.op_type in UNARY:
                given = [g if i == 0 or g is None else g.reshape(()) for i, g in enumerate(given)]
            names = [name for name in node.proto.input if name]
            feeds = dict(zip(names, [g for g in given if g is not None], strict=True))
            results: Any = ReferenceEvaluator(node.proto, opsets={"": build.opset}).run(None, feeds)
            z = results[0]
        value = node.output
    return z


def _ratio(y: Array, made: Array) -> float:
    return signal_to_noise(float(np.square(y).sum()), float(np.square(y - made).sum()))
