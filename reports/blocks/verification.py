"""What comparisons say, as text and as parts of a JSON document."""

from __future__ import annotations

from typing import Any

from npu_guard.base.text import printable
from npu_guard.results.findings import Verification
from npu_guard.results.proof import Proof
from npu_guard.verification.bisect import Bisection
from npu_guard.verification.int8 import KEPT, NOT_RUN, Int8
from npu_guard.verification.report import proof_text


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


def _finite(number: float) -> float | None:
    return number if number < float("inf") else None


def int8_json(result: Int8) -> dict[str, Any]:
    """As `verify --int8` and `fix --int8` have it beside the comparison in float."""
    return {
        "verdict": result.verdict, "inputs": result.inputs, "reason": result.reason,
        "outputs": [
            {"name": o.name, "before_db": o.before_db, "after_db": o.after_db, "between_db": o.between_db, "least_db": o.least_db,
             "ok": o.ok}
            for o in result.outputs
        ],
    }  # fmt: skip


def worst_difference(v: Verification) -> str:
    """`equal, error 1.2e-07, 140 dB`, of the output that differs most."""
    if v.verdict == "not_run":
        return f"not verified ({printable(v.reason, 120)})"
    worst = min(v.outputs, key=lambda o: o.snr_db)
    return f"{v.verdict}, error {worst.max_abs:.2g}, {worst.snr_db:.0f} dB"


def verification_text(v: Verification) -> str:
    """One paragraph: the verdict, then a line for each output."""
    if v.verdict == "not_run":
        return f"NOT VERIFIED: {printable(v.reason)}"
    lines = [f"{worst_difference(v)}, on {v.inputs} ({v.backend})"]
    lines += [f"  {printable(v.reason, 400)}"] if v.reason else []
    lines += [f"  {printable(proof_text(v.proof), 600)}"] if v.proof is not None else []
    for o in v.outputs:
        measures = f"relative {o.max_rel:.2g}, cosine {o.cosine:.6f}, {o.snr_db:.0f} dB{'' if o.ok else '  <- differs'}"
        lines.append(f"  {printable(o.name, 60)}: tolerance {o.atol:.2g}, needed {o.max_abs:.2g}, {measures}")
    return "\n".join(lines)


def bisection_text(found: Bisection) -> str:
    """The tensor at which two models part, or why none is named."""
    if found.name is None:
        return f"First divergence: not found ({printable(found.reason)})"
    return f"First divergence: {printable(found.name, 200)}"


def int8_text(result: Int8) -> str:
    """One paragraph: the verdict, then a line for each output."""
    if result.verdict == NOT_RUN:
        return f"As int8: NOT COMPARED: {printable(result.reason)}"
    lines = [f"As int8: {'precision is kept' if result.verdict == KEPT else 'PRECISION IS LOST'} on {result.inputs}"]
    for o in result.outputs:
        measures = (
            f"before {o.before_db:.1f} dB, after {o.after_db:.1f} dB (at least {o.least_db:.1f}), one another {o.between_db:.1f}"
        )
        lines.append(f"  {printable(o.name, 60)}: {measures}{'' if o.ok else '  <- loses'}")
    return "\n".join(lines)
