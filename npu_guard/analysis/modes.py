"""Inputs that only choose what a model does, such as a sampling rate; once one has a value, an If that asks is a branch."""

from __future__ import annotations

import math
from collections.abc import Iterator

import onnx

from npu_guard.analysis.analyze import Analysis
from npu_guard.graph.graph import Node, Value, is_known

_T = onnx.TensorProto
_WORDS = frozenset({_T.BOOL, _T.INT8, _T.INT16, _T.INT32, _T.INT64, _T.UINT8, _T.UINT16, _T.UINT32, _T.UINT64})
_MOST = 64
"""Nodes between a mode and an If that asks for it, at the most: a few, and no other If pays for a long way back."""


def modes(analysis: Analysis) -> tuple[tuple[str, str], ...]:
    """Graph inputs of one integer or truth value that alone decide which branch of some If runs, by name, each with a value
    that the graph compares it with (`16000`), or `N` where it names none."""
    if ("If", "") not in analysis.model.operators:
        return ()
    found: dict[str, str] = {}
    for node in analysis.model.graph.walk():
        if node.op_type == "If" and not node.domain and node.inputs and node.inputs[0] is not None:
            for value, number in _asked(node.inputs[0], analysis):
                if found.get(value.name, _ANY) == _ANY:
                    found[value.name] = number
    return tuple(found.items())


_ANY = "N"


def _asked(condition: Value, analysis: Analysis) -> Iterator[tuple[Value, str]]:
    """The modes that a condition follows from, nothing where it follows from anything else as well."""
    waiting, met = [condition], {condition}
    inputs: list[Value] = []
    steps: list[Node] = []
    while waiting:
        value = waiting.pop()
        if analysis.is_constant(value):
            continue
        if value.producer is None:
            if not _is_mode(value):
                return
            inputs.append(value)
            continue
        steps.append(value.producer)
        if len(steps) > _MOST or value.producer.subgraphs:
            return
        for read in value.producer.reads():
            if read not in met:
                met.add(read)
                waiting.append(read)
    for value in inputs:
        yield value, _number(value, steps, analysis)


def _is_mode(value: Value) -> bool:
    return value.is_input and value.dtype in _WORDS and is_known(value.shape) and math.prod(value.shape) == 1


def _number(value: Value, steps: list[Node], analysis: Analysis) -> str:
    """The constant that a step compares the input with."""
    if value.dtype == _T.BOOL:
        return "1"
    for node in steps:
        others = [v for v in node.inputs if v is not None and v is not value]
        if node.op_type == "Equal" and value in node.inputs and others and analysis.is_constant(others[0]):
            known = analysis.constants.get(others[0])
            if known is not None and known.size == 1:
                return str(int(known.ravel()[0]))
    return _ANY
