"""Whether the values of a device file can be values of the metrics that they bound.

A metric is yes or no, a whole number, a number, or a word. A bound of another kind would hold for no node or for all, so that
a limit with it is switched off without anybody seeing it; so would a range without anything in it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import onnx

from npu_guard.analysis.types import DTYPE_NAMES
from npu_guard.analysis.validation import attributes
from npu_guard.device.keys import NOW, suggest
from npu_guard.device.measure import GLOBAL_POOLS
from npu_guard.device.metric import Metric, Term
from npu_guard.device.predicate import Clause
from npu_guard.device.requirement import Requirement
from npu_guard.device.vocabulary import Kind

Place = tuple[str | int, ...]
_A = onnx.AttributeProto
DTYPES = tuple(DTYPE_NAMES.values())
FLAGS = ("equal", "power_of_two", "integer")
"""Bounds that are true or left out."""
_ATTRIBUTES: Mapping[int, Kind] = {
    _A.INT: "integer", _A.INTS: "integer", _A.FLOAT: "number", _A.FLOATS: "number", _A.STRING: "text", _A.STRINGS: "text",
}  # fmt: skip
_OTHERS = {"float": "float32", "double": "float64", "half": "float16", "fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""Element types as other tools spell them."""
_SAID = {
    "boolean": "is true or false",
    "integer": "is a whole number",
    "number": "is a number",
    "text": "is a word in quotes",
    "value": "is a number, true or false",
}
_BOUNDS = ("max", "min", "below", "multiple_of")


def problems(requirement: Requirement) -> Iterator[tuple[Place, str]]:
    """What no node can have, each with its place in the `[[limit]]`."""
    ops = requirement.ops
    yield from ((("metric",), message) for message in lacking(requirement.clause.metric, ops))
    for guard in requirement.when:
        yield from ((("when", guard.metric.text), message) for message in lacking(guard.metric, ops))
    for alternative in requirement.alternatives:
        yield from ((("any_of", c.metric.text), message) for c in alternative for message in lacking(c.metric, ops))
    for name, bound, message in _clause(requirement.clause, ops):
        yield ("constant" if requirement.clause.metric.text.startswith("constant.") and bound is True else name,), message
    for guard in requirement.when:
        yield from ((("when", guard.metric.text), message) for _, _, message in _clause(guard, ops))
    for alternative in requirement.alternatives:
        for way in alternative:
            yield from ((("any_of", way.metric.text), message) for _, _, message in _clause(way, ops))


def unknown_words(words: Iterable[str], known: Iterable[str], what: str) -> Iterator[str]:
    """A message for each word that is none of those known."""
    choice = tuple(known)
    for word in words:
        if word not in choice:
            meant = f"; did you mean {_OTHERS[word]!r}?" if _OTHERS.get(word) in choice else suggest(word, choice)
            yield f"{what} has no {word!r}{meant + ' It' if meant else '; it'} is one of {', '.join(choice)}"


def _clause(clause: Clause, ops: tuple[str, ...]) -> Iterator[tuple[str, Any, str]]:
    """(bound, its value, what is wrong with it) of each bound."""
    metric = clause.metric
    kinds = _kinds(metric, ops)
    if not kinds:
        return
    text = metric.text
    wrong = False
    for name, bound in clause.bounds:
        for message in _bound(metric, kinds, name, bound, ops):
            wrong = True
            yield name, bound, message
    if not wrong and (nothing := _nothing(metric, dict(clause.bounds))):
        yield nothing[0], None, f"no value of {text!r} is {nothing[1]}"


def _bound(metric: Metric, kinds: set[Kind], name: str, bound: Any, ops: tuple[str, ...]) -> Iterator[str]:
    text = metric.text
    if name in FLAGS or name in _BOUNDS:
        if not kinds & {"integer", "number", "value"}:
            yield f"{text!r} {_SAID[min(kinds)]}; bound it with is, in or not_in, not with {name}"
        elif name in _BOUNDS and isinstance(bound, Metric):
            if not _kinds(bound, ops) <= {"integer", "number", "value"}:
                yield f"{name} = {bound.text!r} names a metric that is no number"
        elif name in _BOUNDS and (isinstance(bound, bool) or not isinstance(bound, int | float)):
            yield f"{name} is {bound!r}; it must be a number or the name of a metric that is one"
        elif name in _BOUNDS and kinds == {"integer"} and not _is("integer", bound):
            yield f"{text!r} {_SAID['integer']}, and {name} is {bound!r}"
        return
    entries = bound if isinstance(bound, tuple) else (bound,)
    if not entries:
        yield f"{name} is empty, so that no {text!r} fits" if name == "in" else f"{name} is empty"
    if metric.terms[0].key in ("perm", "perm_in_memory"):
        for order in entries:
            if isinstance(order, tuple) and sorted(order) != list(range(len(order))):
                yield f"{list(order)} is no permutation of {', '.join(map(str, range(len(order))))}"
    for value in (v for entry in entries for v in (entry if isinstance(entry, tuple) else (entry,))):
        if not any(_is(kind, value) for kind in kinds):
            yield f"{text!r} {' or '.join(_SAID[k] for k in sorted(kinds))}, not {value!r}"
        elif isinstance(value, str):
            yield from unknown_words([value], words, repr(text)) if (words := _words(metric.terms[0], ops)) else ()


