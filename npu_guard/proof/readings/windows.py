"""Convolutions and pooling: what a sliding window covers, and what is made of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from npu_guard.proof.arithmetic import Arithmetic
from npu_guard.proof.modular import Array
from npu_guard.proof.program import Call
from npu_guard.proof.readings.moves import padded
from npu_guard.proof.readings.table import at, attribute_or, reading
from npu_guard.proof.tensor import Operand, Tensor, Unsupported, join

AT_ONCE = 1 << 21
"""Elements of the windows of a convolution that are held at once."""


def windows(v: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Array:
    """[..., out..., kernel...]: what each window covers of the last axes."""
    n = len(kernel)
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    seen = np.lib.stride_tricks.sliding_window_view(v, reach, tuple(range(v.ndim - n, v.ndim)))
    steps = (*(slice(None, None, s) for s in strides), *(slice(None, None, d) for d in dilations))
    return seen[(slice(None),) * (v.ndim - n) + steps]


def _geometry(call: Call, extents: Sequence[int], kernel: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Strides, dilations and pads (all begins, then all ends), whichever way the node spells them."""
    n = len(kernel)
    strides = list(attribute_or(call.attributes.get("strides"), [1] * n))
    dilations = list(attribute_or(call.attributes.get("dilations"), [1] * n))
    pads, auto = list(attribute_or(call.attributes.get("pads"), [0] * 2 * n)), call.attr("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        total = []
        for extent, k, s, d in zip(extents, kernel, strides, dilations, strict=True):
            reach = (k - 1) * d + 1
            total.append(max(0, reach - s if call.op_type == "ConvTranspose" else (-(-extent // s) - 1) * s + reach - extent))
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        pads = small + large if auto == "SAME_UPPER" else large + small
    elif auto == "VALID":
        pads = [0] * 2 * n
    return strides, dilations, pads


def convolution(
    a: Arithmetic, x: Tensor, w: Tensor, strides: Sequence[int], dilations: Sequence[int], pads: Sequence[int], group: int
) -> Tensor:
    """Cross-correlation of [N, C, ...] with [M, C / group, ...], as products of matrices, some rows of the map at a time."""
    n = w.ndim - 2
    x = padded(a, x, [(0, 0), (0, 0), *zip(pads[:n], pads[n:], strict=True)])
    m, per, kernel = w.shape[0], w.shape[1], w.shape[2:]
    weight = w.map(lambda v: v.reshape(group, m // group, -1))
    covered = x.map(lambda v: windows(v, kernel, strides, dilations))
    batch, out = covered.shape[0], covered.shape[2 : 2 + n]
    order = (1, 2, *range(3 + n, 3 + 2 * n), 0, *range(3, 3 + n))
    step = max(1, AT_ONCE // max(1, math.prod(covered.shape) // max(1, out[0])))
    rows = []
    for begin in range(0, out[0], step):
        rows.append(_some_rows(a, covered, weight, begin, begin + step, (batch, group, per, m), order))
    return rows[0] if len(rows) == 1 else join(rows, lambda parts: np.concatenate(parts, 2))


def _some_rows(
    a: Arithmetic, covered: Tensor, weight: Tensor, begin: int, end: int, extents: tuple[int, int, int, int], order: Sequence[int]
) -> Tensor:
    batch, group, per, m = extents
    part = covered.map(lambda v: v[:, :, begin:end])
    inner = part.shape[2:]
    out = inner[: len(inner) // 2]
    flat = (group, weight.shape[2], batch * math.prod(out))
    # As floats at once, which matrices are multiplied as: the copy of each window is what a convolution costs.
    columns = part.map(lambda v: v.reshape(batch, group, per, *inner).transpose(order).astype(np.float64, "C").reshape(flat))
    return a.matmul(weight, columns).map(lambda v: np.moveaxis(v.reshape(m, batch, *out), 1, 0))


def _with_bias(a: Arithmetic, y: Tensor, bias: Operand) -> Tensor:
    return y if bias is None else a.add(y, a.lift(bias).map(lambda v: v.reshape([-1] + [1] * (y.ndim - 2))))


@reading("Conv")
def _conv(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    given, w = a.lift(x[0]), a.lift(x[1])
    strides, dilations, pads = _geometry(call, given.shape[2:], w.shape[2:])
    return _with_bias(a, convolution(a, given, w, strides, dilations, pads, call.attr("group", 1)), at(x, 2))


@reading("ConvTranspose")
def _conv_transpose(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    """A convolution of the map with zeros between its elements, the kernel turned round and its channels exchanged."""
    given, w, group = a.lift(x[0]), a.lift(x[1]), call.attr("group", 1)
    n, kernel = w.ndim - 2, w.shape[2:]
    strides, dilations, pads = _geometry(call, given.shape[2:], kernel)
    extra = list(attribute_or(call.attributes.get("output_padding"), [0] * n))
    for i, wanted in enumerate(call.attributes.get("output_shape") or ()):
        total = strides[i] * (given.shape[i + 2] - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1 - wanted
        begin = total // 2 if call.attr("auto_pad", "NOTSET") == "SAME_UPPER" else total - total // 2
        pads[i], pads[i + n] = begin, total - begin
    wide = [(extent - 1) * s + 1 for extent, s in zip(given.shape[2:], strides, strict=True)]
    a.budget.spend(0, math.prod([*given.shape[:2], *wide]))

    def spread(v: Array) -> Array:
        result = np.zeros([*v.shape[:2], *wide], v.dtype)
        result[(slice(None), slice(None), *(slice(None, None, s) for s in strides))] = v
        return result

    def turn(v: Array) -> Array:
        channels, per = v.shape[:2]
        v = v.reshape(group, channels // group, per, *kernel).swapaxes(1, 2).reshape(group * per, channels // group, *kernel)
        return v[(slice(None), slice(None), *[slice(None, None, -1)] * n)]

    full = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    around = [f - p for f, p in zip(full, pads[:n], strict=True)]
    around += [f - p + e for f, p, e in zip(full, pads[n:], extra, strict=True)]
    result = convolution(a, given.map(spread), w.map(turn), [1] * n, dilations, around, group)
    return _with_bias(a, result, at(x, 2))


@reading("LpPool", "GlobalLpPool")
def _norms(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    """Of magnitudes or of squares, over windows or the whole map; what is padded is zero."""
    given, p = a.lift(x[0]), call.attr("p", 2)
    if p not in (1, 2) or call.attr("ceil_mode", 0):
        raise Unsupported("norms of other powers, or of windows that reach beyond the padding")
    powers = a.absolute(given) if p == 1 else a.multiply(given, given)
    if call.op_type == "GlobalLpPool":
        total = a.total(powers, tuple(range(2, given.ndim)), True)
    else:
        kernel = list(call.attributes["kernel_shape"])
        n = len(kernel)
        strides, dilations, pads = _geometry(call, given.shape[2:], kernel)
        sides = [(0, 0), (0, 0), *((pads[i], pads[i + n]) for i in range(n))]
        covered = padded(a, powers, sides).map(lambda v: windows(v, kernel, strides, dilations))
        a.budget.spend(math.prod(covered.shape), math.prod(covered.shape))
        total = a.total(covered, tuple(range(2 + n, 2 + 2 * n)), False)
    return total if p == 1 else a.root(total)


@reading("MaxPool", "AveragePool")
def _pool(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    if call.made > 1:
        raise Unsupported("indices of MaxPool")
    given, kernel = a.lift(x[0]), list(call.attributes["kernel_shape"])
    n, inner = len(kernel), given.shape[2:]
    strides, dilations, pads = _geometry(call, inner, kernel)
    more = _overhang(call, inner, kernel, strides, dilations, pads) if call.attr("ceil_mode", 0) else [0] * n
    sides = [(0, 0), (0, 0), *((pads[i], pads[i + n] + more[i]) for i in range(n))]
    covered = padded(a, given, sides).map(lambda v: windows(v, kernel, strides, dilations))
    a.budget.spend(math.prod(covered.shape), math.prod(covered.shape))
    axes = tuple(range(2 + n, 2 + 2 * n))
    ones = np.pad(np.ones((1, 1, *inner), bool), sides)
    if call.op_type == "AveragePool" and call.attr("count_include_pad", 0):
        own = [(0, 0), (0, 0), *((0, m) for m in more)]
        ones = np.pad(np.ones((1, 1, *(e + pads[i] + pads[i + n] for i, e in enumerate(inner))), bool), own)
    inside = windows(ones, kernel, strides, dilations)
    if call.op_type == "MaxPool":
        return a.largest(covered, axes, False, np.broadcast_to(inside, covered.shape))
    return a.divide(a.total(covered, axes, False), a.constant(inside.sum(axes).astype(np.float64)))


def _overhang(
    call: Call, inner: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int],
    pads: Sequence[int],
) -> list[int]:  # fmt: skip
    """By how much the last windows reach beyond the padding, where sizes are rounded up; one that starts there is none."""
    more = []
    for i, extent in enumerate(inner):
        room = extent + pads[i] + pads[i + len(inner)] - ((kernel[i] - 1) * dilations[i] + 1)
        out = -(-room // strides[i]) + 1
        if (out - 1) * strides[i] >= extent + pads[i]:
            out -= 1
        more.append(max(0, (out - 1) * strides[i] - room))
    return more
