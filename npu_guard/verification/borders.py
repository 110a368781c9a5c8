"""What an output in steps could be as well: integers, booleans and rounded numbers whose border is as near as rounding.

Behind a quantization, an ArgMax or a comparison, a difference of one ulp is a whole step, and of many values some always lie on a
border. From such an output, the model is followed up to the numbers that decide it. The steps behind them are run again on these
numbers moved by what rounding is there: what comes out then is as right as what the model gave.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx

from npu_guard.analysis.analyze import Analysis
from npu_guard.base.errors import ModelError
from npu_guard.file.document import RUNTIME_IR, Document
from npu_guard.graph.graph import Node, Value
from npu_guard.graph.ops import find_operator
from npu_guard.verification import slices
from npu_guard.verification.feeds import Array, Feed
from npu_guard.verification.runtime import CannotRun, Runtime
from npu_guard.verification.tolerance import OWN
from npu_guard.verification.uncertainty import Noise, measure_noise

_T = onnx.TensorProto
_FLOATS = frozenset((_T.FLOAT, _T.FLOAT16, _T.DOUBLE))
_STEPS = frozenset(("Round", "Floor", "Ceil", "Sign", "QuantizeLinear", "Cast", "ArgMax", "ArgMin"))
"""Operators that make steps of numbers, besides comparisons and selections."""
_LABELS = frozenset(("ArgMax", "ArgMin", "TopK", "NonZero", "Unique", "NonMaxSuppression", "OneHot", "Compress"))
_PASSING = frozenset(("DequantizeLinear", "Clip", "Relu", "Max", "Min", "Where"))
_SUMMING = frozenset(("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"))
"""Operators on integers that round inside, where no number is to be had that decides."""
_MOST = 64
"""Nodes behind the numbers that decide, at the most."""
_RANDOM = 14
"""Times that each number is moved up or down at random, besides once all up and once all down: a near tie of two shows in one of
four."""


@dataclass(slots=True)
class Tail:
    """The end of a model: `nodes` make an output of the numbers in `cuts`, and of integers in `given`."""

    nodes: dict[Node, None] = field(default_factory=dict)
    cuts: dict[Value, None] = field(default_factory=dict)
    given: dict[Value, None] = field(default_factory=dict)
    steps: bool = False
    labels: bool = False
    """Whether the output tells which of several values is the largest, say, so that what lies between two is none of them."""


def tail_of(model: Document, analysis: Analysis, name: str) -> Tail | None:
    """What makes an output in steps; None where it is not in steps, or what decides it is not to be had.

    `model` is that of the analysis or a part of it, whose inputs are not looked behind.
    """
    output = analysis.model.graph.values.get(name)
    if output is None:
        return None
    inputs = {i.name for i in model.proto.graph.input}
    tail, stack, seen = Tail(), [output], {output}
    while stack:
        value = stack.pop()
        node = value.producer
        if value in analysis.static or (node is None and value.initializer is not None and value.name not in inputs):
            continue
        if node is None or value.name in inputs or not _is_stepped(node, value):
            (tail.cuts if value.dtype in _FLOATS else tail.given)[value] = None
            continue
        tail.nodes[node] = None
        tail.steps |= node.op_type in _STEPS or value.dtype not in _FLOATS
        tail.labels |= node.op_type in _LABELS
        if len(tail.nodes) > _MOST or node.subgraphs:
            return None
        for given in node.inputs:
            if given is not None and given not in seen:
                seen.add(given)
                stack.append(given)
    return tail if tail.steps and tail.cuts else None


def _is_stepped(node: Node, value: Value) -> bool:
    """Whether a value has only what went in, or comes in steps."""
    if node.domain or node.op_type in _SUMMING:
        return False
    kept = find_operator(node.op_type).kind in ("view", "identity", "data mover", "selection")
    return kept or node.op_type in _STEPS or node.op_type in _PASSING or value.dtype not in _FLOATS


def seen_across_borders(
    runtime: Runtime, model: Document, analysis: Analysis, feed: Feed, name: str, tail: Tail
) -> tuple[Array, ...]:
    """What else an output may be on an input. Empty where the tail does not run by itself."""
    try:
        watched = model.copy()
        known = {o.name for o in watched.proto.graph.output}
        values = [v for v in (*tail.cuts, *tail.given) if v.name not in feed]
        watched.proto.graph.output.extend(_declared(v) for v in values if v.name not in known)
        content, folder = watched.runnable()
        (ran,) = runtime.run(content, folder.resolve(), [feed], [v.name for v in values]) if values else ({},)
        numbers: Mapping[str, Array] = {**{v.name: feed[v.name] for v in (*tail.cuts, *tail.given) if v.name in feed}, **ran}
        cuts = [v.name for v in tail.cuts]
        own = measure_noise(runtime, watched, [feed], [numbers], cuts, analysis)
        room = {name: _room(numbers[name], own[name][0]) for name in cuts}
        rng = np.random.default_rng(0)
        moved = [_moved(numbers, room, sign, rng) for sign in (1.0, -1.0, *[0.0] * _RANDOM)]
        content, folder = _tail_model(model, analysis, name, tail).runnable()
        return tuple(r[name] for r in runtime.run(content, folder.resolve(), moved, [name]))
    except (CannotRun, ModelError):
        return ()


def _room(numbers: Array, noise: Noise) -> Array:
    """How far each number may be off: by channel, as far as the numbers have that axis."""
    axes = slices.slice_axes(numbers.shape)
    if not axes or axes[0] not in noise.by_slice:
        return np.full(numbers.shape, OWN * noise.whole)
    room = OWN * noise.by_slice[axes[0]]
    return np.broadcast_to(room.reshape([-1 if i == axes[0] else 1 for i in range(numbers.ndim)]), numbers.shape)


def _moved(numbers: Mapping[str, Array], room: Mapping[str, Array], sign: float, rng: np.random.Generator) -> Feed:
    """The numbers that decide, all moved up, all down, or each at random where the sign is 0."""
    moved = dict(numbers)
    for name, most in room.items():
        signs = sign or rng.choice([-1.0, 1.0], most.shape)
        moved[name] = (numbers[name] + most * signs).astype(numbers[name].dtype)
    return moved


def _declared(value: Value) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(value.name, value.dtype, None)


def _tail_model(model: Document, analysis: Analysis, name: str, tail: Tail) -> Document:
    """A model of its own of the tail, with the constants that it reads."""
    graph = onnx.GraphProto(name="tail")
    given = [*tail.cuts, *tail.given]
    graph.input.extend(_declared(v) for v in given)
    nodes = dict(tail.nodes)
    stack = [v for n in tail.nodes for v in n.inputs if v is not None and v not in given]
    seen: set[Value] = set()
    while stack:
        value = stack.pop()
        if value in seen:
            continue
        seen.add(value)
        if value.initializer is not None:
            graph.initializer.append(value.initializer)
        elif value.producer is not None and value.producer not in tail.nodes:
            nodes[value.producer] = None
            stack.extend(v for v in value.producer.inputs if v is not None)
    order = {n: i for i, n in enumerate(analysis.model.graph.nodes)}
    graph.node.extend(n.proto for n in sorted(nodes, key=order.__getitem__))
    graph.output.append(_declared(analysis.model.graph.values[name]))
    proto = onnx.ModelProto(ir_version=min(model.proto.ir_version, RUNTIME_IR))
    proto.graph.CopyFrom(graph)
    proto.opset_import.extend(model.proto.opset_import)
    return Document(proto, model.source, model.payloads)
