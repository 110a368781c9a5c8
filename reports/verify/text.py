"""What `verify` found, for people."""

from __future__ import annotations

from npu_guard.base.text import printable
from npu_guard.reports.blocks.verification import bisection_text, int8_text, verification_text
from npu_guard.verification.layers import Layers
from npu_guard.verification.report import VerifyResult

MOST = 16
"""Tensors that a screen shows."""


def render(result: VerifyResult, *, color: bool = False) -> str:
    """A paragraph for each thing that was asked for."""
    if result.alone:
        return f"Intact: {result.verification.reason}\n"
    parts = [verification_text(result.verification)]
    if result.bisection is not None:
        parts.append(bisection_text(result.bisection))
    if result.int8 is not None:
        parts.append(int8_text(result.int8))
    if result.layers is not None:
        parts.append(_layers_text(result.layers))
    return "\n".join(parts) + "\n"


def _layers_text(result: Layers) -> str:
    """The tensors that keep least, in the order of the first model."""
    if result.reason:
        return f"By operator: NOT COMPARED: {printable(result.reason)}"
    floats = sorted(x.decibels for x in result.layers if x.decibels is not None)
    least = floats[:MOST][-1] if floats else 0.0
    shown = [x for x in result.layers if x.decibels is None or x.decibels <= least]
    lines = [f"By operator, on {result.inputs}; {len(shown)} of {len(result.layers)} tensors, those that keep least"]
    for x in shown[:MOST]:
        steps = "" if x.steps is None else f", at most {x.steps:.1f} steps"
        lines.append(f"  {'' if x.decibels is None else f'{x.decibels:.1f} dB':>9}{steps}  {x.op_type} {printable(x.name, 60)}")
    return "\n".join(lines)
