"""What fuzzing starts from: the examples of all rules and substitutions, which between them use most operators and paths."""

from __future__ import annotations

import functools

import onnx
from quantities import QUANTIZED
from rewrite_values import dequantized, quantized
from rewritings import integers

from npu_guard.checking import registry
from npu_guard.checking.examples import case_model
from npu_guard.checking.rule import Case
from npu_guard.file.bodies import walk_nodes
from npu_guard.fixing import catalog


@functools.cache
def seeds() -> tuple[bytes, ...]:
    """Serialized models, each once, in a fixed order."""
    found: dict[bytes, None] = {}
    for model in _examples():
        found[_small(model).SerializeToString(deterministic=True)] = None
    return tuple(found)


@functools.cache
def quantized_seeds() -> tuple[bytes, ...]:
    """Serialized models with quantized tensors: the examples that have some, and all written with some in several ways."""
    found: dict[bytes, None] = {}
    more = [case_model(Case(f"g {graph}", opset=21)) for graph in _MORE]
    for example in [*_examples(), *more]:
        if _is_quantized(example):
            found[_small(example).SerializeToString(deterministic=True)] = None
        for number, node in enumerate(example.graph.node):
            node.name = node.name or f"{node.op_type} {number}"
        for ways in ((quantized,), (dequantized,), (integers,), (dequantized, quantized)):
            model = onnx.ModelProto.FromString(example.SerializeToString())
            changed = [way(model) for way in ways]
            if any(changed) and _is_quantized(model):
                found[_small(model).SerializeToString(deterministic=True)] = None
    return tuple(found)


_MORE = (
    """(float[1,8,4] x) => (float[1,8,4] y) <float s = {0.05}, uint8 z = {3}>
    { q = com.microsoft.QuantizeLinear(x, s, z)  a = com.microsoft.QLinearAdd(q, s, z, q, s, z, s, z)
      m = com.microsoft.QLinearMul(a, s, z, q, s, z, s, z)  c = com.microsoft.QLinearConcat<axis = 1>(s, z, m, s, z, q, s, z)
      g = com.microsoft.QLinearLeakyRelu<alpha = 0.1>(m, s, z, s, z)  y = com.microsoft.DequantizeLinear(g, s, z) }""",
    """(uint8[1,8,6,6] x) => (uint8[1,8,1,1] y) <float s = {0.05}, uint8 z = {3}>
    { a = com.microsoft.QLinearSigmoid(x, s, z, s, z)
      p = com.microsoft.QLinearAveragePool<kernel_shape = [2,2]>(a, s, z, s, z)
      y = com.microsoft.QLinearGlobalAveragePool<channels_last = 0>(p, s, z, s, z) }""",
    """(uint8[4,8] x) => (uint8[4,8] y) <float s = {0.05}, uint8 z = {3}, int8[8,8] w, float[8] t, int8[8] n, int32[8] b>
    { g = com.microsoft.QGemm<transB = 1>(x, s, z, w, t, n, b, s, z)
      y = com.microsoft.QLinearSoftmax<axis = -1, opset = 17>(g, s, z, s, z) }""",
    """(float[4,8] x) => (float[4,6] y, float[4,6] v) <int8[8,6] w, float t = {0.1}, int8 n = {0}>
    { q, s, z = DynamicQuantizeLinear(x)  y = com.microsoft.MatMulIntegerToFloat(q, w, s, t, z, n)
      v = com.microsoft.DynamicQuantizeMatMul(x, w, t, n) }""",
    """(uint8[1,3,8,8] x) => (uint8[1,4,8,8] y)
    <float s = {0.1}, uint8 z = {128}, float[4] t, int8[4] n, int32[4] b, int8[4,3,3,3] w>
    { c = QLinearConv<pads = [1,1,1,1]>(x, s, z, w, t, n, s, z, b)
      y = MaxPool<kernel_shape = [3,3], pads = [1,1,1,1]>(c) }""",
    """(uint16[2,32] x) => (uint16[2,16] y)
    <float s = {0.01}, uint16 z = {32768}, int4[32,16] w, float[2,16] t>
    { a = DequantizeLinear(x, s, z)  c = DequantizeLinear<axis = 0, block_size = 16>(w, t)  m = MatMul(a, c)
      y = QuantizeLinear(m, s, z) }""",
    """(int8[2,8] x, int8[8,4] k) => (int8[2,4] y) <float s = {0.25}, int8 z = {0}>
    { y = QLinearMatMul(x, s, z, k, s, z, s, z) }""",
    """(int8[1,4,6,6] x) => (int8[1,4,6,6] y)
    <float s = {0.25}, int8 z = {0}, float u = {0.003921569}, int8 v = {-128}>
    { a = DequantizeLinear(x, s, z)  b = Sigmoid(a)  q = QuantizeLinear(b, u, v)  c = DequantizeLinear(q, u, v)
      m = Mul(a, c)  y = QuantizeLinear(m, s, z) }""",
    """(float[2,8] x) => (float[2,4] y) <float8e4m3fn[8,4] w, float s = {0.1}, float8e4m3fn z>
    { q = QuantizeLinear(x, s, z)  a = DequantizeLinear(q, s, z)  c = DequantizeLinear(w, s)  y = MatMul(a, c) }""",
)
"""Spellings of quantized operators that no example has, of opset 21."""


def _examples() -> list[onnx.ModelProto]:
    cases = [case for rule in registry.rules() for case in (*rule.good, *rule.bad)]
    cases += [Case(e.graph, opset=e.opset) for s in catalog.substitutions() for e in (*s.good, *s.bad)]
    return [case_model(case) for case in cases]


def _is_quantized(model: onnx.ModelProto) -> bool:
    return any(QUANTIZED.search(node.op_type) for node in walk_nodes(model.graph.node))


def _small(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without the values of large weights: nothing that reads a skeleton looks at them, and mutations should hit structure."""
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) > 256:
            tensor.raw_data = bytes(len(tensor.raw_data)) if len(tensor.raw_data) <= 4096 else b""
            if not tensor.raw_data:
                tensor.dims[:] = [1] * len(tensor.dims)
                tensor.raw_data = bytes(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    return model
