"""What an Einsum says, each axis a letter: with an arrow, without spaces, and without an ellipsis."""

from __future__ import annotations

import string
from collections.abc import Sequence

from npu_guard.graph.graph import Node
from npu_guard.rewriting.maps.program import shape_of
from npu_guard.rewriting.substitution import Refused


def equation_of(node: Node) -> tuple[list[str], str]:
    """Letters of the operands and of the result. Raises Refused where one has a letter twice, as a diagonal has."""
    equation = str(node.attr("equation")).replace(" ", "")
    terms, arrow, result = equation.partition("->")
    names = terms.split(",")
    if "..." in equation:
        ranks = [
            len(shape_of(v)) - len(name.replace("...", "")) for v, name in zip(node.inputs, names, strict=True) if v is not None
        ]
        free = [c for c in string.ascii_letters if c not in equation]
        shared = "".join(free[: max(r for r, name in zip(ranks, names, strict=True) if "..." in name)])
        names = [name.replace("...", shared[len(shared) - r :]) for name, r in zip(names, ranks, strict=True)]
        result = result.replace("...", shared) if arrow else shared + _once(names, shared)
    elif not arrow:
        result = _once(names, "")
    if len(names) > 2 or any(len(set(n)) < len(n) for n in (*names, result)):
        raise Refused(f"Einsum {equation!r}")
    return names, result


def _once(names: Sequence[str], without: str) -> str:
    """What a result without an arrow has: letters that stand once, in the order of the alphabet."""
    letters = "".join(names)
    return "".join(sorted(c for c in set(letters) if letters.count(c) == 1 and c not in without))
