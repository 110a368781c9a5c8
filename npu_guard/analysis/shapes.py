"""Shapes and types of every value: ONNX's own inference first, then its per-node inference on folded constants.

All native code runs in the sandbox. What stays unknown gets a reason.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping

import onnx
import onnx.shape_inference

from npu_guard.analysis.constants import Constants, why_open
from npu_guard.analysis.inference import strict
from npu_guard.analysis.inputs import dense, light, without_defaults
from npu_guard.analysis.loops import carried
from npu_guard.analysis.validation import agreement
from npu_guard.base import sandbox
from npu_guard.base.digest import sha256
from npu_guard.base.errors import ModelError
from npu_guard.base.regex import regex
from npu_guard.base.standing import Standing
from npu_guard.base.text import short, text
from npu_guard.file.skeleton import Skeleton
from npu_guard.graph.graph import Graph, Model, Node, Value, bodies
from npu_guard.graph.schemas import newest_schema
from npu_guard.results.findings import Dim

_INVENTED = regex(r"unk__\d+")
"""Symbols that ONNX's inference makes up for extents of which nothing is known."""
Type = tuple[int, tuple[Dim, ...] | None]
_INFERENCE = Standing(strict)


def start(skeleton: Skeleton) -> sandbox.Child:
    """ONNX's inference, in a child that runs beside whatever else is to be done first."""
    newest_schema("Identity", "")  # the first schema that is asked for makes all of them, here for the child too
    content = light(dense(without_defaults(skeleton.proto))).SerializeToString()
    return _INFERENCE.ask(content)


def rest() -> None:
    """Let the child go where no other model follows soon; the next one is asked of a new child."""
    _INFERENCE.rest()


def infer(model: Model, inference: sandbox.Child) -> Mapping[Value, str]:
    """Fill in `shape` and `dtype` of every value; the result names those that stay unknown, with the reason.

    Raises ModelError where ONNX's inference dies on the model or refuses it.
    """
    path = model.skeleton.path
    result = inference.result()
    if result.status != "ok":
        raise _died(path, result)
    (length,) = struct.unpack_from("<I", result.data)
    said = result.data[4 : 4 + length].decode("utf-8", "backslashreplace")
    refused, complaint = said[:1] == "!", said[1:]
    inferred = onnx.ModelProto()
    inferred.ParseFromString(result.data[4 + length :])
    _fill(model.graph, inferred.graph, {})
    if refused:
        agreement.after_inference(model)  # where it finds the same, it says more
        raise ModelError("invalid", f"{path}: ONNX's shape inference refuses the model: {complaint}")
    if any(_open(shape) for shape in {v.shape for g in model.graph.graphs() for v in g.values.values()}):
        repaired = sandbox.run(lambda: _repair(model))
        if repaired.status != "ok":
            raise _died(path, repaired)
        _apply(model, repaired.data)
        return _reasons(model.graph, complaint)
    return {}


def _died(path: str, result: sandbox.Outcome) -> ModelError:
    if result.status == "timeout":
        return ModelError(
            "timeout", f"{path}: ONNX's shape inference did not end within {sandbox.PROCESSOR_SECONDS} s; the model is refused"
        )
    if result.status == "memory":
        return ModelError("limit", f"{path}: ONNX's shape inference took more memory than allowed; the model is refused")
    if result.status == "crash":
        return ModelError("crashed", f"{path}: ONNX's shape inference crashed on this model; it is refused")
    return ModelError("invalid", f"{path}: ONNX's shape inference refused the model: {' '.join(result.text.split())[:300]}")


def _unknown(value: Value) -> bool:
    return _open(value.shape)


def _open(shape: tuple[Dim, ...] | None) -> bool:
    return shape is None or not all(d.__class__ is int for d in shape)


