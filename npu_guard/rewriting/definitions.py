"""What ONNX says that an operator does, in other operators: its own definition, with shapes worked out."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import onnx
from msgspec import Struct

from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.analysis.constants import Array
from npu_guard.base.errors import ModelError
from npu_guard.checking.context import Context
from npu_guard.file.document import Document
from npu_guard.graph.graph import Node, Value
from npu_guard.rewriting.node_numbers import numbers
from npu_guard.rewriting.substitution import Refused

_MOVED = ("Cast", "CastLike", "Identity", "Reshape")
"""Operators of a definition that are left out where they give what they are given."""


class Step(Struct, frozen=True):
    """A node of a definition. Names are those of the definition; "" is an operand that is left out."""

    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[tuple[str, Any], ...]


class Definition(Struct, frozen=True):
    """The nodes that give what an operator gives."""

    steps: tuple[Step, ...]
    constants: dict[str, Array]
    """Numbers that the definition states or that follow from shapes."""
    inputs: dict[str, int]
    """Which operand a name stands for."""
    outputs: tuple[str, ...]
    """The names of the results; one that nobody reads is ""."""


def definition(node: Node, ctx: Context) -> Definition:
    """What ONNX defines the operator as, for the shapes at hand. Raises Refused."""
    opset = node.graph.model.opsets.get("", 1)
    shapes = [numbers(v) for v in node.inputs]
    if any(v is not None and s is None for v, s in zip(node.inputs, shapes, strict=True)):
        raise Refused("its shapes are not known; fix them with --input-shape")
    known = {i: c for i, v in enumerate(node.inputs) if v is not None and (c := ctx.analysis.constants.get(v)) is not None}
    kinds = tuple((v.dtype, s) if v is not None else None for v, s in zip(node.inputs, shapes, strict=True))
    read = tuple(v is not None and bool(v.consumers or v.is_output) for v in node.outputs)
    found = ctx.analysis_of(_Kept)
    key: Hashable = (
        node.op_type, opset, kinds, read, node.proto.attribute.__str__(), tuple((i, c.tobytes()) for i, c in known.items())
    )  # fmt: skip
    if key not in found.made:
        try:
            found.made[key] = _worked_out(node, opset, known, read)
        except Refused as refusal:
            found.made[key] = refusal
    made = found.made[key]
    if isinstance(made, Refused):
        raise Refused(made.reason)
    return made


class _Kept:
    """Definitions of one model by operator, attributes and shapes: blocks of a network are alike."""

    def __init__(self, ctx: Context) -> None:
        self.made: dict[Hashable, Definition | Refused] = {}


def _function(node: Node, opset: int) -> onnx.FunctionProto:
    """ONNX's definition as of an opset. Raises Refused."""
    schema: Any = onnx.defs.get_schema(node.op_type, opset, "")  # onnx's stub lacks what is asked here
    kinds = [_type(v).SerializeToString() if v is not None else b"" for v in node.inputs]
    content = None
    if schema.has_context_dependent_function:
        versions = [v for v in schema.context_dependent_function_opset_versions if v <= opset]
        content = schema.get_context_dependent_function_with_opset_version(
            max(versions, default=opset), node.proto.SerializeToString(), kinds
        )
    elif schema.has_function:
        versions = [v for v in schema.function_opset_versions if v <= opset]
        content = schema.get_function_with_opset_version(max(versions)) if versions else None
    if not content:
        raise Refused(f"ONNX has no definition of it in opset {opset}")
    function = onnx.FunctionProto()
    function.ParseFromString(content)
    return function


