"""An AveragePool as a convolution of each channel alone, for devices whose pooling keeps the scale of what it reads.

The convolution adds up the same integers and has a scale of its own for the result, so nothing is rounded twice.
"""

from __future__ import annotations

import math

import numpy as np
import onnx

from npu_guard.analysis.constants import Array
from npu_guard.graph.graph import Node

_SAME = frozenset({"kernel_shape", "strides", "pads", "dilations"})
"""Attributes that both operators have, with the same meaning."""


def as_convolution(node: Node, *, powers: bool) -> tuple[Array, list[onnx.AttributeProto]] | None:
    """Weights [C, 1, *window] and attributes of the convolution that gives the same; None where there is none.

    `powers`: scales are powers of two, so that one by the size of the window has to be one as well.
    """
    x = node.inputs[0] if node.inputs else None
    if node.op_type != "AveragePool" or node.domain or x is None or x.shape is None or len(x.shape) < 3:
        return None
    channels, window = x.shape[1], [int(k) for k in node.attr("kernel_shape", ())]
    if not isinstance(channels, int) or len(window) != len(x.shape) - 2:
        return None
    padded = any(node.attr("pads", ())) and not node.attr("count_include_pad", 0)
    if padded or node.attr("ceil_mode", 0) or node.attr("auto_pad", b"NOTSET") not in (b"NOTSET", "NOTSET", b"VALID", "VALID"):
        return None
    size = math.prod(window)
    if powers and size & (size - 1):
        return None
    attributes = [a for a in node.proto.attribute if a.name in _SAME]
    attributes.append(onnx.helper.make_attribute("group", channels))
    return np.full((channels, 1, *window), 1 / size, np.float32), attributes
