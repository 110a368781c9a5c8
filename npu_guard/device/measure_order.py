"""What can be measured of the order of axes: permutations, and equations of Einsum."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_guard.analysis.einsum import terms
from npu_guard.base.errors import Undecidable
from npu_guard.device.measure import Measured
from npu_guard.graph.graph import is_known

if TYPE_CHECKING:
    from npu_guard.analysis.facts import Facts
    from npu_guard.graph.graph import Node


def perm(node: Node, ctx: Facts) -> Measured:
    """The permutation of Transpose."""
    rank = ctx.rank(ctx.data(node))
    return Measured(tuple(node.attributes.get("perm") or reversed(range(rank))))


def kept_units(node: Node, ctx: Facts) -> Measured:
    """How many axes of extent 1 a Transpose leaves where they are. Without them, it is one of a lower rank."""
    x = ctx.data(node)
    moved = zip(perm(node, ctx).values, ctx.dims(x), strict=False)
    kept = tuple(extent for axis, (source, extent) in enumerate(moved) if axis == source)
    known = is_known(kept) or 1 in kept
    return Measured((kept.count(1) if known else None,), "" if known else ctx.why(x))


def equation(node: Node, ctx: Facts) -> Measured:
    """The equation of Einsum with its labels renamed to a, b, c in the order in which they appear.

    So `bhid,bhjd->bhij` is `abcd,abed->abce`. Raises Undecidable where an ellipsis stands for axes of an operand of unknown rank.
    """
    labels = terms(node)
    if labels is None:
        raise Undecidable("the equation has an ellipsis over a rank that is not known")
    text = f"{','.join(labels[0])}->{labels[1]}"
    order = dict.fromkeys(label for label in text if label.isalnum())
    return Measured((text.translate({ord(label): chr(ord("a") + place) for place, label in enumerate(order)}),))
