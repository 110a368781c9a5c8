"""What ONNX's own checker lets through, or dies of: tensor sizes, attributes, channel counts.

Runs on the view. The first half before native code sees the model, the second once shapes are known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import onnx

from npu_guard import tensors
from npu_guard.errors import ModelError
from npu_guard.graph import Graph, Model, Node, short, text
from npu_guard.results import Dim

_A = onnx.AttributeProto


def before_inference(model: Model) -> None:
    """Bound every dimension and check tensors and attributes. Raises ModelError (`invalid` or `limit`)."""
    skeleton = model.skeleton
    source = tensors.Source(skeleton.path, skeleton.payloads, skeleton.limits)
    for graph in model.graph.graphs():
        _graph(graph, source)


def _graph(graph: Graph, source: tensors.Source) -> None:
    for tensor in graph.proto.initializer:
        tensors.tensor(source, partial(_called, "initializer", tensor.name), tensor)
    for sparse in graph.proto.sparse_initializer:
        tensors.sparse(source, partial(_called, "sparse initializer", sparse.values.name), sparse)
    for entry in (*graph.proto.input, *graph.proto.output, *graph.proto.value_info):
        if entry.type.HasField("tensor_type"):
            extents = [d.dim_value for d in entry.type.tensor_type.shape.dim if d.HasField("dim_value")]
            tensors.dims(source, partial(_called, "value", entry.name), extents)
    known: dict[tuple[str, str], _Known] = {}
    for node in graph.nodes:
        key = node.domain, node.op_type
        operator = known.get(key)
        if operator is None:
            operator = known[key] = _Known(graph.model.schema(node), _newest(node))
        if len(node.inputs) < operator.inputs[0] or len(node.inputs) > operator.inputs[1]:
            raise _arity(source, node, "inputs", len(node.inputs), operator.inputs)
        if len(node.outputs) > operator.outputs:
            raise _arity(source, node, "outputs", len(node.outputs), (1, operator.outputs))
        if attributes := node.proto.attribute:
            _attributes(graph.model, node, attributes, operator, source)


class _Known:
    """What ONNX's schema says of an operator, asked for once; nothing is known of operators of other domains.

    An operator that is newer than the model's opset (runtimes run such models) is held to its types of attributes alone.
    """

    __slots__ = ("attributes", "complete", "inputs", "outputs")

    def __init__(self, schema: onnx.defs.OpSchema | None, newest: onnx.defs.OpSchema | None) -> None:
        self.inputs = (0, _MANY) if schema is None else (schema.min_input, schema.max_input)
        self.outputs = _MANY if schema is None else max(schema.max_output, 1)
        # OpSchema.AttrType and AttributeProto.AttributeType share their numbers.
        self.complete = schema is not None
        declared = schema or newest
        self.attributes: Mapping[str, int] = (
            {} if declared is None else {n: int(a.type.value) for n, a in declared.attributes.items()}  # type: ignore[attr-defined]
        )


def _newest(node: Node) -> onnx.defs.OpSchema | None:
    return onnx.defs.get_schema(node.op_type) if not node.domain and onnx.defs.has(node.op_type) else None


_MANY = 2**31


def _arity(source: tensors.Source, node: Node, what: str, have: int, allowed: tuple[int, int]) -> ModelError:
    least, most = allowed
    wants = f"at least {least}" if most >= _MANY - 1 else f"{least}" if least == most else f"{least} to {most}"
    return ModelError("invalid", f"{source.path}: node {short(node.label)!r} ({node.op}) has {have} {what}; ONNX wants {wants}")


def _called(what: str, name: str | bytes) -> str:
    return f"{what} {short(text(name))!r}"


def _attributes(
    model: Model,
    node: Node,
    attributes: Iterable[onnx.AttributeProto],
    operator: _Known,
    source: tensors.Source,
) -> None:
    path = source.path
    seen: set[str] = set()
    for attribute in attributes:
        name, kind = attribute.name, attribute.type

        def where(name: str = name) -> str:
            return f"attribute {short(text(name))!r} of node {short(node.label)!r} ({node.op})"

        if name in seen:
            raise ModelError("invalid", f"{path}: {where()} is given twice")
        seen.add(name)
        wanted = operator.attributes.get(name)
        if wanted is None:
            if operator.complete:
                raise ModelError("invalid", f"{path}: {where()} does not exist in opset {model.opsets.get(node.domain)}")
        elif kind != wanted:
            word = onnx.AttributeProto.AttributeType.Name(wanted)
            raise ModelError("invalid", f"{path}: {where()} has the wrong type; ONNX wants {word}")
        if kind == _A.INT:
            if name in ("group", "blocksize", "num_heads", "num_groups") and not 0 < attribute.i <= tensors.MAX_DIM:
                raise ModelError("invalid", f"{path}: {where()} is {attribute.i}; it must be at least 1")
            if name == "axis" and abs(attribute.i) > tensors.MAX_RANK:
                raise ModelError("invalid", f"{path}: {where()} is {attribute.i}, beyond any tensor's rank")
        elif kind == _A.INTS:
            if name in ("strides", "dilations", "kernel_shape") and any(not 0 < i <= tensors.MAX_DIM for i in attribute.ints):
                raise ModelError("invalid", f"{path}: {where()} is {attribute.ints[:]}; every entry must be at least 1")
        elif kind == _A.TENSOR:
            tensors.tensor(source, where, attribute.t)
        elif kind == _A.TENSORS:
            for tensor in attribute.tensors:
                tensors.tensor(source, where, tensor)
        elif kind == _A.SPARSE_TENSOR:
            tensors.sparse(source, where, attribute.sparse_tensor)


def after_inference(model: Model) -> None:
    """Agreement of channels, which ONNX's checker does not look at. Raises ModelError (`invalid`)."""
    for node in model.graph.walk():
        check = _AGREEMENT.get(node.op_type) if not node.domain else None
        if check is not None and (problem := check(node)) is not None:
            raise ModelError("invalid", f"{model.skeleton.path}: node {short(node.label)!r} ({node.op}): {problem}")


