"""What a limit says of a metric, and whether a node keeps to it: yes, no, or the graph does not tell."""

from collections.abc import Callable
from math import isclose
from typing import TYPE_CHECKING, Any

import msgspec

from npu_guard.base.errors import Undecidable, UsageError
from npu_guard.device.measure import NOTHING, Measured
from npu_guard.device.metric import Metric, metric, number
from npu_guard.device.no_effect import idle
from npu_guard.device.vocabulary import METRICS

if TYPE_CHECKING:
    from npu_guard.analysis.facts import Facts
    from npu_guard.graph.graph import Node

Scalar = bool | int | float | str
Entry = Scalar | tuple[int | float | str, ...]


class Predicate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Bounds on a metric. All that are given must hold, for each of its numbers. A bound may be another metric."""

    max: int | float | str | None = None
    min: int | float | str | None = None
    below: int | float | str | None = None
    """Less than, and not equal."""
    in_: tuple[Entry, ...] | None = msgspec.field(default=None, name="in")
    """The only numbers or words; a list in the list stands for all numbers together, such as a stride of (1, 2)."""
    not_in: tuple[Entry, ...] | None = None
    is_: Scalar | None = msgspec.field(default=None, name="is")
    multiple_of: int | str | None = None
    equal: bool | None = None
    """The same along all axes."""
    power_of_two: bool | None = None
    integer: bool | None = None


_FIELDS = {f.encode_name: f.name for f in msgspec.structs.fields(Predicate)}
PREDICATES = tuple(_FIELDS)
_NUMERIC = ("max", "min", "below", "multiple_of")
_NEAR = 0.75
"""How alike a metric's name must be to be the one that was meant where a number was expected."""

Condition = Scalar | tuple[Entry, ...] | Predicate
"""In `when` and `any_of`: one value, a list of values, or bounds."""


def bounds(predicate: Predicate) -> dict[str, Any]:
    """The bounds that are given, by their name in files."""
    found = ((name, getattr(predicate, field)) for name, field in _FIELDS.items())
    return {
        name: value for name, value in found if (value is not None and value is not False) or (name == "is" and value is False)
    }


class Clause(msgspec.Struct, frozen=True):
    """A metric and the bounds on it."""

    metric: Metric
    bounds: tuple[tuple[str, Any], ...]

    def judge(self, node: "Node", ctx: "Facts", *, as_written: bool = False) -> "Judged":
        """Whether a node keeps to the bounds; it does to all on what has no effect there, if not what is written counts."""
        judged = self._compare(node, ctx)
        if judged.fits or as_written:
            return judged
        try:
            return Judged(True, judged.measured) if idle(self.metric, node, ctx) else judged
        except Undecidable as undecidable:
            return Judged(None, why=undecidable.reason)

    def _compare(self, node: "Node", ctx: "Facts") -> "Judged":
        try:
            measured = self.metric.measure(node, ctx)
        except Undecidable as undecidable:
            return Judged(None, why=undecidable.reason)
        unsure = None
        for name, bound in self.bounds:
            try:
                allowed = _operands(bound, name, measured, node, ctx)
            except Undecidable as undecidable:
                unsure = Judged(None, why=undecidable.reason)
                continue
            try:
                answers = _answers(name, measured, allowed)
            except (TypeError, ValueError, OverflowError):  # a word, or a number that is not finite
                unsure = Judged(
                    None, why=f"{self.metric.text} is {self.metric.show(measured.values)}, which {name!r} cannot bound"
                )
                continue
            if False in answers:
                return _wrong(measured, answers, name, allowed if name in _NUMERIC else (bound,))
            if None in answers:
                unsure = Judged(None, why=measured.why or f"{self.metric.text} is not known")
        return unsure or Judged(True, measured)

    def holds(self, node: "Node", ctx: "Facts") -> "Judged":
        """Whether the condition of a limit is met, by what the node states; one on something that it does not have is not."""
        return _of_something(self._compare(node, ctx))

    def suffices(self, node: "Node", ctx: "Facts", *, as_written: bool = False) -> "Judged":
        """Whether a node has one of the forms that a limit allows; what has no effect there may be anything."""
        return _of_something(self.judge(node, ctx, as_written=as_written))

    def words(self) -> str:
        """The clause as a reader of the profile sees it: `kernel at most 31`."""
        if len(self.bounds) == 1 and self.bounds[0][0] == "is" and isinstance(self.bounds[0][1], bool):
            return f"{'' if self.bounds[0][1] else 'not '}{self.metric.text}"
        said = [f"{_ALLOWED[name]} {_value(bound)}".strip() for name, bound in self.bounds]
        return f"{self.metric.text} {' and '.join(said)}"


class Judged(msgspec.Struct, frozen=True):
    """An answer: `fits` is None where the graph does not tell, and then `why`."""

    fits: bool | None
    measured: Measured = NOTHING
    wrong: tuple[Any, ...] = ()
    """The numbers that break the bound."""
    bound: str = ""
    allowed: Any = None
    why: str = ""

    @property
    def from_front(self) -> Any:
        """The bound, with axes of the tensor at hand counted from the front, as those that were measured are."""
        if isinstance(self.allowed, tuple):
            return tuple(_from_front(a, self.measured) for a in self.allowed)
        return _from_front(self.allowed, self.measured)


def _of_something(judged: Judged) -> Judged:
    return judged if not judged.fits or judged.measured.exists else Judged(False, judged.measured)


