from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from msgspec import Struct

from npu_guard.rewriting.node_numbers import numbers
from npu_guard.rewriting.substitution import Array, Builder, Example, Match, Refused, Substitution
from npu_guard.rewriting.transposed import transposed_pads

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_REFUSED = {
    "ConvTranspose": "refused",
    **dict.fromkeys(("Conv", "DepthToSpace", "Slice", "Reshape", "Transpose"), "supported"),
}
_DCR, _CRD, _MOVES = "DCR", "CRD", "by Reshape and Transpose"


class _Phases(Struct, frozen=True):
    """How a ConvTranspose is a Conv whose channels are laid out."""

    strides: tuple[int, int]
    groups: int
    kernel: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    """Before each axis."""
    first: tuple[int, ...]
    """The first input position that an output block reads, relative to it."""
    reach: tuple[int, ...]
    """Input positions that an output block reads."""
    positions: tuple[int, ...]
    """Blocks along each axis."""
    extents: tuple[int, ...]
    """Shape of the result."""
    inputs: tuple[int, ...]


class TransposedConvToConv(Substitution):
    """A ConvTranspose becomes a Conv and a DepthToSpace.

    Each output position is a sum over the input positions that reach it; positions that lie s apart, s being the stride, take
    the same weights. So a Conv computes the s x s phases of a block as channels, and DepthToSpace lays them out (Shi et al.,
    Real-time single image and video super-resolution, 2016). A Slice cuts what the last block has too many. Groups stay, where
    DepthToSpace keeps a channel's phases together (CRD); otherwise they are dense weights with zeros. Where rows and columns have
    strides of their own, Reshape and Transpose lay the phases out, first those of the columns and then those of the rows.
    """

    name = "transposed-conv-to-conv"
    last = True  # a ConvTranspose may be wrong for another reason
    roots = ("ConvTranspose",)
    alone = True
    operators = _REFUSED
    good = (
        Example(
            "g (float[1,4,5,7] x) => (y) <float[4,3,2,2] w> { y = ConvTranspose<strides = [2,2]>(x, w) }",
            ops=("Conv", "DepthToSpace"),
            title="twice the size",
        ),
        Example(
            """g (float[2,4,5,6] x) => (y) <float[4,3,4,3] w, float[3] b>
            { y = ConvTranspose<strides = [2,2], pads = [1,0,2,1], output_padding = [0,1]>(x, w, b) }""",
            ops=("Conv", "DepthToSpace", "Slice", "Slice"),
            title="padded on three sides, with a bias",
        ),
        Example(
            """g (float[1,6,4,5] x) => (y) <float[6,2,5,5] w>
            { y = ConvTranspose<strides = [3,3], pads = [1,1,1,1], group = 2>(x, w) }""",
            title="groups, stride 3",
        ),
        Example(
            """g (float[1,4,5,5] x) => (y) <float[4,1,3,3] w>
            { y = ConvTranspose<strides = [2,2], dilations = [2,1], group = 4>(x, w) }""",
            title="dilated, depthwise",
        ),
        Example(
            "g (float[1,4,5,5] x) => (y) <float[4,2,3,3] w> { y = ConvTranspose<pads = [1,1,1,1]>(x, w) }",
            ops=("Conv",),
            title="stride 1",
        ),
        Example(
            """g (float[1,4,1,7] x) => (y) <float[4,3,2,4] w, float[3] b>
            { y = ConvTranspose<strides = [1,2], pads = [0,1,0,1]>(x, w, b) }""",
            ops=("Conv", "DepthToSpace"),
            title="one row, along which there is no step",
        ),
        Example(
            """g (float[1,4,5,5] x) => (y, z) <float[4,2,3,3] w, float[4,2,4,4] v>
            { y = ConvTranspose<strides = [2,2], auto_pad = "SAME_LOWER">(x, w)
              z = ConvTranspose<strides = [2,2], output_shape = [9,11]>(x, v) }""",
            title="padded as the size of the output asks for",
        ),
        Example(
            """g (float[1,4,5,6] x) => (y) <float[4,2,3,3] w, float[2] b>
            { y = ConvTranspose<strides = [2,1], pads = [1,1,0,1]>(x, w, b) }""",
            ops=("Conv", "Reshape", "Transpose", "Reshape"),
            title="twice the rows",
        ),
        Example(
            """g (float[2,4,5,6] x) => (y) <float[4,2,3,4] w>
            { y = ConvTranspose<strides = [2,3], pads = [1,0,1,1], group = 2>(x, w) }""",
            ops=("Conv", "Reshape", "Transpose", "Reshape", "Transpose", "Reshape", "Slice"),
            title="twice the rows and three times the columns, in groups",
        ),
    )
    bad = (
        Example(
            'g (float[1,4,"H",5] x) => (y) <float[4,2,3,3] w> { y = ConvTranspose<strides = [2,2]>(x, w) }',
            refused="its shapes are not known",
        ),
        Example(
            "g (float[1,4,5,5] x, float[4,2,3,3] w) => (y) { y = ConvTranspose<strides = [2,2]>(x, w) }",
            refused="its weights are computed",
        ),
        Example(
            "g (float[1,4,9] x) => (y) <float[4,2,3] w> { y = ConvTranspose<strides = [2]>(x, w) }",
            refused="it is no map of rows and columns",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Sequence[Match]:
        shape, extents, weight = numbers(node.input(0)), numbers(node.output), numbers(node.input(1))
        if shape is None or extents is None or weight is None:
            raise Refused("its shapes are not known; fix them with --input-shape")
        if len(shape) != 4:
            raise Refused("it is no map of rows and columns")
        if not ctx.is_constant(ctx.input(node, 1)):
            raise Refused("its weights are computed")
        strides = [int(s) for s in node.attr("strides") or (1, 1)]
        strides = [max(strides) if n == 1 else s for s, n in zip(strides, shape[2:], strict=True)]  # one row makes no step
        phases = _phases(node, (strides[0], strides[1]), shape, extents, weight)
        if strides[0] != strides[1]:
            return [Match(self, node, (node,), (node.output,), phases, variant=_MOVES)]
        modes = [_DCR] if phases.groups == 1 or node.graph.model.opsets.get("", 1) < 11 else [_CRD, _DCR]
        return [Match(self, node, (node,), (node.output,), phases, variant=mode) for mode in modes]

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return _written(match, build, 0)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The phases of a block one place on."""
        return _written(match, build, 1)


def _phases(
    node: Node, strides: tuple[int, int], shape: tuple[int, ...], extents: tuple[int, ...], weight: tuple[int, ...]
) -> _Phases:
    kernel = weight[2:]
    dilations = tuple(int(d) for d in node.attr("dilations") or (1, 1))
    pads = transposed_pads(node)[:2]
    # Output q reads input i with tap t where q + p = s i + d t; with q = s a + phase that is i - a = (phase + p - d t) / s.
    ends = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
    first = tuple(-((end - p) // s) for end, p, s in zip(ends, pads, strides, strict=True))
    last = tuple((s - 1 + p) // s for p, s in zip(pads, strides, strict=True))
    reach = tuple(b - a + 1 for a, b in zip(first, last, strict=True))
    positions = tuple(-(-n // s) for n, s in zip(extents[2:], strides, strict=True))
    return _Phases(strides, int(node.attr("group", 1)), kernel, dilations, pads, first, reach, positions, extents, shape)


def _written(match: Match, build: Builder, shift: int) -> Mapping[Value, str]:
    node, p = match.root, match.facts
    blocks, grouped = math.prod(p.strides), match.variant in (_CRD, _MOVES)
    before = [-a for a in p.first]
    behind = [m - 1 + a + r - n for m, a, r, n in zip(p.positions, p.first, p.reach, p.inputs[2:], strict=True)]
    x: str | Value | None = node.inputs[0]
    assert x is not None
    for axis, (a, b) in enumerate(zip(before, behind, strict=True)):  # what no block reads is cut off
        if min(a, b) < 0:
            x = build.slice(x, axis + 2, max(-a, 0), p.inputs[axis + 2] - max(-b, 0))
    pads = [max(n, 0) for n in (*before, *behind)]
    channels = p.extents[1]
    group = p.groups if grouped else 1
    shape = (channels * blocks, p.inputs[1] // group, *p.reach)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(node.output.dtype)
    weight, bias = node.inputs[1], node.input(2)
    assert weight is not None

    def taps() -> Array:
        return np.roll(_taps(np.asarray(build.weight(weight), dtype), p, grouped), shift, axis=0)

    operands = [x, build.later(shape, taps, dtype)]
    if bias is not None:

        def repeated() -> Array:
            array = np.asarray(build.weight(bias), dtype)
            return np.repeat(array, blocks) if grouped else np.tile(array, blocks)

        operands.append(build.later((channels * blocks,), repeated, dtype, "bias"))
    name = build.op("Conv", *operands, group=group, pads=pads)
    if match.variant == _MOVES:
        name = _laid_out(build, name, p)
    elif blocks > 1:
        mode: dict[str, Any] = {} if match.variant == _DCR else {"mode": _CRD}  # before opset 11 there is no attribute for it
        name = build.op("DepthToSpace", name, blocksize=p.strides[0], **mode)
    for axis, (m, s, n) in enumerate(zip(p.positions, p.strides, p.extents[2:], strict=True)):
        if m * s > n:
            name = build.slice(name, axis + 2, 0, n)
    return {node.output: name}


def _laid_out(build: Builder, name: str, p: _Phases) -> str:
    """The phases of channels [c, v, u] to rows (h, v) and columns (w, u)."""
    (v, u), (h, w), maps = p.strides, p.positions, p.inputs[0] * p.extents[1]
    if u > 1:
        name = build.op("Transpose", build.op("Reshape", name, build.ints(1, maps * v, u, h * w)), perm=[0, 1, 3, 2])
    if v > 1:
        name = build.op("Transpose", build.op("Reshape", name, build.ints(maps, v, h, w * u)), perm=[0, 2, 1, 3])
    return build.op("Reshape", name, build.ints(-1, p.extents[1], h * v, w * u))


def _taps(weight: Array, p: _Phases, grouped: bool) -> Array:
    """Weights of the Conv, [channels x phases, inputs of a group, rows, columns]; a channel's phases follow each other where
    `grouped`.
    """
    (sh, sw), each = p.strides, weight.shape[0] // p.groups
    width = weight.shape[1]
    made = np.zeros((p.groups, width, sh, sw, each if grouped else weight.shape[0], *p.reach), weight.dtype)
    for group in range(p.groups):
        block = weight[group * each : (group + 1) * each].swapaxes(0, 1)
        inputs = slice(0, each) if grouped else slice(group * each, (group + 1) * each)
        for i in range(p.kernel[0]):
            for j in range(p.kernel[1]):
                # d t = phase + p - s (i - a), for the one phase of each axis that divides.
                (v, a), (u, b) = (_place(t, axis, p) for axis, t in enumerate((i, j)))
                made[group, :, v, u, inputs, a, b] = block[:, :, i, j]
    flat = made.reshape(p.groups * width, sh * sw, *made.shape[4:])
    return np.ascontiguousarray(flat if grouped else flat.swapaxes(0, 1)).reshape(-1, *made.shape[4:])


def _place(tap: int, axis: int, p: _Phases) -> tuple[int, int]:
    """The phase that a tap belongs to, and its position in the kernel of the Conv."""
    distance = p.dilations[axis] * tap - p.pads[axis]
    phase = distance % p.strides[axis]
    return phase, (phase - distance) // p.strides[axis] - p.first[axis]
