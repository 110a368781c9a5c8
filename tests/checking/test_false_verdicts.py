# ruff: noqa: E501
"""Kinds of false verdicts, by the letters of the list that they were found under: what has to fire, and what must not.

A roles of axes, B inputs of too high a rank, C integer and fused products, D what a node does not have, E Upsample, F inputs left
out, G old names, H Softmax before opset 13, I operators of ONNX Runtime, J If, K vectors at batch 1, L quantization between
rearrangements, M Einsum of one operand, N slopes, O windows that hang over, P what nobody reads, R broadcasting, S blocks of 1,
U normalisations, V pairs of extents, W what has no effect, X scales, Z a constant on the left.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

ROWS = """
A | aimotive-aiware | 17 | NPU301 y | | g (float[1,8,6,6] x) => (y, b) <int64[2] p = {3,3}> { m = ReduceMax<axes = [1], keepdims = 0>(x)  a, b = Split<axis = 1>(m, p)  y = ReduceMean<axes = [1]>(a) }
A | aimotive-aiware | 17 | NPU301 y | | g (float[1,8,6,6] x) => (y) <int64[6] p = {0,1,1,0,1,1}> { m = ReduceMax<axes = [1], keepdims = 0>(x)  c = Concat<axis = 2>(m, m)  q = Pad(c, p)  y = ReduceMax<axes = [1]>(q) }
A | aimotive-aiware | 17 | | NPU301 a, NPU301 y | g (float[1,8,1,16] x) => (y) { a = ReduceMean<axes = [2], keepdims = 0>(x)  y = ReduceMean<axes = [2], keepdims = 0>(a) }
A | aimotive-aiware | 17 | | NPU301 y | g (float[1,8,6,6] x) => (y) { m = ReduceMax<axes = [2,3], keepdims = 0>(x)  y = ReduceMean<axes = [1], keepdims = 0>(m) }
A | ethos-u55 | 17 | | NPU702 y, NPU701 y | g (float[1,8,6,6] x) => (y) <int64[1] a = {0}> { s = Squeeze(x, a)  y = ArgMax<axis = 0, keepdims = 0>(s) }
A | ethos-u55 | 17 | NPU301 y | | g (float[1,8,6,6] x) => (y) <int64[1] a = {0}> { s = Squeeze(x, a)  y = ArgMax<axis = 1, keepdims = 0>(s) }
A | aimotive-aiware | 17 | | NPU101 y | g (float[1,8,6,5] x) => (y) <int64[1] a = {0}> { s = Squeeze(x, a)  y = Softmax<axis = 0>(s) }
A | aimotive-aiware | 17 | NPU101 y | | g (float[1,8,6,5] x) => (y) <int64[1] a = {0}> { s = Squeeze(x, a)  y = Softmax<axis = 1>(s) }
B | qualcomm-htp | 17 | NPU402 x | | g (float[1,1,2,3,4,5] x) => (y) <int64 i = {0}> { y = Gather<axis = 0>(x, i) }
B | ort-coreml:MLProgram | 17 | NPU402 x | | g (float[1,1,2,3,4,5] x) => (y) <int64[1] a = {0}, int64[1] e = {1}> { s = Slice(x, a, e)  y = Squeeze(s, a) }
B | ort-coreml:MLProgram | 17 | | NPU402 x, NPU402 s | g (float[1,2,3,4,5] x) => (y) <int64[1] a = {0}, int64[1] e = {1}> { s = Slice(x, a, e)  y = Squeeze(s, a) }
B | aimotive-aiware | 17 | NPU402 x | | g (float[1,2,8,4,4] x) => (y) <int64[4] s = {2,8,4,4}> { p = Transpose<perm = [1,0,2,3,4]>(x)  y = Reshape(p, s) }
C | nvidia-dla | 17 | NPU201 y | | g (uint8[1,8,40,40] x) => (y) <Q, uint8[8,8,33,3] w> { y = QLinearConv(x, s, z, w, s, z, s, z) }
C | nvidia-dla | 17 | | NPU201 y | g (uint8[1,8,40,40] x) => (y) <Q, uint8[8,8,32,3] w> { y = QLinearConv(x, s, z, w, s, z, s, z) }
C | aimotive-aiware | 17 | NPU401 y | | g (uint8[1,8,6,6] x) => (y) <uint8[12,8,3,3] w> { y = ConvInteger(x, w) }
C | aimotive-aiware | 17 | NPU103 y | | g (uint8[1,16,8] x) => (y) <uint8[8,8] w> { y = MatMulInteger(x, w) }
C | ethos-u55 | 17 | NPU601 y | | g (uint8[1,8,6,6] x, int32[8] b) => (y) <Q, uint8[8,8,3,3] w> { y = QLinearConv(x, s, z, w, s, z, s, z, b) }
C | ethos-u55 | 17 | | NPU601 y | g (uint8[1,8,6,6] x) => (y) <Q, uint8[8,8,3,3] w, int32[8] b> { y = QLinearConv(x, s, z, w, s, z, s, z, b) }
C | aimotive-aiware | 17 | NPU401 y | | g (float[1,16] x) => (y) <float s = {0.1}, uint8 z = {3}, uint8[16,12] w> { y = com.microsoft.DynamicQuantizeMatMul(x, w, s, z) }
C | kneron:KL730 | 17 | NPU204 y | | g (uint8[1,8,200,200] x) => (y) <Q> { y = com.microsoft.QLinearGlobalAveragePool(x, s, z, s, z) }
D | ethos-u85 | 9 | | NPU701 y, NPU702 y | g (float[1,8,6,6] x) => (y) { y = Slice<starts = [0], ends = [4], axes = [1]>(x) }
D | ethos-u55 | 17 | NPU204 y | | g (float[1,8,300,4] x) => (y) { y = AveragePool<kernel_shape = [257,1]>(x) }
D | nvidia-dla | 17 | | NPU702 y, NPU701 y | g (float[1,8,6,6] x) => (y) <int64[4] a = {0,0,0,1}, int64[4] e = {1,8,6,5}> { y = Slice(x, a, e) }
D | nvidia-dla | 17 | NPU702 y | | g (float[2,8,6,6] x) => (y) <int64[4] a = {1,0,0,1}, int64[4] e = {2,8,6,5}> { y = Slice(x, a, e) }
D | kneron:KL730 | 17 | | NPU701 y | g (float[1,8,6,6] x) => (y) <int64[8] p = {0,0,1,1,0,0,1,1}> { y = Pad(x, p) }
D | ethos-u55 | 17 | | NPU701 y, NPU405 y | g (float[5,1,4] x) => (y) <float[1,32,4] w, float[1,32,8] r> { y = LSTM<hidden_size = 8>(x, w, r) }
D | ethos-u55 | 17 | NPU405 y | | g (float[5,1,4] x) => (y) <float[1,32,4] w, float[1,32,8] r, float[1,24] p> { y = LSTM<hidden_size = 8>(x, w, r, , , , , p) }
D | ethos-u85 | 18 | | NPU301 y | g (float[1,8,6,6] x) => (y) { y = ReduceMean<noop_with_empty_axes = 1>(x) }
D | ethos-u85 | 18 | NPU301 y | | g (float[1,8,6,6] x) => (y) { y = ReduceMean(x) }
E | ti-tidl:AM62A | 9 | NPU501 y | | g (float[1,8,6,6] x) => (y) <float[4] s = {1,1,2,4}> { y = Upsample(x, s) }
E | ti-tidl:AM62A | 9 | | NPU501 y, NPU101 y | g (float[1,8,6,6] x) => (y) <float[4] s = {1,1,2,2}> { y = Upsample(x, s) }
E | rockchip-rk3588 | 9 | NPU501 y | | g (float[1,8,6,6] x) => (y) <float[4] s = {1,1,1.5,1.5}> { y = Upsample<mode = "linear">(x, s) }
E | ethos-u55 | 7 | NPU501 y | | g (float[1,8,6,6] x) => (y) { y = Upsample<scales = [1.0,1.0,3.0,3.0]>(x) }
E | ethos-u55 | 7 | | NPU501 y | g (float[1,8,6,6] x) => (y) { y = Upsample<scales = [1.0,1.0,4.0,4.0]>(x) }
E | nvidia-dla | 7 | NPU501 y | | g (float[1,8,2,2] x) => (y) { y = Upsample<scales = [1.0,1.0,33.0,33.0]>(x) }
E | kneron:KL720 | 9 | NPU501 y | | g (float[1,8,6,6] x) => (y) <float[4] s = {1,1,2,2}> { y = Upsample(x, s) }
E | kneron:KL720 | 9 | | NPU501 y | g (float[1,8,6,6] x) => (y) <float[4] s = {1,1,1,2}> { y = Upsample(x, s) }
F | ti-tidl:AM62A | 17 | | NPU701 y | g (float[1,8,6,6] x) => (y) <float m = {6}> { y = Clip(x, , m) }
F | ti-tidl:AM62A | 17 | NPU701 y | | g (float[1,8,6,6] x) => (y) <float m = {1}> { y = Clip(x, m) }
F | ort-nnapi | 18 | NPU702 a | | g (float[1,10,6,6] x) => (a, b, c) { a, b, c = Split<axis = 1, num_outputs = 3>(x) }
F | ort-nnapi | 18 | | NPU702 a | g (float[1,9,6,6] x) => (a, b, c) { a, b, c = Split<axis = 1, num_outputs = 3>(x) }
F | qualcomm-htp | 17 | | NPU702 y | g (float[1,8,6,6] x) => (y) <float[6] c> { y = LayerNormalization(x, c) }
F | qualcomm-htp | 17 | NPU702 y | | g (float[1,8,6,6] x) => (y) <float[6,6] c> { y = LayerNormalization<axis = 2>(x, c) }
G | kneron:KL730 | 10 | NPU702 y | | g (float[2,8,6,6] x) => (y) { y = Pad<pads = [1,0,0,0,0,0,0,0]>(x) }
G | nvidia-dla | 9 | NPU702 y | | g (float[2,8,6,6] x) => (y) { y = Slice<starts = [1], ends = [2], axes = [0]>(x) }
G | qualcomm-htp | 9 | | NPU601 v, NPU701 v | g (float[1,8,6,6] x) => (v, i) { v, i = TopK<k = 3>(x) }
G | ort-nnapi | 11 | NPU702 a | | g (float[1,10,6,6] x) => (a, b) { a, b = Split<axis = 1, split = [4,6]>(x) }
G | ort-nnapi | 11 | | NPU601 y | g (float[1,8,6] x) => (y) { y = Unsqueeze<axes = [0]>(x) }
H | drobotics-bpu:X5 | 11 | NPU702 y | | g (float[1,8,4,16] x) => (y) { y = Softmax<axis = 2>(x) }
H | drobotics-bpu:X5 | 11 | | NPU702 y | g (float[1,8,1,16] x) => (y) { y = Softmax<axis = 2>(x) }
H | drobotics-bpu:X3 | 11 | NPU702 y | | g (float[1,1,1,16] x) => (y) { y = Softmax<axis = 1>(x) }
H | drobotics-bpu:X3 | 11 | | NPU702 y | g (float[1,1,1,1] x) => (y) { y = Softmax<axis = 1>(x) }
H | nvidia-dla | 11 | NPU302 y | | g (float[1,40,40,40] x) => (y) { y = Softmax<axis = 1>(x) }
H | nvidia-dla | 13 | | NPU302 y | g (float[1,40,40,40] x) => (y) { y = Softmax<axis = 1>(x) }
H | nvidia-dla | 11 | | NPU302 y | g (float[1,8192,1,1] x) => (y) { y = Softmax<axis = 1>(x) }
I | aimotive-aiware | 17 | | NPU402 y, NPU403 y, NPU105 y | g (float[1,8,8,8] x) => (y) <Q, float[8,8,1,1] w> { a = com.microsoft.QuantizeLinear(x, s, z)  b = com.microsoft.QLinearAveragePool<kernel_shape = [2,2], strides = [2,2]>(a, s, z, s, z)  d = com.microsoft.DequantizeLinear(b, s, z)  y = Conv(d, w) }
I | aimotive-aiware | 17 | NPU201 y | NPU402 y, NPU403 y | g (float[1,8,40,40] x) => (y) <Q, float[8,8,19,3] w> { a = com.microsoft.QuantizeLinear(x, s, z)  b = com.microsoft.QLinearSigmoid(a, s, z, s, z)  d = com.microsoft.DequantizeLinear(b, s, z)  y = Conv(d, w) }
I | aimotive-aiware | 17 | | NPU402 y, NPU403 y | g (float[1,8,8,8] x) => (y) <Q, float[8,8,1,1] w> { a = com.microsoft.QuantizeLinear(x, s, z)  b = com.microsoft.QLinearSoftmax<axis = 1, opset = 13>(a, s, z, s, z)  d = com.microsoft.DequantizeLinear(b, s, z)  y = Conv(d, w) }
J | aimotive-aiware | 17 | | NPU101 a, NPU201 f, NPU403 y | g (float[1,8,40,40] x) => (y) <int64 i = {1}, int64 n = {4}, float[8,8,31,31] w, float[8,8,3,3] v> { h = Shape(x)  d = Gather(h, i)  c = Equal(d, n)  a = If (c) <then_branch = t () => (float[1,8,10,10] e) { e = Conv(x, w) }, else_branch = u () => (float[1,8,38,38] f) { f = Conv(x, v) }>  y = Relu(a) }
J | aimotive-aiware | 17 | NPU201 a | NPU101 a | g (float[1,8,40,40] x) => (y) <int64 i = {1}, int64 n = {8}, float[8,8,31,31] w, float[8,8,3,3] v> { h = Shape(x)  d = Gather(h, i)  c = Equal(d, n)  a = If (c) <then_branch = t () => (float[1,8,10,10] e) { e = Conv(x, w) }, else_branch = u () => (float[1,8,38,38] f) { f = Conv(x, v) }>  y = Relu(a) }
J | aimotive-aiware | 17 | NPU101 a | | g (float[1,8,4,4] x, bool c) => (y) { a = If (c) <then_branch = t () => (float[1,8,4,4] e) { e = Relu(x) }, else_branch = u () => (float[1,8,4,4] f) { f = Sigmoid(x) }>  y = Relu(a) }
K | aimotive-aiware | 17 | | NPU102 v, NPU102 u, NPU103 m | g (float[1,16,8,8] x) => (y) <float[16,16] w, int64[1] r = {-1}, int64[4] t = {1,16,1,1}> { p = GlobalAveragePool(x)  v = Reshape(p, r)  m = MatMul(v, w)  u = Reshape(m, t)  y = Mul(x, u) }
K | aimotive-aiware | 17 | NPU102 u | | g (float[2,16,8,8] x) => (y) <float[32,32] w, int64[1] r = {-1}, int64[4] t = {2,16,1,1}> { p = GlobalAveragePool(x)  v = Reshape(p, r)  m = MatMul(v, w)  u = Reshape(m, t)  y = Mul(x, u) }
K | aimotive-aiware | 17 | | NPU102 u | g (float[16] x) => (y) <float[8,16,1,1] w, int64[4] t = {1,16,1,1}> { u = Reshape(x, t)  y = Conv(u, w) }
L | aimotive-aiware | 17 | NPU102 t | | g (float[1,8,6,4] x) => (y) <Q> { t = Transpose<perm = [0,2,3,1]>(x)  q = QuantizeLinear(t, s, z)  d = DequantizeLinear(q, s, z)  y = Transpose<perm = [0,2,3,1]>(d) }
L | aimotive-aiware | 17 | NPU102 t | | g (float[1,8,6,4] x) => (y) <float[24] c, uint8[24] n, int64[3] r = {1,8,24}, int64[4] b = {1,8,6,4}> { t = Reshape(x, r)  q = QuantizeLinear<axis = 2>(t, c, n)  d = DequantizeLinear<axis = 2>(q, c, n)  y = Reshape(d, b) }
L | aimotive-aiware | 17 | | NPU102 t, NPU102 y | g (float[1,8,6,4] x) => (y) <Q, int64[4] b = {1,8,6,4}> { t = Flatten(x)  q = QuantizeLinear(t, s, z)  d = DequantizeLinear(q, s, z)  r = Reshape(d, b)  y = Relu(r) }
M | aimotive-aiware | 17 | | NPU102 y, NPU101 y | g (float[1,8,4,6] x) => (y) { y = Einsum<equation = "b...->b...">(x) }
M | aimotive-aiware | 17 | NPU102 y | | g (float[1,8,4,6] x) => (y) { y = Einsum<equation = "bc...->b...c">(x) }
M | aimotive-aiware | 17 | NPU102 y | | g (float[1,8,4,6] x) => (y) { y = Einsum<equation = " b c h w -> b c w h ">(x) }
N | rockchip-rk3588 | 17 | NPU405 y | | g (float[1,8,4,8] x) => (y) <float[8] c> { y = PRelu(x, c) }
N | ort-coreml:NeuralNetwork | 17 | NPU405 y | | g (float[1,8,8,1] x) => (y) <float[1,1,8,1] c> { y = PRelu(x, c) }
N | ort-coreml:NeuralNetwork | 17 | | NPU405 y | g (float[1,8,8,1] x) => (y) <float[1,8,1,1] c> { y = PRelu(x, c) }
N | rockchip-rk3588 | 17 | | NPU405 y | g (float[4,8] x) => (y) <float[8] c> { y = PRelu(x, c) }
O | ethos-u85 | 17 | NPU204 y | | g (float[1,8,20,20] x) => (y) { y = AveragePool<kernel_shape = [9,9], strides = [2,2], ceil_mode = 1>(x) }
O | ethos-u85 | 17 | | NPU204 y | g (float[1,8,21,21] x) => (y) { y = AveragePool<kernel_shape = [9,9], strides = [2,2], ceil_mode = 1>(x) }
O | ethos-u55 | 17 | NPU203 y | | g (float[1,8,10,10] x) => (y) { y = MaxPool<kernel_shape = [3,3], strides = [4,4], ceil_mode = 1>(x) }
O | ethos-u55 | 17 | | NPU203 y | g (float[1,8,11,11] x) => (y) { y = MaxPool<kernel_shape = [3,3], strides = [4,4], ceil_mode = 1>(x) }
O | ethos-u55 | 17 | | NPU203 y | g (float[1,8,12,12] x) => (y) { y = MaxPool<kernel_shape = [2,2], strides = [4,4], auto_pad = "SAME_LOWER">(x) }
O | rockchip-rk3588 | 17 | NPU701 y | | g (float[1,8,8,8] x) => (y) { y = AveragePool<kernel_shape = [3,3], strides = [2,2], ceil_mode = 1>(x) }
P | qualcomm-htp | 17 | NPU701 y | | g (float[1,8,6,6] x) => (y, c) { y, i = MaxPool<kernel_shape = [2,2]>(x)  c = Cast<to = 1>(i) }
P | qualcomm-htp | 17 | | NPU701 y, NPU101 c | g (float[1,8,6,6] x) => (y) { y, i = MaxPool<kernel_shape = [2,2]>(x)  c = Cast<to = 1>(i) }
P | aimotive-aiware | 17 | NPU404 y | | g (float[1,8,6,6] x) => (y, i) { y, i = MaxPool<kernel_shape = [2,2]>(x) }
P | aimotive-aiware | 17 | | NPU404 y | g (float[1,8,6,6] x) => (y) { y, i = MaxPool<kernel_shape = [2,2]>(x)  c = Cast<to = 1>(i) }
P | qualcomm-htp | 17 | NPU404 y | | g (float[1,8,4,4] x) => (q) <float s = {0.1}, int8 z = {0}> { y = LeakyRelu(x)  n = Neg(y)  q = QuantizeLinear(y, s, z) }
P | qualcomm-htp | 17 | | NPU404 y | g (float[1,8,4,4] x) => (q, n) <float s = {0.1}, int8 z = {0}> { y = LeakyRelu(x)  n = Neg(y)  q = QuantizeLinear(y, s, z) }
P | aimotive-aiware | 17 | | NPU101 n, NPU201 c | g (float[1,8,40,40] x) => (y) <float[8,8,31,31] w> { y = Relu(x)  n = NonZero(x)  c = Conv(x, w) }
P | aimotive-aiware | 17 | NPU101 n, NPU201 c | | g (float[1,8,40,40] x) => (n, c) <float[8,8,31,31] w> { y = Relu(x)  n = NonZero(x)  c = Conv(x, w) }
P | qualcomm-htp | 9 | | NPU403 y, NPU602 y | g (float[1,8,6,5] x) => (float[1,8,6,5] y) <float[8] a, float[8] b, float[8] c, float[8] d> { y, m, v, p, q = BatchNormalization(x, a, b, c, d) }
P | qualcomm-htp | 9 | NPU602 y | | g (float[1,8,6,5] x) => (float[1,8,6,5] y, float[8] m) <float[8] a, float[8] b, float[8] c, float[8] d> { y, m, v, p, q = BatchNormalization(x, a, b, c, d) }
P | qualcomm-htp | 13 | | NPU101 s, NPU403 y | g (float[1,8,6,5] x, int64 n) => (float[1,8,6,5] y) <bool k = {1}> { y, z = Loop(n, k, x) <body = b (int64 i, bool c, float[1,8,6,5] v) => (bool d, float[1,8,6,5] o, float[1,8,6,5] s) { d = Identity(c)  o = Relu(v)  s = Erf(v) }> }
P | qualcomm-htp | 13 | NPU101 s, NPU403 y | | g (float[1,8,6,5] x, int64 n) => (float[1,8,6,5] y, z) <bool k = {1}> { y, z = Loop(n, k, x) <body = b (int64 i, bool c, float[1,8,6,5] v) => (bool d, float[1,8,6,5] o, float[1,8,6,5] s) { d = Identity(c)  o = Relu(v)  s = Erf(v) }> }
R | aimotive-aiware | 17 | NPU102 y | | g (float[1,8,8,8] x) => (y) { p = GlobalAveragePool(x)  v = Flatten(p)  y = Max(x, v) }
R | aimotive-aiware | 17 | | NPU102 y | g (float[1,8,8,8] x) => (y) <int64[1] a = {0}> { p = GlobalAveragePool(x)  v = Squeeze(p, a)  y = Mul(x, v) }
R | aimotive-aiware | 17 | | NPU102 y | g (float[1,8,1,8] x) => (y) <int64[2] a = {0,1}> { m = ReduceMax<axes = [1], keepdims = 0>(x)  n = Squeeze(m, a)  y = Mul(x, n) }
R | aimotive-aiware | 17 | NPU102 y | | g (float[1,8,4,8] x) => (y) { m = ReduceMax<axes = [2,3], keepdims = 0>(x)  y = Mul(x, m) }
S | drobotics-bpu:X5 | 17 | | NPU701 y | g (float[1,8,4,4] x) => (y) { y = SpaceToDepth<blocksize = 1>(x) }
S | kneron:KL530 | 17 | | NPU701 y | g (float[1,8,4,4] x) => (y) { y = DepthToSpace<blocksize = 1, mode = "CRD">(x) }
S | kneron:KL530 | 17 | NPU701 y | | g (float[1,9,4,4] x) => (y) { y = DepthToSpace<blocksize = 3>(x) }
U | aimotive-aiware | 21 | NPU201 y | NPU402 y, NPU105 y | g (float[1,8,40,40] x) => (y) <float[8] c, float[8,8,31,31] w> { n = GroupNormalization<num_groups = 4>(x, c, c)  y = Conv(n, w) }
U | aimotive-aiware | 9 | NPU201 y | NPU402 y, NPU105 y | g (float[1,8,40,40] x) => (y) <float[8,8,31,31] w> { n = MeanVarianceNormalization(x)  y = Conv(n, w) }
U | aimotive-aiware | 17 | | NPU402 y, NPU105 y | g (float[1,8,4,4] x) => (y) <float[4] c, float[8,8,3,3] w> { n = com.microsoft.SkipLayerNormalization(x, x, c)  y = Conv(n, w) }
V | ti-tidl:AM69A | 17 | NPU201 y | | g (float[1,8,20,20] x) => (y) <float[8,1,3,5] w> { y = Conv<group = 8>(x, w) }
V | ti-tidl:AM69A | 17 | | NPU201 y | g (float[1,8,20,20] x) => (y) <float[8,1,5,5] w> { y = Conv<group = 8>(x, w) }
V | ti-tidl:AM69A | 17 | NPU204 y | | g (float[1,8,20,20] x) => (y) { y = MaxPool<kernel_shape = [2,3]>(x) }
V | ti-tidl:AM69A | 17 | NPU201 y | | g (float[1,8,20,20] x) => (y) <float[8,8,2,4] w> { y = ConvTranspose<strides = [2,2]>(x, w) }
W | ort-nnapi | 17 | | NPU701 y | g (float[1,8,11,11] x) => (y) { y = MaxPool<kernel_shape = [3,3], strides = [4,4], ceil_mode = 1>(x) }
W | ort-nnapi | 17 | NPU701 y | | g (float[1,8,10,10] x) => (y) { y = MaxPool<kernel_shape = [3,3], strides = [4,4], ceil_mode = 1>(x) }
W | aimotive-aiware | 17 | | NPU602 y | g (float[1,8,6,6] x) => (y) <float r = {0}, bool t = {1}> { y = Dropout(x, r, t) }
W | aimotive-aiware | 17 | NPU602 y | | g (float[1,8,6,6] x) => (y) <float r = {0.1}, bool t = {1}> { y = Dropout(x, r, t) }
W | kneron:KL730 | 17 | | NPU205 y, NPU701 y | g (float[1,8,6,6] x) => (y) <int64[8] p = {0,0,0,0,0,0,0,0}> { y = Pad<mode = "reflect">(x, p) }
X | aimotive-aiware | 17 | NPU501 y | | g (float[1,8,8,8] x) => (y) <float[4] s = {1,1,1.9999,1.9999}> { y = Resize<coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">(x, , s) }
X | aimotive-aiware | 17 | | NPU501 y | g (float[1,8,8,8] x) => (y) <int64[4] s = {1,8,16,16}> { y = Resize<coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">(x, , , s) }
X | aimotive-aiware | 17 | NPU501 y | | g (float[1,8,2,2] x) => (y) <float[4] s = {1,1,2.0005,2.0005}> { y = Resize<coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">(x, , s) }
X | ethos-u85 | 17 | NPU501 y | | g (float[1,8,8,8] x) => (y) <float[4] s = {1,1,2.0005,2.0005}> { y = Resize<mode = "linear">(x, , s) }
X | ethos-u85 | 17 | | NPU501 y | g (float[1,8,8,8] x) => (y) <float[4] s = {1,1,2,2}> { y = Resize<mode = "linear">(x, , s) }
Z | aimotive-aiware | 17 | NPU401 y | | g (float[8,4] x) => (y) <float[12,8] w> { y = Gemm(w, x) }
Z | aimotive-aiware | 17 | NPU401 y | | g (uint8[8,1] x) => (y) <Q, uint8[12,8] w> { y = QLinearMatMul(w, s, z, x, s, z, s, z) }
Z | aimotive-aiware | 17 | | NPU401 y | g (float[8,1] x) => (y) <float[16,8] w> { y = MatMul(w, x) }
Z | rockchip-rk3588 | 17 | | NPU601 y | g (float[8,4] x) => (y) <float[12,8] w> { y = Gemm(w, x) }
Z | rockchip-rk3588 | 17 | NPU601 y | | g (float[8,4] x, float[12,8] w) => (y) { y = Gemm(w, x) }
"""


@pytest.mark.parametrize("row", ROWS.strip().splitlines())
def test_findings(row: str, expect_row: Callable[[str], None]) -> None:
    expect_row(row.partition("|")[2])


def test_every_kind_has_graphs_that_fire_and_graphs_that_do_not() -> None:
    rows = [[column.strip() for column in row.split("|", 5)] for row in ROWS.strip().splitlines()]
    for letter in "ABCDEFGHIJKLMNOPRSUVWXZ":
        own = [row for row in rows if row[0] == letter]
        assert len(own) >= 3, letter
        assert any(row[3] for row in own), letter
        assert any(row[4] for row in own), letter
