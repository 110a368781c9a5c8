"""A Resize of rank 5 on folded maps: the depths blended here, height and width left to a 2-D Resize."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from npu_guard.base.text import short
from npu_guard.graph.graph import Node
from npu_guard.rewriting.depth.folded import RANK, Depths, Folded, shape_of
from npu_guard.rewriting.interpolation import Sampling, gathers, samplings, scales
from npu_guard.rewriting.substitution import Refused


def resize(node: Node, to: Depths) -> Folded:
    """Resize and Upsample in depth and space. Raises Refused."""
    source = node.inputs[0]
    assert source is not None
    axes = samplings(node, to.ctx)
    if not all(a.trivial for a in axes[:2]):
        raise Refused(f"{node.op} {short(node.label)!r} resizes batch or channels")
    x = to.fold(source)
    if axes[2].out <= axes[2].size:  # on as few depths as there are
        return _resized(node, to, _deepened(node, to, x, axes[2]), axes)
    return _deepened(node, to, _resized(node, to, x, axes), axes[2])


def _deepened(node: Node, to: Depths, x: Folded, axis: Sampling) -> Folded:
    """The depths blended: each output depth is a sum of a few, with weights that the static extents fix."""
    if axis.trivial:
        return x
    taps = axis.clamped()
    if to.wrong:
        taps = tuple(tuple(zip([i for i, _ in t], [w for _, w in t[::-1]], strict=True)) for t in taps)
    depth, terms = axis.out, []
    for depths, weights in gathers(taps):
        same = len(set(weights)) == 1
        factors = weights[0] if same else np.repeat(np.array(weights, object), x.channels).reshape(1, -1, 1, 1)
        terms.append(to.scaled(to.window(x, depths), factors, node.output))
    return to.folded(to.total("Add", terms), x.channels, depth)


def _resized(node: Node, to: Depths, x: Folded, axes: Sequence[Sampling]) -> Folded:
    """Height and width, in the node's own way; whether the device has it is a matter of its own."""
    if all(a.trivial for a in axes[3:]):
        return x
    build, (height, width) = to.build, axes[3:]
    mode = node.attr("mode", "nearest").replace("tri", "")
    stated = scales(node, to.ctx, RANK)
    wanted = [stated.get(a, axis.out / axis.size) for a, axis in ((3, height), (4, width))]
    # Runtimes multiply in single precision, ONNX's inference in double: a scale is only used where both come to the same extent.
    exact = [
        math.floor(np.float32(s) * np.float32(a.size)) == math.floor(float(np.float32(s)) * a.size) == a.out
        for s, a in zip(wanted, (height, width), strict=True)
    ]
    if build.opset < 11 or all(exact):
        operand = build.constant(np.array([1, 1, *wanted], np.float32), "scales")
        operands: list[str | None] = [operand] if build.opset < 11 else [None, operand]
        if build.opset < 9:
            name = build.like(node, to.whole(x), scales=[1.0, 1.0, *wanted], mode=mode)[0]
            return to.folded(name, x.channels, x.depth)
    else:
        batch = shape_of(node.inputs[0])[0]
        operands = [None, None, build.ints(batch, x.channels * x.depth, height.out, width.out)]
    if 11 <= build.opset < 13:  # neither region nor scales are optional yet
        operands[:2] = [o or build.constant(np.zeros(0, np.float32), "none") for o in operands[:2]]
    name = build.like(node, to.whole(x), *operands, axes=None, mode=mode)[0]
    return to.folded(name, x.channels, x.depth)