def _fill(graph: Graph, proto: onnx.GraphProto, cache: dict[bytes, Type]) -> None:
    values = graph.values
    for entries in (proto.value_info, proto.output, proto.input):
        for entry in entries:
            name = entry.name
            value = values.get(name if name.__class__ is str else text(name))
            if value is not None:
                # Networks have few different types, and decoding one costs ten times a look-up.
                key = entry.type.SerializeToString()
                known = cache.get(key)
                if known is None:
                    known = cache[key] = _decode(entry.type)
                value.dtype, value.shape = known
    for tensor in proto.initializer:
        value = values[text(tensor.name)]
        value.dtype, value.shape = tensor.data_type, tuple(tensor.dims)
    for sparse in proto.sparse_initializer:
        value = values[text(sparse.values.name)]
        value.dtype, value.shape = sparse.values.data_type, tuple(sparse.dims)
    for index, node in enumerate(graph.nodes):
        if node.subgraphs:
            views = iter(node.subgraphs)
            for attribute in proto.node[index].attribute:
                for _, body in bodies(attribute):
                    _fill(next(views)[1], body, cache)


def _decode(proto: onnx.TypeProto) -> Type:
    kind = proto.WhichOneof("value")
    if kind != "tensor_type":
        return 0, None
    tensor = proto.tensor_type
    if not tensor.HasField("shape"):
        return tensor.elem_type, None
    dims: list[Dim] = []
    for dim in tensor.shape.dim:
        if dim.HasField("dim_value"):
            dims.append(dim.dim_value if dim.dim_value >= 0 else None)
        else:
            symbol = text(dim.dim_param)
            dims.append(None if not symbol or _INVENTED.fullmatch(symbol) else symbol if len(symbol) < 100 else _cut(symbol))
    return tensor.elem_type, tuple(dims)


def _cut(symbol: str) -> str:
    """A long symbol, short and still its own: messages of many findings show it."""
    return f"{symbol[:80]}…{sha256(symbol.encode('utf-8', 'backslashreplace')).hexdigest()[:12]}"


def _type(value: Value) -> onnx.TypeProto:
    proto = onnx.TypeProto()
    proto.tensor_type.elem_type = value.dtype
    if value.shape is not None:
        proto.tensor_type.shape.SetInParent()
        for extent in value.shape:
            dim = proto.tensor_type.shape.dim.add()
            if isinstance(extent, int):
                dim.dim_value = extent
            elif extent is not None:
                dim.dim_param = extent
    return proto


def _repair(model: Model) -> bytes:
    """In the child: fold and infer node by node what is unknown. JSON: for each graph a list of [name, type, shape]."""
    constants = Constants()
    better: set[Value] = set()
    _repair_graph(model.graph, constants, better)
    found = [[[v.name, v.dtype, v.shape] for v in g.values.values() if v in better] for g in model.graph.graphs()]
    return json.dumps(found).encode()


def _repair_graph(graph: Graph, constants: Constants, better: set[Value]) -> None:
    from npu_guard.analysis.shape_rules import output_of  # a model of which all shapes are known starts faster without

    for node in graph.nodes:
        if node.op_type == "Loop" and not node.domain:
            better.update(carried(node, lambda body: _repair_graph(body, Constants(), set())))
        for _, body in node.subgraphs:
            _repair_graph(body, constants, better)
        unknown = [v for v in node.outputs if v is not None and v.name and _unknown(v)]
        if not unknown:
            continue
        before = [(v.dtype, v.shape) for v in unknown]
        arrays = [constants.get(v) for v in unknown]
        for value, array in zip(unknown, arrays, strict=True):
            if array is not None:
                value.shape = tuple(array.shape)
                value.dtype = value.dtype or onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        if node.op_type == "If" and not node.domain:
            _infer_if(node, constants)
        elif arrays[0] is None and unknown[0] is node.output and (rule := output_of(node)) is not None:
            node.output.dtype = node.output.dtype or rule[0]
            node.output.shape = _merge(node.output.shape, rule[1])
        elif any(array is None for array in arrays) and (
            graph.parent is not None  # ONNX's inference does not enter all bodies, and sees no constants from outside
            or any(_new(v, constants, better) for v in node.inputs)
        ):
            _infer_node(node, constants)
        better.update(v for v, was in zip(unknown, before, strict=True) if (v.dtype, v.shape) != was)


