"""Metrics as device files write them, and their values at a node.

A metric is a name of METRICS, a view of it (`kernel.h`), or a product (`kernel.product * channels_in / 16`, where a
division rounds up). Metrics of tensors and inputs take the input's ONNX name instead (`constant.B`, `rank.indices`).
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from npu_guard.base.errors import Undecidable, UsageError
from npu_guard.base.text import short
from npu_guard.device.keys import suggest
from npu_guard.device.measure import Measured
from npu_guard.device.vocabulary import METRICS, VIEWS, Base

if TYPE_CHECKING:
    from npu_guard.analysis.facts import Facts
    from npu_guard.graph.graph import Node


class Term(Struct, frozen=True):
    """One metric with its view, divided by a whole number, rounded up."""

    name: str
    key: str
    """Its row in METRICS."""
    argument: str = ""
    view: str = ""
    divisor: int = 1

    @property
    def base(self) -> Base:
        """What is measured, and how."""
        return METRICS[self.key]

    def measure(self, node: Node, ctx: Facts) -> Measured:
        """Its value at a node. Raises Undecidable."""
        found = self.base.measure(node, ctx, self.argument) if self.argument else self.base.measure(node, ctx)
        if not self.view and self.divisor == 1:
            return found
        try:
            values = _view(self.view, found.values, self.base.sides) if self.view else found.values
            return Measured(tuple(None if v is None else -(-v // self.divisor) for v in values), found.why)
        except TypeError:
            raise Undecidable(f"{self.name} is no number") from None


class Metric(Struct, frozen=True):
    """A product of terms; nearly always of one."""

    text: str
    terms: tuple[Term, ...]

    def measure(self, node: Node, ctx: Facts) -> Measured:
        """Its value at a node. Raises Undecidable."""
        if len(self.terms) == 1:
            return self.terms[0].measure(node, ctx)
        found = [term.measure(node, ctx) for term in self.terms]
        values = [v for m in found for v in m.values]
        why = next((m.why for m in found if None in m.values), "")
        if not all(m.values for m in found):
            return Measured(())
        return Measured((None if None in values else math.prod(values),), why)

    def code(self, op: str, predicate: str) -> str:
        """The rule that reports a limit on it at this operator."""
        term = self.terms[0]
        keys = {op, predicate, term.argument, f"{op}.{term.argument}"}
        return next((code for names, code in term.base.codes if keys & set(names)), term.base.code)

    @property
    def noun(self) -> str:
        """What it is called in messages."""
        if len(self.terms) > 1 or self.terms[0].divisor > 1:
            return f"{self.text} ="
        term = self.terms[0]
        noun = term.base.noun
        if term.argument:
            noun = term.argument if term.base.named == "attribute" else f"{noun} of {term.argument}"
        return f"{noun} ({term.view})" if term.view else noun

    def noun_of(self, number_of: int) -> str:
        """What so many of its numbers are called."""
        return _SINGULAR.get(self.noun, self.noun) if number_of == 1 else self.noun

    @property
    def whole(self) -> bool:
        """Whether its numbers are read together, as `3x33`."""
        return len(self.terms) == 1 and self.terms[0].base.join == "x"

    def denial(self, expected: bool) -> str:
        """What the message says of a yes-or-no metric that is not as expected."""
        term = self.terms[0]
        what = f"the input {term.argument}" if term.argument else "it"
        return f"{what} is {'not ' if expected else ''}{term.base.noun}"

    def show(self, values: tuple[Any, ...]) -> str:
        """Its numbers in words."""
        join = "x" if self.whole else ", "
        return join.join([number(v) for v in values[:_MANY]] + ["…"] * (len(values) > _MANY))


def number(value: Any) -> str:
    """One number or word; lists in brackets."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple | list):
        return f"({', '.join(map(number, value))})"
    return "?" if value is None else short(str(value))


def _view(view: str, values: tuple[Any, ...], sides: bool) -> tuple[Any, ...]:
    half = len(values) // 2
    if view in ("begin", "end"):
        return values[:half] if view == "begin" else values[half:]
    if view in ("h", "w"):
        back = 2 if view == "h" else 1
        parts = (values[:half], values[half:]) if sides else (values,)
        flat = 0 if sides else 1  # what an axis that is not there has
        return tuple(part[-back] if len(part) >= back else flat for part in parts)
    if view == "count":
        return (len(values),)
    if not values:
        return ()
    if None in values:
        return (None,)
    return (_WHOLE[view](values),)


@functools.cache
def metric(text: str) -> Metric:
    """A metric from its words. Raises UsageError."""
    terms = tuple(_term(part.strip()) for part in text.split("*"))
    for term in terms:
        if (len(terms) > 1 or term.divisor > 1) and term.base.kind in ("boolean", "text"):
            raise UsageError(f"{term.name!r} is no number, so that {text!r} cannot be computed")
    return Metric(text, terms)


def _term(text: str) -> Term:
    found = re.fullmatch(r"(\w+)(?:\.(\w+))?(?:\.(\w+))?(?:\s*/\s*0*([1-9]\d*))?", text)
    if found is None:
        raise UsageError(
            f"unknown metric {text!r}; one is written as 'kernel', 'kernel.h' or 'kernel.product * channels_in / 16'"
        )
    name, after, view, divisor = found[1], found[2] or "", found[3] or "", int(found[4] or 1)
    base = METRICS.get(name)
    if base is None:
        raise UsageError(f"unknown metric {name!r}{suggest(name, METRICS)}")
    if base.named in ("input", "attribute") and not after:
        raise UsageError(f"the metric {name!r} needs the name of an {base.named}, as in '{name}.{_EXAMPLES[name]}'")
    argument = after if base.named in ("input", "attribute") or (base.named and after not in VIEWS) else ""
    if not argument:
        after, view = "", after if not view else f"{after}.{view}"
    if view and view not in VIEWS:
        raise UsageError(f"the metric {name!r} has no {view!r}{suggest(view, VIEWS) or '; it has ' + ', '.join(VIEWS)}")
    if view not in ("", "count") and base.kind in ("boolean", "text"):
        raise UsageError(f"the metric {name!r} has no {view!r}: it is {'yes or no' if base.kind == 'boolean' else 'a word'}")
    if view in ("begin", "end") and not base.sides:
        raise UsageError(f"the metric {name!r} has no {view!r}; only 'pads' has")
    return Term(text, name, argument, view, divisor)


_WHOLE: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "largest": max,
    "smallest": min,
    "product": math.prod,
    "two_largest": lambda values: math.prod(sorted(values)[-2:]),
}
"""Views that make one number of all."""
_SINGULAR = {"axes": "axis", "extents": "extent", "strided axes": "strided axis", "axes of variation": "axis of variation"}
_MANY = 12
"""Numbers that a message shows."""
_EXAMPLES = {"constant": "B", "given": "roi", "value": "min", "varies": "B", "written": "epsilon", "attr": "ceil_mode"}
