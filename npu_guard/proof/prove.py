"""Are two models one function? An answer with a label, and what it rests on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from msgspec.structs import replace as with_fields

from npu_guard.base.errors import ModelError
from npu_guard.file.document import Document
from npu_guard.proof import constants, forms, lemmas, pointwise
from npu_guard.proof.arithmetic import Budget
from npu_guard.proof.constants import ULPS, Adjusted
from npu_guard.proof.distance import beyond_rounding
from npu_guard.proof.evaluate import run
from npu_guard.proof.exact import Exact
from npu_guard.proof.fields import Fields, Point
from npu_guard.proof.program import Program, read
from npu_guard.proof.tensor import Degree, Operand, Tensor, Unsupported
from npu_guard.results.proof import PROVED, REFUTED, ROUNDING, SAMPLED, Proof

MACS = 1 << 29
"""Multiplications that one proof may take."""
WORST_BOUND, GOOD_BOUND = 1e-6, 1e-8
"""A chance of error above the first is no proof; above the second, another point is drawn."""
MOST_POINTS = 3
PLAIN, EXPONENTS = "identity at a random point", "identity at a random point, by the laws of exponentials and division"
_WITH_LAWS = frozenset(
    {"Exp", "Sigmoid", "Tanh", "Softmax", "LogSoftmax", "Swish", "Mish", "Softplus", "Elu", "Celu", "Selu", "Attention", "Gelu",
     "ReduceLogSumExp", "Div", "Reciprocal", "Softsign", "Pow", "LRN", "LpNormalization", "MeanVarianceNormalization",
     "LSTM", "GRU", "RNN"}
)  # fmt: skip
"""Operators that are read by exponentials or by quotients, whose laws the second way of reading has; a test holds it."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What one evaluation of both models showed."""

    equal: bool
    bound: float
    assumptions: frozenset[str]
    linear: bool
    undefined: bool = False
    reason: str = ""


