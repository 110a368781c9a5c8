"""Inputs that count as constants: weights that are inputs as well, and modes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import npu_guard
from npu_guard.checking import registry
from npu_guard.file.constant_inputs import Held
from npu_guard.pipeline.check import check_model
from npu_guard.project.config import Config
from npu_guard.results.findings import Outcome

LISTED = """g (float[1,8,8,8] x, float[8,8,3,3] w, float[8,8,19,19] v) => (float[1,8,8,8] y) {
    c = Conv<pads = [1,1,1,1]>(x, w)  d = Conv<pads = [9,9,9,9]>(c, v)  y = Conv<pads = [1,1,1,1]>(d, w) }"""
MODE = """g (float[1,8,8,8] x, int64 rate) => (y) <int64 k = {16000}> {
    c = Equal(rate, k)
    y = If (c) <then_branch = t () => (float[1,8,8,8] a) { a = Relu(x) },
                else_branch = e () => (float[1,8,8,8] b) { b = Erf(x) }> }"""


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A file whose weights are inputs as well."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]>\n{LISTED}')
    for entry in list(model.graph.input)[1:]:
        dims = [d.dim_value for d in entry.type.tensor_type.shape.dim]
        count = dims[0] * dims[1] * dims[2] * dims[3]
        model.graph.initializer.append(onnx.helper.make_tensor(entry.name, 1, dims, [0.01] * count))
    onnx.save(model, tmp_path / "listed.onnx")
    return tmp_path / "listed.onnx"


def test_one_finding_speaks_of_all_weights(listed: Path) -> None:
    report = check_model(str(listed), registry.profile("aimotive-aiware"), Config())
    (told,) = [f for f in report.findings if f.outcome is Outcome.UNDECIDED]
    assert told.message == (
        "cannot tell: 'w' and 1 other weight are inputs of the model as well, so a caller may override them, and so for 3"
        " operators; --freeze-weights takes them as constants"
    )
    assert report.totals is not None
    assert report.totals.npu_macs_percent == 0.0


def test_a_weight_counts_once_whether_or_not_an_input_has_its_name(listed: Path) -> None:
    """As a parameter, and not as an activation."""
    profile, old = registry.profile("aimotive-aiware"), listed.with_name("old.onnx")
    model = onnx.load(listed)
    model.ir_version, model.opset_import[0].version = 3, 11
    onnx.save(model, old)
    runs = ((listed, Config()), (listed, Config(held=Held(freeze_weights=True))), (old, Config()))
    reports = [check_model(str(path), profile, config) for path, config in runs]
    assert {r.totals.params for r in reports} == {8 * 8 * 3 * 3 + 8 * 8 * 19 * 19}
    assert {r.totals.peak_bytes for r in reports} == {2 * 8 * 8 * 8 * 4}


NUMBERS = """g (float[1,8,8,8] x, int64[3] r = {1,8,64}, float a = {0}, float[4] s = {1,1,2,2}) => (y, z) {
    v = Reshape(x, r)  y = Clip(v, a)
    z = Resize<coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">(x, , s) }"""


def test_one_finding_speaks_of_shapes_and_scales_too(save: Callable[..., Path], cli: Callable[..., Any]) -> None:
    path = save(NUMBERS, 17)
    for profile in ("ort-nnapi", "aimotive-aiware", "kneron:KL730"):
        report = check_model(str(path), registry.profile(profile), Config())
        (told,) = report.findings
        assert told.outcome is Outcome.UNDECIDED
        assert told.message.startswith("cannot tell: 'r' and 2 other weights are inputs of the model as well")
    run = cli("check", path, "--profile", "ort-nnapi", "--freeze-weights")
    assert "undecided" not in run.out
    assert "(7" not in run.out


def test_frozen_they_are_weights_like_any(listed: Path, cli: Callable[..., Any]) -> None:
    run = cli("check", listed, "--freeze-weights")
    assert run.code == 1
    assert "NPU201" in run.out
    assert "undecided" not in run.out
    fixed = listed.with_name("fixed.onnx")
    assert cli("fix", listed, "--freeze-weights", "-o", fixed).code == 0
    assert [entry.name for entry in onnx.load(fixed).graph.input] == ["x"]
    assert cli("verify", listed, fixed, "--freeze-weights").code == 0


def test_a_mode_is_taken_as_said(save: Callable[..., Path], cli: Callable[..., Any], tmp_path: Path) -> None:
    path = save(MODE, 17)
    assert cli("check", path).code == 1
    assert cli("check", path, "--input-value", "rate=16000").code == 0
    assert "Erf" in cli("check", path, "--input-value", "rate=8000").out
    fixed = tmp_path / "fixed.onnx"
    assert cli("fix", path, "--input-value", "rate=16000", "-o", fixed).code == 0
    assert {node.op_type for node in onnx.load(fixed).graph.node} <= {"Equal", "Relu"}
    assert cli("verify", path, fixed, "--input-value", "rate=16000").code == 0
    assert cli("verify", path, fixed, "--input-value", "rate=8000").code == 5
    assert cli("partition", path, "--input-value", "rate=16000", "-o", tmp_path / "pieces").code == 0


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("speed=1", "names 'speed', which is no input; the inputs are x, rate"),
        ("rate=1.5", "1.5 cannot be held by its elements of int64"),
        ("rate=1,2", "2 numbers are given and the input has 1"),
        ("rate", "write it as NAME=16000"),
        ("rate=fast", "write it as NAME=16000"),
    ],
)
def test_a_value_that_does_not_go_with_the_input(
    save: Callable[..., Path], cli: Callable[..., Any], value: str, said: str
) -> None:
    run = cli("check", save(MODE, 17), "--input-value", value)
    assert run.code == 2
    assert said in run.err


