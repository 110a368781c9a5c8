"""Two graphs in ONNX text, and what the proof says of them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx.parser
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from npu_guard.file.document import Document
from npu_guard.proof.arithmetic import Budget
from npu_guard.proof.exact import Exact
from npu_guard.proof.prove import MACS, prove
from npu_guard.results.proof import Proof

Weights = Mapping[str, NDArray[np.floating]]


def document(text: str, weights: Weights | None = None, opset: int = 20) -> Document:
    """A model; what it declares and nobody makes is a weight, drawn by its name."""
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]>\n{text}')
    given = dict(weights or {})
    known = {o for n in proto.graph.node for o in n.output} | {t.name for t in proto.graph.initializer}
    for entry in proto.graph.value_info:
        if entry.name not in known and entry.name not in given:
            rng = np.random.default_rng(zlib.crc32(entry.name.encode()))
            shape = [d.dim_value for d in entry.type.tensor_type.shape.dim]
            given[entry.name] = rng.standard_normal(shape).astype(np.float32)
    proto.graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in given.items())
    return Document(proto, Path("model.onnx"), {})


@pytest.fixture
def proof() -> Callable[..., Proof]:
    """`proof(before, after, changed)`: weights are equal by name, but for those that are changed in `after`."""

    def run(
        before: str, after: str, changed: Weights | None = None, *, weights: Weights | None = None, opset: int = 20,
        other: int = 0, budget: int = MACS, exact: Mapping[str, Exact] | None = None,
    ) -> Proof:  # fmt: skip
        shared = dict(weights or {})
        return prove(
            document(before, shared, opset), document(after, shared | dict(changed or {}), other or opset), Budget(budget), exact
        )

    return run