def prove(
    before: Document, after: Document, budget: Budget | None = None, exact: Mapping[str, Exact] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Proof:  # fmt: skip
    """Whether two models with the same inputs are one function of real numbers.

    `budget` is what may be multiplied for it, and is used up; `exact` are the numbers that constants of `after` were rounded
    from, by name; `shapes` are those of inputs, where a model leaves an extent open. Never raises for a model that it cannot
    read: then the label is `sampled`, with the reason.
    """
    try:
        programs = tuple(_with_shapes(read(document), shapes or {}) for document in (before, after))
        first, second = programs
        _expect_inputs(first, second)
        first, second = pointwise.shrunk(first, second)
        (first, used), (second, others) = lemmas.normalized(first), lemmas.normalized(second)
        budget, found = budget or Budget(MACS), Proof(SAMPLED)
        for one, other, told in _spellings(first, second):
            found = _prove(one, other, budget, exact or {}, used | others)
            if found.label != SAMPLED:
                label = ROUNDING if told and found.label == PROVED else found.label
                return with_fields(found, label=label, constants=(*told, *found.constants))
        return found
    except Unsupported as error:
        return Proof(SAMPLED, reason=error.reason)
    except (ModelError, OSError) as error:
        return Proof(SAMPLED, reason=f"a weight cannot be read ({error})")


def _prove(first: Program, second: Program, budget: Budget, exact: Mapping[str, Exact], used: set[str]) -> Proof:
    seed = _digest(first, second)
    several = any(call.op_type in _WITH_LAWS for p in (first, second) for call in p.calls)
    attempt, linear = None, True
    for way, (before, after, adjusted) in _ways(first, second, exact):
        for exponents in (False, True) if several else (False,):
            attempt = _evaluate(before, after, adjusted, budget, seed, exponents=exponents)
            linear = linear and attempt.linear
            if attempt.equal:
                told = adjusted.told + (_off(exact, second) if way == "given" else ())
                label = ROUNDING if told else PROVED
                how = EXPONENTS if exponents else PLAIN
                return Proof(label, how, told, tuple(sorted(used | attempt.assumptions)), attempt.bound)
            if attempt.reason:
                return Proof(SAMPLED, reason=attempt.reason)
    assert attempt is not None
    if linear and (differs := beyond_rounding(first, second, budget, seed[:16])):
        return Proof(REFUTED, "sums and products in float64", reason=differs)
    return Proof(SAMPLED, reason="no identity was found")


def _spellings(first: Program, second: Program) -> Iterator[tuple[Program, Program, tuple[str, ...]]]:
    """As they are, and with forms as the functions that they stand for: what is likelier first."""
    (one, told), (other, more) = forms.read(first), forms.read(second)
    plain, spelled = (first, second, ()), (one, other, tuple(dict.fromkeys(told + more)))
    if one is first and other is second:
        yield plain
    elif one is first or other is second:
        yield from (spelled, plain)
    else:
        yield from (plain, spelled)


def _ways(first: Program, second: Program, exact: Mapping[str, Exact]) -> Iterator[tuple[str, tuple[Program, Program, Adjusted]]]:
    """With the constants as stored, then as what they were rounded from: as stated, then as guessed."""
    stored = Adjusted({}, {}, ())
    yield "stored", (first, second, stored)
    given = {n: e for n, e in exact.items() if n in second.constants and e.misses(second.constants[n]) <= ULPS}
    if given:
        yield "given", (first, replace(second, given=given), stored)
    for adjusted in constants.readings(first, second):
        yield "guessed", (first, second, adjusted)
        if given:
            yield "given", (first, replace(second, given=given), adjusted)


def _off(exact: Mapping[str, Exact], program: Program) -> tuple[str, ...]:
    """The stated constants that are rounded, and by how much."""
    lines = []
    for name, numbers in exact.items():
        off = numbers.misses(program.constants[name]) if name in program.constants else 0.0
        if off:
            size = program.constants[name].size
            what = f"{size} numbers" if size > 1 else f"{program.constants[name].item():.9g} for {numbers}"
            lines.append(f"{what} ({off:.2g} ulp)")
    return tuple(lines)


def _evaluate(
    before: Program, after: Program, adjusted: Adjusted, budget: Budget, seed: bytes, *, exponents: bool
) -> _Attempt:  # fmt: skip
    """Both models at one random point, and at more where that is too weak, or something was divided by zero."""
    exacts = (*adjusted.before.values(), *adjusted.after.values(), *after.given.values())
    radicands = {x for e in exacts for x in e.radicands()} | _radicands(before, after)
    point = _Points(seed, exponents=exponents, radicands=sorted(radicands))
    sides = [(before, adjusted.before), (after, adjusted.after)]
    bound, result = 1.0, None
    for _ in range(MOST_POINTS):
        attempt = _at(point.next(), sides, budget)
        if attempt.undefined:
            continue
        bound *= attempt.bound
        result = replace(attempt, bound=bound)
        if not attempt.equal or bound <= GOOD_BOUND:
            break
    if result is None:
        return _Attempt(False, 1.0, frozenset(), False, reason="it divides by zero whatever the input")
    if result.equal and bound > WORST_BOUND:
        reason = f"the model is so large that chance would show it equal with a probability of up to {bound:.0e}"
        return replace(result, equal=False, reason=reason)
    return result


class _Points:
    """Random points, one after the other."""

    def __init__(self, seed: bytes, *, exponents: bool, radicands: Sequence[Fraction]) -> None:
        self._seed, self._exponents, self._radicands = seed, exponents, radicands

    def next(self) -> Point:
        self._seed = hashlib.sha256(self._seed).digest()
        return Point.draw(self._seed, exponents=self._exponents, radicands=self._radicands)


def _at(point: Point, sides: Sequence[tuple[Program, Mapping[float, Exact]]], budget: Budget) -> _Attempt:
    """Both models at one point."""
    both = []
    inputs = sides[0][0].inputs
    for program, simple in sides:
        fields = Fields(point, budget, simple)
        fields.double = any(i.double for i in inputs)
        feeds: dict[str, Operand] = {i.name: fields.drawn(i.name, [e or 1 for e in i.shape or ()], i.kind) for i in inputs}
        both.append((fields, run(fields, program, feeds)))
    (one, x), (other, y) = both
    degree = Degree()
    for output in (*x, *y):
        degree = degree + output.degree if isinstance(output, Tensor) else degree
    one.atoms += other.atoms
    one.height = max(one.height, other.height)
    equal, reason = all(map(_equal, x, y)), ""
    if equal and any(_is_zero(v) for v in x):
        equal, reason = False, "an output is zero whatever the input"
    return _Attempt(
        equal, one.bound(Degree(2 * degree.over, 2 * degree.under)), frozenset(one.assumptions | other.assumptions),
        linear=not (one.nonlinear or other.nonlinear), undefined=one.undefined or other.undefined, reason=reason,
    )  # fmt: skip


def _radicands(*programs: Program) -> set[Fraction]:
    """Of which numbers operators themselves take the root."""
    found: set[Fraction] = set()
    for program in programs:
        found |= {Fraction(1, 2) for call in program.calls if call.op_type == "Gelu"}
    return found


def _equal(x: Operand, y: Operand) -> bool:
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        return isinstance(x, np.ndarray) and isinstance(y, np.ndarray) and x.dtype == y.dtype and np.array_equal(x, y)
    if x.shape != y.shape or x.kind != y.kind:
        return False
    hidden, other = (np.zeros(t.shape, bool) if t.lowest is None else np.broadcast_to(t.lowest, t.shape) for t in (x, y))
    same = all(bool(((a == b) | hidden).all()) for a, b in zip(x.parts, y.parts, strict=True))
    return same and np.array_equal(hidden, other)


def _is_zero(x: Operand) -> bool:
    """Weights that are missing or all zero make any two models equal."""
    return isinstance(x, Tensor) and x.degree.over > 0 and not any(part.any() for part in x.parts)


def _with_shapes(program: Program, shapes: Mapping[str, Sequence[int]]) -> Program:
    inputs = tuple(replace(i, shape=tuple(shapes[i.name])) if i.name in shapes else i for i in program.inputs)
    return replace(program, inputs=inputs)


def _expect_inputs(before: Program, after: Program) -> None:
    """Raise Unsupported where the models do not take and give the same."""
    if len(before.outputs) != len(after.outputs):
        raise Unsupported("the models have different outputs")
    inputs = {i.name: (i.kind, i.shape) for i in before.inputs}
    if any(inputs.get(i.name) != (i.kind, i.shape) for i in after.inputs):
        raise Unsupported("the models have different inputs")
    if any(i.shape is None or None in i.shape[1:] for i in before.inputs):
        raise Unsupported("the shape of an input is open")


def _digest(*programs: Program) -> bytes:
    """The seed: nobody who makes a model can choose it without changing the model."""
    state = hashlib.blake2b(digest_size=32)
    for program in programs:
        state.update(repr((program.inputs, program.outputs, program.opset)).encode())
        for name, array in sorted(program.constants.items()):
            state.update(f"{name} {array.dtype} {array.shape}".encode())
            state.update(np.ascontiguousarray(array).tobytes())
        for call in program.calls:
            state.update(repr((call.op_type, call.inputs, call.outputs)).encode())
            for name, value in sorted(call.attributes.items()):
                data = np.ascontiguousarray(value).tobytes() if isinstance(value, np.ndarray) else repr(value).encode()
                state.update(name.encode() + data)
    return state.digest()
