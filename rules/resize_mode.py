from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isclose
from typing import TYPE_CHECKING

from npu_guard.analysis.resize import map_scales, repeats
from npu_guard.checking.rule import Case, Draft, Rule

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.device import ResizeForm
    from npu_guard.graph.graph import Node

_LINEAR = {"mode": "linear", "scales": "integer", "transforms": ["half_pixel", "asymmetric"]}
_LIMIT = {"resize": [{"mode": "nearest", "scales": [2]}, _LINEAR]}
_ALLOWED = "nearest x2; linear x integer (half_pixel, asymmetric)"


class ResizeMode(Rule):
    """A Resize uses a mode, a coordinate transformation or a scale that the device lacks.

    *What it does*

    Compares mode, scale and coordinate transformation of Resize and Upsample with the forms in `resize`. The scale is the
    output's extent over the input's, the same along all axes of space. Nearest at a whole scale has to repeat every pixel
    that often, which follows from coordinates and rounding. Resizing batch or channels never fits, nor does cropping, nor
    antialiasing where something shrinks.

    *Why it matters*

    The device repeats pixels or blends two rows with fixed weights. Other scales need weights for each pixel.

    *What to do*

    Use a mode, a scale and a coordinate transformation that the device takes, such as nearest at scale 2, once or more. Any
    fixed whole scale is a transposed convolution with constant weights too.
    """

    code = "NPU501"
    name = "resize-mode"
    ops = ("Resize", "Upsample")
    limits = ("resize",)
    good = (
        Case("g (float[1,8,4,4] x) => (y) <float[4] s = {1, 1, 2, 2}> { y = Resize(x, , s) }", _LIMIT, title="nearest, twice"),
        Case("g (float[1,8,4,4] x) => (y) <float[4] s = {1, 1, 2, 2}> { y = Upsample(x, s) }", _LIMIT, opset=9),
        Case('g (float[1,8,4,6] x) => (y) <int64[4] s = {1, 8, 12, 18}> { y = Resize<mode = "linear">(x, , , s) }', _LIMIT),
        Case('g (float[1,8,"H",4] x) => (y) <float[4] s = {1, 1, 2, 2}> { y = Resize(x, , s) }', _LIMIT, title="whatever H is"),
        Case("g (float[1,8,4,4] x) => (y) <float[2] s = {2, 2}> { y = Resize<axes = [-2, -1]>(x, , s) }", _LIMIT),
        Case(
            'g (float[1,8,4,4] x) => (y) <float[4] s = {1, 1, 2, 2}> { y = Resize<mode = "linear", antialias = 1>(x, , s) }',
            _LIMIT,
        ),
    )
    bad = (
        Case(
            """g (float[1,8,4,4] x) => (y) <float[4] s = {1, 1, 2, 2}>
            { y = Resize<mode = "linear", coordinate_transformation_mode = "align_corners">(x, , s) }""",
            _LIMIT,
            expect=(("y", "linear x2 align_corners"),),
            allowed=_ALLOWED,
        ),
        Case(
            "g (float[1,8,4,4] x) => (y) <float[4] s = {1, 1, 3, 3}> { y = Resize(x, , s) }",
            _LIMIT,
            expect=(("y", "nearest x3 half_pixel"),),
            allowed=_ALLOWED,
            title="nearest, three times",
        ),
        Case(
            'g (float[1,8,4,4] x) => (y) <float[4] s = {1, 1, 2, 2}> { y = Resize<nearest_mode = "ceil">(x, , s) }',
            _LIMIT,
            expect=(("y", "nearest x2 half_pixel ceil"),),
            allowed=_ALLOWED,
            title="rounded up, which does not repeat each pixel twice",
        ),
        Case(
            'g (float[1,8,4,4] x) => (y) <int64[4] s = {1, 8, 8, 16}> { y = Resize<mode = "linear">(x, , , s) }',
            _LIMIT,
            expect=(("y", "linear x2 x4 half_pixel"),),
            allowed=_ALLOWED,
            title="height and width differ",
        ),
        Case(
            'g (float[1,8,4,4] x) => (y) <float[4] s = {1, 2, 2, 2}> { y = Upsample<mode = "linear">(x, s) }',
            _LIMIT,
            expect=(("y", "linear x1 x2 x2 x2 asymmetric"),),
            allowed=_ALLOWED,
            opset=9,
            title="channels resized",
        ),
        Case(
            'g (float[1,8,4,4] x) => (y) <float[4] s = {1, 1, 0.5, 0.5}> { y = Resize<mode = "linear", antialias = 1>(x, , s) }',
            _LIMIT,
            expect=(("y", "linear x0.5 half_pixel antialias"),),
            allowed=_ALLOWED,
        ),
        Case(
            "g (float[1,8,4,4] x) => (y) <float[4] s = {1, 1, 2.0005, 2.0005}> { y = Resize(x, , s) }",
            _LIMIT,
            expect=(("y", "nearest x2.0005 half_pixel"),),
            allowed=_ALLOWED,
            title="not twice: the extents are those of x2, the pixels are not",
        ),
        Case(
            "g (float[1,8,4,4] x, float[4] s) => (y) { y = Resize(x, , s) }",
            _LIMIT,
            undecided=("y",),
            title="a scale that is computed",
        ),
        Case(
            'g (float[1,8,4,4] x, float[4] s) => (float[1,8,4,4] y) { y = Resize<mode = "linear">(x, , s) }',
            _LIMIT,
            undecided=("y",),
            title="a scale that is computed, and leaves the extents as they are",
        ),
    )

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        forms: Sequence[ResizeForm] = ctx.limit("resize")
        mode = node.attr("mode", "nearest").removeprefix("bi")  # Upsample of opset 1 says "bilinear"
        # What Upsample and opset 10 always do.
        transform, pixels = node.attr("coordinate_transformation_mode", "asymmetric"), node.attr("nearest_mode", "floor")
        scale = map_scales(node, ctx)
        antialias = node.attr("antialias", 0) != 0 and min(scale, default=1) < 1  # without effect where nothing shrinks
        space = scale[2:] if all(s == 1 for s in scale[:2]) else ()
        plain = len(set(space)) == 1 and not antialias and transform != "tf_crop_and_resize"
        if plain and any(_fits(form, mode, space[0], transform, pixels) for form in forms):
            return
        shown = " ".join(f"x{s:.7g}" for s in (space[:1] if len(set(space)) == 1 else space or scale))
        odd = mode == "nearest" and plain and _whole(space[0]) and not repeats(transform, pixels, int(space[0]))
        measured = f"{mode} {shown} {transform}{f' {pixels}' if odd else ''}{' antialias' if antialias else ''}"
        yield Draft(f"resizes by {measured}", limit="resize", measured=measured, allowed="; ".join(map(_words, forms)))


def _whole(scale: float) -> bool:
    return scale >= 1 and scale == int(scale)


def _fits(form: ResizeForm, mode: str, scale: float, transform: str, pixels: str) -> bool:
    if mode != form.mode or not (_whole(scale) if isinstance(form.scales, str) else any(isclose(scale, s) for s in form.scales)):
        return False
    if mode == "nearest" and _whole(scale):  # the device repeats pixels, whichever way the coordinates are counted
        return repeats(transform, pixels, int(scale))
    return not form.transforms or transform in form.transforms


def _words(form: ResizeForm) -> str:
    scales = " integer" if isinstance(form.scales, str) else " or x".join(f"{s:g}" for s in form.scales)
    return f"{form.mode} x{scales}" + (f" ({', '.join(form.transforms)})" if form.transforms else "")
