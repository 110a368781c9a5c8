"""Nodes as the operator of ONNX that they are, whatever spells it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_guard.graph.plain_names import PLAIN

if TYPE_CHECKING:
    from npu_guard.graph.graph import Node


SAME = frozenset({"com.microsoft::QuantizeLinear", "com.microsoft::DequantizeLinear"})
"""Those that differ from the plain operator in nothing but the types that older operator sets lack."""
_NHWC = "com.ms.internal.nhwc"
LAYOUTS = frozenset({"com.microsoft", _NHWC})
"""Domains with operators that take maps with channels last."""
_CHANNELS_LAST = frozenset({"com.microsoft::NhwcConv", "com.microsoft::NhwcFusedConv", "com.microsoft::NhwcMaxPool"})
_UNLESS_STATED = frozenset({"com.microsoft::GroupNorm", "com.microsoft::SkipGroupNorm"})
"""Operators whose attribute `channels_last` is 1 where it is left out. Source: docs/ContribOperators.md of onnxruntime."""


def plain(node: Node) -> str:
    """The operator of ONNX that the node is in other words, else its own name with its domain."""
    op = node.op
    return PLAIN.get(op, op)


def is_channels_last(node: Node) -> bool:
    """Whether the data of the node lie as [B, H, W, C]."""
    if not node.domain:
        return False
    if node.op in _CHANNELS_LAST or node.domain == _NHWC:
        return True
    return bool(node.attributes.get("channels_last", node.op in _UNLESS_STATED))


def weight_is_channels_last(node: Node) -> bool:
    """Whether the filters of a convolution lie as [M, H, W, C]; NhwcFusedConv has those of Conv.

    Sources: onnxruntime/python/tools/transformers/fusion_nhwc_conv.py, onnxruntime/core/optimizer/nhwc_transformer.cc.
    """
    return node.op == "com.microsoft::NhwcConv"
