"""What `verify` found, as JSON."""

from __future__ import annotations

from npu_guard.base.json import json_text
from npu_guard.reports.blocks.verification import int8_json, verification_json
from npu_guard.verification.report import VerifyResult


def render(result: VerifyResult, *, color: bool = False) -> str:
    """The comparison, and what was asked for besides."""
    document = verification_json(result.verification)
    if result.bisected:
        document["first_divergence"] = result.bisection.name if result.bisection is not None else None
    if result.int8 is not None:
        document["int8"] = int8_json(result.int8)
    if result.layers is not None:
        document["layers"] = {
            "inputs": result.layers.inputs,
            "reason": result.layers.reason,
            "tensors": [
                {"name": x.name, "op_type": x.op_type, "snr_db": x.decibels, "steps": x.steps} for x in result.layers.layers
            ],
        }
    if result.pieces:
        document["intact"] = True
    return json_text(document)
