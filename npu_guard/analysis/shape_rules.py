"""Shapes that ONNX's inference does not give: of ONNX Runtime's operators, and of those whose function body does not infer.

An operator that is a plain one in other words has that one's shape (`graph/plain.py`); what works element by element, or
normalizes, has its input's.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx.shape_inference

from npu_guard.analysis.static import broadcast
from npu_guard.graph.graph import Node, Value
from npu_guard.graph.ops import find_operator
from npu_guard.graph.plain import is_channels_last, plain, weight_is_channels_last
from npu_guard.graph.plain_names import PACKED, PLAIN
from npu_guard.graph.schemas import find_schema
from npu_guard.results.findings import Dim

_SHAPED_AS_INPUT = frozenset({"unary", "normalization", "softmax", "quantization", "gate", "identity"})
_T = onnx.TensorProto
_AXES_ARE_INPUTS = 18
"""Opset from which on the axes of ReduceMean are an input."""
Shape = tuple[Dim, ...]


def output_of(node: Node) -> tuple[int, Shape | None] | None:
    """Type and shape of the first output; None where no rule here knows the operator, or too little of its inputs."""
    if node.op in PACKED:
        return _with_columns(node)
    if node.op in PLAIN and node.kind != "quantization":
        return _as_plain(node)
    if node.kind == "broadcasting" and node.domain:
        shapes = [v.shape for v, role in _with_roles(node) if role in ("data", "bias") and v is not None]
        first = node.input(0)
        return None if first is None else (first.dtype, broadcast(shapes))
    if node.domain == "com.microsoft" and node.op_type in _ATTENTION:
        return _attention(node)
    if node.kind not in _SHAPED_AS_INPUT or (not node.domain and node.graph.model.schema(node) is None):
        return None
    x = node.input(0)
    if x is None or x.shape is None or (node.kind == "gate" and node.op_type != "QuickGelu"):
        return None
    return _element_type(node, x), x.shape


def _element_type(node: Node, x: Value) -> int:
    if node.kind == "quantization":
        scale, zero = node.input(1), node.input(2)
        if node.op_type == "DequantizeLinear":
            return 0 if scale is None else scale.dtype
        stated: int = node.attributes.get("output_dtype", 0)
        return zero.dtype if zero is not None else stated or int(_T.UINT8)
    return int(node.attributes.get("to", x.dtype)) if node.op_type == "Cast" else x.dtype


def _with_columns(node: Node) -> tuple[int, Shape | None] | None:
    """Packed weights: the columns are an attribute."""
    x = node.input(0)
    if x is None or not x.shape or not isinstance(node.attributes.get("N"), int):
        return None
    return x.dtype, (*x.shape[:-1], node.attributes["N"])


_ATTENTION = frozenset({"Attention", "QAttention", "MultiHeadAttention", "GroupQueryAttention"})


def _attention(node: Node) -> tuple[int, Shape | None] | None:
    """[B, S, hidden size of the values]. Source: docs/ContribOperators.md of onnxruntime."""
    query = node.input(0)
    if query is None or query.shape is None or len(query.shape) not in (3, 5):
        return None
    hidden = _values_hidden(node, query.shape)
    dtype = query.dtype
    if node.op_type == "QAttention":
        scale = node.input(3)
        dtype = 0 if scale is None else scale.dtype
    return dtype, (*query.shape[:2], hidden)


def _values_hidden(node: Node, query: Shape) -> Dim:
    """Numbers of all heads of the values together; None where that is not known."""
    heads, given = node.attributes.get("num_heads", 0), node.input(2)
    if node.op_type in ("Attention", "QAttention"):
        sizes, weights = node.attributes.get("qkv_hidden_sizes"), node.input(1)
        columns = None if weights is None or weights.shape is None else weights.shape[-1]
        return sizes[2] if sizes and len(sizes) == 3 else columns // 3 if isinstance(columns, int) else None
    if len(query) == 5:  # queries, keys and values together, [B, S, heads, 3, size]
        return query[2] * query[4] if isinstance(query[2], int) and isinstance(query[4], int) else None
    if node.op_type == "GroupQueryAttention":
        if node.input(1) is not None:
            return query[-1]
        parts = heads + 2 * node.attributes.get("kv_num_heads", 0)  # queries, keys and values beside each other
        return query[-1] // parts * heads if isinstance(query[-1], int) and parts else None
    if given is None or given.shape is None:
        return query[-1] if given is None and node.input(1) is None else None
    if len(given.shape) == 3:
        return given.shape[-1]
    found = (given.shape[1], given.shape[-1]) if len(given.shape) == 4 else (None, None)
    return found[0] * found[1] if isinstance(found[0], int) and isinstance(found[1], int) else None


def _with_roles(node: Node) -> list[tuple[Value | None, str | None]]:
    operator = node.operator
    return [(v, operator.role(i)) for i, v in enumerate(node.inputs)]


def _as_plain(node: Node) -> tuple[int, Shape | None] | None:
    """What ONNX's inference says of the plain operator on the same data, weight and bias."""
    operator = plain(node)
    given: list[Value | None] = []
    found = _with_roles(node)
    if find_operator(operator).variadic:
        given = [v for v, role in found if role == "data"]
    else:
        for formal in find_operator(operator).inputs:
            alike = [v for v, role in found if role == formal.role]
            before = sum(v.role == formal.role for v in find_operator(operator).inputs[: len(given)])
            given.append(alike[before] if before < len(alike) else None)
    while given and given[-1] is None:
        given.pop()
    data = next((v for v, role in found if role == "data" and v is not None), None)
    if data is None or any(v is not None and v.shape is None for v in given):
        return None
    shape = _inferred(node, operator, given)
    if shape is None:
        return None
    floats = node.op_type in ("MatMulIntegerToFloat", "DynamicQuantizeMatMul")
    integers = node.op_type in ("ConvInteger", "MatMulInteger", "MatMulInteger16")
    return int(_T.FLOAT) if floats else int(_T.INT32) if integers else data.dtype, shape


