"""As int8, an exact rewrite keeps its precision, one that ruins ranges loses it, and what cannot be quantized is not accepted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from npu_guard.checking import registry
from npu_guard.checking.examples import case_model
from npu_guard.checking.rule import Case
from npu_guard.commands import fix
from npu_guard.fixing import catalog
from npu_guard.graph.graph import Value
from npu_guard.pipeline.fix import fix_model
from npu_guard.pipeline.verify import verify_models
from npu_guard.project.config import Config
from npu_guard.reports.blocks.verification import int8_json, int8_text
from npu_guard.rewriting.substitution import EXACT, Builder, Match
from npu_guard.rules.substitutions.large_kernel_to_phases import LargeKernelToPhases
from npu_guard.verification.int8 import Int8, compare_int8_files, compare_int8_fixed, least_ratio

if TYPE_CHECKING:
    from conftest import Cli

BRANCHES = """g (float[1,8,9,11] x) => (y)
    <float[8,8,3,3] w, float[8,8,1,1] v, float[8,16,1,1] u> {
        a = Conv<pads = [1,1,1,1]>(x, w)  b = Relu(a)  c = Conv(x, v)  d = Tanh(c)  t = Concat<axis = 1>(b, d)
        y = Conv(t, u) }"""


def saved(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return path


def compare(before: Path, after: Path) -> Int8:
    return compare_int8_files(str(before), str(after), {}, None)


def scaled(model: onnx.ModelProto, factor: float) -> onnx.ModelProto:
    """One branch times a number and, in the weights that read it, divided by it again: the very same function."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for name, number, part in (("w", factor, slice(None)), ("u", 1 / factor, slice(8))):
        (tensor,) = (t for t in changed.graph.initializer if t.name == name)
        array = onnx.numpy_helper.to_array(tensor).copy()
        array[:, part] *= np.float32(number)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, name))
    return changed


def test_a_branch_times_1000_and_back_is_equal_in_float_and_loses_as_int8(tmp_path: Path) -> None:
    model = case_model(Case(BRANCHES))
    before, after = saved(model, tmp_path / "before.onnx"), saved(scaled(model, 1000.0), tmp_path / "after.onnx")
    assert verify_models(str(before), str(after), {}).verdict == "equal"
    result = compare(before, after)
    (output,) = result.outputs
    assert result.verdict == "loses"
    assert output.before_db > 30
    assert output.after_db < output.before_db - 15
    assert "<- loses" in int8_text(result)


def test_verify_ends_with_5_where_precision_is_lost(tmp_path: Path, cli: Cli) -> None:
    model = case_model(Case(BRANCHES))
    before, after = (saved(scaled(model, f), tmp_path / f"{f:.0f}.onnx") for f in (1, 1000))
    run = cli("verify", before, after)
    assert run.code == 0
    assert "int8" not in run.out
    run = cli("verify", before, after, "--int8", "--format", "json")
    document = json.loads(run.out)
    assert (run.code, document["verdict"], document["int8"]["verdict"]) == (5, "equal", "loses")
    (output,) = document["int8"]["outputs"]
    assert output["after_db"] < output["least_db"] < output["before_db"]
    run = cli("verify", before, before, "--int8")
    assert run.code == 0
    assert "As int8: precision is kept" in run.out


class RangeRuiner(LargeKernelToPhases):
    """The same function as by the real form, by way of a tensor that also holds numbers a thousand times as large."""

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        ((value, made),) = super().rewrite(match, build).items()
        large = build.op("Mul", made, build.constant(np.float32(1000.0)))
        return {value: build.slice(build.op("Concat", made, large, axis=1), 1, 0, 8)}


@pytest.mark.parametrize("ruined", [False, True])
def test_fix_writes_nothing_that_loses_its_precision(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, ruined: bool
) -> None:
    source = saved(case_model(Case(REWRITTEN["phases"])), tmp_path / "net.onnx")
    if ruined:
        monkeypatch.setattr(fix, "_substitutions", lambda approximate, prefer: [RangeRuiner()])
    run = cli("fix", source, "-o", "out.onnx", "--int8", "--format", "json")
    (model,) = json.loads(run.out)["models"]
    assert model["verification"]["verdict"] == "equal"
    assert model["verification"]["int8"]["verdict"] == ("loses" if ruined else "kept")
    assert (run.code, (tmp_path / "out.onnx").exists()) == ((5, False) if ruined else (0, True))
    assert ("does not keep its precision" in run.err) is ruined


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_the_same_ranges_are_kept(tmp_path: Path, factor: float) -> None:
    model = case_model(Case(BRANCHES))
    before, after = saved(model, tmp_path / "before.onnx"), saved(scaled(model, factor), tmp_path / "after.onnx")
    result = compare(before, after)
    assert result.verdict == "kept"
    assert result.outputs[0].after_db == pytest.approx(result.outputs[0].before_db, abs=6)
    if factor == 1.0:
        assert result.outputs[0].between_db == 300


