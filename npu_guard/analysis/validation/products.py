"""What is wrong with the shapes of matrix products, in words; see `operands.py`."""

from __future__ import annotations

from npu_guard.analysis.validation.operands import broadcasts, differ, extents
from npu_guard.graph.graph import Node
from npu_guard.results.findings import Dim


def gemm(node: Node) -> str | None:
    """Two matrices with one inner extent."""
    a, b = extents(node, 0), extents(node, 1)
    if a is None or b is None:
        return None
    if len(a) != 2 or len(b) != 2:
        return f"Gemm multiplies matrices, not {list(a)} and {list(b)}"
    inner_a = a[0] if node.attr("transA", 0) else a[1]
    inner_b = b[1] if node.attr("transB", 0) else b[0]
    return f"inner extents {inner_a} and {inner_b} differ" if differ(inner_a, inner_b) else None


def matmul(node: Node) -> str | None:
    """One inner extent."""
    a, b = extents(node, 0), extents(node, 1)
    if not a or not b:
        return None
    inner_b = b[-2] if len(b) > 1 else b[0]
    return f"inner extents {a[-1]} and {inner_b} differ" if differ(a[-1], inner_b) else None


def gemm_c(node: Node) -> str | None:
    """C broadcasts to the columns of the product."""
    return _gemm_c(node, 1)


def gemm_c_rows(node: Node) -> str | None:
    """C broadcasts to the rows of the product too."""
    return _gemm_c(node, 0)


def _gemm_c(node: Node, first: int) -> str | None:
    c, y = extents(node, 2), node.output.shape
    if c is None or y is None or (len(c) <= len(y) and broadcasts(c[first:] if len(c) == len(y) else c, y)):
        return None
    return f"C of shape {list(c)} does not broadcast to the result of shape {list(y)}"


def einsum(node: Node) -> str | None:
    """One extent for each label."""
    terms = node.attr("equation", "").replace(" ", "").split("->")[0].split(",")
    known: dict[str, Dim] = {}
    for index, term in enumerate(terms):
        shape = extents(node, index)
        if shape is None or "." in term or len(shape) != len(term):
            continue
        for label, extent in zip(term, shape, strict=True):
            if extent != 1 and differ(first := known.setdefault(label, extent), extent):
                return f"its label {label!r} stands for extents of {first} and of {extent}"
    return None