def _plain_dims(node: Node, index: int, dims: Shape, channels_last: bool) -> Shape:
    """The shape of an input as the plain operator has it: [B, C, ...], and without the transposition that a product states."""
    if channels_last and (index == 0 or weight_is_channels_last(node)) and len(dims) > 2:
        return dims[0], dims[-1], *dims[1:-1]
    if plain(node) != "MatMul" or index > 1 or len(dims) < 2:
        return dims
    if node.attributes.get(f"transBatch{'AB'[index]}", 0) and len(dims) > 2:  # the batch lies behind the rows
        dims = (*dims[1:-1], dims[0], dims[-1])
    return (*dims[:-2], dims[-1], dims[-2]) if node.attributes.get(f"trans{'AB'[index]}", 0) else dims


def _inferred(node: Node, operator: str, given: Sequence[Value | None]) -> Shape | None:
    version = node.graph.model.opsets.get("") or onnx.defs.onnx_opset_version()
    if node.kind == "reduction":
        version = min(version, _AXES_ARE_INPUTS - 1)  # these state axes as an attribute, whatever the model's operator set
    schema = find_schema(operator, "", version)
    if schema is None:
        return None
    names = [f"i{index}" if v is not None else "" for index, v in enumerate(given)]
    proto = onnx.NodeProto(op_type=operator, input=names, output=["y"])
    proto.attribute.extend(a for a in node.proto.attribute if a.name in schema.attributes)
    last = is_channels_last(node)
    types = {}
    for index, value in enumerate(given):
        if value is not None and value.shape is not None:
            dtype = _T.BOOL if find_operator(operator).role(index) == "condition" else _T.FLOAT
            types[f"i{index}"] = onnx.helper.make_tensor_type_proto(dtype, _plain_dims(node, index, value.shape, last))
    imports = [onnx.OperatorSetIdProto(domain="", version=version)]
    try:
        outputs = onnx.shape_inference.infer_node_outputs(schema, proto, types, {}, opset_imports=imports)
    except Exception:  # the shape stays unknown
        return None
    if "y" not in outputs or not outputs["y"].tensor_type.HasField("shape"):
        return None
    found: list[Dim] = [
        d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in outputs["y"].tensor_type.shape.dim
    ]
    return (found[0], *found[2:], found[1]) if last and len(found) > 2 else tuple(found)
