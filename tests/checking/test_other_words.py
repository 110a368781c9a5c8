# ruff: noqa: E501
"""What is said of a plain operator holds for its integer and fused forms; what is left out counts as ONNX's default."""

from __future__ import annotations

from collections.abc import Callable

import pytest

ROWS = """
aimotive-aiware | 20 | NPU301 y | NPU103 y | g (float[1,8,4,4] x) => (y) { y = Einsum<equation = "nchw->nch">(x) }
aimotive-aiware | 20 | | NPU301 y, NPU103 y | g (float[1,8,4,4] x) => (y) { y = Einsum<equation = "nchw->nc">(x) }
aimotive-aiware | 20 | | NPU301 e, NPU103 e, NPU102 u | g (float[1,8,4,4] x) => (y) <int64[1] a = {1}> { e = Einsum<equation = "nchw->nhw">(x)  u = Unsqueeze(e, a)  y = Mul(x, u) }
aimotive-aiware | 20 | NPU103 y | | g (float[1,8,4,4] x) => (y) { y = Einsum<equation = "nchw->nwc">(x) }
aimotive-aiware | 20 | NPU103 y | | g (float[1,16,64] x) => (y) <float[64,192] w, float[192] b> { y = com.microsoft.Attention<num_heads = 4>(x, w, b) }
aimotive-aiware | 20 | NPU103 y | | g (float[1,16,64] x, float[1,16,64] k) => (y) { y = com.microsoft.MultiHeadAttention<num_heads = 4>(x, k, k) }
aimotive-aiware | 20 | NPU103 y | | g (float[1,16,64] x) => (y) <uint8[32,2,16] w, float[64] c> { y = com.microsoft.MatMulNBits<K = 64, N = 32, bits = 4, block_size = 32>(x, w, c) }
aimotive-aiware | 20 | NPU103 y | NPU402 y, NPU403 y | g (float[1,16,64] x) => (y) <float[64,32] w> { y = com.microsoft.GemmFastGelu(x, w) }
aimotive-aiware | 20 | NPU103 y | | g (float[1,16,64] x) => (y) <float[64,32] w> { y = com.microsoft.FusedMatMulActivation<activation = "Relu">(x, w) }
aimotive-aiware | 20 | NPU201 y | | g (uint8[1,8,32,32] x) => (y) <Q, uint8[8,8,19,3] w> { y = QLinearConv(x, s, z, w, s, z, s, z) }
aimotive-aiware | 20 | | NPU201 y, NPU401 y | g (uint8[1,8,32,32] x) => (y) <Q, uint8[8,8,17,3] w> { y = QLinearConv(x, s, z, w, s, z, s, z) }
aimotive-aiware | 20 | NPU201 y | NPU402 y, NPU403 y | g (float[1,8,32,32] x) => (y) <float[8,8,19,3] w> { y = com.microsoft.FusedConv<activation = "Relu">(x, w) }
aimotive-aiware | 20 | NPU401 y | | g (float[1,8,32,32] x) => (y) <float[12,8,1,1] w> { y = com.microsoft.FusedConv<activation = "Relu">(x, w) }
aimotive-aiware | 20 | NPU201 y | NPU401 y | g (float[1,32,32,8] x) => (y) <float[8,3,19,8] w> { y = com.microsoft.NhwcConv(x, w) }
aimotive-aiware | 20 | NPU105 y | | g (float[1,8,32] x) => (y) <float[8,8,3] w> { y = com.microsoft.FusedConv(x, w) }
aimotive-aiware | 20 | NPU601 y | | g (float[1,8,8,8] x, float[8,8,3,3] w) => (y) { y = com.microsoft.FusedConv(x, w) }
aimotive-aiware | 20 | NPU401 y | | g (uint8[1,64] x) => (y) <Q, uint8[64,12] w> { y = QLinearMatMul(x, s, z, w, s, z, s, z) }
aimotive-aiware | 20 | NPU401 y | | g (float[1,64] x) => (y) <float[12,64] w> { y = com.microsoft.FusedGemm<transB = 1>(x, w) }
aimotive-aiware | 20 | | NPU401 y | g (float[1,64] x) => (y) <float[16,64] w> { y = com.microsoft.FusedGemm<transB = 1>(x, w) }
aimotive-aiware | 20 | NPU401 y | | g (float[1,64] x) => (y) <float[12,64] w> { y = Einsum<equation = "dc,bc->bd">(w, x) }
aimotive-aiware | 20 | NPU401 y | | g (float[8,1] x) => (y) <float[8,12] w> { y = Gemm<transA = 1>(w, x) }
aimotive-aiware | 20 | | NPU401 y | g (float[8,1] x) => (y) <float[8,16] w> { y = Gemm<transA = 1>(w, x) }
aimotive-aiware | 21 | | NPU402 y, NPU403 y, NPU105 y | g (float[1,8,4,4] x) => (y) <float[8] s, float[16,8,1,1] w> { n = GroupNormalization<num_groups = 2>(x, s, s)  y = Conv(n, w) }
qualcomm-htp | 17 | | NPU101 q, NPU101 d, NPU402 y, NPU403 d, NPU403 y | g (float[1,8,4,4] x) => (y) <float s = {0.1}, uint16 z = {0}, float[16,8,1,1] w> { q = com.microsoft.QuantizeLinear(x, s, z)  d = com.microsoft.DequantizeLinear(q, s, z)  y = Conv(d, w) }
aimotive-aiware | 20 | | NPU403 a, NPU403 g, NPU403 y | g (uint8[1,8,4,4] x) => (y) <Q> { a = com.microsoft.QLinearAdd(x, s, z, x, s, z, s, z)  g = com.microsoft.QLinearGlobalAveragePool(a, s, z, s, z)  y = DequantizeLinear(g, s, z) }
aimotive-aiware | 20 | | NPU403 a, NPU403 y | g (uint8[1,8,4,4] x) => (y) <Q> { a = com.microsoft.QLinearConcat<axis = 1>(s, z, x, s, z, x, s, z)  y = DequantizeLinear(a, s, z) }
aimotive-aiware | 20 | | NPU403 y, NPU402 y | g (float[1,8,4,4] x) => (y) { q = com.microsoft.QuickGelu(x)  y = Relu(q) }
ort-nnapi | 20 | NPU701 y | | g (float[1,8,4,4] x) => (y) <float m = {0}> { y = Clip(x, m) }
ort-nnapi | 20 | | NPU701 y | g (float[1,8,4,4] x) => (y) <float m = {0}, float n = {6}> { y = Clip(x, m, n) }
ort-nnapi | 10 | NPU701 y | | g (float[1,8,4,4] x) => (y) { y = Clip<max = 6.0>(x) }
ort-nnapi | 10 | | NPU701 y | g (float[1,8,4,4] x) => (y) { y = Clip<max = 6.0, min = 0.0>(x) }
kneron:KL730 | 20 | NPU701 y | | g (float[1,8,4,4] x) => (y) <float m = {6}> { y = Clip(x, , m) }
qualcomm-htp | 10 | NPU701 y | | g (float[1,8,4,4] x) => (y) { y = Pad<pads = [0,0,1,1,0,0,1,1], value = 1.5>(x) }
qualcomm-htp | 10 | | NPU701 y | g (float[1,8,4,4] x) => (y) { y = Pad<pads = [0,0,1,1,0,0,1,1]>(x) }
qualcomm-htp | 20 | | NPU701 p | g (uint8[1,8,4,4] x) => (y) <float s = {0.1}, uint8 z = {128}, int64[8] w = {0,0,1,1,0,0,1,1}> { p = Pad(x, w, z)  y = DequantizeLinear(p, s, z) }
qualcomm-htp | 20 | NPU701 p | | g (uint8[1,8,4,4] x) => (y) <float s = {0.1}, uint8 z = {128}, int64[8] w = {0,0,1,1,0,0,1,1}> { p = Pad(x, w)  y = DequantizeLinear(p, s, z) }
kneron:KL730 | 20 | | NPU701 p, NPU101 y | g (uint8[1,8,4,4] x) => (y) <float s = {0.1}, uint8 z = {4}, uint8 n = {4}, uint8 m = {64}> { p = Clip(x, n, m)  y = DequantizeLinear(p, s, z) }
aimotive-aiware | 20 | NPU401 y | NPU402 y, NPU403 y | g (float[1,8] x) => (y) <float[12,8] w> { y = com.microsoft.FusedMatMul<transB = 1>(x, w) }
aimotive-aiware | 20 | | NPU401 y, NPU402 y | g (float[1,8] x) => (y) <float[16,8] w> { y = com.microsoft.FusedMatMul<transB = 1>(x, w) }
aimotive-aiware | 20 | NPU401 y | | g (float[1,64] x) => (y) <float[64,12] w> { y = Einsum<equation = "...c,cd->...d">(x, w) }
aimotive-aiware | 20 | | NPU102 y, NPU103 y, NPU401 y | g (float[1,12,4,4] x) => (y) <float[12] c> { y = Einsum<equation = "nchw,c->nchw">(x, c) }
aimotive-aiware | 20 | | NPU102 y, NPU103 y | g (float[1,8,4,4] x, float[8] c) => (y) { y = Einsum<equation = "nchw,c->nchw">(x, c) }
aimotive-aiware | 20 | | NPU102 y, NPU103 y | g (float[1,8,4,4] x) => (y) { r = Relu(x)  y = Einsum<equation = "nchw,nchw->nchw">(x, r) }
aimotive-aiware | 20 | | NPU102 y, NPU103 y | g (float[1,8,4,4] x) => (y) { r = Relu(x)  y = Einsum<equation = "...,...">(x, r) }
aimotive-aiware | 20 | | NPU102 y, NPU103 y | g (float[1,8,4] x) => (y) <float[4] c> { y = Einsum<equation = "bnc,c->bnc">(x, c) }
aimotive-aiware | 20 | | NPU104 y, NPU103 y, NPU401 y | g (float[1,12] x) => (y) <float[12] c> { y = Einsum<equation = "bc,c->bc">(x, c) }
aimotive-aiware | 20 | | NPU102 y, NPU103 y | g (float[1,8,4,4] x) => (y) <int64[2] a = {2,3}> { m = ReduceMean<keepdims = 0>(x, a)  y = Einsum<equation = "nchw,nc->nchw">(x, m) }
aimotive-aiware | 20 | NPU102 y | NPU103 y | g (float[1,8,4,8] x) => (y) <int64[2] a = {2,3}> { m = ReduceMean<keepdims = 0>(x, a)  y = Einsum<equation = "nchw,nw->nchw">(x, m) }
aimotive-aiware | 20 | NPU102 y | NPU103 y | g (float[1,8,4,4] x) => (y) { r = Relu(x)  y = Einsum<equation = "nchw,nchw->nhwc">(x, r) }
aimotive-aiware | 20 | NPU102 y | NPU103 y | g (float[1,8,4,6] x, float[1,8,6,4] r) => (y) { y = Einsum<equation = "nchw,ncwh->nchw">(x, r) }
aimotive-aiware | 20 | NPU103 y | NPU102 y | g (float[1,8,4,4] x) => (y) { r = Relu(x)  y = Einsum<equation = "nchw,nchw->nch">(x, r) }
aimotive-aiware | 20 | NPU103 y | | g (float[1,8,4] x) => (y) <float[4,4] c> { y = Einsum<equation = "bnc,cd->bnd">(x, c) }
aimotive-aiware | 20 | NPU102 y | | g (uint8[1,8,6,8] x, uint8[1,8] v) => (y) <Q> { y = com.microsoft.QLinearMul(x, s, z, v, s, z, s, z) }
aimotive-aiware | 20 | | NPU102 y | g (uint8[1,8,6,8] x, uint8[1,8,1,1] v) => (y) <Q> { y = com.microsoft.QLinearMul(x, s, z, v, s, z, s, z) }
aimotive-aiware | 20 | | NPU301 y | g (uint8[1,8,6,8] x) => (y) <Q> { y = com.microsoft.QLinearGlobalAveragePool(x, s, z, s, z) }
aimotive-aiware | 20 | NPU301 y | | g (uint8[1,8,6,8] x) => (y) <Q> { y = com.microsoft.QLinearReduceMean(x, s, z, s, z) }
aimotive-aiware | 20 | | NPU102 y | g (float[1,32,24,20] x, float[20] v) => (y) <float[32,32,1,1] w> { c = Conv(x, w)  y = Add(c, v) }
aimotive-aiware | 20 | | NPU102 y | g (float[1,32,24,20] x, float[32,1,1] v) => (y) <float[32,32,1,1] w> { c = Conv(x, w)  y = Mul(c, v) }
aimotive-aiware | 20 | | NPU102 y | g (float[1,32,24,20] x, float[24,20] v) => (y) <float[32,32,1,1] w> { c = Conv(x, w)  r = Sigmoid(v)  y = Mul(r, c) }
aimotive-aiware | 20 | | NPU102 u, NPU102 y | g (float[1,32,24,20] x, float[24,20] v) => (y) <float[32,32,1,1] w, int64[2] a = {0,1}> { c = Conv(x, w)  u = Unsqueeze(v, a)  y = Mul(u, c) }
aimotive-aiware | 20 | NPU102 y | | g (float[1,20,24,20] x, float[1,20] v) => (y) <float[20,20,1,1] w> { c = Conv(x, w)  y = Mul(v, c) }
aimotive-aiware | 20 | NPU102 y | | g (float[20,8,24,20] x, float[20] v) => (y) <float[8,8,1,1] w> { c = Conv(x, w)  y = Mul(v, c) }
aimotive-aiware | 20 | NPU102 y | | g (float[1,8,24,20] x, float[24,20] v) => (y, t) <float[8,8,1,1] w, float[20,8] m> { c = Conv(x, w)  y = Mul(v, c)  t = MatMul(v, m) }
aimotive-aiware | 20 | NPU102 u | | g (float[1,8,24,20] x, float[24,20] v) => (y, r) <float[8,8,1,1] w, int64[4] a = {1,1,48,10}> { c = Conv(x, w)  u = Reshape(v, a)  r = Relu(u)  y = Relu(c) }
aimotive-aiware | 20 | NPU102 y | NPU103 y | g (float[1,8,4,6] x) => (y) { y = Einsum<equation = "...ij->...ji">(x) }
aimotive-aiware | 20 | | NPU402 y, NPU403 y | g (float[1,16,8] x) => (y) { m = com.microsoft.MultiHeadAttention<num_heads = 2>(x, x, x)  y = Relu(m) }
aimotive-aiware | 20 | | NPU402 y, NPU403 y | g (float[1,16,8] x) => (y) <float[8,24] w, float[24] b> { m = com.microsoft.Attention<num_heads = 2>(x, w, b)  y = Relu(m) }
aimotive-aiware | 20 | | NPU402 y, NPU403 y | g (uint8[1,8,4,4] x, bool[1,8,4,4] c) => (y) <Q> { m = com.microsoft.QLinearWhere(c, x, s, z, x, s, z, s, z)  y = DequantizeLinear(m, s, z) }
aimotive-aiware | 20 | | NPU402 y, NPU401 y | g (uint8[1,8,4,4] x) => (y) <Q, uint8[16,8,1,1] w> { m = com.microsoft.QLinearReduceMean<axes = [2,3]>(x, s, z, s, z)  y = QLinearConv(m, s, z, w, s, z, s, z) }
kneron:KL730 | 20 | | NPU405 y | g (float[1,8,4,4] x) => (y) <float[8,1,1] b> { y = Add(b, x) }
kneron:KL730 | 20 | NPU405 y | | g (float[2,8,4,4] x) => (y) <float[8,1,1] b> { y = Add(b, x) }
kneron:KL730 | 20 | | NPU701 y | g (float[1,8,4,4] x) => (y) <float m = {-3.4028234663852886e38}, float n = {3.4028234663852886e38}> { c = Clip(x, m, n)  y = Relu(c) }
qualcomm-htp | 20 | | NPU202 y | g (float[1,8,16,16] x) => (y) <float[8,8,3,3] w> { y = Conv<dilations = [2,2]>(x, w) }
qualcomm-htp | 20 | NPU202 y | | g (float[1,8,16,16] x) => (y) <float[8,8,3,3] w> { y = Conv<dilations = [2,2], auto_pad = "SAME_UPPER">(x, w) }
drobotics-bpu:X3 | 11 | NPU702 y | | g (float[1,8,4,4] x) => (y) { y = Softmax<axis = 1>(x) }
drobotics-bpu:X3 | 11 | | NPU702 y | g (float[1,8,1,1] x) => (y) { y = Softmax<axis = 1>(x) }
drobotics-bpu:X3 | 13 | | NPU702 y | g (float[1,8,4,4] x) => (y) { y = Softmax<axis = 1>(x) }
"""


@pytest.mark.parametrize("row", ROWS.strip().splitlines())
def test_findings(row: str, expect_row: Callable[[str], None]) -> None:
    expect_row(row)