def _new(value: Value | None, constants: Constants, better: set[Value]) -> bool:
    """Whether more is known of an input than ONNX's inference knew."""
    if value is None or value.producer is None or value.producer.op_type == "Constant":
        return False
    return value in better or constants.get(value) is not None


def _apply(model: Model, content: bytes) -> None:
    for graph, found in zip(model.graph.graphs(), json.loads(content), strict=True):
        for name, dtype, shape in found:
            value = graph.values[name]
            value.dtype, value.shape = dtype, None if shape is None else tuple(shape)


def _infer_node(node: Node, constants: Constants) -> None:
    model = node.graph.model
    schema = model.schema(node)
    if schema is None or node.subgraphs:
        return
    inputs = [v for v in node.inputs if v is not None]
    types = {v.name: _type(v) for v in inputs if v.dtype}
    arrays = {v.name: constants.get(v) for v in inputs}
    data = {name: onnx.numpy_helper.from_array(array) for name, array in arrays.items() if array is not None}
    proto = model.skeleton.proto
    try:
        outputs = onnx.shape_inference.infer_node_outputs(
            schema, node.proto, types, data, opset_imports=list(proto.opset_import), ir_version=proto.ir_version
        )
    except Exception:  # the node stays unknown; strict inference has given the reason
        return
    for value in node.outputs:
        if value is not None and value.name in outputs:
            dtype, shape = _decode(outputs[value.name])
            value.dtype = value.dtype or dtype
            value.shape = _merge(value.shape, shape)


def _merge(old: tuple[Dim, ...] | None, new: tuple[Dim, ...] | None) -> tuple[Dim, ...] | None:
    """The better known of two shapes of one value, axis by axis."""
    if old is None or new is None or len(old) != len(new):
        return new if new is not None else old
    return tuple(n if isinstance(n, int) or (o is None and n is not None) else o for o, n in zip(old, new, strict=True))


def _infer_if(node: Node, constants: Constants) -> None:
    """The branch that is taken tells the shapes, or what both branches agree on."""
    given = node.input(0)
    condition = None if given is None else constants.get(given)
    branches = dict(node.subgraphs)
    taken = [branches["then_branch" if condition.any() else "else_branch"]] if condition is not None else branches.values()
    for index, value in enumerate(node.outputs):
        shapes = {b.outputs[index].shape for b in taken if index < len(b.outputs)}
        if value is not None and len(shapes) == 1 and (shape := shapes.pop()) is not None:
            value.shape = shape


def _reasons(graph: Graph, complaint: str) -> dict[Value, str]:
    """Why a value is unknown: the first cause upstream."""
    reasons: dict[Value, str] = {}
    for g in graph.graphs():
        for value in g.values.values():
            if value.name and _unknown(value):
                reasons[value] = _reason(value, reasons, complaint)
    return reasons


def _reason(value: Value, reasons: Mapping[Value, str], complaint: str) -> str:
    node = value.producer
    if node is None:
        if value.shape is None:
            return f"input {short(value.name)!r} has no shape"
        dims = ", ".join(str(d or "?") for d in value.shape if not isinstance(d, int))
        return f"input {short(value.name)!r} has dynamic dimensions ({dims})"
    for given in node.inputs:
        if given is not None and given in reasons:
            return reasons[given]
    if node.graph.model.schema(node) is None:
        return f"{node.op} ({short(node.label)!r}) is not an operator of ONNX, so its output shape is not known"
    for given in node.inputs:
        if given is not None and given.initializer is not None and given.is_input:
            return why_open(given)
    if node.operator.sized_by_data:
        return f"the output shape of {node.op} ({short(node.label)!r}) depends on the data"
    return complaint or f"the output shape of {node.op} ({short(node.label)!r}) depends on run-time values"
