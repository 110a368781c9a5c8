"""What a run of `verify` comes to, as the formats in `reports/verify/` show it."""

from __future__ import annotations

from dataclasses import dataclass

from npu_guard.results.proof import ROUNDING, Proof
from npu_guard.results.verification import Verification
from npu_guard.verification.bisect import Bisection
from npu_guard.verification.int8 import Int8
from npu_guard.verification.layers import Layers

_NAMED = 3
"""Constants that a line of text names."""


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """Two models, or a model and its pieces, compared."""

    verification: Verification
    int8: Int8 | None = None
    """The same as int8, where that was asked for."""
    bisected: bool = False
    """Whether it was asked where they part."""
    bisection: Bisection | None = None
    """Where they part; None where they do not, or that was not asked."""
    layers: Layers | None = None
    """The two operator by operator, where that was asked for."""
    pieces: bool = False
    """Whether the pieces of a partition were compared, whose files are as the manifest says."""
    alone: bool = False
    """Whether the pieces were looked at without a model to compare them with."""


def proof_text(p: Proof) -> str:
    """A proof in one line."""
    if not p.reaches(ROUNDING):
        return f"{p.label}, not proved: {p.reason}"
    told = [f"{p.way}; chance of an oversight below {p.bound:.0e}"]
    if p.constants:
        rest = len(p.constants) - _NAMED
        told.append("reads " + ", ".join(p.constants[:_NAMED]) + (f" and {rest} more" if rest > 0 else ""))
    return "; ".join([f"{p.label}: {told[0]}", *told[1:], *(f"takes for granted that {a}" for a in p.assumptions)])
