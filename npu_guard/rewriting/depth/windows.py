"""Three-dimensional convolutions and pooling on folded maps: what they do along the depth, and in height and width.

At each output depth a convolution is a sum over the depths that it reads: one 2-D convolution of their maps side by side.
Several output depths at once are a convolution with a block-Toeplitz weight, which has blocks of zeros where a depth is read by
one of them alone: more products and weights, fewer operators. What costs least is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from msgspec import Struct

from npu_guard.base.text import short
from npu_guard.graph.graph import Node, Value
from npu_guard.rewriting.depth.folded import Depths, Folded, dtype_of, shape_of
from npu_guard.rewriting.node_numbers import share_before
from npu_guard.rewriting.substitution import Array, Refused

Taps = Sequence[Sequence[tuple[int, int]]]
"""For each output depth the depths that are read, each with its tap of the kernel."""
MACS_PER_BYTE = 64
"""What moving a byte costs, in multiply-accumulates: engines do a few hundred in the time of one byte from memory, when full."""
_PER_AXIS = ("kernel_shape", "strides", "dilations", "output_padding", "output_shape")
WINDOWS = frozenset({"Conv", "ConvTranspose", "MaxPool", "AveragePool"})


class Axis(Struct, frozen=True):
    """The depth axis of a window: `kernel` taps, extents before and after, and the padding in front."""

    transposed: bool
    kernel: int
    stride: int
    dilation: int
    begin: int
    size: int
    out: int

    @staticmethod
    def of(node: Node, kernel: int) -> Axis:
        """As the node's attributes have it; `auto_pad` follows from the extents. Raises Refused."""
        size, out = shape_of(node.inputs[0])[2], shape_of(node.output)[2]
        stride, dilation = (int((node.attributes.get(name) or (1,))[0]) for name in ("strides", "dilations"))
        transposed = node.op_type == "ConvTranspose"
        mode = node.attr("auto_pad", "NOTSET")
        begin = int((node.attributes.get("pads") or (0,))[0]) if mode == "NOTSET" else 0
        reach = (kernel - 1) * dilation + 1
        if mode.startswith("SAME") or (transposed and node.attributes.get("output_shape")):
            padding = (node.attributes.get("output_padding") or (0,))[0] if transposed else 0
            total = stride * (size - 1) + reach + padding - out if transposed else (out - 1) * stride + reach - size
            if transposed and max(total, 0) % 2:
                raise Refused(f"{node.op} {short(node.label)!r} leaves to the runtime which end is padded more")
            begin = share_before(total, mode)
        return Axis(transposed, kernel, stride, dilation, begin, size, out)

    def taps(self) -> Taps:
        """What each output depth reads; nothing of the padding."""
        found: list[list[tuple[int, int]]] = [[] for _ in range(self.out)]
        for t in range(self.kernel):
            reach = t * self.dilation - self.begin
            if self.transposed:
                for d in range(self.size):
                    if 0 <= d * self.stride + reach < self.out:
                        found[d * self.stride + reach].append((d, t))
            else:
                for o in range(self.out):
                    if 0 <= o * self.stride + reach < self.size:
                        found[o].append((o * self.stride + reach, t))
        return [sorted(taps) for taps in found]


def flat(node: Node) -> dict[str, Any]:
    """The attributes of a 3-D window without the depth, for `Builder.like`."""
    changed: dict[str, Any] = {}
    for name in _PER_AXIS:
        if node.attributes.get(name):
            changed[name] = list(node.attributes[name][-2:])
    if pads := node.attributes.get("pads"):
        changed["pads"] = [pads[1], pads[2], pads[4], pads[5]]
    return changed


