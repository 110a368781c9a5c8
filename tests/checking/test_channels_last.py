# ruff: noqa: E501
"""A graph whose maps lie as [B, H, W, C], as ONNX Runtime's optimizer leaves files, is judged as the one that it stands for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from npu_guard.checking import registry
from npu_guard.pipeline.check import check_model
from npu_guard.project.config import Config

Q = "float s = {0.1}, uint8 z = {0}"
FIRST = "g (float[1,8,6,8] x) => (y) <float[16,8,1,1] w"
LAST = "g (float[1,6,8,8] x) => (y) <float[16,1,1,8] w"
TWINS = {
    "mean over space": (f"{FIRST}> {{ a = Conv(x, w)  y = ReduceMean<axes = [2,3]>(a) }}",
                        f"{LAST}> {{ a = com.microsoft.NhwcConv(x, w)  y = ReduceMean<axes = [1,2]>(a) }}"),
    "mean over channels": (f"{FIRST}> {{ a = Conv(x, w)  y = ReduceMean<axes = [1]>(a) }}",
                           f"{LAST}> {{ a = com.microsoft.NhwcConv(x, w)  y = ReduceMean<axes = [-1]>(a) }}"),
    "maximum over rows": (f"{FIRST}> {{ a = Conv(x, w)  y = ReduceMax<axes = [2]>(a) }}",
                          f"{LAST}> {{ a = com.microsoft.NhwcFusedConv<activation = \"Relu\">(x, v)  y = ReduceMax<axes = [1]>(a) }}".replace("[16,1,1,8] w", "[16,8,1,1] v")),
    "channels that go and come": (f"{FIRST}, int64[1] c = {{1}}> {{ a = Conv(x, w)  m = ReduceMax<axes = [1], keepdims = 0>(a)  u = Unsqueeze(m, c)  y = Mul(a, u) }}",
                                  f"{LAST}, int64[1] c = {{3}}> {{ a = com.microsoft.NhwcConv(x, w)  m = ReduceMax<axes = [3], keepdims = 0>(a)  u = Unsqueeze(m, c)  y = Mul(a, u) }}"),
    "a head": (f"{FIRST}, float[16,24] v> {{ a = Conv(x, w)  m = ReduceMean<axes = [2,3], keepdims = 0>(a)  y = Gemm(m, v) }}",
               f"{LAST}, float[16,24] v> {{ a = com.microsoft.NhwcConv(x, w)  m = ReduceMean<axes = [1,2], keepdims = 0>(a)  y = Gemm(m, v) }}"),
    "softmax over channels": (f"{FIRST}> {{ a = Conv(x, w)  y = Softmax<axis = 1>(a) }}",
                              f"{LAST}> {{ a = com.microsoft.NhwcConv(x, w)  y = Softmax<axis = 3>(a) }}"),
    "softmax over columns": (f"{FIRST}> {{ a = Conv(x, w)  y = Softmax<axis = -1>(a) }}",
                             f"{LAST}> {{ a = com.microsoft.NhwcConv(x, w)  y = Softmax<axis = 2>(a) }}"),
    "channels put together": (f"{FIRST}> {{ a = Conv(x, w)  b = Relu(a)  y = Concat<axis = 1>(a, b) }}",
                              f"{LAST}> {{ a = com.microsoft.NhwcConv(x, w)  b = Relu(a)  y = Concat<axis = 3>(a, b) }}"),
    "rows and columns swapped": (f"{FIRST}> {{ a = Conv(x, w)  y = Transpose<perm = [0,1,3,2]>(a) }}",
                                 f"{LAST}> {{ a = com.microsoft.NhwcConv(x, w)  y = Transpose<perm = [0,2,1,3]>(a) }}"),
    "Transposes around": (f"{FIRST}> {{ a = Conv(x, w)  b = Sigmoid(a)  y = ReduceMean<axes = [2,3], keepdims = 0>(b) }}",
                          "g (float[1,8,6,8] x) => (y) <float[16,1,1,8] w> { t = Transpose<perm = [0,2,3,1]>(x)  a = com.microsoft.NhwcConv(t, w)  b = Sigmoid(a)  u = Transpose<perm = [0,3,1,2]>(b)  y = ReduceMean<axes = [2,3], keepdims = 0>(u) }"),
    "integers": ("g (uint8[1,8,6,8] x) => (y) <Q, uint8[16,8,3,3] w> { a = QLinearConv(x, s, z, w, s, z, s, z)  b = com.microsoft.QLinearGlobalAveragePool(a, s, z, s, z)  c = com.microsoft.QLinearMul(a, s, z, b, s, z, s, z)  y = DequantizeLinear(c, s, z) }",
                 "g (uint8[1,6,8,8] x) => (y) <Q, uint8[16,8,3,3] w> { a = com.microsoft.QLinearConv<channels_last = 1>(x, s, z, w, s, z, s, z)  b = com.microsoft.QLinearGlobalAveragePool<channels_last = 1>(a, s, z, s, z)  c = com.microsoft.QLinearMul(a, s, z, b, s, z, s, z)  y = DequantizeLinear(c, s, z) }"),
    "a pool of integers": ("g (uint8[1,8,6,8] x) => (y) <Q> { a = com.microsoft.QLinearAveragePool<kernel_shape = [2,2], strides = [2,2]>(x, s, z, s, z)  b = DequantizeLinear(a, s, z)  y = ReduceMax<axes = [2]>(b) }",
                           "g (uint8[1,6,8,8] x) => (y) <Q> { a = com.microsoft.QLinearAveragePool<channels_last = 1, kernel_shape = [2,2], strides = [2,2]>(x, s, z, s, z)  b = DequantizeLinear(a, s, z)  y = ReduceMax<axes = [1]>(b) }"),
    "a largest of integers": ("g (uint8[1,8,6,8] x) => (y) <Q> { a = MaxPool<kernel_shape = [2,2], strides = [2,2]>(x)  b = DequantizeLinear(a, s, z)  y = ReduceMean<axes = [1]>(b) }",
                              "g (uint8[1,6,8,8] x) => (y) <Q> { a = com.microsoft.NhwcMaxPool<kernel_shape = [2,2], strides = [2,2]>(x)  b = DequantizeLinear(a, s, z)  y = ReduceMean<axes = [3]>(b) }"),
    "the domain of layouts": (f"{FIRST}> {{ a = Conv(x, w)  b = GlobalAveragePool(a)  y = ReduceMax<axes = [1]>(b) }}",
                              "g (float[1,6,8,8] x) => (y) <float[16,8,1,1] w> { a = com.ms.internal.nhwc.Conv(x, w)  b = com.ms.internal.nhwc.GlobalAveragePool(a)  y = ReduceMax<axes = [3]>(b) }"),
    "an open height": (f"{FIRST}> {{ a = Conv(x, w)  y = ReduceMean<axes = [1]>(a) }}".replace("6", '"H"', 1).replace('1"H"', "16"),
                       'g (float[1,8,"H",8] x) => (y) <float[16,1,1,8] w> { t = Transpose<perm = [0,2,3,1]>(x)  a = com.microsoft.NhwcConv(t, w)  u = Transpose<perm = [0,3,1,2]>(a)  y = ReduceMean<axes = [1]>(u) }'),
}  # fmt: skip
OWN = ("a", "t", "u")
"""Nodes that differ: the convolution in two spellings, and the Transposes around it."""


def findings(path: Path, device: str) -> set[tuple[str, str, str, str]]:
    report = check_model(str(path), registry.profile(device), Config(profile=device))
    assert not report.crashes
    assert report.error is None
    at = ((f, f.location.node or f.location.output) for f in report.findings)
    return {(f.rule, where, f.severity.value, f.outcome.value) for f, where in at if f.rule != "NPU101" and where not in OWN}


@pytest.mark.parametrize("name", TWINS)
def test_both_layouts_have_the_same_findings(name: str, write: Callable[..., Path]) -> None:
    first, last = (write(graph.replace("<Q", f"<{Q}"), f"{i}.onnx", opset=17) for i, graph in enumerate(TWINS[name]))
    devices = ("aimotive-aiware", "ethos-u55", "ethos-u85", "ti-tidl:AM68A", "nvidia-dla", "ort-nnapi", "rockchip-rk3588")
    if name in ("a largest of integers", "integers"):
        devices = devices[:1]  # the others state types of their own for MaxPool and QLinearConv
    for device in devices:
        assert findings(first, device) == findings(last, device), device


@pytest.mark.parametrize(
    ("device", "fires", "silent", "graph"),
    [
        ("aimotive-aiware", {"NPU301 y"}, {"NPU102 y"}, "a = com.microsoft.NhwcConv(x, w)  y = ReduceMax<axes = [1]>(a)"),
        ("aimotive-aiware", set(), {"NPU301 y"}, "a = com.microsoft.NhwcConv(x, w)  y = ReduceMean<axes = [1,2]>(a)"),
        ("ethos-u85", {"NPU301 y"}, set(), "a = com.microsoft.NhwcConv(x, w)  y = ReduceMean<axes = [3]>(a)"),
        ("ethos-u85", set(), {"NPU301 y"}, "a = com.microsoft.NhwcConv(x, w)  y = ReduceMean<axes = [1,2]>(a)"),
        ("aimotive-aiware", {"NPU102 y"}, set(), "a = com.microsoft.NhwcConv(x, w)  b = Conv(x, v)  y = Add(a, b)"),
        ("aimotive-aiware", {"NPU102 y"}, set(), "a = com.microsoft.NhwcConv(x, w)  y = Flatten(a)"),
        ("aimotive-aiware", {"NPU102 t"}, set(), "t = Transpose<perm = [0,2,3,1]>(x)  a = Conv(t, v)  y = Relu(a)"),
        ("aimotive-aiware", set(), {"NPU102 y"}, "a = com.microsoft.NhwcConv(x, w)  y = Mul(a, g1)"),
        ("aimotive-aiware", set(), {"NPU102 y"}, "a = com.microsoft.NhwcConv(x, w)  y = Add(g2, a)"),
        (
            "aimotive-aiware",
            {"NPU301 y"},
            set(),
            "a = com.microsoft.NhwcConv(x, w)  b, c = Split<axis = 3>(a, p)  y = ReduceMax<axes = [1]>(c)",
        ),
        (
            "aimotive-aiware",
            set(),
            {"NPU301 y"},
            "a = com.microsoft.NhwcConv(x, w)  b, c = Split<axis = 3>(a, p)  y = ReduceMax<axes = [3]>(c)",
        ),
        ("aimotive-aiware", {"NPU103 y"}, set(), "a = com.microsoft.NhwcConv(x, w)  y = MatMul(a, m)"),
        ("aimotive-aiware", set(), {"NPU102 t"}, "t = Transpose<perm = [0,2,3,1]>(x)  y = com.microsoft.NhwcConv(t, w)"),
    ],
)
def test_findings(device: str, fires: set[str], silent: set[str], graph: str, write: Callable[..., Path]) -> None:
    path = write(
        f"g (float[1,8,8,8] x, float[1,1,1,8] g1, float[8] g2) => (y) <float[8,1,1,8] w, float[8,8,1,1] v, float[8,8] m, int64[2] p = {{4,4}}> {{ {graph} }}",
        opset=17,
    )
    found = {f"{rule} {where}" for rule, where, _, _ in findings(path, device)}
    report = check_model(str(path), registry.profile(device), Config(profile=device))
    found |= {f"{f.rule} {f.location.node or f.location.output}" for f in report.findings}
    assert found >= fires
    assert not found & silent


def test_the_message_names_both_axes(write: Callable[..., Path]) -> None:
    path = write(
        "g (float[1,6,8,8] x) => (y) <float[16,1,1,8] w> { a = com.microsoft.NhwcConv(x, w)  y = ReduceMax<axes = [1]>(a) }",
        opset=17,
    )
    report = check_model(str(path), registry.profile("aimotive-aiware"), Config())
    (finding,) = (f for f in report.findings if f.rule == "NPU301")
    assert finding.message.endswith("ReduceMax over axis 1 of [1, 6, 8, 16], which is 2 of the map [1, 16, 6, 8]")
