"""What a Loop carries has the shape that it begins with, where a turn keeps it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from npu_guard.analysis.analyze import analyze
from npu_guard.file.load import load

KEPT = "t = Conv<kernel_shape = [3,3], pads = [1,1,1,1]>(s, w)  r = Tanh(t)  v = Add(u, c)"
GROWN = "r = Relu(s)  v = Concat<axis = 0>(u, c)"
WIDER = "r = Concat<axis = 1>(s, s)  v = Add(u, c)"


def shapes(turn: str, save: Callable[..., Path]) -> tuple[object, object]:
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 16]>
        g (float[1,4,6,6] x, int64 n, float[4,4,3,3] w, float[1] c) => (y, z)
        <float[1] zero = {0}> { y0 = Relu(x)  y = Relu(a)  z = Relu(b) }""")
    body = onnx.parser.parse_graph(
        f"b (int64 i, bool go, float s, float u) => (bool on, float r, float v) {{ on = Identity(go) {turn} }}"
    )
    for value in (*body.input[2:], *body.output[1:]):
        value.type.tensor_type.ClearField("shape")
    loop = onnx.helper.make_node("Loop", ["n", "", "y0", "zero"], ["a", "b"], body=body)
    model.graph.node.insert(1, loop)
    values = analyze(load(save(model))).model.graph.values
    return values["y"].shape, values["z"].shape


@pytest.mark.parametrize(("turn", "expected"), [
    (KEPT, ((1, 4, 6, 6), (1,))),
    (GROWN, ((1, 4, 6, 6), None)),
    (WIDER, (None, (1,))),
])  # fmt: skip
def test_what_a_turn_keeps_is_known(turn: str, expected: tuple[object, object], save: Callable[..., Path]) -> None:
    assert tuple(s if s and all(isinstance(d, int) for d in s) else None for s in shapes(turn, save)) == expected
