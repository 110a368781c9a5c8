from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct

from npu_guard.rewriting.fitting import fit_parts, sample_weights
from npu_guard.rewriting.node_numbers import numbers, reduced
from npu_guard.rewriting.substitution import APPROXIMATE, Array, Builder, Example, Match, Refused, Substitution, closed
from npu_guard.verification.ratio import signal_to_noise

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value


class SpatialGateRemoval(Substitution):
    """A gate over positions, made of mean and maximum over too many channels, becomes a constant factor.

    x * sigmoid(conv(concat(mean(x), max(x)))) weighs the positions of x. Its best replacement by one that does not depend on
    the position is y = c x; the least squares on calibration samples give c = sum(x y) / sum(x x), over everything or for
    each channel. Both are fitted on two thirds of the samples, and the one that comes closer on the last third is taken, with
    a margin for the single number. The report also says how close the map without any factor comes.

    Where the maximum can be taken over groups of channels, that is exact and goes first. What is replaced here needs
    fine-tuning.
    """

    name = "spatial-gate-removal"
    exactness = APPROXIMATE
    roots = ("ReduceMax",)
    limits = {"reduce.max_channels": 16}
    good = (
        Example(
            """g (float[1,24,8,8] x) => (y)
            <int64[1] a = {1}, float[1,2,7,7] w> {
                m = ReduceMean(x, a)  p = ReduceMax(x, a)  t = Concat<axis = 1>(m, p)  c = Conv<pads = [3,3,3,3]>(t, w)
                g = Sigmoid(c)  y = Mul(x, g) }""",
            ops=("Mul",),
        ),
        Example(
            """g (float[2,24,8,8] x) => (y)
            <float[1,2,3,3] w, float[1] b> {
                p = ReduceMax<axes = [1]>(x)  m = ReduceMean<axes = [-3]>(x)  t = Concat<axis = -3>(p, m)
                c = Conv<pads = [1,1,1,1]>(t, w, b)  g = HardSigmoid(c)  s = Mul(g, x)  y = Relu(s) }""",
            ops=("Mul", "Relu"),
            opset=13,
            title="maximum first, a hard gate, an old opset",
        ),
        Example(
            """g (float[1,24,8,8] x) => (y)
            <int64[1] a = {1}, float[1,2,7,7] w, float[1] k = {0.1}, float[1] b = {0.5}> {
                m = ReduceMean(x, a)  p = ReduceMax(x, a)  t = Concat<axis = 1>(m, p)  c = Conv<pads = [3,3,3,3]>(t, w)
                s = Mul(c, k)  d = Add(b, s)  g = Sigmoid(d)  y = Mul(x, g) }""",
            ops=("Mul",),
            title="scaled and shifted in front of the gate",
        ),
        Example(
            """g (float[1,24,8,8] x) => (y)
            <int64[1] a = {1}, float[4,2,3,3] w, float[1,4,1,1] v> {
                m = ReduceMean(x, a)  p = ReduceMax(x, a)  t = Concat<axis = 1>(m, p)  c = Conv<pads = [1,1,1,1]>(t, w)
                r = Relu(c)  d = Conv(r, v)  g = Sigmoid(d)  y = Mul(x, g) }""",
            ops=("Mul",),
            title="two convolutions",
        ),
    )
    bad = (
        Example(
            """g (float[1,24,8,8] x) => (y, g)
            <int64[1] a = {1}, float[1,2,7,7] w> {
                m = ReduceMean(x, a)  p = ReduceMax(x, a)  t = Concat<axis = 1>(m, p)  c = Conv<pads = [3,3,3,3]>(t, w)
                g = Sigmoid(c)  y = Mul(x, g) }""",
            refused="the inner value 'g' is an output of the model",
        ),
        Example(
            """g (float[1,24,8,8] x, float[1,24,8,8] z) => (y)
            <int64[1] a = {1}, float[1,2,7,7] w> {
                m = ReduceMean(x, a)  p = ReduceMax(x, a)  t = Concat<axis = 1>(m, p)  c = Conv<pads = [3,3,3,3]>(t, w)
                g = Sigmoid(c)  y = Mul(z, g) }""",
            refused="the gate weighs another map",
        ),
        Example(
            """g (float[1,24,8,8] x) => (y)
            <int64[1] a = {1}, float[1,2,7,7] w> {
                m = ReduceMean(x, a)  p = ReduceMax(x, a)  t = Concat<axis = 1>(m, p)  y = Conv<pads = [3,3,3,3]>(t, w) }""",
            refused="it does not end in a product with the map",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        limit = ctx.limit("reduce.max_channels")
        x = node.inputs[0]
        shape = numbers(x)
        if limit is None or x is None or shape is None or len(shape) != 4 or shape[1] <= limit or reduced(node, ctx) != (1,):
            return None
        readers = ctx.analysis.readers(node.output)
        if len(readers) != 1 or readers[0].op_type != "Concat":
            return None
        found = _gate(node, readers[0], ctx)
        closed(found.nodes, (found.result,), ctx)
        return Match(self, node, found.nodes, (found.result,), found)

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._build(match, build, inverse=False)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The factor taken for its inverse."""
        return self._build(match, build, inverse=True)

    def _build(self, match: Match, build: Builder, inverse: bool) -> Mapping[Value, str]:
        x, result = match.facts.x, match.facts.result
        samples = build.activations(x, result)
        factor, worst, note = _fit([s[x.name] for s in samples], [s[result.name] for s in samples])
        build.promise(worst, note)
        array = (1.0 / factor if inverse else factor).astype(samples[0][x.name].dtype)
        return {result: build.op("Mul", x, build.constant(array))}


class _Gate(Struct, frozen=True):
    """The map, what comes out, and all nodes from its mean and maximum on."""

    x: Value
    result: Value
    nodes: tuple[Node, ...]


_INSIDE = frozenset(
    {"Conv", "BatchNormalization", "Relu", "LeakyRelu", "Sigmoid", "HardSigmoid", "Tanh", "Clip", "Mul", "Add", "Div"}
)


def _gate(peak: Node, concat: Node, ctx: Context) -> _Gate:
    x = ctx.analysis.origin(peak.inputs[0])  # type: ignore[arg-type]  # a reduction has an input
    parts = [ctx.analysis.origin(v).producer for v in concat.inputs if v is not None]
    others = [n for n in parts if n is not peak]
    mean = others[0] if len(others) == 1 else None
    if len(parts) != 2 or mean is None or mean.op_type != "ReduceMean" or reduced(mean, ctx) != (1,):
        raise Refused("the maximum is not joined with a mean over the channels alone")
    nodes, value = [peak, mean, concat], concat.output
    while True:
        readers = ctx.analysis.readers(value)
        if len(readers) != 1 or readers[0].op_type not in _INSIDE or readers[0].domain:
            if value.is_output and any(n.op_type.endswith("Sigmoid") for n in nodes):
                raise Refused(f"the inner value {value.name!r} is an output of the model")
            raise Refused("it does not end in a product with the map")
        node = readers[0]
        nodes.append(node)
        given = [ctx.analysis.origin(v) for v in node.inputs if v is not None and not ctx.is_constant(v)]
        if len(given) == 2:
            if node.op_type != "Mul" or x not in given or mean.inputs[0] is None or ctx.analysis.origin(mean.inputs[0]) is not x:
                raise Refused("the gate weighs another map than the one that it is made of")
            return _Gate(x, node.output, tuple(nodes))
        value = node.output


_MARGIN_DB = 0.1
"""What a factor for each channel has to gain over a single number."""


def _fit(values: list[Array], targets: list[Array]) -> tuple[Array, float, str]:
    """The factor, [1, C or 1, 1, 1]; the worst ratio of all samples; and what to tell."""
    scales = sample_weights(values, targets)
    pairs = [(v.astype(np.float64) * s, t.astype(np.float64) * s) for v, t, s in zip(values, targets, scales, strict=True)]
    flat = [[a.transpose(1, 0, 2, 3).reshape(a.shape[1], -1) for a in pair] for pair in pairs]
    x, y = (np.concatenate([pair[i] for pair in flat], 1) for i in (0, 1))
    cut, end = fit_parts([pair[0].shape[1] for pair in flat])[2:]
    cross, power = (x[:, :cut] * y[:, :cut]).sum(1), (x[:, :cut] ** 2).sum(1)
    single = np.full((len(x), 1), cross.sum() / (power.sum() or 1.0))
    each = np.where(power == 0.0, single[:, 0], cross / np.where(power == 0.0, 1.0, power))[:, None]
    held = x[:, cut:end], y[:, cut:end]
    one, many, none = (_ratio(*held, c) for c in (single, each, np.ones_like(single)))
    factor = each if many > one + _MARGIN_DB else single[:1]
    worst = min(_ratio(a, b, factor) for a, b in flat)
    note = f"held-out {max(one, many) if factor is each else one:.1f} dB (without a factor {none:.1f})"
    return factor.reshape(1, -1, 1, 1), worst, note


def _ratio(x: Array, y: Array, factor: Array) -> float:
    return signal_to_noise(float((y**2).sum()), float(((factor * x - y) ** 2).sum()))
