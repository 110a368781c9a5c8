"""A block of a model on its own: its border, a model of its nodes, and what it costs. Runs nothing."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence

import onnx

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.constants import Array
from npu_guard.analysis.ends import border_of
from npu_guard.file.document import RUNTIME_IR, Document
from npu_guard.graph.graph import Node, Value
from npu_guard.results.findings import NodeCost
from npu_guard.rewriting.edit import Edit
from npu_guard.rewriting.substitution import Builder, Match

_TOLD = 16
"""Elements of constants that count for the price of a block, such as shapes and scales."""
MACS_PER_BYTE = 16
"""MACs that a device makes in the time that it takes to move a byte: for comparing candidates, so the order counts only."""


def price_key(analysis: Analysis, match: Match, *, bordered: bool = False) -> Hashable:
    """What the price of a match depends on: equal blocks of a network, of which there may be hundreds, have one price.

    With `bordered`, it depends on what lies around the block as well.
    """
    told: dict[Value | None, tuple[Hashable, ...] | None] = {None: None}
    key: list[Hashable] = [match.substitution.name, match.variant]
    for node in match.nodes:
        attributes = [a.SerializeToString() for a in node.proto.attribute]
        values = (*node.inputs, None, *node.outputs)
        for value in values:
            if value is not None and value not in told:
                constant = analysis.constants.get(value)
                known = None if constant is None or constant.size > _TOLD else constant.tobytes()
                fixed = analysis.is_constant(value)
                told[value] = len(told), value.dtype, value.shape, fixed, known, value in match.replaced
        key.append((node.op, *sorted(attributes), None, *[told[value] for value in values]))
    if not bordered:
        return tuple(key)
    own = set(match.nodes)
    read = [v for v in told if v is not None and v.producer not in own and not analysis.is_constant(v)]
    around = border_of(analysis, own, read, {v: str(i) for i, v in enumerate(match.replaced)})
    key += (tuple((v.name in around.computed, v.name in around.beside) for v in read), *around.read.items())
    return tuple(key)


def priced(cost: NodeCost) -> int:
    """What a node costs: MACs, and activations and weights (in float32) that are moved."""
    return cost.macs + MACS_PER_BYTE * (cost.output_bytes + 4 * cost.params)


def boundary(analysis: Analysis, builder: Builder) -> list[Value]:
    """Activations that the old or the new nodes read from outside of the block."""
    made = {v for n in builder.match.nodes for v in n.outputs}
    found: dict[Value, None] = {}
    for node in builder.match.nodes:
        for value in node.inputs:
            if value is not None and value not in made and not analysis.is_constant(value):
                found[value] = None
    own = {o for n in builder.nodes for o in n.output} | {t.name for t in builder.initializers}
    for proto in builder.nodes:
        for name in proto.input:
            outside = analysis.model.graph.values.get(name) if name and name not in own else None
            if outside is not None and not analysis.is_constant(outside):
                found[outside] = None
    return list(found)


def _shape_of_activation(analysis: Analysis, value: Value) -> Array | None:
    """What Shape or Size says, which is known although what it reads is not in the block."""
    node = value.producer
    return analysis.constants.get(value) if node is not None and node.op_type in ("Shape", "Size") and not node.domain else None


def block_model(
    document: Document, analysis: Analysis, edits: Sequence[Edit], varying: Collection[Value] = (), *, old: bool = False,
    fed: Sequence[Value] | None = None,
) -> Document:  # fmt: skip
    """A model of its own from the new nodes of some matches, or from the old ones, with all else of the model that they read.

    Inputs that are `varying` are declared without a shape. `fed` are the inputs, where not all that is read from outside is one.
    """
    proto = onnx.ModelProto(ir_version=min(document.proto.ir_version, RUNTIME_IR))
    graph = proto.graph
    graph.name = "block"
    inputs = dict.fromkeys(fed if fed is not None else (v for _, builder, _ in edits for v in boundary(analysis, builder)))
    graph.input.extend(
        onnx.helper.make_tensor_value_info(v.name, v.dtype, None) if v in varying else _declared(v) for v in inputs
    )
    nodes: list[onnx.NodeProto] = []
    beside: dict[Node, None] = {}
    for match, builder, outputs in edits:
        nodes += (n.proto for n in match.nodes) if old else builder.nodes
        beside |= dict.fromkeys(match.nodes if old else ())
        graph.initializer.extend(() if old else builder.initializers)
        for value in match.replaced:
            name = value.name if old else outputs[value]
            graph.output.append(onnx.helper.make_tensor_value_info(name, value.dtype, None))
    own = {o for n in nodes for o in n.output} | {t.name for t in graph.initializer} | {v.name for v in inputs}
    needed = {name for n in nodes for name in n.input if name and name not in own}
    stack = [analysis.model.graph.values[name] for name in sorted(needed)]
    seen: set[Value] = set()
    while stack:
        value = stack.pop()
        if value in seen or value.name in own:
            continue
        seen.add(value)
        if value.initializer is not None:
            graph.initializer.append(value.initializer)
        elif (told := _shape_of_activation(analysis, value)) is not None:
            graph.initializer.append(onnx.numpy_helper.from_array(told, value.name))
        elif value.producer is not None:
            beside[value.producer] = None
            stack.extend(v for v in value.producer.inputs if v is not None)
    order = {n: i for i, n in enumerate(analysis.model.graph.nodes)} if beside else {}
    graph.node.extend(n.proto for n in sorted(beside, key=order.__getitem__))
    graph.node.extend(() if old else nodes)
    proto.opset_import.extend(document.proto.opset_import)
    return Document(proto, document.source, document.payloads)


def _declared(value: Value) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(value.name, value.dtype, None if value.shape is None else list(value.shape))
