"""Nodes as the operator of ONNX that they are, whatever spells it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_guard.graph.plain_names import PLAIN

if TYPE_CHECKING:
    from npu_guard.graph.graph import Node


SAME = frozenset({"com.microsoft::QuantizeLinear", "com.microsoft::DequantizeLinear"})
"""Those that differ from the plain operator in nothing but the types that older operator sets lack."""
_CHANNELS_LAST = frozenset({"com.microsoft::NhwcConv", "com.microsoft::NhwcFusedConv", "com.microsoft::NhwcMaxPool"})


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