def _wrong(measured: Measured, answers: list[bool | None], name: str, allowed: tuple[Any, ...]) -> Judged:
    if len(answers) != len(measured.values):
        return Judged(False, measured, measured.values, name, allowed[0])
    wrong = tuple(v for v, answer in zip(measured.values, answers, strict=True) if answer is False)
    return Judged(False, measured, wrong, name, allowed[answers.index(False)] if len(allowed) > 1 else allowed[0])


_ALLOWED = {
    "max": "at most", "min": "at least", "below": "below", "in": "one of", "not_in": "none of", "is": "=",
    "multiple_of": "a multiple of", "equal": "equal along all axes", "power_of_two": "a power of two",
    "integer": "a whole number",
}  # fmt: skip
EXCEEDED = {
    "max": "more than", "min": "less than", "below": "not below", "in": "not", "not_in": "not allowed", "is": "not",
    "multiple_of": "not a multiple of", "equal": "not equal along all axes", "power_of_two": "not a power of two",
    "integer": "not a whole number",
}  # fmt: skip
"""What the message says of a number outside the bound."""


def _value(bound: Any) -> str:
    if bound is True:
        return ""
    if isinstance(bound, Metric):
        return bound.text
    return ", ".join(map(number, bound)) if isinstance(bound, tuple) else number(bound)


def clause(text: str, condition: Condition, where: str) -> Clause:
    """A metric with what a file says of it. Raises UsageError."""
    try:
        named = metric(text)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    key = "in" if isinstance(condition, tuple) else "is"
    given: dict[str, Any] = bounds(condition) if isinstance(condition, Predicate) else {key: condition}
    if not given:
        raise UsageError(f"{where}: nothing is said of {text!r}; give one of {', '.join(PREDICATES)}")
    for name in _NUMERIC:
        if isinstance(given.get(name), str):
            try:
                given[name] = metric(given[name])
            except UsageError:
                from difflib import get_close_matches  # for those who mistype

                near = get_close_matches(given[name], METRICS, 1, _NEAR)
                meant = f"; did you mean {near[0]!r}?" if near else ""
                raise UsageError(f"{where}: {name} = {given[name]!r} is neither a number nor a metric{meant}") from None
    if given.get("multiple_of") in (0, False):
        raise UsageError(f"{where}: multiple_of must not be 0")
    return Clause(named, tuple(given.items()))


def _operands(bound: Any, name: str, measured: Measured, node: "Node", ctx: "Facts") -> tuple[Any, ...]:
    """The bound for each number: the same for all, or another metric's."""
    if name not in _NUMERIC:
        return tuple(bound) if isinstance(bound, tuple) else (bound,)
    if not isinstance(bound, Metric):
        return (bound,) * max(len(measured.values), 1)
    other = bound.measure(node, ctx)
    if None in other.values:
        raise Undecidable(other.why)
    if not other.values:
        return ()
    times = -(-len(measured.values) // len(other.values))  # both sides of an axis have the same bound
    return (other.values * max(times, 1))[: max(len(measured.values), 1)]


def _answers(name: str, measured: Measured, allowed: tuple[Any, ...]) -> list[bool | None]:
    """Whether each number keeps to the bound, or, where the bound is on all of them together, whether they do."""
    values = measured.values
    if name == "equal":
        known = {v for v in values if v is not None}
        return [False if len(known) > 1 else None if None in values and len(values) > 1 else True]
    if name not in ("in", "not_in"):
        front = tuple(_from_front(a, measured) for a in allowed) if name == "is" else allowed
        pairs = zip(values, front if name in _NUMERIC else front * len(values), strict=False)
        return [None if v is None else _SINGLE[name](v, a) for v, a in pairs]
    wanted = [_from_front(a, measured) for a in allowed]
    whole = [a for a in wanted if isinstance(a, tuple)]
    if len(whole) < len(wanted):
        single = [a for a in wanted if not isinstance(a, tuple)]
        together = any(_same(values, a) for a in whole)
        return [None if v is None else (together or any(_same(v, a) for a in single)) == (name == "in") for v in values]
    if None in values:
        return [None]
    return [any(_same(values, a) for a in whole) == (name == "in")] if values else []


def _from_front(allowed: Any, measured: Measured) -> Any:
    """Axes that are counted from the end of the tensor as it is written, among the axes that were measured."""
    places = measured.places or range(measured.rank)
    if not places:
        return allowed
    if isinstance(allowed, tuple):
        return tuple(sorted(_from_front(a, measured) for a in allowed))
    from_end = isinstance(allowed, int) and -len(places) <= allowed < 0
    return places[allowed] if from_end else allowed


def _same(value: Any, allowed: Any) -> bool:
    if isinstance(value, tuple):
        return isinstance(allowed, tuple) and len(value) == len(allowed) and all(map(_same, value, allowed))
    if isinstance(value, float) or isinstance(allowed, float):
        return (
            isinstance(value, int | float)
            and isinstance(allowed, int | float)
            and isclose(value, allowed, rel_tol=1e-6, abs_tol=1e-9)
        )
    return bool(value == allowed)


_SINGLE: dict[str, Callable[[Any, Any], bool]] = {
    "max": lambda v, a: v <= a,
    "min": lambda v, a: v >= a,
    "below": lambda v, a: v < a,
    "is": _same,
    "multiple_of": lambda v, a: a != 0 and v % a == 0,
    "power_of_two": lambda v, a: v >= 1 and v == int(v) and int(v) & (int(v) - 1) == 0,
    "integer": lambda v, a: v == int(v),
}
