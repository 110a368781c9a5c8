"""onnxsim in a process of its own: a model as it leaves it, with the names and Python lines that it drops.

onnxsim and the ONNX Runtime that folds constants for it are native code on a stranger's file: they may die, hang or take all
memory, which is a result here. They get the model with its weights as one message, and no file to open.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import inspect
import os
from functools import partial
from pathlib import Path

import onnx

from npu_guard.base import sandbox
from npu_guard.base.errors import ModelError, UsageError
from npu_guard.base.regex import regex
from npu_guard.base.text import printable
from npu_guard.file.bodies import walk_graphs
from npu_guard.file.document import RUNTIME_IR, Document
from npu_guard.file.one_message import weight_bytes, whole_model
from npu_guard.results.simplified import Simplified

_SECONDS, _SECONDS_PER_BYTE, _SECONDS_PER_NODE = 60.0, 1e-7, 1e-2
"""What onnxsim may take, as a slow core needs it several times over; it goes through a graph some ten times."""
_LIBRARIES, _THREAD = 1 << 30, 80 << 20
"""Bytes of address space for onnxsim and ONNX Runtime, and for each thread that they start."""
_MEMORY, _COPIES = 1 << 30, 8
"""Bytes for what is folded, and for each byte of a model, as messages are copied between Python and C++."""
_NO_ROOM = regex("bad_alloc|MemoryError|annot allocate|failed to map|nable to allocate")
_HOW = "check it without --simplify"


def expect_simplifier() -> None:
    """Raise UsageError where onnxsim, or the ONNX Runtime that it folds constants with, is not installed. Imports neither."""
    if missing := [name for name in ("onnxsim", "onnxruntime") if importlib.util.find_spec(name) is None]:
        raise UsageError(f"--simplify needs {' and '.join(missing)}: pip install 'npu-guard[simplify]'")


def simplify(document: Document, target: Path) -> Simplified:
    """Write the model as onnxsim leaves it to `target`. Raises ModelError where onnxsim refuses it or does not survive it,
    UsageError where there is no onnxsim.
    """
    expect_simplifier()
    size, limits, cores = weight_bytes(document), document.limits, os.cpu_count() or 1
    count = _count(document.proto)
    seconds = limits.run_seconds or _SECONDS + size * _SECONDS_PER_BYTE + count * _SECONDS_PER_NODE
    memory = limits.run_bytes or _MEMORY + _COPIES * (size + document.proto.ByteSize())
    work, room = partial(_simplified, document, size, target), memory + _LIBRARIES + cores * _THREAD
    outcome = sandbox.run(work, seconds, room, processor=seconds * cores)
    name = document.source
    if outcome.status == "memory" or (outcome.status == "error" and _NO_ROOM.search(outcome.text)):
        raise ModelError("limit", f"{name}: onnxsim needs more than {memory >> 20} MiB of memory ('run-bytes' in the settings)")
    if outcome.status == "timeout":
        raise ModelError("timeout", f"{name}: onnxsim did not end within {seconds:.0f} s ('run-seconds' in the settings); {_HOW}")
    if outcome.status == "crash":
        raise ModelError("crashed", f"{name}: onnxsim did not survive this model; {_HOW}")
    if outcome.status == "error":
        said = printable(" ".join(outcome.text.split()), 300)
        raise ModelError("invalid", f"{name}: onnxsim refuses this model ({said}); {_HOW}")
    return Simplified(f"onnxsim {importlib.metadata.version('onnxsim')}", count, int(outcome.data))


def _simplified(document: Document, size: int, target: Path) -> bytes:
    """In the child: writes the model, and returns how many operators are left."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    _state_outputs(document.proto)
    whole = whole_model(document, size)
    whole.ir_version = min(whole.ir_version, RUNTIME_IR)
    import onnxruntime  # noqa: F401 - without it onnxsim folds less, and does not say so
    import onnxsim

    known = inspect.signature(onnxsim.simplify).parameters
    made, _ = onnxsim.simplify(whole, **({"certify": False} if "certify" in known else {}))  # newer ones try to prove it with Z3
    carry_origins(document.proto, made)
    target.write_bytes(made.SerializeToString(deterministic=True))
    return str(_count(made)).encode()


def _state_outputs(proto: onnx.ModelProto) -> None:
    """Write the shapes of outputs that state none, which onnxsim refuses and ONNX Runtime does not."""
    if all(output.type.tensor_type.HasField("shape") for output in proto.graph.output):
        return
    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    for output, known in zip(proto.graph.output, inferred.output, strict=True):
        output.type.CopyFrom(known.type)


def carry_origins(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    """Give nodes of a rewritten model the names, Python lines and module paths of those that made the same values, and the
    model what the file says of itself. What has another name for a value has no origin of its own.
    """
    makers = {name: node for graph in walk_graphs(before.graph) for node in graph.node for name in node.output if name}
    for graph in walk_graphs(after.graph):
        for node in graph.node:
            maker = next((makers[name] for name in node.output if name in makers), None)
            if maker is None:
                continue
            node.name = maker.name  # also none: people know such a node by what it makes
            node.doc_string = maker.doc_string
            del node.metadata_props[:]
            node.metadata_props.extend(maker.metadata_props)
    for field in ("producer_name", "producer_version", "doc_string", "domain", "model_version"):
        if before.HasField(field):
            setattr(after, field, getattr(before, field))
        else:
            after.ClearField(field)
    del after.metadata_props[:]
    after.metadata_props.extend(before.metadata_props)


def _count(proto: onnx.ModelProto) -> int:
    return sum(len(graph.node) for graph in walk_graphs(proto.graph))