def _shape(node: Node, index: int) -> tuple[Dim, ...] | None:
    value = node.input(index)
    return value.shape if value is not None else None


def _differ(a: Dim, b: Dim) -> bool:
    """Known to be different, not just not known to be equal."""
    return isinstance(a, int) and isinstance(b, int) and a != b


def _conv(node: Node) -> str | None:
    x, w, b = _shape(node, 0), _shape(node, 1), _shape(node, 2)
    if x is None or w is None:
        return None
    if len(x) < 3 or len(w) != len(x):
        return f"input of shape {list(x)} does not go with a weight of shape {list(w)}"
    group = node.attr("group", 1)
    cin, filters = x[1], w[0]
    if not isinstance(cin, int) or not isinstance(filters, int):
        return None
    if node.op_type == "ConvTranspose":
        if _differ(filters, cin):
            return f"the weight is for {filters} input channels and the input has {cin}"
        out = w[1] * group if isinstance(w[1], int) else None
    else:
        if isinstance(w[1], int) and cin != w[1] * group:
            return f"the weight is for {w[1]} x {group} (group) input channels and the input has {cin}"
        if filters % group:
            return f"{filters} filters cannot be split into {group} groups"
        out = filters
    if b is not None and (len(b) != 1 or _differ(b[0], out)):
        return f"the bias has shape {list(b)} and there are {out} output channels"
    kernel = node.attributes.get("kernel_shape")
    if kernel is not None and any(_differ(k, d) for k, d in zip(kernel, w[2:], strict=False)):
        return f"kernel_shape is {list(kernel)} and the weight is {list(w[2:])}"
    return None


def _gemm(node: Node) -> str | None:
    a, b = _shape(node, 0), _shape(node, 1)
    if a is None or b is None:
        return None
    if len(a) != 2 or len(b) != 2:
        return f"Gemm multiplies matrices, not {list(a)} and {list(b)}"
    inner_a = a[0] if node.attr("transA", 0) else a[1]
    inner_b = b[1] if node.attr("transB", 0) else b[0]
    return f"inner extents {inner_a} and {inner_b} differ" if _differ(inner_a, inner_b) else None


def _matmul(node: Node) -> str | None:
    a, b = _shape(node, 0), _shape(node, 1)
    if not a or not b:
        return None
    inner_b = b[-2] if len(b) > 1 else b[0]
    return f"inner extents {a[-1]} and {inner_b} differ" if _differ(a[-1], inner_b) else None


def _batch_norm(node: Node) -> str | None:
    x = _shape(node, 0)
    if x is None or len(x) < 2:
        return None
    for index, what in ((1, "scale"), (2, "bias"), (3, "mean"), (4, "variance")):
        shape = _shape(node, index)
        if shape is not None and len(shape) == 1 and _differ(shape[0], x[1]):
            return f"its {what} is for {shape[0]} channels and the input has {x[1]}"
    return None


def _transpose(node: Node) -> str | None:
    x, perm = _shape(node, 0), node.attributes.get("perm")
    if x is None or perm is None or sorted(perm) == list(range(len(x))):
        return None
    return f"perm {list(perm)} is no order of the {len(x)} axes of its input"


_AGREEMENT: dict[str, Callable[[Node], str | None]] = {
    "Conv": _conv,
    "ConvTranspose": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    "Transpose": _transpose,
}
