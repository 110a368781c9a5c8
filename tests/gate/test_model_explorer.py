"""Node data for Model Explorer: every operator has a verdict, by the id that the viewer's adapter gives it."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from npu_guard.checking import registry
from npu_guard.checking.examples import case_model
from npu_guard.checking.rule import Case
from npu_guard.pipeline.check import check_models
from npu_guard.project.config import Config

SAMPLE = "samples/sample_net.onnx"


def data(*models: str) -> dict[str, dict[str, str]]:
    report = check_models(models, Config(), layers=True)
    document = json.loads(registry.renderer("model_explorer")(report, color=False))
    assert "results" in document, "without a graph id the viewer takes it for the graph that it shows"
    found: dict[str, dict[str, str]] = document["results"]
    return found


def test_every_node_by_its_name(root: Path) -> None:
    results = data(SAMPLE)
    assert set(results) == {node.name for node in onnx.load(root / SAMPLE).graph.node}
    assert results["node_conv2d_4"]["value"] == "error NPU201"
    assert {entry["bgColor"] for entry in results.values() if entry["value"] == "ok"} == {"#a5d6a7"}
    assert registry.shows_layers("model_explorer")


def test_inputs_bodies_and_the_worst_of_several_models(root: Path, tmp_path: Path) -> None:
    graph = """g (float["N",8,"H",8] x, bool c) => (y) {
        y = If(c) <then_branch = a () => (float[1,8,8,8] p) { p = Erf(x) },
                   else_branch = b () => (float[1,8,8,8] q) { q = Elu(x) }> }"""
    model = case_model(Case(graph))
    model.graph.node[0].name = "choice"
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    results = data(str(tmp_path / "m.onnx"))
    assert results["[value] x"]["value"].startswith("error NPU403")
    assert {"choice/then_branch/p", "choice/else_branch/q"} <= set(results)
    assert data(SAMPLE, SAMPLE) == data(SAMPLE)


@pytest.mark.usefixtures("root")
def test_without_layers_there_are_the_findings() -> None:
    report = check_models([SAMPLE], Config())
    results = json.loads(registry.renderer("model_explorer")(report, color=False))["results"]
    assert {entry["value"].split()[0] for entry in results.values()} == {"error", "warning"}
