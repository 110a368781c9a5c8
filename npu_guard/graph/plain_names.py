"""The operator of ONNX that another one is, in other arithmetic, fused with its neighbours, or in another layout.

A QLinearConv is a Conv of integers, and ONNX Runtime's optimizer writes FusedConv for a Conv and its activation. What a device
says of the plain operator holds for them. Sources: operators of ONNX; docs/ContribOperators.md of onnxruntime; the layouts in its
onnxruntime/core/optimizer/nchwc_transformer.cc and layout_transformation.
"""

from __future__ import annotations

from collections.abc import Mapping

_MICROSOFT = {
    "Conv": ("FusedConv", "NhwcConv", "NhwcFusedConv", "QLinearConv"),
    "MatMul": (
        "FusedMatMul", "FusedMatMulActivation", "TransposeMatMul", "DynamicQuantizeMatMul", "MatMulIntegerToFloat",
        "MatMulInteger16", "GemmFastGelu", "MatMulNBits", "MatMulBnb4",
    ),
    "Gemm": ("FusedGemm", "QGemm", "GemmFloat8"),
    "Add": ("QLinearAdd",),
    "Mul": ("QLinearMul",),
    "Concat": ("QLinearConcat",),
    "AveragePool": ("QLinearAveragePool",),
    "GlobalAveragePool": ("QLinearGlobalAveragePool",),
    "MaxPool": ("NhwcMaxPool",),
    "Sigmoid": ("QLinearSigmoid",),
    "LeakyRelu": ("QLinearLeakyRelu",),
    "Softmax": ("QLinearSoftmax",),
    "ReduceMean": ("QLinearReduceMean",),
    "Where": ("QLinearWhere",),
    "QuantizeLinear": ("QuantizeLinear",),
    "DequantizeLinear": ("DequantizeLinear",),
}  # fmt: skip
_LAYOUTS = {
    "com.microsoft.nchwc": ("Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"),
    "com.ms.internal.nhwc": (
        "Conv", "ConvTranspose", "QLinearConv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool",
        "BatchNormalization", "InstanceNormalization", "DepthToSpace", "SpaceToDepth", "Resize", "GridSample",
    ),
}  # fmt: skip
LAYOUT_DOMAINS = tuple(_LAYOUTS)
"""Domains in which ONNX Runtime has ONNX's own operators, with the same inputs, on maps in another layout."""
_INTEGER = {"ConvInteger": "Conv", "QLinearConv": "Conv", "MatMulInteger": "MatMul", "QLinearMatMul": "MatMul"}

PLAIN: Mapping[str, str] = (
    _INTEGER
    | {f"com.microsoft::{name}": plain for plain, names in _MICROSOFT.items() for name in names}
    | {f"{domain}::{name}": _INTEGER.get(name, name) for domain, names in _LAYOUTS.items() for name in names}
)
"""Name of the plain operator, by the name with its domain (`Node.op`)."""

FUSED_ATTENTION = (
    "com.microsoft::Attention", "com.microsoft::DecoderMaskedMultiHeadAttention", "com.microsoft::GroupQueryAttention",
    "com.microsoft::LinearAttention", "com.microsoft::LongformerAttention", "com.microsoft::MultiHeadAttention",
    "com.microsoft::PackedAttention", "com.microsoft::PackedMultiHeadAttention", "com.microsoft::QAttention",
    "com.microsoft::SparseAttention",
)  # fmt: skip
"""Operators of ONNX Runtime with products of queries and keys inside."""
PACKED = ("com.microsoft::MatMulNBits", "com.microsoft::MatMulBnb4")
"""Matrix products with weights of a few bits: attributes `K` and `N` tell rows and columns, and their shape does not."""
INTEGERS = frozenset((
    *_INTEGER, *PACKED,
    "com.ms.internal.nhwc::QLinearConv", "com.microsoft::DynamicQuantizeMatMul", "com.microsoft::MatMulInteger16",
    "com.microsoft::MatMulIntegerToFloat", "com.microsoft::QGemm", "com.microsoft::QLinearAdd",
    "com.microsoft::QLinearAveragePool", "com.microsoft::QLinearConcat", "com.microsoft::QLinearConv",
    "com.microsoft::QLinearGlobalAveragePool", "com.microsoft::QLinearLeakyRelu", "com.microsoft::QLinearMul",
    "com.microsoft::QLinearReduceMean", "com.microsoft::QLinearSigmoid", "com.microsoft::QLinearSoftmax",
    "com.microsoft::QLinearWhere",
))  # fmt: skip
"""Those that are the plain operator in integer arithmetic. A device that has the plain one has them; in which of the spellings
its compiler reads a quantized network is a matter of its own (NPU810)."""
