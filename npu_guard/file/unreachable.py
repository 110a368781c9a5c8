"""Tensors that a model carries and no graph reads: in functions, called or not, and in what only training runs.

Whoever saves or converts the model follows them, so they are held to the same as weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import onnx

from npu_guard.base.errors import ModelError
from npu_guard.base.text import short, text
from npu_guard.file import tensors
from npu_guard.file.bodies import bodies_of, walk_nodes

_Nodes = tuple[str, "onnx.GraphProto | onnx.FunctionProto"]


def check_unreachable(proto: onnx.ModelProto, source: tensors.TensorSource) -> None:
    """Raise ModelError where such a tensor is not what it says, or lies where no reader may look."""
    _calls(proto, source.path)
    stack: list[_Nodes] = [(f"function {short(text(f.name))!r}", f) for f in proto.functions]
    for entry in proto.training_info:
        stack += [("training_info", entry.algorithm), ("training_info", entry.initialization)]
    while stack:
        where, holder = stack.pop()
        if isinstance(holder, onnx.GraphProto):
            for tensor in holder.initializer:
                tensors.tensor(source, _named(f"initializer {short(text(tensor.name))!r}", where), tensor)
            for sparse in holder.sparse_initializer:
                tensors.sparse(source, _named(f"sparse initializer {short(text(sparse.values.name))!r}", where), sparse)
        given = [(node.op_type, node.attribute) for node in holder.node]
        if isinstance(holder, onnx.FunctionProto):
            given.append((holder.name, holder.attribute_proto))
        for op_type, attributes in given:
            for attribute in attributes:
                called = _named(f"attribute {short(text(attribute.name))!r} of {short(text(op_type))!r}", where)
                for tensor in _tensors(attribute):
                    tensors.tensor(source, called, tensor)
                for sparse in (
                    *attribute.sparse_tensors,
                    *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else ()),
                ):
                    tensors.sparse(source, called, sparse)
                stack += [(where, graph) for graph in bodies_of(attribute)]


def _calls(proto: onnx.ModelProto, path: str) -> None:
    """Raise ModelError where a function is called with more than it takes, or is written for operators that nobody knows."""
    taken = {(f.domain, f.name, f.overload): (len(f.input), len(f.output)) for f in proto.functions}
    newest = onnx.defs.onnx_opset_version()
    for function in proto.functions:
        where = f"function {short(text(function.name))!r}"
        for entry in function.opset_import:
            if entry.domain in ("", "ai.onnx") and not 0 < entry.version <= newest:
                raise ModelError(
                    "unsupported-version" if entry.version > 0 else "invalid",
                    f"{path}: {where} is of opset {entry.version}; the installed onnx package knows 1 to {newest}",
                )
    for node in walk_nodes(itertools.chain(proto.graph.node, *(f.node for f in proto.functions)) if taken else ()):
        most = taken.get((node.domain, node.op_type, node.overload))
        if most is not None and (len(node.input) > most[0] or len(node.output) > most[1]):
            have = f"{len(node.input)} inputs and {len(node.output)} outputs"
            called = f"a call of function {short(text(node.op_type))!r} has {have}"
            raise ModelError("invalid", f"{path}: {called}, and the function {most[0]} and {most[1]}")


def _tensors(attribute: onnx.AttributeProto) -> Iterator[onnx.TensorProto]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors


def _named(what: str, where: str) -> tensors.Where:
    return lambda: f"{what} of {where}"
