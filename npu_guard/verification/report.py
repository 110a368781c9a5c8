"""A comparison as JSON."""

from __future__ import annotations

from typing import Any

from npu_guard.results.findings import Verification


def verification_json(v: Verification) -> dict[str, Any]:
    """A verification as the JSON contract has it. Infinite differences (of shapes, say) are null."""
    return {
        "verdict": v.verdict, "backend": v.backend, "seeds": list(v.seeds), "inputs": v.inputs, "reason": v.reason,
        "outputs": [
            {"name": o.name, "max_abs": _finite(o.max_abs), "max_rel": _finite(o.max_rel), "cosine": o.cosine, "snr_db": o.snr_db,
             "atol": o.atol, "rtol": o.rtol, "ok": o.ok}
            for o in v.outputs
        ],
    }  # fmt: skip


def _finite(number: float) -> float | None:
    return number if number < float("inf") else None
