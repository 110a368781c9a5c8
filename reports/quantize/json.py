"""What `quantize` found, as JSON version 1: the document of `check` for the quantized model, with how it came about."""

from __future__ import annotations

import json

import msgspec

from npu_guard.base.installation import VERSION
from npu_guard.base.json import json_text
from npu_guard.checking import registry
from npu_guard.pipeline.quantize import QuantizeResult
from npu_guard.results.findings import Report


def render(result: QuantizeResult, *, color: bool = False) -> str:
    """The whole document."""
    q = result.quantization
    document = json.loads(registry.renderer("json")(Report(VERSION, (q.report,)), color=False))
    document["models"][0] |= {
        "quantization": {
            "scheme": msgspec.to_builtins(q.scheme),
            "samples": q.samples,
            "compared": q.compared,
            "minimum_snr_db": result.minimum,
            "outputs": [{"name": n, "snr_db": db, "ok": db >= result.minimum} for n, db in q.outputs.items()],
            "integer_macs": q.shares.integer_macs,
            "macs": q.shares.macs,
            "islands": q.shares.islands,
            "pieces": q.shares.pieces,
            "joined": q.joined,
            "held_by_neighbours": list(q.held_by_neighbours),
            "can_be_wide": q.can_be_wide,
            "sensitivity": [
                {
                    "node": row.node,
                    "op_type": row.op_type,
                    "snr_db": row.decibels,
                    "macs": row.macs,
                    "source": None if row.source is None else msgspec.to_builtins(row.source),
                }
                for row in q.sensitivity
            ],
            "written": None if result.written is None else str(result.written),
        }
    }
    return json_text(document)
