"""Activations of a running model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from npu_guard.analysis.constants import Array
from npu_guard.file.document import Document
from npu_guard.graph.graph import Value
from npu_guard.verification.compare import run_document
from npu_guard.verification.feeds import Feed
from npu_guard.verification.runtime import Runtime

CAPTURE_BYTES = 512 << 20
"""Activations that are held at once while blocks are verified."""


def capture_bytes(runtime: Runtime) -> int:
    """Activations that are held at once, which are in the memory of both processes."""
    return min(CAPTURE_BYTES, runtime.limits.memory // 4)


def capture(runtime: Runtime, document: Document, feeds: Sequence[Feed], values: Sequence[Value]) -> list[dict[str, Array]]:
    """Values of activations in the running model, and of inputs: as fed, or their defaults. Raises CannotRun."""
    watched = document.copy()
    inputs = {i.name for i in watched.proto.graph.input}
    known = {o.name for o in watched.proto.graph.output}
    wanted = [v for v in values if v.name not in inputs]
    for value in wanted:
        if value.name not in known:
            # Without a shape: what is known may hold for a batch of 1 only.
            watched.proto.graph.output.append(onnx.helper.make_tensor_value_info(value.name, value.dtype, None))
    # No output may have the name of an input; a copy of a default may have another one.
    copies = {f"{v.name} by default": v for v in values if v.name in inputs and not all(v.name in feed for feed in feeds)}
    for name, value in copies.items():
        watched.proto.graph.node.append(onnx.helper.make_node("Identity", [value.name], [name]))
        watched.proto.graph.output.append(onnx.helper.make_tensor_value_info(name, value.dtype, None))
    names = [*(v.name for v in wanted), *copies]
    results = run_document(runtime, watched, feeds, names) if names else [{} for _ in feeds]
    return [
        {
            **{copies[name].name if name in copies else name: array for name, array in result.items()},
            **{v.name: np.asarray(feed[v.name]) for v in values if v.name in feed},
        }
        for feed, result in zip(feeds, results, strict=True)
    ]
