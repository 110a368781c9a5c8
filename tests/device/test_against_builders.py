"""Devices against what their toolchain's own code, or people who use it, say of one operator."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from npu_guard.analysis.analyze import Analysis
from npu_guard.checking import registry
from npu_guard.checking.engine import check
from npu_guard.device import Requirement, requirements
from npu_guard.project.config import Config
from npu_guard.results.findings import Finding, Severity

TWICE = "<float[4] s = {1, 1, 2, 2}>"
HALF = "<float[4] s = {1, 1, 0.5, 0.5}>"
THIRD = "<float[4] s = {1, 1, 0.33333334, 0.33333334}>"
QUARTER = "<float[4] s = {1, 1, 0.25, 0.25}>"
NARROW = "<float[4] s = {1, 1, 1, 0.5}>"
ODD = "<float[4] s = {1, 1, 1.5, 1.5}>"
SIZES = "<int64[4] z = {1, 8, 24, 24}>"
NEAREST = 'coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"'
LINEAR = 'mode = "linear"'
NN, ML, NNAPI, DLA, ROCKCHIP = "ort-coreml:NeuralNetwork", "ort-coreml:MLProgram", "ort-nnapi", "nvidia-dla", "rockchip-rk3588"


def unary(call: str, x: str = "1,8,16,16", more: str = "") -> str:
    return f"g (float[{x}] x) => (y) {more} {{ y = {call} }}"


def resize(attributes: str, more: str = TWICE, x: str = "1,8,16,16") -> str:
    return unary(f"Resize<{attributes}>(x, {', , z' if more == SIZES else ', s'})", x, more)


FITS = [
    (ML, resize(NEAREST)),
    (ML, resize(LINEAR)),
    (ML, resize(LINEAR, HALF)),
    (ML, resize(LINEAR, SIZES)),
    (ML, resize(f'{LINEAR}, coordinate_transformation_mode = "asymmetric"', SIZES)),
    (ML, resize(f'{LINEAR}, coordinate_transformation_mode = "pytorch_half_pixel"')),
    (ML, unary("Gather<axis = 1>(x, i)", "1,3,16", "<int64[2] i = {0, 2}>")),
    (ML, unary("ReduceMin(x)")),
    (ML, unary("ReduceMean(x, a)", more="<int64[1] a = {1}>")),
    (NN, unary("ReduceSum<noop_with_empty_axes = 1>(x, a)", more="<int64[1] a = {1}>")),
    (ML, unary("Relu(x)", "1,2,2,2,16384")),
    (ML, resize(LINEAR, THIRD, "1,8,9,12")),
    (ML, resize(LINEAR, QUARTER, "1,8,8,4")),
    (NN, resize(NEAREST)),
    (NNAPI, resize(LINEAR, THIRD, "1,8,9,12")),
    (DLA, unary("Softmax<axis = 1>(x)", "1,16,8,8")),
    (ROCKCHIP, "g (float[4,4] x) => (y) <float[8,4] w> { y = Gemm(w, x) }"),
    (ROCKCHIP, "g (float[4,4] x) => (y) <float[8,4] w> { y = MatMul(w, x) }"),
    (NNAPI, resize(NEAREST)),
    (NNAPI, resize(LINEAR, HALF)),
    (NNAPI, resize(LINEAR, SIZES)),
    (DLA, "g (float[1,4,8,8] x) => (y, z) { y, z = Split<axis = 1, num_outputs = 2>(x) }"),
    (DLA, unary("Transpose<perm = [0,1,3,2]>(x)")),
    (ROCKCHIP, unary("Transpose<perm = [0,2,1]>(x)", "1,128,128")),
    (ROCKCHIP, unary("Relu(x)", "1,4,8,8191")),
    (ROCKCHIP, "g (float[1,4,4] x, float[1,4,4] b) => (y) { y = MatMul(x, b) }"),
]

BEYOND = [
    (ML, resize('mode = "cubic"'), "NPU501"),
    (ML, resize(LINEAR, ODD), "NPU501"),
    (ML, resize(LINEAR, HALF, "1,8,15,16"), "NPU501"),
    (ML, resize(f'{LINEAR}, coordinate_transformation_mode = "asymmetric"'), "NPU501"),
    (ML, resize("antialias = 1, " + LINEAR, HALF), "NPU501"),
    (ML, resize('coordinate_transformation_mode = "asymmetric", nearest_mode = "ceil"'), "NPU501"),
    (ML, unary("Relu(x)", "1,2,2,2,2,2"), "NPU402"),
    (ML, unary("Relu(x)", "1,16385"), "NPU405"),
    (ML, unary("MatMul(x, w)", "1,8", "<float[8,16385] w>"), "NPU405"),
    (ML, unary("Gather<axis = 1>(x, i)", "1,2,2,2,2", "<int64 i = {0}>"), "NPU402"),
    (ML, resize(LINEAR, QUARTER, "1,8,6,8"), "NPU501"),  # a row and a half
    (ML, resize(LINEAR, NARROW), "NPU501"),  # the builder has no 1 among factors
    (ML, "g (float[1,8,4,4] x, int64[1] a) => (y) { y = ReduceMean(x, a) }", "NPU601"),
    (NN, unary("ReduceSum<noop_with_empty_axes = 1>(x)"), "NPU701"),
    (NN, resize(NEAREST, HALF), "NPU501"),
    (NNAPI, resize(LINEAR, QUARTER, "1,8,8,6"), "NPU501"),
    (NNAPI, resize(LINEAR, NARROW), "NPU501"),
    (NN, resize(LINEAR), "NPU501"),
    (NNAPI, resize('mode = "cubic"'), "NPU501"),
    (NNAPI, resize('nearest_mode = "floor"'), "NPU501"),
    (NNAPI, resize(LINEAR, HALF, "1,8,15,16"), "NPU501"),
    (DLA, "g (float[1,4,8] x) => (y, z) { y, z = Split<axis = 1, num_outputs = 2>(x) }", "NPU402"),
    (DLA, "g (float[2,4,8,8] x) => (y, z) { y, z = Split<axis = 0, num_outputs = 2>(x) }", "NPU702"),
    (DLA, unary("Reshape(x, s)", "1,8,4,4", "<int64[3] s = {1, 8, 16}>"), "NPU402"),
    (ROCKCHIP, unary("Transpose<perm = [0,2,1]>(x)", "1,128,129"), "NPU405"),
    (ROCKCHIP, unary("Relu(x)", "1,4,8,8192"), "NPU405"),
    (ROCKCHIP, unary("Relu(x)", "1,2,2,2,2"), "NPU402"),
    (ROCKCHIP, "g (float[4,4] x, float[4,4] b) => (y) { y = MatMul(x, b) }", "NPU601"),
    (ROCKCHIP, "g (float[8,4] x, float[4,4] b) => (y) { y = Gemm(x, b) }", "NPU601"),
]


def ask(profile: str, graph: str, analysis: Callable[..., Analysis]) -> list[Finding]:
    opset = 18 if profile == ROCKCHIP else 20  # what the toolkits read
    found = check(analysis(graph, opset=opset), registry.profile(profile), registry.rules(), Config()).findings
    return [f for f in found if f.severity is not Severity.NOTE]


@pytest.mark.parametrize(("profile", "graph"), FITS)
def test_fits(profile: str, graph: str, analysis: Callable[..., Analysis]) -> None:
    assert [(f.rule, f.message) for f in ask(profile, graph, analysis)] == []


@pytest.mark.parametrize(("profile", "graph", "code"), BEYOND)
def test_does_not_fit(profile: str, graph: str, code: str, analysis: Callable[..., Analysis]) -> None:
    assert code in {f.rule for f in ask(profile, graph, analysis)}


@pytest.mark.parametrize("row", [row for row in BEYOND if row[0] == ROCKCHIP], ids=lambda row: row[1])
def test_what_users_met_is_a_warning_that_names_the_versions(
    row: tuple[str, str, str], analysis: Callable[..., Analysis]
) -> None:
    (finding,) = ask(row[0], row[1], analysis)
    assert finding.severity is Severity.WARNING
    assert "(reported with rknn-toolkit2 " in finding.message


def test_a_report_is_never_an_error() -> None:
    (limit,) = requirements("test", {"ops": ["Relu"], "metric": "rank", "max": 4, "reported": "<2"}, "test")
    assert isinstance(limit, Requirement)
    assert limit.severity is Severity.WARNING


@pytest.mark.parametrize("name", ["ort-coreml:MLProgram", "ort-nnapi", "axera:AX650"])
def test_what_has_no_upsample_refuses_it(name: str, analysis: Callable[..., Analysis]) -> None:
    profile = registry.profile(name)
    found = check(analysis(unary("Upsample(x, s)", more=TWICE), opset=9), profile, registry.rules(), Config()).findings
    assert "NPU101" in {f.rule for f in found}


def test_an_operator_set_that_the_compiler_does_not_read(analysis: Callable[..., Analysis]) -> None:
    found = {
        opset: check(analysis(unary("Relu(x)"), opset=opset), registry.profile(ROCKCHIP), registry.rules(), Config()).findings
        for opset in (19, 20)
    }
    assert found[19] == ()
    (finding,) = found[20]
    assert (finding.rule, finding.severity, finding.location.op_type) == ("NPU101", Severity.ERROR, "graph input")
    assert finding.message.startswith("the model is of operator set 20, and rknn-toolkit2 2.5.0 reads sets up to 19")
    assert finding.evidence is not None
    assert (finding.evidence.measured, finding.evidence.allowed) == (20, 19)
