"""What the proof takes an operator to mean is what ONNX Runtime computes: on both sides of a proof it is only trusted."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest

from npu_guard.file.document import Document
from npu_guard.proof.evaluate import run
from npu_guard.proof.program import read
from npu_guard.proof.prove import _WITH_LAWS
from npu_guard.proof.readings.table import READINGS
from npu_guard.proof.reals import Reals
from npu_guard.proof.tensor import CONSTANT, Operand, Tensor


def _beside(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"proof_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


networks = _beside("networks")
NETWORKS = networks.everything()
BATCHES = 24
WHOLE = {"DeformConv", "GridSample", "Hardmax", "OneHot", "RoiAlign", "Scatter", "ScatterElements", "TopK"}
"""Of which the value is not looked at; `test_whole.py` has what is told apart."""
NOT_COVERED = {*WHOLE, "Acos", "Acosh", "Asin", "Asinh", "Atanh", "CastLike", "Cosh", "Dropout", "IsInf", "IsNaN", "Mod",
               "QuantizeLinear", "Sinh", "Size", "Swish", "Tan"}  # fmt: skip
"""Functions without laws, of which the reading is their name, and operators that runtimes do not have."""


def differs(network: Any) -> str:
    """How the reading differs from the runtime; empty where it does not."""
    proto = networks.model(network)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(1)
    feeds = {i.name: networks.numbers(rng, i.shape, network) for i in session.get_inputs()}
    wanted = session.run(None, feeds)
    program = read(Document(proto, Path("network.onnx"), {}))
    a = Reals()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outputs = run(a, program, {name: a.input(value) for name, value in feeds.items()})
    for expected, output in zip(wanted, outputs, strict=True):
        found = output.parts[0] if isinstance(output, Tensor) else np.asarray(output)
        if found.shape != expected.shape:
            return f"{network.text}: shape {found.shape}, not {expected.shape}"
        size = max(1.0, float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0)))
        if not np.allclose(found, expected, rtol=2e-5, atol=2e-6 * size):
            return f"{network.text}: off by {np.abs(found - expected).max():.3g}"
    return ""


def test_there_are_a_thousand() -> None:
    assert len(NETWORKS) >= 1000


def test_every_operator_with_a_law_is_among_them() -> None:
    seen = {node.op_type for network in NETWORKS for node in networks.model(network).graph.node}
    assert set(READINGS) - seen - NOT_COVERED - {"Constant"} == set()


@pytest.mark.parametrize("part", range(BATCHES))
def test_reading_is_what_the_runtime_computes(part: int) -> None:
    assert [found for network in NETWORKS[part::BATCHES] if (found := differs(network))] == []


class Watched(Reals):
    """Notes whether an exponential is met, or a quotient by what is no constant, nor a root that is drawn as its reciprocal."""

    met = False

    def exp(self, x: Tensor) -> Tensor:
        self.met = True
        return super().exp(x)

    def function(self, name: str, *arguments: Tensor, **known: Any) -> Tensor:
        self.met |= name in ("sigmoid", "tanh")
        return super().function(name, *arguments, **known)

    def invert(self, x: Operand) -> Tensor:
        self.met |= self.lift(x).degree != CONSTANT and self.lift(x).inverse is None
        return super().invert(x)

    def root(self, x: Operand) -> Tensor:
        before = self.met
        result = super().root(x)
        self.met = before
        return result


def test_what_is_read_by_exponentials_and_quotients_is_listed() -> None:
    """The second way of reading is tried for these alone."""
    for network in NETWORKS:
        proto = networks.model(network)
        rng = np.random.default_rng(1)
        a = Watched()
        feeds = {
            i.name: networks.numbers(rng, [d.dim_value for d in i.type.tensor_type.shape.dim], network) for i in proto.graph.input
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run(a, read(Document(proto, Path("network.onnx"), {})), {name: a.input(value) for name, value in feeds.items()})
        assert not a.met or {n.op_type for n in proto.graph.node} & _WITH_LAWS, network.text
