"""A network with an If of known condition is opened in one way: what reads its analysis finds the same nodes in the document."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from npu_guard.analysis.opening import open_to_write
from npu_guard.checking import registry
from npu_guard.pipeline.quantize import quantize_model
from npu_guard.pipeline.verify import compare_models
from npu_guard.project.config import Config
from npu_guard.verification.layers import compare_layers

NET = """g (float[1,4,6,6] x) => (float[1,4,6,6] y) <bool c = {{1}}, float[4,4,1,1] w = {{{weights}}}> {{
    p = If (c) <then_branch = t () => (float[1,4,6,6] b) {{ a = Conv(x, w)  b = Relu(a) }},
                else_branch = e () => (float[1,4,6,6] d) {{ d = Exp(x) }}>
    y = Conv(p, w) }}"""


@pytest.fixture
def net(save: Callable[..., Path], tmp_path: Path) -> Callable[[str, float], str]:
    def made(name: str, first: float) -> str:
        weights = ", ".join(map(str, [first, *np.linspace(-1, 1, 15).tolist()]))
        return str(save(NET.format(weights=weights)).rename(tmp_path / name))

    return made


def test_the_document_has_the_nodes_of_the_analysis(net: Callable[[str, float], str]) -> None:
    document, analysis = open_to_write(net("a.onnx", 0.5), {"x": [1, 4, 6, 6]})
    assert [n.op_type for n in document.proto.graph.node] == ["Conv", "Relu", "Conv"]
    assert {o for n in document.proto.graph.node for o in n.output} <= analysis.model.graph.values.keys()


def test_what_stands_in_a_branch_is_quantized(net: Callable[[str, float], str], tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).standard_normal((4, 4, 6, 6)).astype(np.float32))
    config = Config(profile="qualcomm-htp")
    made = quantize_model(net("a.onnx", 0.5), registry.profile(config.profile), config, tmp_path / "data.npz")
    assert made.shares.integer_macs == made.shares.macs > 0


def test_what_stands_in_a_branch_is_compared(net: Callable[[str, float], str]) -> None:
    first, second = net("a.onnx", 0.5), net("b.onnx", 0.75)
    assert [layer.op_type for layer in compare_layers(first, second, {}, None).layers] == ["Conv", "Relu", "Conv"]
    result, bisection = compare_models(first, second, {}, seeds=(0,), bisect=True)
    assert result.verdict == "differs"
    assert bisection is not None
    assert bisection.name == "a", "inside of the If"
