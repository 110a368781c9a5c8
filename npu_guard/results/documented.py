"""How much of a model the device's documents say that it runs."""

from __future__ import annotations

from npu_guard.results.findings import Location, ModelReport, Outcome, Severity

_UNDOCUMENTED = "NPU101"
"""The rule that says so of an operator."""


def documented_percent(model: ModelReport) -> float:
    """Share of the MACs on operators that run and of which the device's documents say so."""
    silent, share = _silent(model), model.totals.npu_macs_percent
    return max(round(share - 100.0 * sum(silent.values()) / model.totals.macs, 2), 0.0) if silent and model.totals.macs else share


def undocumented(model: ModelReport) -> int:
    """How many operators run, as far as anybody knows, and the device's documents do not say so."""
    return len(_silent(model))


def _silent(model: ModelReport) -> dict[Location, int]:
    """The MACs of each operator without an error that is not in the table of the device."""
    told = [f for f in model.findings if f.suppressed is None and f.outcome is Outcome.FAIL]
    held = {f.location for f in told if f.severity is Severity.ERROR}
    return {f.location: f.macs for f in told if f.rule == _UNDOCUMENTED and f.location not in held}