def convolution(node: Node, to: Depths) -> Folded:
    """Conv and ConvTranspose with constant weights. Raises Refused."""
    x, weight, bias = node.inputs[0], node.input(1), node.input(2)
    if x is None or weight is None or not to.ctx.is_constant(weight) or not (bias is None or to.ctx.is_constant(bias)):
        raise Refused(f"the weights of {node.op} {short(node.label)!r} are not constant")
    taps = Axis.of(node, shape_of(weight)[2]).taps()
    kernel = to.build.weight(weight)
    if to.wrong:
        kernel = kernel[:, :, ::-1]
    if not all(taps):
        raise Refused(f"{node.op} {short(node.label)!r} has output depths that read padding alone")
    group = node.attr("group", 1)
    if group > 1:
        return _grouped(node, to, taps, kernel, group)
    block = min(_blocks(len(taps)), key=lambda n: cost(node, taps, n))
    return _dense(node, to, taps, kernel, block)


def _blocks(depths: int) -> list[int]:
    """Numbers of output depths that one convolution can make, so that all make as many but the last."""
    return sorted({-(-depths // n) for n in range(1, depths + 1)})


def cost(node: Node, taps: Taps, block: int) -> int:
    """What it costs to make `block` output depths at a time, in multiply-accumulates."""
    _, channels, _, *before = shape_of(node.inputs[0])
    _, width, depth, *after = shape_of(node.output)
    kernel, element = int(np.prod(shape_of(node.inputs[1])[3:])), dtype_of(node.output).itemsize
    positions = int(np.prod(before if node.op_type == "ConvTranspose" else after))
    weights, products, moved = set(), 0, 0 if block >= depth else width * depth * int(np.prod(after))
    for start in range(0, depth, block):
        reads, pattern = _pattern(taps[start : start + block])
        blocks = len(pattern) * len(reads) * channels * width * kernel
        weights.add((blocks, pattern))
        products += blocks * positions
        moved += len(reads) * channels * int(np.prod(before)) if len(reads) < shape_of(node.inputs[0])[2] else 0
    return products + MACS_PER_BYTE * element * (moved + sum(size for size, _ in weights))


def _pattern(taps: Taps) -> tuple[tuple[int, ...], tuple[tuple[tuple[int, int], ...], ...]]:
    """The depths that several output depths read, and which taps each has at which of them."""
    reads = tuple(sorted({d for one in taps for d, _ in one}))
    return reads, tuple(tuple((reads.index(d), t) for d, t in one) for one in taps)


def _dense(node: Node, to: Depths, taps: Taps, kernel: Array, block: int) -> Folded:
    x = to.fold(node.inputs[0])  # type: ignore[arg-type]
    transposed = node.op_type == "ConvTranspose"
    width, parts = shape_of(node.output)[1], []
    weights: dict[tuple[object, ...], str] = {}
    names: dict[tuple[int, ...], str] = {}
    for start in range(0, len(taps), block):
        reads, pattern = _pattern(taps[start : start + block])
        key = (len(reads), pattern)
        if key not in weights:
            weights[key] = to.build.constant(_toeplitz(kernel, len(reads), pattern, transposed=transposed))
        made = tuple(range(start, start + len(pattern)))
        bias = _bias(node, to, len(pattern))
        names[made] = to.build.like(node, to.window(x, reads), weights[key], *bias, **flat(node))[0]
        parts.append(made)
    result = Folded(width, len(taps), dict(names))
    if len(parts) > 1 and block > 1:
        result.windows[result.every] = to.concat([names[made] for made in parts])
    return result


def _toeplitz(kernel: Array, reads: int, pattern: Sequence[Sequence[tuple[int, int]]], *, transposed: bool) -> Array:
    """The weight of several output depths over the maps that they read: a block of the kernel wherever a tap meets one."""
    first, second = kernel.shape[:2]
    rows, columns = (reads, len(pattern)) if transposed else (len(pattern), reads)
    weight = np.zeros((rows, first, columns, second, *kernel.shape[3:]), kernel.dtype)
    for o, taps in enumerate(pattern):
        for d, t in taps:
            at = (d, o) if transposed else (o, d)
            weight[at[0], :, at[1]] += kernel[:, :, t]
    return weight.reshape(rows * first, columns * second, *kernel.shape[3:])


def _bias(node: Node, to: Depths, depths: int) -> list[str | Value]:
    """The bias, once for each output depth."""
    bias = node.input(2)
    if bias is None:
        return []
    return [bias if depths == 1 else to.build.constant(np.tile(to.build.weight(bias), depths), "bias")]


def _grouped(node: Node, to: Depths, taps: Taps, kernel: Array, group: int) -> Folded:
    """Groups are of channels, which lie apart once several depths are side by side: so a convolution for each tap, summed."""
    x = to.fold(node.inputs[0])  # type: ignore[arg-type]
    weights: dict[int, str] = {}
    names = []
    for one in taps:
        terms: list[str] = []
        for d, t in one:
            if t not in weights:
                weights[t] = to.build.constant(kernel[:, :, t])
            bias = _bias(node, to, 1) if not terms else []
            terms.append(to.build.like(node, to.piece(x, d), weights[t], *bias, **flat(node), group=group)[0])
        names.append(to.total("Add", terms))
        to.afford()
    return to.pieces(names, shape_of(node.output)[1])


def pooling(node: Node, to: Depths) -> Folded:
    """MaxPool and AveragePool: in height and width for all depths at once, then over the depths of each window.

    Raises Refused.
    """
    x = to.fold(node.inputs[0])  # type: ignore[arg-type]
    kernel = node.attributes["kernel_shape"]
    if len([v for v in node.outputs if v is not None]) > 1:
        raise Refused(f"{node.op} {short(node.label)!r} gives the indices too")
    average = node.op_type == "AveragePool"
    if average and node.attr("ceil_mode", 0) and _overhangs(node):
        raise Refused(f"{node.op} {short(node.label)!r} has windows beyond the padding, which runtimes count differently")
    if _is_placed_by_runtime(node):
        raise Refused(f"{node.op} {short(node.label)!r} has SAME padding for windows with gaps, which runtimes place differently")
    axis = Axis.of(node, kernel[0])
    taps = axis.taps()
    if not all(taps):
        raise Refused(f"{node.op} {short(node.label)!r} has windows that lie in the padding alone")
    name = to.whole(x)
    if kernel[1:] != (1, 1) or shape_of(node.inputs[0])[3:] != shape_of(node.output)[3:]:
        name = to.build.like(node, name, **flat(node))[0]
    flattened = to.folded(name, x.channels, x.depth)
    counts = np.array([axis.kernel if node.attr("count_include_pad", 0) else len(one) for one in taps])
    if taps == [[(d, 0)] for d in flattened.every] and not (average and counts.max() > 1):
        return flattened
    to.apart(flattened)
    joined = [to.total("Add" if average else "Max", [to.piece(flattened, d) for d, _ in one]) for one in taps]
    result = to.pieces(joined, x.channels)
    if not average:
        return result
    if to.wrong:
        counts = counts + 1
    shares = np.array([Fraction(1, int(n)) for n in counts], object)
    factors = np.repeat(shares, x.channels).reshape(1, -1, 1, 1) if len(set(counts)) > 1 else shares[0]
    return to.folded(to.scaled(to.whole(result), factors, node.output), x.channels, len(taps))


def _is_placed_by_runtime(node: Node) -> bool:
    """Whether SAME pads a dilated window, or one smaller than its stride: ONNX Runtime leaves the specification there."""
    gaps = any(d > 1 for d in node.attr("dilations", ())) or any(
        k < s for k, s in zip(node.attributes["kernel_shape"], node.attr("strides", (1, 1, 1)), strict=True)
    )
    return gaps and node.attr("auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER")


def _overhangs(node: Node) -> bool:
    """Whether rounding up has made more windows than fit into the padded extents."""
    before, after = shape_of(node.inputs[0])[2:], shape_of(node.output)[2:]
    attributes: Mapping[str, Sequence[int]] = node.attributes
    strides, dilations, pads = (
        attributes.get(name) or default for name, default in (("strides", [1] * 3), ("dilations", [1] * 3), ("pads", [0] * 6))
    )
    return any(
        (after[i] - 1) * strides[i] + (attributes["kernel_shape"][i] - 1) * dilations[i] + 1 > before[i] + pads[i] + pads[i + 3]
        for i in range(3)
    )