@pytest.mark.parametrize(("value", "found"), [("true", False), ("1", False), ("false", True), ("False", True)])
def test_a_truth_value_is_written_as_one(save: Callable[..., Path], cli: Callable[..., Any], value: str, found: bool) -> None:
    path = save("""g (float[1,8,4,4] x, bool c) => (float[1,8,4,4] y) {
        y = If (c) <then_branch = t () => (float[1,8,4,4] p) { p = Relu(x) },
                    else_branch = e () => (float[1,8,4,4] q) { q = Erf(x) }> }""")
    assert ("Erf" in cli("check", path, "--input-value", f"c={value}").out) is found


def test_fix_names_the_option_where_an_input_decides_and_compares_nothing_that_it_left_alone(
    save: Callable[..., Path], cli: Callable[..., Any], tmp_path: Path
) -> None:
    told = cli("fix", save(MODE, 17), "-o", tmp_path / "out.onnx").out
    assert "Unchanged: " in told
    assert " --input-value rate=16000" in told.partition("Next, give the value that the device runs with")[2].split("\n")[1]
    assert "npu-guard verify" not in told


def test_one_behaviour_over_a_fixed_size(save: Callable[..., Path], cli: Callable[..., Any], tmp_path: Path) -> None:
    path = save("g (float[10,8,32,32] x) => (float[10,8,32,32] y) { y = Relu(x) }")
    shape = ("--input-shape", "x:1,8,16,16")
    fixed = tmp_path / "fixed.onnx"
    assert cli("check", path, *shape).code == 0
    assert cli("fix", path, *shape, "-o", fixed).code == 0
    assert cli("verify", path, fixed, *shape).code == 0
    assert cli("verify", path, path, *shape).code == 0
    assert cli("verify", fixed, path, *shape).code == 0
    assert cli("verify", path, fixed).code == 5
    assert cli("partition", path, *shape, "-o", tmp_path / "pieces").code == 0


@pytest.mark.parametrize("dims", ['1,8,"?","?"', "1,8,-1,-1", '"?",8,-1,"?"'])
def test_a_placeholder_is_no_name(save: Callable[..., Path], cli: Callable[..., Any], dims: str) -> None:
    graph = "g (float[1,8,4,4] x) => (float[1,8,4,4] y) { y = Relu(x) }"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]>\n{graph}')
    for value in (model.graph.input[0], model.graph.output[0]):
        for dim, word in zip(value.type.tensor_type.shape.dim, dims.split(","), strict=True):
            if word.startswith('"'):
                dim.dim_param = word.strip('"')
            else:
                dim.dim_value = int(word)
    path = save(model)
    assert cli("check", path, "--input-shape", "x:1,8,32,48").code == 0
    assert "dynamic axes 2, 3" in cli("check", path).out