REWRITTEN = {
    "phases": "g (float[1,8,21,23] x) => (y) <float[8,8,19,19] w> { y = Conv<pads = [9,9,9,9]>(x, w) }",
    "eca": """g (float[1,16,4,6] x) => (y)
        <float[1,1,1,5] w, int64[4] row = {1,1,1,16}, int64[4] map = {1,16,1,1}> {
            p = GlobalAveragePool(x)  r = Reshape(p, row)  c = Conv<pads = [0,2,0,2]>(r, w)
            s = Sigmoid(c)  m = Reshape(s, map)  y = Mul(x, m) }""",
    "tokens": """g (float[1,8,5,3] x) => (y)
        <float[8,32] w, float[32] c, float[32,8] v, float[8] d> {
            t = Transpose<perm = [0,2,3,1]>(x)  h0 = MatMul(t, w)  h = Add(h0, c)  a = Relu(h)  o0 = MatMul(a, v)
            o = Add(d, o0)  r = Transpose<perm = [0,3,1,2]>(o)  y = Add(x, r) }""",
    "widths": """g (float[1,3,9,7] x) => (y)
        <float[12,3,3,3] w, float[12] b, float[12,12,1,1] v, float[16,12,3,3] u> {
            a = Conv<pads = [1,1,1,1]>(x, w, b)  r = Relu(a)  c = Conv(r, v)  s = Add(c, r)
            y = Conv<pads = [1,1,1,1]>(s, u) }""",
}


@pytest.mark.parametrize("name", REWRITTEN)
def test_exact_substitutions_keep_their_precision(tmp_path: Path, name: str) -> None:
    before = saved(case_model(Case(REWRITTEN[name])), tmp_path / "before.onnx")
    chosen = [s for s in catalog.substitutions() if s.exactness == EXACT]
    report = fix_model(str(before), registry.profile("aimotive-aiware"), Config(), chosen, seeds=(0,))
    assert report.applied
    result = compare_int8_fixed(str(before), report.document, {}, None)
    assert result.verdict == "kept", int8_text(result)


@pytest.mark.parametrize("opset", [11, 23])
def test_old_and_new_opsets(tmp_path: Path, opset: int) -> None:
    graph = "g (float[1,8,9,11] x) => (float[1,8,9,11] y) <float[8,8,3,3] w> { a = Conv<pads = [1,1,1,1]>(x, w)  y = Relu(a) }"
    path = saved(case_model(Case(graph, opset=opset)), tmp_path / "net.onnx")
    result = compare(path, path)
    assert result.verdict == "kept", result.reason
    assert 25 < result.outputs[0].before_db < 50


def test_what_cannot_be_quantized_is_not_run(tmp_path: Path) -> None:
    model = case_model(Case("g (float[1,8,4,4] x) => (y) { a = com.example.Op(x)  y = Relu(a) }"))
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    result = compare(path, path)
    assert result.verdict == "not_run"
    assert "the first model could not be run: " in result.reason
    assert int8_json(result)["outputs"] == []
    assert "NOT COMPARED" in int8_text(result)


def test_other_inputs_are_not_compared(tmp_path: Path) -> None:
    one = saved(case_model(Case("g (float[1,8,4,4] x) => (y) { y = Relu(x) }")), tmp_path / "one.onnx")
    two = saved(case_model(Case("g (float[1,8,4,5] x) => (y) { y = Relu(x) }")), tmp_path / "two.onnx")
    assert compare(one, two).reason == "the models have different inputs"


@pytest.mark.parametrize(
    ("before", "growth", "least"),
    [(40.0, 1.0, 33.98), (40.0, 10.0, 23.98), (40.0, 1e6, 10.0), (14.6, 54.0, 8.58), (60.0, 1.0, 33.98), (3.0, 100.0, 0.0),
     (-4.0, 100.0, -4.0)],
)  # fmt: skip
def test_a_rewrite_of_many_operators_does_not_drown_the_signal(before: float, growth: float, least: float) -> None:
    assert least_ratio(before, growth) == pytest.approx(least)
