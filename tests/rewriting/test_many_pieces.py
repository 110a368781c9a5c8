"""A detector's head, whose positions become rows: what is joined by the hundred is not padded piece by piece."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from npu_guard.checking import registry
from npu_guard.file.save import save_document
from npu_guard.fixing import catalog
from npu_guard.pipeline.fix import fix_model
from npu_guard.project.config import Config
from npu_guard.rewriting.maps import slices
from npu_guard.rewriting.maps.factors import CHANNELS
from npu_guard.rewriting.maps.tensors import Laid, axis_of

PROFILE = registry.profile("aimotive-aiware")
N = helper.make_node


def head(*sides: int) -> onnx.ModelProto:
    """Boxes, objectness and one class of maps with these sides, as [1, positions, 6]."""
    rng = np.random.default_rng(0)
    nodes, weights = [], []

    def constant(name: str, array: Any) -> str:
        weights.append(numpy_helper.from_array(array, name))
        return name

    for i, side in enumerate(sides):
        x = f"x{i}"
        for part, width in (("box", 4), ("seen", 1), ("kind", 1)):
            weight = constant(f"w{part}{i}", rng.standard_normal((width, 8, 1, 1)).astype(np.float32))
            nodes.append(N("Conv", [x, weight], [f"{part}{i}"], f"conv_{part}{i}"))
        nodes += [N("Sigmoid", [f"{part}{i}"], [f"s{part}{i}"]) for part in ("seen", "kind")]
        nodes.append(N("Concat", [f"box{i}", f"sseen{i}", f"skind{i}"], [f"all{i}"], axis=1))
        nodes.append(N("Reshape", [f"all{i}", constant(f"to{i}", np.array([1, 6, side * side]))], [f"flat{i}"]))
    nodes.append(N("Concat", [f"flat{i}" for i in range(len(sides))], ["joined"], axis=2))
    nodes.append(N("Transpose", ["joined"], ["y"], perm=[0, 2, 1]))
    inputs = [helper.make_tensor_value_info(f"x{i}", 1, [1, 8, s, s]) for i, s in enumerate(sides)]
    output = helper.make_tensor_value_info("y", 1, [1, sum(s * s for s in sides), 6])
    graph = helper.make_graph(nodes, "head", inputs, [output], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def run(model: onnx.ModelProto, feed: dict[str, Any]) -> Any:
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feed)[0]


def test_positions_are_not_padded_one_by_one(tmp_path: Path) -> None:
    model, sides = head(12, 6, 3), (12, 6, 3)
    source, target = tmp_path / "head.onnx", tmp_path / "fixed.onnx"
    onnx.save(model, source)
    report = fix_model(str(source), PROFILE, Config(), [s for s in catalog.substitutions() if s.exactness == "exact"], seeds=(0,))
    assert "channels-to-aligned" in {form for a in report.applied for form in (a.substitution, *a.chain)}
    assert report.verification.verdict == "equal"
    save_document(report.document, target)
    fixed = onnx.load(target)
    assert len(fixed.graph.node) < 60
    for seed, scale in enumerate((1.0, 0.0, -3.0, 1e3)):
        rng = np.random.default_rng(seed)
        feed = {f"x{i}": (scale * rng.standard_normal((1, 8, s, s))).astype(np.float32) for i, s in enumerate(sides)}
        np.testing.assert_allclose(run(fixed, feed), run(model, feed), rtol=1e-5, atol=1e-5 * max(1.0, abs(scale)))


def test_pieces_that_are_arranged_alike_are_priced_once() -> None:
    class Counting:
        asked = 0

        def cost(self, *_: Any) -> float:
            self.asked += 1
            return 1.0

    maps: Any = Counting()
    rows = axis_of(6)
    columns = [axis_of(8) for _ in range(100)]
    tensors = {i: Laid(((), own, rows, ()), ((), own, rows, ()), f"p{i}") for i, own in enumerate(columns)}
    at, places = slices._place(maps, tensors, 1, rows)
    assert at == CHANNELS
    assert [places[i][CHANNELS] for i in tensors] == columns
    assert maps.asked <= 4 * len(tensors)
