"""Structure-aware mutations of a model: what a generator of hostile files would think of, one field at a time.

Every choice is asked of a `Choose`, so that hypothesis can shrink it and a plain random generator can drive it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx

Choose = Callable[[int], int]
"""`choose(n)`: a number from 0 to n - 1."""
Mutation = Callable[[onnx.ModelProto, Choose], None]

NUMBERS = (0, 1, -1, 2, 3, 7, 8, 17, 64, 255, 256, 65536, 2**31 - 1, 2**31, -(2**31), 2**40, 2**62, 2**63 - 1, -(2**63))
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 3.4e38, float("inf"), float("nan"))
NAMES = (
    "", "x", "y", "a" * 300, "\x1b[31mred\x1b[0m", "::error file=x::forged", "##vso[task.complete]", "<script>alert(1)</script>",
    "a\nb", "\u202etxt.exe", "]]>", '"}{"', "'", "=1+1", "../../etc/passwd", "\x00", "\ud7ff", "`$(id)`", "|a|b|", "%s%n{0}{x.y}",
)  # fmt: skip
LOCATIONS = ("", "w.bin", "../w.bin", "/etc/passwd", ".", "a/../../b", "*/_ORT_MEM_ADDR_/*", "http://host/w", "C:\\w", "w\0.bin")


def mutate(data: bytes, choose: Choose, steps: int, kinds: Sequence[Mutation] | None = None, whole: int = 8) -> bytes:
    """The model after a few changes; bytes that are no model are changed as bytes, and one model of `whole` as well."""
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except Exception:
        return damage(data, choose)
    for _ in range(steps):
        chosen = MUTATIONS if kinds is None else kinds
        chosen[choose(len(chosen))](proto, choose)
    changed = proto.SerializeToString()
    return damage(changed, choose) if choose(whole) == 0 else changed


def damage(data: bytes, choose: Choose) -> bytes:
    """A flipped bit, a hole, something twice, a cut, bytes that are no UTF-8."""
    if not data:
        return bytes([choose(256)])
    at, kind = choose(len(data)), choose(6)
    if kind == 0:
        return data[:at] + bytes([data[at] ^ (1 << choose(8))]) + data[at + 1 :]
    if kind == 1:
        return data[:at] + data[at + 1 + choose(16) :]
    if kind == 2:
        return data[: at + 1] + data[max(0, at - choose(64)) :]
    if kind == 3:
        return data[:at]
    if kind == 4:
        return data[:at] + bytes(choose(256) for _ in range(1 + choose(9))) + data[at:]
    return data[:at] + b"\xff\xfe\xc3" + data[at + 3 :]


def pick(items: Any, choose: Choose) -> Any:
    """One of them, None where there are none."""
    return items[choose(len(items))] if len(items) else None


def graphs(proto: onnx.ModelProto) -> list[onnx.GraphProto]:
    """The graph and those in its branches."""
    found, stack = [], [proto.graph]
    while stack:
        graph = stack.pop()
        found.append(graph)
        stack += [a.g for n in graph.node for a in n.attribute if a.HasField("g")]
    return found


def _node(proto: onnx.ModelProto, choose: Choose) -> onnx.NodeProto | None:
    node: onnx.NodeProto | None = pick(pick(graphs(proto), choose).node, choose)
    return node


def _value_name(proto: onnx.ModelProto, choose: Choose) -> str:
    if choose(4) == 0:
        return NAMES[choose(len(NAMES))]
    node = _node(proto, choose)
    names = [*node.input, *node.output] if node is not None else ["x"]
    return str(pick(names, choose) or "")


def _attribute(proto: onnx.ModelProto, choose: Choose) -> None:
    node = _node(proto, choose)
    if node is None:
        return
    attribute = pick(node.attribute, choose)
    kind = choose(7)
    if attribute is None or kind == 0:
        schema_names = ("axis", "axes", "kernel_shape", "group", "pads", "strides", "perm", "to", "mode", "value", "keepdims")
        attribute = node.attribute.add(name=schema_names[choose(len(schema_names))], type=choose(15))
    if kind == 1:
        node.attribute.remove(attribute)
    elif kind == 2:
        node.attribute.add().CopyFrom(attribute)
    elif kind == 3:
        attribute.type = choose(15)
    elif kind == 4:
        attribute.ref_attr_name = NAMES[choose(len(NAMES))]
    else:
        attribute.i = NUMBERS[choose(len(NUMBERS))]
        attribute.f = FLOATS[choose(len(FLOATS))]
        if attribute.ints and choose(2):
            attribute.ints[choose(len(attribute.ints))] = NUMBERS[choose(len(NUMBERS))]
        elif choose(2):
            attribute.ints.extend(NUMBERS[choose(len(NUMBERS))] for _ in range(choose(5)))
        else:
            del attribute.ints[:]
        if attribute.HasField("s") or choose(4) == 0:
            attribute.s = NAMES[choose(len(NAMES))].encode("utf-8", "surrogatepass")


def _tensor(proto: onnx.ModelProto, choose: Choose) -> None:
    tensors = list(proto.graph.initializer) + [a.t for n in proto.graph.node for a in n.attribute if a.HasField("t")]
    tensor = pick(tensors, choose)
    if tensor is None:
        return
    kind = choose(7)
    if kind == 0 and tensor.dims:
        tensor.dims[choose(len(tensor.dims))] = NUMBERS[choose(len(NUMBERS))]
    elif kind == 1:
        tensor.dims.append(NUMBERS[choose(len(NUMBERS))])
    elif kind == 2:
        tensor.data_type = choose(30)
    elif kind == 3:
        tensor.raw_data = tensor.raw_data[: choose(len(tensor.raw_data) + 1)]
    elif kind == 4:
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=LOCATIONS[choose(len(LOCATIONS))])
        tensor.external_data.add(key=("offset", "length", "checksum")[choose(3)], value=str(NUMBERS[choose(len(NUMBERS))]))
    elif kind == 5:
        tensor.int64_data.append(NUMBERS[choose(len(NUMBERS))])
    else:
        tensor.name = _value_name(proto, choose)


def _wiring(proto: onnx.ModelProto, choose: Choose) -> None:
    node = _node(proto, choose)
    if node is None:
        return
    side = node.input if choose(2) else node.output
    kind = choose(4)
    if side and kind < 2:
        side[choose(len(side))] = _value_name(proto, choose)
    elif side and kind == 2:
        del side[choose(len(side))]
    else:
        side.append(_value_name(proto, choose))


def _nodes(proto: onnx.ModelProto, choose: Choose) -> None:
    graph = pick(graphs(proto), choose)
    node = pick(graph.node, choose)
    if node is None:
        return
    kind = choose(6)
    if kind == 0:
        graph.node.remove(node)
    elif kind == 1:
        copy = graph.node.add()
        copy.CopyFrom(node)
        if choose(2):
            copy.output[:] = [f"{o}_again" for o in copy.output]
    elif kind == 2:
        names = _operators()
        node.op_type = names[choose(len(names))]
    elif kind == 3:
        node.domain = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "custom", NAMES[choose(len(NAMES))])[choose(6)]
    elif kind == 4:
        node.name = NAMES[choose(len(NAMES))]
        node.doc_string = NAMES[choose(len(NAMES))]
        node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value=NAMES[choose(len(NAMES))] * (1 + choose(50)))
    else:
        first, second = choose(len(graph.node)), choose(len(graph.node))
        kept = onnx.NodeProto()
        kept.CopyFrom(graph.node[first])
        graph.node[first].CopyFrom(graph.node[second])
        graph.node[second].CopyFrom(kept)


def _types(proto: onnx.ModelProto, choose: Choose) -> None:
    graph = pick(graphs(proto), choose)
    entry = pick([*graph.input, *graph.output, *graph.value_info], choose)
    if entry is None:
        return
    kind = choose(7)
    if kind == 0:
        entry.type.tensor_type.elem_type = choose(30)
    elif kind == 1:
        entry.type.sequence_type.elem_type.tensor_type.elem_type = 1
    elif kind == 2:
        entry.ClearField("type")
    elif kind == 3:
        entry.name = _value_name(proto, choose)
    elif kind == 4:
        entry.type.tensor_type.shape.dim.add().dim_value = NUMBERS[choose(len(NUMBERS))]
    elif entry.type.tensor_type.shape.dim:
        dim = entry.type.tensor_type.shape.dim[choose(len(entry.type.tensor_type.shape.dim))]
        if kind == 5:
            dim.dim_value = NUMBERS[choose(len(NUMBERS))]
        else:
            dim.dim_param = NAMES[choose(len(NAMES))]


def _model(proto: onnx.ModelProto, choose: Choose) -> None:
    kind = choose(6)
    if kind == 0:
        proto.ir_version = NUMBERS[choose(len(NUMBERS))]
    elif kind == 1 and proto.opset_import:
        proto.opset_import[0].version = NUMBERS[choose(len(NUMBERS))] if choose(2) else 1 + choose(26)
    elif kind == 2:
        proto.opset_import.add(domain=NAMES[choose(len(NAMES))], version=NUMBERS[choose(len(NUMBERS))])
    elif kind == 3:
        proto.graph.output.add().name = _value_name(proto, choose)
    elif kind == 4:
        _into_branch(proto, choose)
    else:
        _into_function(proto, choose)


def _into_branch(proto: onnx.ModelProto, choose: Choose) -> None:
    """The whole graph becomes the branch of an If, which reads its inputs from outside."""
    inner = onnx.GraphProto()
    inner.CopyFrom(proto.graph)
    inner.name = "branch"
    outputs = [o.name for o in inner.output]
    if choose(4):
        del inner.input[:]
    del proto.graph.node[:]
    node = proto.graph.node.add(op_type="If", input=["condition"], output=outputs)
    for key in ("then_branch", "else_branch"):
        attribute = node.attribute.add(name=key, type=onnx.AttributeProto.GRAPH)
        attribute.g.CopyFrom(inner)
    condition = proto.graph.input.add(name="condition")
    condition.type.tensor_type.elem_type = onnx.TensorProto.BOOL


def _into_function(proto: onnx.ModelProto, choose: Choose) -> None:
    """A node becomes a call of a model-local function that may call itself."""
    node = _node(proto, choose)
    if node is None:
        return
    function = proto.functions.add(name="f", domain="local")
    function.input.extend(f"i{n}" for n in range(len(node.input)))
    function.output.extend(f"o{n}" for n in range(len(node.output)))
    inner = function.node.add()
    inner.CopyFrom(node)
    inner.input[:] = function.input
    inner.output[:] = function.output
    function.opset_import.add(version=proto.opset_import[0].version if proto.opset_import else 20)
    if choose(4) == 0:
        inner.op_type, inner.domain = "f", "local"
    node.op_type, node.domain = "f", "local"
    del node.attribute[:]
    if choose(4):
        proto.opset_import.add(domain="local", version=1)


_OPERATORS: list[str] = []


def _operators() -> list[str]:
    if not _OPERATORS:
        _OPERATORS.extend(sorted({s.name for s in onnx.defs.get_all_schemas()}))
    return _OPERATORS


MUTATIONS = (_attribute, _attribute, _tensor, _wiring, _wiring, _nodes, _nodes, _types, _model)