def _is(kind: Kind, value: Any) -> bool:
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "text":
        return isinstance(value, str)
    if kind == "value":
        return not isinstance(value, str)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return kind == "number" or (math.isfinite(value) and value == int(value))


def _nothing(metric: Metric, bounds: Mapping[str, Any]) -> tuple[str, str] | None:
    """(bound, words) of a range without anything in it."""
    low, high, below = (bounds.get(name) for name in ("min", "max", "below"))
    low = low if isinstance(low, int | float) else None
    least = metric.terms[0].base.least if len(metric.terms) == 1 and metric.terms[0].view != "count" else 0
    floor = low if low is not None else least
    if isinstance(high, int | float) and floor is not None and floor > high:
        return "max", f"at most {high}" + (f" and at least {low}" if low is not None else "")
    if isinstance(below, int | float) and floor is not None and floor >= below:
        return "below", f"below {below}" + (f" and at least {low}" if low is not None else "")
    allowed = [v for v in _entries(bounds.get("in", bounds.get("is"))) if not isinstance(v, tuple | str | bool)]
    outside = [v for v in allowed if (floor is not None and v < floor) or (isinstance(high, int | float) and v > high)]
    if outside:
        return ("in" if "in" in bounds else "is"), f"{outside[0]}"
    left = [v for v in _entries(bounds.get("in")) if v not in _entries(bounds.get("not_in"))]
    return ("not_in", "left by not_in") if bounds.get("in") and not left else None


def _entries(value: Any) -> tuple[Any, ...]:
    return () if value is None else value if isinstance(value, tuple) else (value,)


def lacking(metric: Metric, ops: Iterable[str]) -> Iterator[str]:
    """A message for each operator that has no such thing, so that no limit on it could ever be met or exceeded there."""
    known = [op for op in ops if "::" not in op and onnx.defs.has(op)]
    for term in metric.terms:
        for op in known:
            if not _has(term.key, op):
                yield f"{op} has no {term.base.noun}; {term.key!r} says nothing of it"


def _has(key: str, op: str) -> bool:
    if key in _OF_OPERATORS:
        return op in _OF_OPERATORS[key]
    attribute = _OF_ATTRIBUTES.get(key)
    if attribute is None or (attribute == "kernel_shape" and op in GLOBAL_POOLS):
        return True
    return (op, attribute) in _attributes()


_OF_OPERATORS: Mapping[str, tuple[str, ...]] = {
    "scale": ("Resize", "Upsample"), "shrinking": ("Resize", "Upsample"), "perm": ("Transpose",),
    "perm_in_memory": ("Transpose",), "kept_units": ("Transpose",), "equation": ("Einsum",), "parts": ("Split",),
    "strided_axes": ("Slice",), "kept": ("Slice",), "channel_pads": ("Pad",), "tiles": ("Gather",),
}  # fmt: skip
"""Metrics of one operator."""
_OF_ATTRIBUTES: Mapping[str, str] = {
    "kernel": "kernel_shape", "dilated_kernel": "kernel_shape", "pointwise": "kernel_shape", "stride": "strides",
    "dilation": "dilations", "dilated": "dilations", "pads": "pads", "padded": "pads",
    "group": "group", "group_channels": "group", "filter_channels": "group", "depthwise": "group", "grouped": "group",
}  # fmt: skip
"""Metrics of windows, and the attribute that operators with such a window have or had."""


def _kinds(metric: Metric, ops: tuple[str, ...]) -> set[Kind]:
    """What a metric may be at these operators; nothing where that is not known, as of attributes of other domains."""
    if len(metric.terms) > 1 or metric.terms[0].divisor > 1 or metric.terms[0].view:
        return {"number"}
    term = metric.terms[0]
    if term.key != "attr":
        return {term.base.kind}
    return {kind for op in ops if (kind := _ATTRIBUTES.get(_attributes().get((op, term.argument), -1))) is not None}


def _words(term: Term, ops: tuple[str, ...]) -> tuple[str, ...]:
    """Words that a metric may be; none where any may stand."""
    if term.key in ("dtype", "quantized"):
        return DTYPES
    found = [words_of(op, term.argument) for op in ops]
    return tuple(dict.fromkeys(word for words in found for word in words)) if all(found) else ()


def words_of(op: str, attribute: str) -> tuple[str, ...]:
    """Words that may stand in an attribute that chooses among a few; none where any may."""
    return attributes.words_of(NOW.get(op, op), attribute)


@functools.cache
def _attributes() -> Mapping[tuple[str, str], int]:
    """Type of each attribute that ONNX's operators have or had."""
    found: dict[tuple[str, str], int] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        for name, attribute in schema.attributes.items() if not schema.domain else ():
            kind: Any = attribute.type  # an enum, of which onnx's stubs do not say so
            found[schema.name, name] = kind.value
    return found
