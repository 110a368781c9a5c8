"""ONNX's own shape inference and what it complains of: native code, called in the sandbox by `shapes.py`."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence

import onnx
import onnx.shape_inference
from onnx.onnx_cpp2py_export import shape_inference as native  # what onnx.shape_inference wraps, bytes to bytes

from npu_guard.analysis.inputs import forget_shapes
from npu_guard.base.regex import regex
from npu_guard.base.text import short, text
from npu_guard.graph.graph import bodies

_TAGS = regex(r"\[\w*Error\] |Inference error\(s\): ")
_EXTERNAL = "Cannot parse data from external tensors."
_UPSTREAM = "expected to have type but instead is null"
"""Said of what reads from a node whose own inference failed; an input of the graph without a type is refused before."""
_SPARSE = regex(r"type:? sparse_tensor\(")
_OPERATOR = regex(r"\(op_type:(\w+)(?:, node name: (\d+))?\): ")


def strict(content: bytes) -> bytes:
    """Strict first, for its message; what is left unknown then is a result of its own.

    Shapes written in the file may contradict the operators, and then the operators are right. The message has a mark in front:
    `!` where the model is refused, `.` where extents stay unknown for it.
    """
    try:
        return struct.pack("<I", 0) + native.infer_shapes(content, True, True, True)
    except native.InferenceError:
        proto = onnx.ModelProto()
        proto.ParseFromString(content)
    labels = _numbered(proto)
    complaints: list[str] = []
    try:
        result = native.infer_shapes(proto.SerializeToString(), True, True, True)
    except native.InferenceError as error:
        complaints = _complaints(str(error))
        result = native.infer_shapes(content, False, False, True)
    faults = [c for c in complaints if not _excused(c)]
    said = f"!{_worded(faults[0], labels)}" if faults else f".{_worded(complaints[0], labels)}" if complaints else ""
    line = said.encode("utf-8", "backslashreplace")
    return struct.pack("<I", len(line)) + line + result


def _numbered(proto: onnx.ModelProto) -> list[str]:
    """Forget the shapes in the file, and call nodes by their numbers, so that no name can pass for a part of a message."""
    labels: list[str] = []
    stack = [proto.graph]
    while stack:
        graph = stack.pop()
        forget_shapes(graph)
        for node in graph.node:
            named = node.name or next((name for name in node.output if name), node.op_type)
            labels.append(short(text(named)))
            node.name = str(len(labels) - 1)
            stack += [body for attribute in node.attribute for _, body in bodies(attribute)]
    return labels


def _complaints(message: str) -> list[str]:
    """The faults that a message of ONNX's inference lists, one for each node."""
    return [" ".join(_TAGS.sub("", line).split()) for line in re.split(r"\n(?=\(op_type:)", message) if line.strip()]


def _worded(complaint: str, labels: Sequence[str]) -> str:
    """A complaint that calls the node as its file does."""

    def node(found: re.Match[str]) -> str:
        return f"node {labels[int(found[2])]!r} ({found[1]}): " if found[2] is not None else f"{found[1]}: "

    return _OPERATOR.sub(node, complaint)[:400]


def _excused(complaint: str) -> bool:
    """Complaints that are not the model's fault.

    Payloads cut out of the skeleton look external to ONNX, sparse initializers are tensors to every runtime, and the bodies of
    ONNX's own function operators do not always infer (MeanVarianceNormalization, onnx 1.23).
    """
    around = [found[1] for found in _OPERATOR.finditer(complaint)]
    rest = _OPERATOR.sub("", complaint)
    if rest.startswith(_EXTERNAL) or rest.endswith(_UPSTREAM) or _SPARSE.search(rest):
        return True
    outer = (op for op in around[:-1] if onnx.defs.has(op))
    return any(onnx.defs.get_schema(op).has_function for op in outer)  # type: ignore[attr-defined]
