"""One graph in many spellings: each row says what has to fire at a device, and what must not, however the graph is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from npu_guard.checking import registry
from npu_guard.pipeline.check import check_model
from npu_guard.project.config import Config

AIWARE, VELA, HTP, NNAPI, RKNN, KNERON = (
    "aimotive-aiware", "ethos-u85", "qualcomm-htp", "ort-nnapi", "rockchip-rk3588", "kneron:KL730",
)  # fmt: skip


class Row(NamedTuple):
    """A graph, and the findings (rule, label of the node or name of the input) that it has on a device, or has not."""

    graph: str
    device: str = AIWARE
    fires: tuple[tuple[str, str], ...] = ()
    silent: tuple[tuple[str, str], ...] = ()
    opset: int = 20


ROLES = (
    # What a reduction drops comes back: the parts of the axes were carried.
    Row(
        """g (float[1,8,6,4] x) => (y) <int64[1] a = {1}> { m = ReduceMean<keepdims = 0>(x, a)
        n = Neg(m)  u = Unsqueeze(n, a)  y = Mul(x, u) }""",
        silent=(("NPU102", "u"), ("NPU102", "y")),
    ),
    Row(
        """g (float[1,8,6,4] x) => (y) <int64[1] a = {1}, int64[4] s = {1,1,6,4}> { m = ReduceL2<keepdims = 0>(x, a)
        e = Exp(m)  c = Concat<axis = 0>(e)  y = Reshape(c, s) }""",
        silent=(("NPU102", "y"),),
    ),
    Row("g (float[1,8,6,4] x) => (y) <int64[1] a = {1}, int64[1] z = {-1}> { m = ReduceMax<keepdims = 0>(x, a)"
        "  y = Unsqueeze(m, z) }",
        fires=(("NPU102", "y"),)),
    Row("g (float[1,8,6,4] x) => (y) <int64[1] a = {2}> { m = ReduceMax<keepdims = 0>(x, a)  y = Unsqueeze(m, a) }",
        silent=(("NPU102", "y"),)),
    Row("g (float[1,8,6,4] x) => (y) <int64[1] a = {2}, int64[1] b = {1}> { m = ReduceMax<keepdims = 0>(x, a)"
        "  y = Unsqueeze(m, b) }",
        fires=(("NPU102", "y"),)),
    # A reduction behind it is over the axis that is left, not over the one of its number.
    Row("g (float[1,8,6,4] x) => (y) <int64[1] a = {1}, int64[1] z = {-1}> { m = ArgMax<axis = 1, keepdims = 0>(x)"
        "  f = Cast<to = 1>(m)"
        " y = ReduceSum(f, z) }", fires=(("NPU301", "y"),)),
    Row("g (float[1,8,6,4] x) => (y) <int64[1] a = {1}, int64[2] s = {-2,-1}> { m = ReduceMin<keepdims = 0>(x, a)"
        "  y = ReduceMin(m, s) }",
        silent=(("NPU301", "y"),)),
    Row("g (float[1,8,6,4] x) => (y) { m = ReduceMin<axes = [0, 2], keepdims = 0>(x)  y = ReduceSum<axes = [0]>(m) }",
        silent=(("NPU301", "y"),), opset=12),
    Row("g (float[1,8,6,4] x) => (y) <int64 i = {0}, int64[1] a = {1}> { s = Gather<axis = 1>(x, i)"
        "  y = ReduceMax<axes = [1]>(s) }",
        fires=(("NPU301", "y"),), silent=(("NPU302", "y"),), opset=17),
    Row("g (float[1,1,6,4] x) => (y) <int64[1] a = {1}> { s = Squeeze(x, a)  r = Relu(s)  y = ReduceMax<axes = [1]>(r) }",
        fires=(("NPU301", "y"),), opset=17),
    Row('g (float[1,8,6,4] x) => (y) { s = Einsum<equation = "bchw->bhw">(x)  y = ReduceMax<axes = [1, 2]>(s) }',
        silent=(("NPU301", "y"), ("NPU302", "y")), opset=17),
    Row("g (float[1,1,6,4] x, float[1,8,6,4] z) => (y) <int64[1] a = {1}> { s = Squeeze(x, a)  m = ReduceMax<keepdims = 0>(z, a)"
        " t = Add(s, m)  y = Unsqueeze(t, a) }", silent=(("NPU102", "y"), ("NPU102", "t"))),
    Row("g (float[1,8,600,4] x) => (y) <int64[1] a = {1}> { m = ReduceMean<keepdims = 0>(x, a)"
        "  y = ReduceMax<keepdims = 0>(m, a) }",
        fires=(("NPU301", "y"),), silent=(("NPU302", "y"),)),
    # Softmax over the height is not over channels.
    Row("g (float[1,8,6,4] x) => (y) <int64[1] a = {1}> { m = ReduceSum<keepdims = 0>(x, a)  y = Softmax<axis = 1>(m) }",
        fires=(("NPU101", "y"),)),
    # A batch of 1 that was squeezed away, and vectors.
    Row("g (float[1,8,4,4] x) => (y) <int64[4] t = {1,8,1,1}> { p = GlobalMaxPool(x)  v = Squeeze(p)  s = Sigmoid(v)"
        " r = Reshape(s, t)  y = Mul(x, r) }", silent=(("NPU102", "v"), ("NPU102", "r"))),
    Row("g (float[512] x) => (y) <int64[1] a = {0}> { u = Unsqueeze(x, a)  y = Relu(u) }", silent=(("NPU102", "u"),)),
    Row("g (float[4,8,4,4] x) => (y) <int64[4] t = {1,8,4,4}> { p = ReduceMean<axes = [2,3], keepdims = 0>(x)"
        "  y = Transpose(p) }",
        fires=(("NPU102", "y"),), opset=17),
    # Broadcasting an operand of fewer axes puts axes in front.
    Row("g (float[1,8,8,8] x, float[1,8] c) => (y) { y = Add(x, c) }", fires=(("NPU102", "y"),)),
    Row("g (float[1,8,8,8] x, float[1,8] c) => (y) <int64[2] a = {2,3}> { u = Unsqueeze(c, a)  y = Add(x, u) }",
        silent=(("NPU102", "y"), ("NPU102", "u"))),
    Row("g (float[1,8,6,4] x) => (y) <int64[1] a = {1}> { m = ReduceMax<keepdims = 0>(x, a)  y = Mul(x, m) }",
        silent=(("NPU102", "y"),)),
    Row("g (float[1,8,6,4] x) => (y) <float[4] c> { y = Mul(x, c) }", silent=(("NPU102", "y"),)),
    Row("g (float[1,8,8,8] x) => (y) <int64[2] a = {2,3}> { m = ReduceMean<keepdims = 0>(x, a)  y = Where(b, x, m)"
        "  b = Cast<to = 9>(x) }"
        .replace("y = Where(b, x, m)  b = Cast<to = 9>(x)", "b = Cast<to = 9>(x)  y = Where(b, x, m)"), fires=(("NPU102", "y"),)),
    # An Einsum of one operand moves axes, or sums over them.
    Row('g (float[1,8,6,4] x) => (y) { y = Einsum<equation = "nchw->nhwc">(x) }', fires=(("NPU102", "y"),)),
    Row('g (float[1,8,6,4] x) => (y) { y = Einsum<equation = "nchw->nchw">(x) }', silent=(("NPU102", "y"), ("NPU101", "y"))),
    Row('g (float[1,8,1,1] x) => (y) { y = Einsum<equation = "nchw->nhwc">(x) }', fires=(("NPU102", "y"),)),
    Row('g (float[8,6] x) => (y) { t = Einsum<equation = "ba">(x)  y = Transpose(t) }', silent=(("NPU102", "y"),)),
)  # fmt: skip

_QDQ = "float s = {0.5}, uint8 z = {0}"
RUNS = (
    Row(f"g (float[1,8,4,4] x) => (y) <{_QDQ}> {{ a = Transpose<perm = [0,2,3,1]>(x)  q = QuantizeLinear(a, s, z)"
        " d = DequantizeLinear(q, s, z)  y = Transpose<perm = [0,3,1,2]>(d) }", silent=(("NPU102", "a"), ("NPU102", "y"))),
    Row(f"g (float[1,8,4,4] x) => (y) <{_QDQ}> {{ a = Transpose<perm = [0,2,3,1]>(x)  q = QuantizeLinear(a, s, z)"
        " d = DequantizeLinear(q, s, z)  r = Relu(d)"
        "  y = Transpose<perm = [0,3,1,2]>(r) }", fires=(("NPU102", "a"), ("NPU102", "y"))),
    Row("g (float[1,8,4,4] x) => (y) <float[4] s, uint8[4] z> { a = Transpose<perm = [0,2,3,1]>(x)"
        "  q = QuantizeLinear<axis = 1>(a, s, z)"
        " d = DequantizeLinear<axis = 1>(q, s, z)  y = Transpose<perm = [0,3,1,2]>(d) }", fires=(("NPU102", "a"),)),
    Row(f"g (float[1,8,1,1] x) => (y) <{_QDQ}, int64[4] t = {{1,8,1,1}}> {{ f = Flatten(x)  q = QuantizeLinear(f, s, z)"
        " d = DequantizeLinear(q, s, z)  y = Reshape(d, t) }", silent=(("NPU104", "f"), ("NPU102", "y"))),
    Row("g (float[1,8,1,1] x) => (y) <int64[4] t = {1,8,1,1}> { f = Flatten(x)  y = Reshape(f, t) }", silent=(("NPU104", "f"),)),
    Row("g (float[1,8,1,1] x) => (y) <float[8,8] w> { f = Flatten(x)"
        "  y = Gemm(f, w) }", fires=(("NPU104", "f"), ("NPU104", "y"))),
)  # fmt: skip

INPUTS = (
    Row("g (float[1,8,2,8,8] x) => (y) <int64[3] s = {1,8,128}> { t = Transpose<perm = [0,2,1,3,4]>(x)  y = Reshape(t, s) }",
        fires=(("NPU402", "x"),)),
    Row("g (float[1,8,2,8,8] x) => (y) <int64 i = {0}> { g = Gather<axis = 2>(x, i)  y = Relu(g) }", fires=(("NPU402", "x"),)),
    Row("g (float[1,8,2,8,8] x) => (y) { r = Relu(x)  y = Neg(r) }", fires=(("NPU402", "r"),), silent=(("NPU402", "x"),)),
    Row("g (float[1,8,8,8] x) => (y) <int64 i = {0}> { g = Gather<axis = 2>(x, i)  y = Relu(g) }", silent=(("NPU402", "x"),)),
    Row("g (float[1,2,2,8,4,4] x) => (a, b) { a, b = Split<axis = 1, num_outputs = 2>(x) }", HTP, fires=(("NPU402", "x"),)),
    Row("g (float[1,2,8,4,4] x) => (a, b) { a, b = Split<axis = 1, num_outputs = 2>(x) }", HTP, silent=(("NPU402", "x"),)),
)  # fmt: skip

ABSENT = (
    Row("g (float[1,8,8,8] x) => (y) <int64[1] b = {0}, int64[1] e = {4}, int64[1] a = {1}> { y = Slice(x, b, e, a) }", VELA,
        silent=(("NPU701", "y"), ("NPU701", "y"))),
    Row("g (float[1,8,8,8] x) => (y) <int64[1] b = {0}, int64[1] e = {8}, int64[1] a = {1}, int64[1] t = {2}>"
        " { y = Slice(x, b, e, a, t) }",
        VELA, fires=(("NPU701", "y"),)),
    Row("g (float[1,8,8,8] x) => (y) <int64[2] b = {0,0}, int64[2] e = {4,8}, int64[2] a = {1,-1}, int64[2] t = {1,2}>"
        " { y = Slice(x, b, e, a, t) }", VELA, silent=(("NPU701", "y"),)),
    Row("g (float[1,8,8,8] x) => (y) <int64[2] b = {0,0}, int64[2] e = {1,8}, int64[2] t = {1,2}> { y = Slice(x, b, e, , t) }",
        VELA, fires=(("NPU701", "y"),)),
    Row("g (float[1,8,8,8] x) => (y, i) { y, i = MaxPool<kernel_shape = [2,2]>(x) }", HTP, fires=(("NPU701", "y"),)),
    Row("g (float[1,8,8,8] x) => (y) { y, i = MaxPool<kernel_shape = [2,2]>(x) }", HTP, silent=(("NPU701", "y"),)),
    Row("g (float[1,8,4,2] x) => (y) <float[8,1,1] s> { y = PRelu(x, s) }", RKNN, silent=(("NPU405", "y"),)),
    Row("g (float[1,8,4,2] x) => (y) <float[1,1,1] s> { y = PRelu(x, s) }", RKNN, silent=(("NPU405", "y"),)),
    Row("g (float[1,8,1,8] x) => (y) <float[8] s> { y = PRelu(x, s) }", RKNN, fires=(("NPU405", "y"),)),
    Row("g (float[1,8,8,8] x) => (y) { y = SpaceToDepth<blocksize = 1>(x) }", silent=(("NPU102", "y"), ("NPU101", "y"))),
    Row("g (float[1,8,8,8] x) => (y) { y = SpaceToDepth<blocksize = 2>(x) }", fires=(("NPU102", "y"),)),
    Row("g (float[1,8,31,31] x) => (y) { y = AveragePool<kernel_shape = [2,2], strides = [2,2], ceil_mode = 1>(x) }", VELA,
        silent=(("NPU701", "y"),)),
)  # fmt: skip


@pytest.mark.parametrize("row", [*ROLES, *RUNS, *INPUTS, *ABSENT], ids=lambda row: row.graph[:60])
def test_findings(row: Row, write: Callable[..., Path]) -> None:
    report = check_model(str(write(row.graph, opset=row.opset)), registry.profile(row.device), Config(profile=row.device))
    assert not report.crashes
    assert report.error is None
    found = {(f.rule, f.location.node or f.location.output) for f in report.findings}
    assert found >= set(row.fires), [f.message for f in report.findings]
    assert not found & set(row.silent), [f.message for f in report.findings]
