"""Small graphs that the vendors' compilers were asked about: the rules say the same of each, or a reason says why not."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import pytest

STUDY = Path(__file__).parents[2] / "bench" / "study"
sys.path.insert(0, str(STUDY))
import graphs  # noqa: E402
import judge  # noqa: E402
import recorded  # noqa: E402

sys.path.remove(str(STUDY))
PROFILES = ("rockchip-rk3588", "qualcomm-htp", "ethos-u55", "ethos-u85")
SHARE = 98.0
"""Percent of the graphs with the same verdict."""


@pytest.mark.parametrize("profile", PROFILES)
def test_verdicts(profile: str) -> None:
    known, found = graphs.read(profile), graphs.differing(profile)
    assert len(known) > 50
    assert {g.status for g in known.values()} == {"accepted", "refused"}
    assert 100 * len(found) <= (100 - SHARE) * len(known), found
    unexplained = [key for key in found if not recorded.reason_for(profile, f"graph {key}", recorded.reasons())]
    assert not unexplained


def test_every_reason_on_a_graph_is_needed() -> None:
    differing = {profile: graphs.differing(profile) for profile in PROFILES}
    for reason in recorded.reasons():
        if not any(glob.startswith("graph ") for glob in reason.cases):
            continue
        keys = [f"graph {key}" for key in differing[reason.profile]]
        for glob in reason.cases:
            assert any(recorded.reason_for(reason.profile, key, [reason]) for key in keys), glob


def test_a_graph_survives_as_text() -> None:
    """What is written as text and read again has the same operators, attributes, shapes and small constants."""
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        onnx.helper.make_node("Resize", ["c", "", "s"], ["y"], mode="linear"),
    ]
    held = [
        onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [4, 3, 3, 3], [0.5] * 108),
        onnx.helper.make_tensor("s", onnx.TensorProto.FLOAT, [4], [1, 1, 2, 2]),
    ]
    given = [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 8, 8])]
    result = [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "g", given, result, held), opset_imports=[onnx.helper.make_opsetid("", 17)]
    )
    again = judge.model_of(graphs.Case("k", "f", graphs.text_of(model), 17)).graph
    assert [(n.op_type, list(n.input), list(n.attribute)) for n in again.node] == [
        (n.op_type, list(n.input), list(n.attribute)) for n in nodes
    ]
    shapes = {t.name: list(t.dims) for t in again.initializer}
    assert shapes == {"w": [4, 3, 3, 3], "s": [4]}
    assert [list(t.float_data) or onnx.numpy_helper.to_array(t).tolist() for t in again.initializer if t.name == "s"] == [
        [1, 1, 2, 2]
    ]
    assert [d.dim_value for d in again.output[0].type.tensor_type.shape.dim] == [1, 4, 16, 16]
