"""What fuzzing starts from: the examples of all rules and substitutions, which between them use most operators and paths."""

from __future__ import annotations

import functools

import onnx

from npu_guard.checking import registry
from npu_guard.checking.examples import case_model
from npu_guard.checking.rule import Case
from npu_guard.fixing import catalog


@functools.cache
def seeds() -> tuple[bytes, ...]:
    """Serialized models, each once, in a fixed order."""
    cases = [case for rule in registry.rules() for case in (*rule.good, *rule.bad)]
    cases += [Case(e.graph, opset=e.opset) for s in catalog.substitutions() for e in (*s.good, *s.bad)]
    found: dict[bytes, None] = {}
    for case in cases:
        found[_small(case_model(case)).SerializeToString(deterministic=True)] = None
    return tuple(found)


def _small(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without the values of large weights: nothing that reads a skeleton looks at them, and mutations should hit structure."""
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) > 256:
            tensor.raw_data = bytes(len(tensor.raw_data)) if len(tensor.raw_data) <= 4096 else b""
            if not tensor.raw_data:
                tensor.dims[:] = [1] * len(tensor.dims)
                tensor.raw_data = bytes(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    return model
