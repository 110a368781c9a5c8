"""The operator of ONNX that another one is, in other arithmetic, fused with its neighbours, or in another layout.

A QLinearConv is a Conv of integers, and ONNX Runtime's optimizer writes FusedConv for a Conv and its activation. What a device
says of the plain operator holds for them. Sources: operators of ONNX; docs/ContribOperators.md of onnxruntime; the layouts in its
onnxruntime/core/optimizer/nchwc_transformer.cc and layout_transformation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from npu_guard.graph.graph import Node

_MICROSOFT = {
    "Conv": ("FusedConv", "NhwcConv", "NhwcFusedConv", "QLinearConv"),
    "MatMul": (
        "FusedMatMul", "FusedMatMulActivation", "TransposeMatMul", "DynamicQuantizeMatMul", "MatMulIntegerToFloat",
        "MatMulInteger16",
    ),
    "Gemm": ("FusedGemm", "QGemm"),
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
_INTEGER = {"ConvInteger": "Conv", "QLinearConv": "Conv", "MatMulInteger": "MatMul", "QLinearMatMul": "MatMul"}

PLAIN: Mapping[str, str] = (
    _INTEGER
    | {f"com.microsoft::{name}": plain for plain, names in _MICROSOFT.items() for name in names}
    | {f"{domain}::{name}": _INTEGER.get(name, name) for domain, names in _LAYOUTS.items() for name in names}
)
"""Name of the plain operator, by the name with its domain (`Node.op`)."""

SAME = frozenset({"com.microsoft::QuantizeLinear", "com.microsoft::DequantizeLinear"})
"""Those that differ from the plain operator in nothing but the types that older operator sets lack."""
_CHANNELS_LAST = frozenset({"com.microsoft::NhwcConv", "com.microsoft::NhwcFusedConv", "com.microsoft::NhwcMaxPool"})


INTEGERS = frozenset(
    op for op in PLAIN
    if op in _INTEGER or "QLinear" in op or op.endswith(("::QGemm", "::MatMulIntegerToFloat", "::MatMulInteger16",
                                                         "::DynamicQuantizeMatMul"))
)  # fmt: skip
"""Those that are the plain operator in integer arithmetic. A device that has the plain one has them; in which of the spellings
its compiler reads a quantized network is a matter of its own (NPU810)."""


def plain(node: Node) -> str:
    """The operator of ONNX that the node is in other words, else its own name with its domain."""
    op = node.op
    return PLAIN.get(op, op)


def is_channels_last(node: Node) -> bool:
    """Whether the data of the node lie as [B, H, W, C]."""
    if not node.domain:
        return False
    return node.op in _CHANNELS_LAST or node.domain == "com.ms.internal.nhwc" or bool(node.attributes.get("channels_last", 0))


def weight_is_channels_last(node: Node) -> bool:
    """Whether the filters of a convolution lie as [M, H, W, C]; NhwcFusedConv has those of Conv.

    Sources: onnxruntime/python/tools/transformers/fusion_nhwc_conv.py, onnxruntime/core/optimizer/nhwc_transformer.cc.
    """
    return node.op == "com.microsoft::NhwcConv"
