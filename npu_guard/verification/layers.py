"""Two models operator by operator: what each tensor that both have keeps of the signal, and in steps of its scale.

Quantizers keep the names of tensors, so that a network in floating point and its quantized form have most of them in common.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.constants import Array
from npu_guard.analysis.opening import open_to_write
from npu_guard.analysis.quantized.held import Held, held_of, span
from npu_guard.analysis.quantized.reading import read
from npu_guard.base.errors import NotVerified
from npu_guard.base.limits import DEFAULT, Limits
from npu_guard.graph.graph import Node, Value
from npu_guard.verification.capture import capture
from npu_guard.verification.feeds import calibration_feeds, input_specs, normal_feed
from npu_guard.verification.int8 import ratio_over
from npu_guard.verification.run_limits import run_limits
from npu_guard.verification.runtime import CannotRun, Runtime

DRAWN, SAMPLES = 4, 16
"""Inputs that are drawn where the user gives none, and how many of his are used."""
_BOUNDED = {"Relu", "Clip"}
CHUNK = 32
"""Tensors that are held at a time."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A tensor that both models have."""

    name: str
    op_type: str
    """The operator that makes it in the first model."""
    decibels: float | None
    """Signal-to-noise ratio of the second model's against the first one's; None for integers."""
    steps: float | None
    """The largest difference in steps of the second model's scale; None where that holds it in floating point."""


@dataclass(frozen=True, slots=True)
class Layers:
    """All of them in the order of the first model; where they could not be compared, `reason` says why."""

    layers: tuple[Layer, ...]
    inputs: str = ""
    reason: str = ""


def compare_layers(
    before: str, after: str, input_shapes: Mapping[str, Sequence[int]], calibration: Path | None, limits: Limits = DEFAULT
) -> Layers:
    """Compare tensors of two model files that have one name. Raises ModelError and UsageError as the whole comparison does."""
    documents, (first, second) = zip(*(open_to_write(path, input_shapes, limits) for path in (before, after)), strict=True)
    try:
        wanted = input_specs(first.model.graph.inputs, first.constants)
    except NotVerified as error:
        return Layers((), reason=str(error))
    if calibration is not None:
        feeds = calibration_feeds(calibration, wanted)[:SAMPLES]
        inputs = f"{len(feeds)} of calibration"
    else:
        feeds = [normal_feed(wanted, seed) for seed in range(DRAWN)]
        inputs = f"{DRAWN} of drawn noise"
    pairs = _pairs(first, second)
    allowed = run_limits(limits, (documents[0], first), (documents[1], second))
    if why := allowed.refusal(len(feeds)):
        return Layers((), inputs, why)
    found: list[Layer] = []
    with Runtime(allowed) as runtime:
        for start in range(0, len(pairs), CHUNK):
            some = pairs[start : start + CHUNK]
            try:
                mine = capture(runtime, documents[0], feeds, [a for a, _ in some])
                others = capture(runtime, documents[1], feeds, [b for _, b in some])
            except CannotRun as error:
                return Layers(tuple(found), inputs, str(error))
            for a, b in some:
                found.append(_layer(a, b, [m[a.name] for m in mine], [o[b.name] for o in others], first, second))
    return Layers(tuple(found), inputs, "" if found else "the models have no tensor of the same name and shape")


def _pairs(first: Analysis, second: Analysis) -> list[tuple[Value, Value]]:
    """Tensors of the main graphs with one name and shape that operators make of data, both numbers or both integers."""
    there = second.model.graph.values
    found = []
    for node in first.nodes():
        for value in node.outputs[:1] if node.graph.parent is None else ():
            other = there.get(value.name) if value is not None and value not in first.static else None
            if value is not None and other is not None and other.producer is not None:
                alike = value.shape == other.shape and value.shape is not None and value.dtype == other.dtype
                found += [(value, other)] if alike else []
    return found


def _layer(a: Value, b: Value, mine: Sequence[Array], others: Sequence[Array], first: Analysis, second: Analysis) -> Layer:
    assert a.producer is not None
    quantized = read(second)
    held = (quantized.encodings.get(b) or quantized.given(b)) if quantized else None
    scale = second.constants.get(held.scale) if held is not None and held.scale is not None and held.axis is None else None
    floats = mine[0].dtype.kind == "f"
    stated = held_of(held or quantized.held(b) if quantized else None, second)
    if floats and stated is not None:
        mine, others = _as_held(a, b, mine, others, first, stated)
    pairs = list(zip(mine, others, strict=True))
    largest = max((float(np.abs(x.astype(np.float64) - y.astype(np.float64)).max(initial=0.0)) for x, y in pairs), default=0.0)
    steps = largest if held is not None and not floats else None
    if floats and scale is not None and scale.size == 1 and (step := float(scale.reshape(-1)[0])) > 0:
        steps = largest / step
    return Layer(a.name, a.producer.op, ratio_over(mine, others) if floats else None, steps)


def _as_held(
    a: Value, b: Value, mine: Sequence[Array], others: Sequence[Array], first: Analysis, held: Held
) -> tuple[Sequence[Array], Sequence[Array]]:
    """Both sides where the second model has a Relu or Clip in an encoding: no integer stands for what lies beyond its range.

    Quantizers leave such an operator out. Then the tensor that they quantize has the name of the operator's result, and values
    that the encoding cuts off; or the one that they give back has the name of what the operator reads, and the cut ones are gone.
    """
    low, high = span(held.dtype)
    least, most = (low - held.zero) * float(held.scale), (high - held.zero) * float(held.scale)
    if b.consumers and all(node.op_type == "QuantizeLinear" for node in b.consumers):
        return mine, [np.clip(x, np.float32(least), np.float32(most)) for x in others]
    readers = {node.op_type for node in a.consumers}
    if least >= 0.0 and readers and readers <= _BOUNDED and not readers & {node.op_type for node in b.consumers}:
        bounds = [_bounds(node, first) for node in a.consumers]
        return [np.clip(x, min(x for x, _ in bounds), max(x for _, x in bounds)) for x in mine], others
    return mine, others


def _bounds(node: Node, analysis: Analysis) -> tuple[float, float]:
    """Between which numbers a Relu or Clip lets through."""
    bounds = [0.0, math.inf] if node.op_type == "Relu" else [-math.inf, math.inf]
    for i, name in enumerate(("min", "max")) if node.op_type == "Clip" else ():
        value = node.input(i + 1)
        given = node.attributes.get(name) if value is None else analysis.constants.get(value)
        bounds[i] = bounds[i] if given is None else float(np.asarray(given).reshape(-1)[0])
    return bounds[0], bounds[1]
