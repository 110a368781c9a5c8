"""A comparison as JSON."""

from __future__ import annotations

from typing import Any

from npu_guard.results.findings import Verification
from npu_guard.results.proof import ROUNDING, Proof

_NAMED = 3
"""Constants that a line of text names."""


def verification_json(v: Verification) -> dict[str, Any]:
    """A verification as the JSON contract has it. Infinite differences (of shapes, say) are null."""
    return {
        "verdict": v.verdict, "backend": v.backend, "seeds": list(v.seeds), "inputs": v.inputs, "reason": v.reason,
        "outputs": [
            {"name": o.name, "max_abs": _finite(o.max_abs), "max_rel": _finite(o.max_rel), "cosine": o.cosine, "snr_db": o.snr_db,
             "atol": o.atol, "rtol": o.rtol, "ok": o.ok}
            for o in v.outputs
        ],
        "proof": None if v.proof is None else proof_json(v.proof),
    }  # fmt: skip


def proof_json(p: Proof) -> dict[str, Any]:
    """A proof as the JSON contract has it."""
    return {
        "label": p.label, "way": p.way, "constants": list(p.constants), "assumptions": list(p.assumptions), "bound": p.bound,
        "reason": p.reason,
    }  # fmt: skip


def proof_text(p: Proof) -> str:
    """A proof in one line."""
    if not p.reaches(ROUNDING):
        return f"{p.label}, not proved: {p.reason}"
    told = [f"{p.way}; chance of an oversight below {p.bound:.0e}"]
    if p.constants:
        rest = len(p.constants) - _NAMED
        told.append("reads " + ", ".join(p.constants[:_NAMED]) + (f" and {rest} more" if rest > 0 else ""))
    return "; ".join([f"{p.label}: {told[0]}", *told[1:], *(f"takes for granted that {a}" for a in p.assumptions)])


def _finite(number: float) -> float | None:
    return number if number < float("inf") else None
