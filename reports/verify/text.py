"""What `verify` found, for people."""

from __future__ import annotations

from npu_guard.reports.blocks.verification import bisection_text, int8_text, verification_text
from npu_guard.verification.report import VerifyResult


def render(result: VerifyResult, *, color: bool = False) -> str:
    """A paragraph for each thing that was asked for."""
    if result.alone:
        return f"Intact: {result.verification.reason}\n"
    parts = [verification_text(result.verification)]
    if result.bisection is not None:
        parts.append(bisection_text(result.bisection))
    if result.int8 is not None:
        parts.append(int8_text(result.int8))
    return "\n".join(parts) + "\n"
