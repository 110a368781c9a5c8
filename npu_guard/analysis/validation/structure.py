"""What ONNX's own checker lets through, or dies of: tensor sizes, attributes. Runs before native code sees the model.

What needs shapes is asked in `agreement.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from functools import partial

from npu_guard.analysis.validation import attributes
from npu_guard.base.errors import ModelError
from npu_guard.base.text import short, text
from npu_guard.file import tensors
from npu_guard.graph.graph import Graph, Model, Node
from npu_guard.graph.schemas import find_schema, newest_schema


def before_inference(model: Model) -> Mapping[str, int]:
    """Bound every dimension and check tensors and attributes; returns the sizes of the files of weights beside the model.

    Raises ModelError (`invalid` or `limit`).
    """
    skeleton = model.skeleton
    source = tensors.TensorSource(skeleton.path, skeleton.payloads, skeleton.limits)
    for graph in model.graph.graphs():
        _graph(graph, source)
    return source.sizes


def _graph(graph: Graph, source: tensors.TensorSource) -> None:
    for tensor in graph.proto.initializer:
        tensors.tensor(source, partial(_called, "initializer", tensor.name), tensor)
    for sparse in graph.proto.sparse_initializer:
        tensors.sparse(source, partial(_called, "sparse initializer", sparse.values.name), sparse)
    for entry in graph.proto.input:
        tensors.kind(source, partial(_called, "value", entry.name), entry.type, needed=graph.parent is None)
    for entry in (*graph.proto.output, *graph.proto.value_info):
        tensors.kind(source, partial(_called, "value", entry.name), entry.type)
    known: dict[tuple[str, str], attributes.Known] = {}
    for node in graph.nodes:
        key = node.domain, node.op_type
        operator = known.get(key)
        if operator is None:
            operator = known[key] = _look_up(graph.model, node)
        if len(node.inputs) < operator.inputs[0] or len(node.inputs) > operator.inputs[1]:
            raise _arity(source, node, "inputs", len(node.inputs), operator.inputs)
        if len(node.outputs) > operator.outputs:
            raise _arity(source, node, "outputs", len(node.outputs), (1, operator.outputs))
        if None in node.inputs:
            needed = (i for i, given in enumerate(node.inputs) if given is None and not operator.needed <= i < operator.variadic)
            if (index := next(needed, None)) is not None:
                what = f"node {short(node.label)!r} ({node.op}) leaves out input {index}"
                raise ModelError("invalid", f"{source.path}: {what}, which it needs")
        if given := node.proto.attribute:
            attributes.check(graph.model, node, given, operator, source)
        elif operator.required:
            attributes.missing(node, operator, (), source)


def _look_up(model: Model, node: Node) -> attributes.Known:
    if node.domain not in model.opsets:
        raise ModelError(
            "invalid",
            f"{model.skeleton.path}: node {short(node.label)!r} is of {short(node.domain or 'ai.onnx')!r}, a domain that is not"
            " among those of opset_import",
        )
    schema = model.schema(node)
    newest = newest_schema(node.op_type, node.domain)
    where = f"{model.skeleton.path}: node {short(node.label)!r} ({node.op})"
    if schema is None and newest is not None and node.op_type not in _OF_OLD:
        raise ModelError("invalid", f"{where}: opset {model.opsets[node.domain]}, which the model imports, does not have it yet")
    if schema is not None and schema.deprecated and node.op_type not in _GONE_AND_RUN:
        raise ModelError("invalid", f"{where}: ONNX does not have it from opset {schema.since_version} on")
    if schema is None and newest is None:
        return attributes.Known(None, None)
    return _known(node.op_type, node.domain, model.opsets.get(node.domain, 1))


@functools.lru_cache(4096)
def _known(op_type: str, domain: str, opset: int) -> attributes.Known:
    return attributes.Known(find_schema(op_type, domain, opset), newest_schema(op_type, domain))


_OF_OLD = frozenset({"LayerNormalization", "MeanVarianceNormalization", "ThresholdedRelu"})
"""Operators that ONNX Runtime has had in opset 1 already, so there are models of older opsets with them."""
_GONE_AND_RUN = frozenset({"GroupNormalization"})
"""Only its form of opset 18 was taken back, and runtimes run it."""


def _arity(source: tensors.TensorSource, node: Node, what: str, have: int, allowed: tuple[int, int]) -> ModelError:
    least, most = allowed
    wants = f"at least {least}" if most >= attributes.MANY - 1 else f"{least}" if least == most else f"{least} to {most}"
    return ModelError("invalid", f"{source.path}: node {short(node.label)!r} ({node.op}) has {have} {what}; ONNX wants {wants}")


def _called(what: str, name: str | bytes) -> str:
    return f"{what} {short(text(name))!r}"