def test_fix_takes_weights_that_nobody_can_override_as_weights(listed: Path, cli: Any) -> None:
    """Before IR version 4 every weight had to be listed as an input."""
    model = onnx.load(listed)
    model.ir_version, model.opset_import[0].version = 3, 11
    onnx.save(model, listed)
    assert "Fixed: 1 error, now none" in cli("fix", listed.name, "-o", "fixed.onnx").out
    fixed = onnx.load(listed.parent / "fixed.onnx")
    assert [entry.name for entry in fixed.graph.input] == ["x"]
    assert fixed.ir_version == 4


def test_fix_freezes_weights_that_are_inputs_and_says_so(listed: Path, cli: Callable[..., Any]) -> None:
    fixed = listed.with_name("fixed.onnx")
    run = cli("fix", listed, "-o", fixed)
    assert run.code == 0
    assert "weight 'w' and 1 other are inputs as well; the fixed model holds the values of the file" in run.err
    assert f"npu-guard verify {listed} {fixed} --freeze-weights" in run.out
    assert [entry.name for entry in onnx.load(fixed).graph.input] == ["x"]
    assert cli("verify", listed, fixed, "--freeze-weights").code == 0
    assert npu_guard.fix(listed).after.verdict.value == "pass"


def test_pieces_hold_weights_that_are_inputs_and_say_so(save: Callable[..., Path], cli: Callable[..., Any]) -> None:
    path = save("g (float[1,8,8,8] x, float[8,8,3,3] w) => (float[1,8,6,6] y) { y = Conv(x, w) }", 17)
    model = onnx.load(path)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((8, 8, 3, 3), np.float32), "w"))
    onnx.save(model, path)
    run = cli("partition", path, "-o", path.with_name("pieces"))
    assert run.code == 0
    assert "1 piece on the NPU, 0 pieces on the host" in run.out
    assert "weight 'w' is an input as well; each piece holds the values of the file" in run.err
    assert cli("verify", "--manifest", path.with_name("pieces") / "manifest.json", path).code == 0


def test_fix_freezes_quantized_weights_that_are_inputs(save: Callable[..., Path], cli: Callable[..., Any]) -> None:
    path = save(
        """g (float[1,8,12,12] x, int8[8,8,19,3] w) => (float[1,8,12,12] y) <float s = {0.02}, int8 z = {0}> {
            q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  v = DequantizeLinear(w, s, z)
            c = Conv<pads = [9,1,9,1]>(d, v)  r = QuantizeLinear(c, s, z)  y = DequantizeLinear(r, s, z) }""", 17)  # fmt: skip
    model = onnx.load(path)
    weight = np.random.default_rng(0).integers(-9, 9, (8, 8, 19, 3)).astype(np.int8)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    onnx.save(model, path)
    run = cli("fix", path, "-o", path.with_name("fixed.onnx"))
    assert run.code == 0
    assert "weight 'w' is an input as well" in run.err
    assert cli("check", path.with_name("fixed.onnx")).code == 0


def test_fix_leaves_a_kernel_that_is_computed_alone(save: Callable[..., Path], cli: Callable[..., Any]) -> None:
    """What a kernel is computed from besides what is fed is no reason to freeze anything."""
    path = save("g (float[1,8,8,8] x, float[8,8,3,3] k, float a = {0.5}) => (y) { w = Mul(k, a)  y = Conv(x, w) }", 17)
    assert "as well" not in cli("fix", path, "-o", path.with_name("fixed.onnx")).err


def test_fix_leaves_an_input_with_a_default_that_is_no_weight(save: Callable[..., Path], cli: Callable[..., Any]) -> None:
    path = save("g (float[1,8,8,8] x, float a = {0.5}) => (y) { b = Add(x, a)  y = Neg(b) }", 17)
    fixed = path.with_name("fixed.onnx")
    assert "as well" not in cli("fix", path, "-o", fixed).err
    assert [entry.name for entry in onnx.load(fixed).graph.input] == ["x", "a"]


def test_the_users_data_stands_in_where_the_model_runs_with_no_drawn_input(tmp_path: Path, cli: Any) -> None:
    text = "g (float[1,4] x, int64[1] at) => (float[1,1] y) <int64 k = {16000}> { z = Sub(at, k) y = Gather<axis = 1>(x, z) }"
    onnx.save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]>\n{text}'), tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=np.ones((1, 4), np.float32), at=np.array([16001], np.int64))
    done = cli("verify", "net.onnx", "net.onnx", "--calibration", "data.npz")
    assert (done.code, "on 1 of calibration, as the model runs with no drawn input" in done.out) == (0, True)
