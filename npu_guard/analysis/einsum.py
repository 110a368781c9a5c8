"""What an Einsum is in other words: its labels, and the product, transposition or sum that the equation spells."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from npu_guard.graph.graph import Node, Value


def terms(node: Node) -> tuple[list[str], str] | None:
    """Labels of each operand and of the result; None where an ellipsis stands for axes of an operand whose rank is not known.

    The axes of an ellipsis have digits as labels, the last axis 0. Without an arrow, the result has the ellipsis and then the
    labels that appear once, in alphabetical order (operator Einsum of ONNX).
    """
    equation = str(node.attributes.get("equation", "")).replace(" ", "")
    if not equation:
        return None
    left, arrow, right = equation.partition("->")
    if not arrow:
        letters = left.replace(",", "").replace(".", "")
        right = "..." * ("..." in left) + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    operands = left.split(",")
    if "." not in equation:
        return operands, right
    axes = [_axes_of_ellipsis(term, value) for term, value in zip(operands, node.inputs, strict=False)]
    if None in axes or len(axes) != len(operands):
        return None
    spelled = [term.replace("...", _LABELS[len(_LABELS) - (count or 0) :]) for term, count in zip(operands, axes, strict=True)]
    return spelled, right.replace("...", _LABELS[len(_LABELS) - max(count or 0 for count in axes) :])


_LABELS = "76543210"
"""Labels of the axes that an ellipsis stands for."""


def _axes_of_ellipsis(term: str, value: Value | None) -> int | None:
    """How many axes of an operand the ellipsis in its term stands for; None where that is not known, or more than have labels."""
    if "..." not in term:
        return 0
    if value is None or value.shape is None:
        return None
    count = len(value.shape) - len(term) + len("...")
    return count if 0 <= count <= len(_LABELS) else None


def single_operand(node: Node) -> tuple[str, str] | None:
    """Labels of the one operand and of the result, where no label stands twice in either."""
    labels = terms(node) if node.op_type == "Einsum" and not node.domain else None
    if labels is None or len(labels[0]) != 1:
        return None
    before, after = labels[0][0], labels[1]
    return (before, after) if len(set(before)) == len(before) and len(set(after)) == len(after) else None


def order(node: Node) -> tuple[int, ...] | None:
    """The permutation of an Einsum that is a Transpose; None where it is anything else."""
    labels = single_operand(node)
    if labels is None or sorted(labels[0]) != sorted(labels[1]):
        return None
    return tuple(labels[0].index(label) for label in labels[1])


def summed(node: Node) -> tuple[int, ...] | None:
    """Axes that an Einsum of one operand sums, the others staying in their order: it is a ReduceSum without `keepdims`."""
    labels = single_operand(node)
    if labels is None or "".join(c for c in labels[0] if c in labels[1]) != labels[1] or len(labels[0]) == len(labels[1]):
        return None
    return tuple(axis for axis, label in enumerate(labels[0]) if label not in labels[1])


def elementwise(node: Node) -> tuple[list[str], str] | None:
    """Labels of the operands and of the result of an Einsum that is a product of elements, such as `nchw,c->nchw`.

    Nothing is summed: it is a Mul of operands that are broadcast, each with its axes in an order of its own.
    """
    labels = terms(node) if node.op_type == "Einsum" and not node.domain else None
    if labels is None or len(labels[0]) < 2:
        return None
    operands, out = labels
    if set(out) != set("".join(operands)) or any(len(set(term)) != len(term) for term in (*operands, out)):
        return None
    return labels


def is_no_product(node: Node) -> bool:
    """Whether an Einsum is a Transpose, a sum or a Mul."""
    return order(node) is not None or summed(node) is not None or elementwise(node) is not None


class Product(Struct, frozen=True):
    """An Einsum of two operands as a matrix product: labels of the rows, of the sums, of the columns and of the batch."""

    a: str
    """All labels of the first operand."""
    b: str
    rows: str
    sums: str
    columns: str
    batch: str


def product(node: Node) -> Product | None:
    """The matrix product that an Einsum of two operands is; None where it is none."""
    labels = terms(node) if node.op_type == "Einsum" and not node.domain else None
    if labels is None or len(labels[0]) != 2:
        return None
    (a, b), out = labels[0], labels[1]
    if any(len(set(term)) != len(term) for term in (a, b, out)):
        return None
    return Product(a, b, _kept(a, b, out, False), _gone(a, b, out), _kept(b, a, out, False), _kept(a, b, out, True))


def _kept(term: Sequence[str], other: Sequence[str], out: Sequence[str], shared: bool) -> str:
    return "".join(c for c in term if c in out and (c in other) == shared)


def _gone(a: Sequence[str], b: Sequence[str], out: Sequence[str]) -> str:
    return "".join(c for c in dict.fromkeys((*a, *b)) if c not in out)