def _worked_out(node: Node, opset: int, known: dict[int, Array], read: Sequence[bool]) -> Definition:
    function = _function(node, opset)
    written = next((e.version for e in function.opset_import if e.domain == ""), opset)
    stated = {a.name: a for a in node.proto.attribute}
    stated = {a.name: a for a in function.attribute_proto} | stated
    schema = onnx.defs.get_schema(node.op_type, opset, "")
    defaults = {name: a.default_value for name, a in schema.attributes.items() if a.default_value.type}
    nodes = []
    for inner in function.node:
        if inner.domain or any(a.HasField("g") or a.graphs for a in inner.attribute):
            raise Refused("its definition has branches or loops")
        if not _is_still(inner.op_type, written, opset):
            raise Refused(f"its definition is of opset {written}, where {inner.op_type} is another operator than in {opset}")
        copy = onnx.NodeProto()
        copy.CopyFrom(inner)
        del copy.attribute[:]
        for attribute in inner.attribute:
            given = attribute
            if attribute.ref_attr_name:
                found = stated.get(attribute.ref_attr_name, defaults.get(attribute.ref_attr_name))
                if found is None:
                    continue
                given = found
            copy.attribute.add().CopyFrom(given)
            copy.attribute[-1].name = attribute.name
            copy.attribute[-1].ClearField("ref_attr_name")
        nodes.append(copy)
    formal = list(function.input)[: len(node.inputs)]
    inputs = {name: i for i, name in enumerate(formal) if node.inputs[i] is not None}
    graph = onnx.GraphProto(name="definition", node=nodes)
    for name, i in inputs.items():
        value = node.inputs[i]
        assert value is not None
        if i in known:
            graph.initializer.append(onnx.numpy_helper.from_array(known[i], name))
        else:
            graph.input.add(name=name).type.CopyFrom(_type(value))
    wanted = [name if r else "" for name, r in zip(function.output, read, strict=False)]
    for name in filter(None, wanted):
        graph.output.add(name=name)
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10)
    try:
        analysis = analyze(Document(proto, Path("definition"), {}).skeleton())
    except ModelError as error:
        raise Refused(f"its definition does not hold here ({error})") from None
    return _definition(analysis, inputs, tuple(wanted))


def _definition(analysis: Analysis, inputs: dict[str, int], wanted: tuple[str, ...]) -> Definition:
    graph = analysis.model.graph
    steps: list[Step] = []
    constants: dict[str, Array] = {}
    same: dict[str, str] = {}

    def operand(value: Value | None) -> str:
        if value is None:
            return ""
        array = analysis.constants.get(value)
        if array is not None and value.name not in inputs:
            constants[value.name] = array
        return same.get(value.name, value.name)

    needed = {name for name in wanted if name}
    kept = []
    for node in reversed(list(graph.nodes)):
        made = [v for v in node.outputs if v is not None]
        if any(v.name in needed for v in made) and not all(analysis.constants.get(v) is not None for v in made):
            kept.append(node)
            needed.update(v.name for v in node.inputs if v is not None)
    for node in reversed(kept):
        x = node.input(0)
        idle = node.op_type in _MOVED and x is not None and (x.dtype, numbers(x)) == (node.output.dtype, numbers(node.output))
        if idle and x is not None and numbers(x) is not None and node.output.name not in wanted:
            same[node.output.name] = operand(x)
            continue
        if any(v is not None and numbers(v) is None for v in node.outputs):
            raise Refused("shapes inside of its definition are not known")
        operands = tuple(operand(v) for v in node.inputs)
        made_names = tuple(v.name if v is not None else "" for v in node.outputs)
        attributes = tuple((a.name, onnx.helper.get_attribute_value(a)) for a in node.proto.attribute)
        if node.op_type == "CastLike":
            node_type, operands, attributes = "Cast", operands[:1], (("to", node.output.dtype),)
        else:
            node_type = node.op_type
        steps.append(Step(node_type, operands, made_names, attributes))
    if not steps:
        raise Refused("its definition comes to a constant")
    used = {name for step in steps for name in step.inputs}
    return Definition(tuple(steps), {n: a for n, a in constants.items() if n in used}, inputs, wanted)


def _type(value: Value) -> onnx.TypeProto:
    return onnx.helper.make_tensor_type_proto(value.dtype, numbers(value))


def _is_still(op_type: str, written: int, opset: int) -> bool:
    """Whether a node of one opset is one of another: operands and attributes are there, and new ones may be left out."""
    try:
        old, new = (onnx.defs.get_schema(op_type, version, "") for version in (written, opset))
    except onnx.defs.SchemaError:
        return False
    operands = [(i.name, j.name) for i, j in zip(old.inputs, new.inputs, strict=False)]
    added = [a for name, a in new.attributes.items() if name not in old.attributes]
    return (
        len(old.inputs) <= len(new.inputs)
        and all(a == b for a, b in operands)
        and set(old.attributes) <= set(new.attributes)
        and not any(a.required for a in added)
    )
