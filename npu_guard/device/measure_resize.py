"""What can be measured at a Resize. Each function answers or raises Undecidable."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from npu_guard.analysis.resize import map_scales
from npu_guard.base.errors import Undecidable
from npu_guard.device.measure import Measured, output_spatial, spatial

if TYPE_CHECKING:
    from npu_guard.analysis.facts import Facts
    from npu_guard.graph.graph import Node

_WHOLE = 1e-4
"""How far from a whole number a reciprocal may be (onnxruntime, core/framework, ReciprocalIsAFactorOfN)."""


def scale(node: Node, ctx: Facts) -> Measured:
    """Scales along the axes of space."""
    return Measured(map_scales(node, ctx)[2:])


def shrinking(node: Node, ctx: Facts) -> Measured:
    """Reciprocals of the scales along the axes of space; a third in 32 bits gives 3."""
    found = [1 / factor if factor else math.inf for factor in map_scales(node, ctx)[2:]]
    return Measured(tuple(round(f) if math.isfinite(f) and abs(f - round(f)) < _WHOLE else f for f in found))


def corner_scale(node: Node, ctx: Facts) -> Measured:
    """Steps between the corners, (out-1)/(in-1), along the axes of space: what `align_corners` scales by; 1 where both are 1.

    Raises Undecidable where an extent is open.
    """
    before, after = spatial(node, ctx), output_spatial(node, ctx)
    if None in (*before.values, *after.values):
        raise Undecidable(before.why or after.why)
    return Measured(tuple(1.0 if b == a else (a - 1) / max(b - 1, 1) for b, a in zip(before.values, after.values, strict=False)))
