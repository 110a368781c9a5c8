"""What Resize reads for each output position of an axis, by the ONNX specification, as indices and weights.

Resize is separable: linear and cubic interpolation over several axes is one axis after the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from msgspec import Struct

from npu_guard.base.text import short
from npu_guard.checking.context import Context
from npu_guard.graph.graph import Node
from npu_guard.rewriting.node_numbers import numbers
from npu_guard.rewriting.substitution import Refused

_TIE = 1e-4
HALF, WHOLE = Fraction(1, 2), Fraction(1)
Taps = tuple[tuple[int, Fraction], ...]
"""Indices with their weights, in order. Weights are fractions, as positions are. An index beyond the edge means the edge."""


class Sampling(Struct, frozen=True):
    """One axis of a Resize: its extent before, and the taps of each output position."""

    size: int
    taps: tuple[Taps, ...]

    @property
    def out(self) -> int:
        """The extent behind it."""
        return len(self.taps)

    @property
    def trivial(self) -> bool:
        """Whether every position is handed on."""
        return self.out == self.size and all(t == ((o, WHOLE),) for o, t in enumerate(self.clamped()))

    def clamped(self) -> tuple[Taps, ...]:
        """The taps with all indices inside; equal ones are summed."""
        result = []
        for taps in self.taps:
            found: dict[int, Fraction] = {}
            for at, weight in taps:
                index = min(max(at, 0), self.size - 1)
                found[index] = found.get(index, Fraction(0)) + weight
            result.append(tuple(sorted(found.items())))
        return tuple(result)


def samplings(node: Node, ctx: Context) -> tuple[Sampling, ...]:
    """All axes of a Resize or Upsample node. Raises Refused where it is dynamic or does something else as well."""
    before, after = numbers(node.input(0)), numbers(node.output)
    if before is None or after is None or 0 in before:
        raise Refused("its shapes are not known; fix them with --input-shape")
    if node.attr("antialias", 0):
        raise Refused("it is antialiased")
    if node.attr("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Refused("it keeps the aspect ratio")
    transform = node.attr("coordinate_transformation_mode", "asymmetric")
    if transform == "tf_crop_and_resize":
        raise Refused("it crops by a region of interest")
    stated = scales(node, ctx, len(before))
    return tuple(_axis(node, transform, s, o, stated.get(a, o / s)) for a, (s, o) in enumerate(zip(before, after, strict=True)))


def scales(node: Node, ctx: Context, rank: int) -> dict[int, float]:
    """The scales that a node states, by axis; none where it states sizes. Raises Refused where they are computed."""
    operand = node.input(1 if node.op_type == "Upsample" or len(node.inputs) == 2 else 2)
    if operand is not None and numbers(operand) == (0,):
        operand = None
    sizes = node.input(3)
    for given in (operand, sizes):
        if given is not None and not ctx.is_constant(given):
            raise Refused(f"its {'sizes' if given is sizes else 'scales'} {short(given.name)!r} are computed from data")
    array = None if operand is None else ctx.analysis.constants.get(operand)
    values = node.attributes.get("scales") if array is None else array.reshape(-1).tolist()
    axes = node.attributes.get("axes") or range(rank)
    return {axis % rank: float(s) for axis, s in zip(axes, values or (), strict=False)}


def _axis(node: Node, transform: str, size: int, out: int, scale: float) -> Sampling:
    mode = node.attr("mode", "nearest").removeprefix("bi").removeprefix("tri")
    if size == out and (scale == 1.0 or transform == "align_corners"):
        return Sampling(size, tuple(((o, WHOLE),) for o in range(out)))
    if mode == "nearest":
        at = [coordinate(transform, o, size, out, scale) for o in range(out)]
        # Upsample and opset 10 have no attribute for it.
        rounding = node.attr("nearest_mode", "floor" if scale >= 1 else "ceil")
        rounded = float(np.float32(scale)) * size != out and (
            transform == "half_pixel_symmetric" or rounding == "round_prefer_ceil"
        )
        if rounded and any(_nearest(x - _TIE, rounding) != _nearest(x + _TIE, rounding) for x in at):
            raise Refused(
                "which pixel is nearest hangs on the last bit of a coordinate, which runtimes compute in ways of their own"
            )
        return Sampling(size, tuple(((_nearest(x, rounding), WHOLE),) for x in at))
    exact = Fraction(out, size) if scale == out / size else Fraction(scale)
    places = [place(transform, o, size, out, exact) for o in range(out)]
    if mode == "linear":
        return Sampling(size, tuple(_linear(x) for x in places))
    if mode == "cubic":
        a, inside = Fraction(node.attr("cubic_coeff_a", -0.75)), bool(node.attr("exclude_outside", 0))
        return Sampling(size, tuple(_cubic(x, a, size if inside else None) for x in places))
    raise Refused(f"its mode {mode!r} is not known")


def place(transform: str, o: int, size: int, out: int, scale: Fraction) -> Fraction:
    """Where an output position lies on the input, exactly: weights between pixels follow from it, and are rounded once.

    Raises Refused.
    """
    if transform == "align_corners":
        return Fraction(0) if out == 1 else Fraction(o * (size - 1), out - 1)
    if transform == "asymmetric":
        return o / scale
    if transform == "tf_half_pixel_for_nn":
        return (o + HALF) / scale
    if transform == "pytorch_half_pixel" and out == 1:
        return Fraction(0)
    if transform == "half_pixel_symmetric":
        return HALF * size * (1 - out / (scale * size)) + (o + HALF) / scale - HALF
    if transform in ("half_pixel", "pytorch_half_pixel"):
        return (o + HALF) / scale - HALF
    raise Refused(f"its coordinates are transformed by {transform!r}, which is not known")


def coordinate(transform: str, o: int, size: int, out: int, scale: float) -> float:
    """The same rounded to single precision, as ONNX Runtime counts: it decides which pixel is the nearest. Raises Refused."""
    s, x = np.float32(scale), np.float32(o)
    half = np.float32(0.5)
    if transform == "align_corners":
        return 0.0 if out == 1 else float(x * np.float32(size - 1) / np.float32(out - 1))
    if transform == "asymmetric":
        return float(x / s)
    if transform == "tf_half_pixel_for_nn":
        return float((x + half) / s)
    if transform == "pytorch_half_pixel" and out == 1:
        return 0.0
    if transform == "half_pixel_symmetric":
        adjustment = np.float32(out) / (s * np.float32(size))
        return float(np.float32(size) / 2 * (1 - adjustment) + (x + half) / s - half)
    if transform in ("half_pixel", "pytorch_half_pixel"):
        return float((x + half) / s - half)
    raise Refused(f"its coordinates are transformed by {transform!r}, which is not known")


def _nearest(x: float, rounding: str) -> int:
    if rounding == "floor":
        return math.floor(x)
    if rounding == "ceil":
        return math.ceil(x)
    return math.ceil(x - 0.5) if rounding == "round_prefer_floor" else math.floor(x + 0.5)


def _linear(x: Fraction) -> Taps:
    below = math.floor(x)
    return tuple((i, w) for i, w in ((below, 1 - (x - below)), (below + 1, x - below)) if w)


def _cubic(x: Fraction, a: Fraction, inside: int | None) -> Taps:
    """Keys, Cubic convolution interpolation for digital image processing, 1981, with the parameter a."""
    below = math.floor(x)
    weights: list[tuple[int, Fraction]] = []
    for index in range(below - 1, below + 3):
        t = abs(x - index)
        near = (a + 2) * t**3 - (a + 3) * t**2 + 1
        far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
        weights.append((index, near if t <= 1 else far))
    if inside is not None:
        kept = [(i, w) for i, w in weights if 0 <= i < inside]
        total = sum(w for _, w in kept)
        weights = [(i, w / total) for i, w in kept]
    return tuple((i, w) for i, w in weights if w)


def gathers(taps: Sequence[Taps]) -> list[tuple[list[int], list[Fraction]]]:
    """A sum over taps turned round: lists of one index for each output, with weights; missing taps weigh nothing."""
    longest = max(map(len, taps))
    result = []
    for k in range(longest):
        chosen = [t[k] if k < len(t) else (t[-1][0], Fraction(0)) for t in taps]
        result.append(([i for i, _ in chosen], [w for _, w in chosen]))
    return result
