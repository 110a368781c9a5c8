"""What comparisons say, as text and as parts of a JSON document."""

from __future__ import annotations

from typing import Any

import msgspec

from npu_guard.base.text import printable
from npu_guard.results.proof import Proof
from npu_guard.results.verification import OutputComparison, Verification, Worst
from npu_guard.verification.bisect import Bisection
from npu_guard.verification.description import (
    MIXED,
    describe_agreement,
    describe_limit,
    describe_output,
    error_in_words,
    identical_output,
    ratio_in_words,
    worst_output,
)
from npu_guard.verification.int8 import KEPT, NOT_RUN, Int8
from npu_guard.verification.report import proof_text


def verification_json(v: Verification) -> dict[str, Any]:
    """A verification as the JSON contract has it. Infinite differences (of shapes, say) are null."""
    return {
        "verdict": v.verdict, "backend": v.backend, "seeds": list(v.seeds), "inputs": v.inputs, "reason": v.reason,
        "outputs": [
            {"name": o.name, "max_abs": _finite(o.max_abs), "max_rel": _finite(o.max_rel), "cosine": o.cosine, "snr_db": o.snr_db,
             "atol": o.atol, "rtol": o.rtol, "ok": o.ok, "flips": o.flips, "steps": None if o.steps is None else _finite(o.steps),
             "of_largest": o.of_largest, "note": o.note, "worst": _worst_json(o.worst)}
            for o in v.outputs
        ],
        "proof": None if v.proof is None else proof_json(v.proof),
        **({} if v.roundings is None else {"roundings": msgspec.structs.asdict(v.roundings)}),
    }  # fmt: skip


def _worst_json(worst: Worst | None) -> dict[str, Any] | None:
    if worst is None:
        return None
    return {
        "input": worst.input, "slice": worst.slice, "error": _finite(worst.error), "tolerance": worst.tolerance,
        "before": worst.before, "after": worst.after,
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
    """One line: the verdict, and the largest error, or where outputs that differ are farthest from what they may be."""
    if v.verdict == "not_run":
        return f"not verified ({printable(v.reason, 120)})"
    o = worst_output(v)
    if o is None:
        return f"{v.verdict}: {printable(v.reason, 600)}"
    if same := identical_output(v, o):
        return f"{v.verdict}: {same}"
    agreed = describe_agreement(v) if v.verdict == "equal" and _is_exact(v) else ""
    return f"{v.verdict}: {agreed or describe_output(o, exact=_is_exact(v))}"


def _is_exact(v: Verification) -> bool:
    """Whether it is judged by what rounding may be; else by how much of the signal is left."""
    return v.verdict != "close" and MIXED not in v.reason


def verification_text(v: Verification) -> str:
    """One paragraph: the verdict, then a line for each output."""
    if v.verdict == "not_run":
        return f"NOT VERIFIED: {printable(v.reason, 2000)}"
    lines = [f"{worst_difference(v)}" + (f"; on {v.inputs} ({v.backend})" if v.inputs else "")]
    lines += [f"  {printable(v.reason, 2000)}"] if v.reason and v.outputs else []
    lines += [f"  {printable(proof_text(v.proof), 600)}"] if v.proof is not None else []
    exact = _is_exact(v)
    for o in v.outputs:
        name = printable(o.name, 60)
        if same := identical_output(v, o):
            lines.append(f"  {name}: {same}")
            continue
        about = f"  {name}: {o.note}" if o.note else f"  {name}: largest error {_error(o)}"
        measures = f"cosine {o.cosine:.6f}, signal-to-noise ratio {ratio_in_words(o.snr_db)}"
        measures += "" if o.steps is None else f", {o.steps:.3g} steps of its scale"
        limit = describe_limit(o) if exact and o.ok and not o.note else ""
        lines.append(f"{about}, {measures}{f', {o.flips:,} flips' if o.flips else ''}{'' if o.ok else '  <- differs'}")
        lines += [f"    {limit}"] if limit and o.rtol else []
    return "\n".join(lines)


def _error(o: OutputComparison) -> str:
    """In the units of the output, and beside the largest value."""
    return f"{o.max_abs:.2g}" if o.of_largest is None else f"{o.max_abs:.2g}, {error_in_words(o)}"


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
