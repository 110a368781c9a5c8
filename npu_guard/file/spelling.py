"""What files spell in several ways and means the same, in the one way that everybody else expects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_guard.file.bodies import walk_nodes

if TYPE_CHECKING:
    import onnx

_OWN = "ai.onnx"
_PLACEHOLDERS = ("?", "-1")
_MARKS = (b"\x12\x01?", b"\x12\x02-1", b"\x08" + b"\xff" * 9 + b"\x01")
"""Fields of protobuf that say `?`, the text -1 and the number -1: what holds none of them needs no look at its values."""


def spell_plainly(proto: onnx.ModelProto, data: bytes) -> None:
    """Spell the domain of ONNX's own operators as most files do, and leave open the axes of which nothing is said.

    `data` is the protobuf as it was parsed.
    """
    if b"\x07ai.onnx" in data:
        _forget_own_name(proto)
    if any(mark in data for mark in _MARKS):
        _open_placeholders(proto.graph)


def _forget_own_name(proto: onnx.ModelProto) -> None:
    """`ai.onnx` and the empty name are the same domain."""
    for nodes in (proto.graph.node, *(f.node for f in proto.functions)):
        for node in walk_nodes(nodes):
            if node.domain == _OWN:
                node.domain = ""
    for owner in (proto, *proto.functions):
        imports = {("" if e.domain == _OWN else e.domain): e.version for e in owner.opset_import}
        del owner.opset_import[:]
        for domain, version in imports.items():
            owner.opset_import.add(domain=domain, version=version)


def _open_placeholders(graph: onnx.GraphProto) -> None:
    """Leave open what a file says of an axis without saying anything: -1, and `?`, which is no name that axes share.

    PaddlePaddle's exporter writes both; taken for a symbol, `?` would make height and width the same.
    """
    for entry in (*graph.input, *graph.output, *graph.value_info):
        if entry.type.HasField("tensor_type"):
            for dim in entry.type.tensor_type.shape.dim:
                if (dim.dim_param and dim.dim_param in _PLACEHOLDERS) or (dim.HasField("dim_value") and dim.dim_value == -1):
                    dim.Clear()
