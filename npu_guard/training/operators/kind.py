"""What several of the functions that write operators need."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from npu_guard.training.writer import OPERATOR

if TYPE_CHECKING:
    from npu_guard.training.graph import Op
    from npu_guard.training.writer import Writer


def grouped(expression: str) -> str:
    """The expression as an operand: in brackets where it is a sum or the like."""
    return f"({expression})" if " " in expression and not _closed(expression) else expression


def receiver(expression: str) -> str:
    """The expression as what a method is called on."""
    return f"({expression})" if expression.startswith("-") else grouped(expression)


def _closed(expression: str) -> bool:
    """Whether nothing outside of brackets needs them: a call or a subscript."""
    depth = 0
    for character in expression:
        depth += (character in "([") - (character in ")]")
        if depth == 0 and character == " ":
            return False
    return True


def axes(w: Writer, op: Op, default: Sequence[int] = ()) -> list[int]:
    """Axes of an operator that has them as an input or as an attribute, none of them negative."""
    stated = w.ints(op.inputs[1]) if len(op.inputs) > 1 and op.inputs[1] else op.attributes.get("axes", default)
    return [int(a) for a in stated]


def one(values: Sequence[int]) -> str:
    """Extents of a window as torch takes them: one number where they are alike."""
    return str(values[0]) if len(set(values)) == 1 else str(tuple(values))


def as_operator(w: Writer, op: Op, hint: str, expression: str, attributes: Sequence[str] = ()) -> None:
    """A line of the forward with what the operator gives, which is exported as this operator with these attributes."""
    w.written.helpers.add(OPERATOR)
    given = {name: op.attributes[name] for name in attributes if name in op.attributes}
    options = "".join(f", {name}={json.dumps(value)}" for name, value in given.items())
    w.assign(op, hint, f'{OPERATOR}("{op.type}", {w.value(op.inputs[0], False)}, {expression}{options})')
