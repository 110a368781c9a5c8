"""Where two models part: the first tensor, in the order of the first model, that the second gives otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.cost import size_bytes
from npu_guard.file.document import Document
from npu_guard.graph.graph import Value
from npu_guard.verification import capture
from npu_guard.verification.accumulation import accumulated_by_value, at_least
from npu_guard.verification.compare import compare_output
from npu_guard.verification.feeds import Feed
from npu_guard.verification.runtime import CannotRun, Runtime

CHUNK = 64
"""Tensors that are compared at a time, unless memory allows fewer."""
_T = onnx.TensorProto
_FLOATS = frozenset({_T.FLOAT, _T.FLOAT16, _T.DOUBLE})


@dataclass(frozen=True, slots=True)
class Bisection:
    """`name` is the first tensor that diverges; where there is none, `reason` says why."""

    name: str | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Side:
    """One of two models that are compared."""

    document: Document
    analysis: Analysis


@dataclass(frozen=True, slots=True)
class _Pair:
    """A tensor that both models have, and how many terms have been summed until it is made."""

    before: Value
    after: Value
    terms: float


def first_divergence(runtime: Runtime, before: Side, after: Side, feeds: Sequence[Feed]) -> Bisection:
    """The first tensor by whose name both models differ beyond the tolerance; inputs are the same for both."""
    pairs = _common(before.analysis, after.analysis)
    if not pairs:
        return Bisection(None, "the models have no name of a tensor in common")
    try:
        for group in _chunks(pairs, max(1, capture.capture_bytes(runtime) // (2 * max(1, len(feeds))))):
            first = capture.capture(runtime, before.document, feeds, [p.before for p in group])
            second = capture.capture(runtime, after.document, feeds, [p.after for p in group])
            for pair in group:
                name = pair.before.name
                if not compare_output(name, [r[name] for r in first], [r[name] for r in second], pair.terms).ok:
                    return Bisection(name)
    except CannotRun as error:
        return Bisection(None, f"its values cannot be had: {error}")
    return Bisection(None, "no tensor that both models have differs")


def _common(before: Analysis, after: Analysis) -> list[_Pair]:
    """Floating-point tensors that nodes of both main graphs make under one name, and all outputs, in the first one's order."""
    there = {value.name: (value, terms) for value, terms in _made(after)}
    pairs = []
    for value, terms in _made(before):
        other, more = there.get(value.name, (None, 0.0))
        if other is not None and (value.is_output or (value.dtype in _FLOATS and other.dtype in _FLOATS)):
            pairs.append(_Pair(value, other, terms + more))
    return pairs


def _made(analysis: Analysis) -> Iterator[tuple[Value, float]]:
    """What the nodes of the main graph make, with the terms that were summed up to there."""
    terms = accumulated_by_value(analysis)
    for node in analysis.model.graph.nodes:
        for value in node.outputs:
            if value is not None and value.name:
                yield value, at_least(value) + terms[value]


def _chunks(pairs: Sequence[_Pair], limit: int) -> Iterator[list[_Pair]]:
    group: list[_Pair] = []
    held = 0
    for pair in pairs:
        size = max(size_bytes(pair.before), size_bytes(pair.after))
        if group and (len(group) == CHUNK or held + size > limit):
            yield group
            group, held = [], 0
        group.append(pair)
        held += size
    if group:
        yield group
