"""What a ConvTranspose cuts off its result, however it says so."""

from __future__ import annotations

from npu_guard.graph.graph import Node
from npu_guard.rewriting.node_numbers import numbers
from npu_guard.rewriting.substitution import Refused


def transposed_pads(node: Node) -> tuple[int, ...]:
    """Padding at the begin of each axis, then at the ends, stated or as auto_pad or output_shape make it.

    These cut what is written beyond the output's extent: half of it at either end, an odd element at the begin but for
    SAME_UPPER. Raises Refused where shapes are not known, or where more is asked for than is written.
    """
    rule = node.attr("auto_pad", "NOTSET")
    shape, extents, weight = numbers(node.input(0)), numbers(node.output), numbers(node.input(1))
    rank = len(weight or ()) - 2
    pads = tuple(int(p) for p in node.attr("pads") or (0,) * 2 * rank)
    if rule in ("NOTSET", "VALID") and not node.attr("output_shape"):
        return pads
    if shape is None or extents is None or weight is None:
        raise Refused("its shapes are not known; fix them with --input-shape")
    strides, dilations = (tuple(node.attr(name) or (1,) * rank) for name in ("strides", "dilations"))
    further = tuple(node.attr("output_padding") or (0,) * rank)
    begins, ends = [], []
    for n, m, k, s, d, more in zip(shape[2:], extents[2:], weight[2:], strides, dilations, further, strict=True):
        cut = s * (n - 1) + (k - 1) * d + 1 + more - m
        if cut < 0:
            raise Refused("its output_shape is larger than what it writes")
        first = cut // 2 if rule == "SAME_UPPER" else cut - cut // 2
        begins.append(first)
        ends.append(cut - first)
    return (*begins, *ends)
