"""What Arm's compiler said of single operators (Vela 5.2.0 with both cores, and for the U85), and what the profiles say.

A row is the operator in ONNX's terms and where it ran: on the NPU (N) or on the host (C), for ethos-u55, ethos-u55-legacy
and ethos-u85.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from npu_guard.analysis.analyze import Analysis
from npu_guard.checking import registry
from npu_guard.checking.engine import check
from npu_guard.project.config import Config
from npu_guard.results.findings import Outcome, Severity

PROFILES = [registry.profile(name) for name in ("ethos-u55", "ethos-u55-legacy", "ethos-u85")]


def conv(size: str, c: str, weight: str, **attributes: object) -> str:
    said = ", ".join(f"{key} = {value}" for key, value in attributes.items())
    return f"g (float[1,{c},{size}] x) => (y) <float[{weight}] w> {{ y = Conv{f'<{said}>' if said else ''}(x, w) }}"


def node(shape: str, call: str, initializers: str = "") -> str:
    return f"g (float[{shape}] x) => (y) {initializers} {{ y = {call} }}"


def resize(mode: str, transform: str, scales: str, shape: str = "1,4,8,8") -> str:
    call = f'Resize<mode = "{mode}", coordinate_transformation_mode = "{transform}", nearest_mode = "floor">(x, , s)'
    return node(shape, call, f"<float[4] s = {{1.0, 1.0, {scales}}}>")


SAME = '"SAME_UPPER"'
ROWS = [
    (conv("80,80", "2", "2,2,64,64", auto_pad=SAME), "NNN"),
    (conv("80,80", "2", "2,2,65,1", auto_pad=SAME), "NCN"),
    (conv("80,80", "2", "2,2,1,65", auto_pad=SAME), "NNN"),
    (conv("80,80", "2", "2,2,64,65", auto_pad=SAME), "NCN"),
    (conv("80,80", "2", "2,2,3,3", dilations=[31, 31], auto_pad=SAME), "NNN"),
    (conv("80,80", "2", "2,2,3,3", dilations=[32, 32], auto_pad=SAME), "NCN"),
    (conv("24,24", "4", "4,4,3,3", strides=[3, 3], auto_pad=SAME), "NNN"),
    (conv("24,24", "4", "4,4,3,3", strides=[4, 4], auto_pad=SAME), "NCN"),
    (conv("24,24", "4", "4,4,3,3", strides=[4, 4]), "NCN"),
    (conv("24,24", "4", "4,4,3,3", strides=[1, 4], auto_pad=SAME), "CNN"),
    (conv("25,25", "4", "4,4,5,5", strides=[5, 5]), "NCN"),
    ("g (float[2,4,8,8] x) => (y) <float[4,4,3,3] w> { y = Conv(x, w) }", "NCN"),
    (conv("24,24", "8", "8,1,3,3", group=8, strides=[3, 3], auto_pad=SAME), "NNN"),
    (conv("24,24", "8", "8,1,3,3", group=8, strides=[4, 4], auto_pad=SAME), "CCN"),
    (conv("80,80", "2", "2,1,64,64", group=2, auto_pad=SAME), "NNN"),
    (conv("80,80", "2", "2,1,65,1", group=2, auto_pad=SAME), "NCN"),
    (node("1,1,256,256", "MaxPool<kernel_shape = [256,256]>(x)"), "NNN"),
    (node("1,1,300,4", "MaxPool<kernel_shape = [257,1]>(x)"), "CCC"),
    (node("1,4,24,24", "MaxPool<kernel_shape = [2,2], strides = [3,3]>(x)"), "NNN"),
    (node("1,4,24,24", 'MaxPool<kernel_shape = [2,2], strides = [4,4], auto_pad = "SAME_UPPER">(x)'), "NCN"),
    (node("1,4,24,24", "MaxPool<kernel_shape = [2,2], strides = [4,4]>(x)"), "NCN"),
    (node("1,4,24,24", 'AveragePool<kernel_shape = [8,8], auto_pad = "SAME_UPPER">(x)'), "NNN"),
    (node("1,4,24,24", 'AveragePool<kernel_shape = [9,9], auto_pad = "SAME_UPPER">(x)'), "CCC"),
    (node("1,4,24,24", "AveragePool<kernel_shape = [24,24]>(x)"), "NNN"),
    (node("1,1,300,4", "AveragePool<kernel_shape = [257,1]>(x)"), "CCC"),
    (node("1,8,64,64", "ReduceMean(x, a)", "<int64[2] a = {2, 3}>"), "NNN"),
    (node("1,4096,1,1", "ReduceMean(x, a)", "<int64[1] a = {1}>"), "NNN"),
    (node("1,4097,1,1", "ReduceMean(x, a)", "<int64[1] a = {1}>"), "CCC"),
    (node("1,16,8,8", "ReduceMean(x, a)", "<int64[1] a = {1}>"), "CCC"),
    (node("1,16,1,8", "ReduceMean(x, a)", "<int64[1] a = {1}>"), "NNN"),
    (node("1,4,2,4096", "ReduceMean(x, a)", "<int64[2] a = {2, 3}>"), "NNN"),
    (node("1,4,2,4097", "ReduceMean(x, a)", "<int64[2] a = {2, 3}>"), "CCC"),
    (node("1,16,8,8", "ReduceMax(x, a)", "<int64[1] a = {1}>"), "NCN"),
    (node("1,16,8,8", "ReduceMax(x, a)", "<int64[2] a = {2, 3}>"), "NCN"),
    (node("1,128,8,8", "ArgMax<axis = 1>(x)"), "CCN"),
    (node("1,127,8,8", "ArgMax<axis = 1>(x)"), "NNN"),  # the current core fails on this model instead; see the note there
    (node("1,16,8,8", "ArgMax<axis = 3>(x)"), "CCN"),
    (resize("linear", "asymmetric", "2.0, 2.0"), "NNN"),
    (resize("linear", "asymmetric", "3.0, 3.0"), "CCC"),
    (resize("linear", "asymmetric", "8.0, 8.0"), "NNN"),
    (resize("linear", "asymmetric", "16.0, 16.0"), "CCN"),
    (resize("linear", "half_pixel", "4.0, 4.0"), "CCN"),
    (resize("linear", "half_pixel", "2.0, 2.0"), "NNN"),
    (resize("linear", "asymmetric", "2.0, 4.0"), "CCN"),
    (resize("nearest", "asymmetric", "2.0, 2.0"), "NNN"),
    (resize("nearest", "asymmetric", "3.0, 3.0"), "CCN"),
    (resize("nearest", "asymmetric", "0.5, 0.5"), "CCN"),
    (node("1,2,255,257", "Softmax<axis = 1>(x)"), "NNN"),
    (node("1,2,256,256", "Softmax<axis = 1>(x)"), "NCN"),
    (node("1,5,2,3,4", "Relu(x)"), "NCN"),
    (node("1,1,1,65535", "Relu(x)"), "NNN"),
    (node("1,1,1,65536", "Relu(x)"), "NCN"),
    (node("1,4,8,8", "Sin(x)"), "CCC"),
]


@pytest.mark.parametrize(("graph", "ran"), ROWS, ids=[str(index) for index in range(len(ROWS))])
def test_agreement(graph: str, ran: str, analysis: Callable[..., Analysis]) -> None:
    said, known = "", analysis(graph)
    for profile in PROFILES:
        checked = check(known, profile, registry.rules(), Config())
        assert not checked.crashes
        assert all(f.outcome is Outcome.FAIL for f in checked.findings)
        said += "C" if any(f.severity is Severity.ERROR for f in checked.findings) else "N"
    assert said == ran
