"""What stands around an operator decides: graphs that two compilers were asked about, and what they left to the CPU.

Answers are of rknn-toolkit2 2.5.0 for rk3588 and of onnxruntime-qnn 2.7.0. Neighbours differ in what follows or in one extent.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from npu_guard.analysis.analyze import Analysis
from npu_guard.checking import registry
from npu_guard.checking.engine import check
from npu_guard.project.config import Config
from npu_guard.results.findings import Severity


def flattened(channels: int, height: int, width: int, rest: str, shape: str = "") -> str:
    """A map behind a Conv, then a Reshape, then the rest, which reads `r`, and may multiply with `m` or `k`."""
    positions = height * width
    shape = shape or f"1,{channels},{positions}"
    sizes = shape.split(",")
    return (
        f"g (float[1,{channels},{height},{width}] x) => (y) <float[{channels},{channels},1,1] w, float[{sizes[-1]},8] m,"
        f" float[{sizes[-2]},8] k, int64[{len(sizes)}] s = {{{shape}}}> {{ c = Conv(x, w) r = Reshape(c, s) {rest} }}"
    )


def attention(rest: str, tokens: int, heads: int, extent: int) -> str:
    """Heads behind a MatMul, then the rest, which reads `v`."""
    return (
        f"g (float[1,{heads},{tokens},16] x) => (y) <float[16,{extent}] w, float[{heads * extent},8] m, float[{extent},8] n,"
        f" int64[3] s = {{1,{tokens},{heads * extent}}}> {{ v = MatMul(x, w) {rest} }}"
    )


def rearranged(perm: str, x: str = "1,16,16,16", inner: str = "1,16,8,2,8,2", after: str = "1,64,8,8") -> str:
    count = after.count(",") + 1
    return (
        f"g (float[{x}] x) => (y) <int64[6] s = {{{inner}}}, int64[{count}] u = {{{after}}}> {{ a = Relu(x) r = Reshape(a, s)"
        f" t = Transpose<perm = [{perm}]>(r) v = Reshape(t, u) y = Relu(v) }}"
    )


def product(equation: str, a: str, b: str) -> str:
    return f'g (float[{a}] a, float[{b}] b) => (y) {{ v = Einsum<equation = "{equation}">(a, b) y = Relu(v) }}'


RK, HTP = "rockchip-rk3588", "qualcomm-htp"


@pytest.mark.parametrize(
    ("profile", "graph", "left"),
    [
        # A map is flattened on the NPU where its channels or its positions are multiples of 8, and at an output the positions.
        (RK, flattened(16, 10, 7, "y = MatMul(r, m)"), ()),
        (RK, flattened(16, 10, 7, "a = Sigmoid(r) y = MatMul(a, m)"), ()),
        (RK, flattened(16, 10, 7, "y = Sigmoid(r)"), ("Reshape",)),
        (RK, flattened(12, 6, 6, "y = MatMul(r, m)"), ("Reshape",)),
        (RK, flattened(12, 4, 6, "y = MatMul(r, m)"), ()),
        (RK, flattened(12, 4, 6, "y = Sigmoid(r)"), ()),
        (RK, flattened(12, 6, 6, "t = Transpose<perm = [0,2,1]>(r) y = MatMul(t, k)"), ()),
        (RK, flattened(16, 6, 6, "y = MatMul(r, m)", "1,2,8,36"), ()),
        (RK, flattened(12, 6, 6, "y = MatMul(r, m)", "1,2,6,36"), ("Reshape",)),
        (RK, flattened(64, 6, 6, "y = MatMul(r, m)", "1,2304"), ("Reshape",)),
        # Channels that are split while the rows stay are no flattening: a channel shuffle.
        (RK, flattened(30, 7, 10, "t = Transpose<perm = [0,2,1,3,4]>(r) y = Reshape(t, s)", "1,3,10,7,10"), ()),
        # Heads move with the Reshape beside them, however long; alone they have a limit.
        (RK, attention("t = Transpose<perm = [0,2,1,3]>(v) r = Reshape(t, s) y = MatMul(r, m)", 3137, 8, 8), ()),
        (RK, attention("t = Transpose<perm = [0,2,1,3]>(v) y = MatMul(t, n)", 3137, 8, 8), ("Transpose",)),
        # Six axes, one of them of extent 1 and in place, are five for the HTP.
        (HTP, rearranged("0,1,3,5,2,4"), ()),
        (HTP, rearranged("0,3,5,1,2,4"), ()),
        (HTP, rearranged("0,1,3,2,4,5", "1,14,14,8", "1,2,7,2,7,8", "4,49,8"), ()),
        (HTP, rearranged("1,0,3,5,2,4", after="16,4,8,8"), ("Reshape", "Reshape", "Transpose")),
        (HTP, product("bhid,bhjd->bhij", "1,2,6,4", "1,2,5,4"), ()),
        (HTP, product("bhwc,hkc->bhwk", "1,6,5,4", "6,3,4"), ()),
        (HTP, product("byhwc,hkc->byhwk", "1,2,6,5,4", "6,3,4"), ("Einsum",)),
        (HTP, product("bqhd,bkhd->bhqk", "1,6,2,4", "1,5,2,4"), ("Einsum",)),
        (HTP, product("bnc,co->bno", "1,6,4", "4,5"), ("Einsum",)),
    ],
)  # fmt: skip
def test_as_the_compiler(profile: str, graph: str, left: tuple[str, ...], analysis: Callable[..., Analysis]) -> None:
    found = check(analysis(graph, 17), registry.profile(profile), registry.rules(), Config()).findings
    refused = {f.location for f in found if f.severity is Severity.ERROR}
    assert tuple(sorted(place.op_type for place in refused)) == left
