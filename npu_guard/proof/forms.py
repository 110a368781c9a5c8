"""Forms that stand for a function to less than 2 units in the last place (ulp): polynomials in place of a logarithm or of erfc.

Such a form is no identity, so it is recognized as a whole, with the numbers that it holds, and a bound on its error is derived
from these numbers for every argument (`bounds.py`). Where the bound is as good as that of a rounded constant, the form is read as
the function, and what it stands for is told. Where it is not, nothing is claimed.

- relu(x) + e P(e) with e = exp(-|x|) and a polynomial P stands for softplus(x) = relu(x) + log(1 + e).
- relu(x) - |x| t Q(t) exp(-x^2 / 2) with t = 1 / (1 + |x| / sqrt(8)) and a polynomial Q stands for
  gelu(x) = relu(x) - |x| erfc(|x| / sqrt 2) / 2.

The second summand is no larger than the whole, or takes less than half of relu(x) away: its relative error is one of the whole at
the most.

Beside these, exp(c log(x)) is x^c, an identity. Only powers that are not whole are read so, as x^2 is more than exp(2 log(x)).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from npu_guard.proof.bounds import Numbers, logarithm_misses, tail_misses
from npu_guard.proof.constants import ULPS
from npu_guard.proof.exact import Exact
from npu_guard.proof.modular import Array
from npu_guard.proof.program import Call, Program

MOST_TERMS = 24
"""Coefficients of a polynomial that is looked at."""


def read(program: Program) -> tuple[Program, tuple[str, ...]]:
    """The program with forms as the functions that they stand for, and what is told of each kind of form."""
    if not any(call.op_type == "Exp" for call in program.calls):
        return program, ()
    seen = _Polynomials(program)
    told: dict[str, None] = {}
    powers: dict[str, Array] = {}
    calls: list[Call] = []
    for call in program.calls:
        if (form := _softplus(call, seen) or _gelu(call, seen)) is not None:
            told[form.words] = None
            calls.append(Call(form.op_type, "", (form.x,), call.outputs, {}, call.opset))
        elif (power := _power(call, seen)) is not None:
            name = f"{call.outputs[0]} is a power"
            powers[name] = np.asarray(float(power[1]))
            calls.append(Call("Pow", "", (power[0], name), call.outputs, {}, call.opset))
        else:
            calls.append(call)
    if not told and not powers:
        return program, ()
    kept = _needed(calls, program.outputs)
    asked = {name for call in kept for name in call.inputs} | {*program.outputs}
    constants = {name: array for name, array in {**program.constants, **powers}.items() if name in asked}
    return replace(program, calls=kept, constants=constants), tuple(told)


def _needed(calls: Sequence[Call], outputs: Sequence[str]) -> list[Call]:
    """Calls of which something is asked for."""
    asked, kept = set(outputs), []
    for call in reversed(calls):
        if asked.intersection(call.outputs):
            asked.update(call.inputs)
            kept.append(call)
    return kept[::-1]


@dataclass(frozen=True, slots=True)
class _Polynomial:
    """A value as a polynomial in another one; without `of`, a number."""

    of: str
    terms: Numbers


class _Polynomials:
    """Values of a program as polynomials in what is none, with the numbers of the program as they are stored."""

    def __init__(self, program: Program) -> None:
        self.makers: dict[str, Call] = {name: call for call in program.calls for name in call.outputs}
        self.type = np.dtype(np.float16)
        """The finest type of the numbers: that in which a form is judged."""
        self._known: dict[str, _Polynomial] = {}
        stored: dict[str, Array] = dict(program.constants)
        stored |= {c.outputs[0]: np.asarray(c.attributes["value"]) for c in program.calls if "value" in c.attributes}
        for name, array in stored.items():
            if array.size == 1 and array.dtype.kind == "f" and np.isfinite(array).all():
                self._known[name] = _Polynomial("", (Fraction(float(array.reshape(-1)[0])),))
                self.type = max(self.type, array.dtype, key=lambda t: np.finfo(t).nmant)
        self.ulp = float(np.finfo(self.type).epsneg)
        """The least that a unit in the last place is of a number."""
        for call in program.calls:
            for name in call.outputs:
                self._known.setdefault(name, self._made(call) or _Polynomial(name, (Fraction(0), Fraction(1))))

    def of(self, name: str) -> _Polynomial:
        """The polynomial of a value."""
        return self._known.get(name) or _Polynomial(name, (Fraction(0), Fraction(1)))

    def maker(self, name: str, op_type: str) -> Call | None:
        """The operator that makes a value, if it is of this kind."""
        call = self.makers.get(name)
        return call if call is not None and call.op_type == op_type and not call.domain else None

    def number(self, name: str) -> Fraction | None:
        """A constant."""
        found = self.of(name)
        return found.terms[0] if not found.of else None

    def factors(self, name: str) -> list[str]:
        """What a product is made of."""
        call = self.maker(name, "Mul")
        return [name] if call is None else [f for i in call.inputs for f in self.factors(i)]

    def _made(self, call: Call) -> _Polynomial | None:
        if call.domain or call.op_type not in ("Add", "Sub", "Mul", "Neg"):
            return None
        if call.op_type == "Neg":
            only = self.of(call.inputs[0])
            return _Polynomial(only.of, tuple(-t for t in only.terms))
        a, b = map(self.of, call.inputs[:2])
        if a.of and b.of and a.of != b.of:
            return None
        terms = (
            _product(a.terms, b.terms) if call.op_type == "Mul" else _sum(a.terms, b.terms, -1 if call.op_type == "Sub" else 1)
        )
        return _Polynomial(a.of or b.of, terms) if len(terms) <= MOST_TERMS else None


def _sum(a: Numbers, b: Numbers, sign: int) -> Numbers:
    longest = max(len(a), len(b))
    x, y = (n + (Fraction(0),) * (longest - len(n)) for n in (a, b))
    return tuple(s + sign * t for s, t in zip(x, y, strict=True))


def _product(a: Numbers, b: Numbers) -> Numbers:
    found = [Fraction(0)] * (len(a) + len(b) - 1)
    for i, s in enumerate(a):
        for j, t in enumerate(b):
            found[i + j] += s * t
    return tuple(found)


def _is_size(name: str, x: str, seen: _Polynomials, *, sign: int) -> bool:
    """Whether a value is |x| or, with the sign -1, -|x|."""
    found = seen.of(name)
    size = seen.maker(found.of, "Abs")
    return size is not None and size.inputs[0] == x and found.terms == (Fraction(0), Fraction(sign))


def _power(call: Call, seen: _Polynomials) -> tuple[str, Fraction] | None:
    """Of exp(c log(x)), x and c."""
    if call.op_type != "Exp" or call.domain:
        return None
    found = seen.of(call.inputs[0])
    logarithm = seen.maker(found.of, "Log")
    if logarithm is None or len(found.terms) != 2 or found.terms[0] or found.terms[1].denominator == 1:
        return None
    return logarithm.inputs[0], found.terms[1]


@dataclass(frozen=True, slots=True)
class _Form:
    """The operator that a form stands for, what it takes, and what is told of the form."""

    op_type: str
    x: str
    words: str


def _softplus(call: Call, seen: _Polynomials) -> _Form | None:
    """relu(x) + e P(e)."""
    if call.op_type != "Add" or call.domain:
        return None
    for one, other in (call.inputs, call.inputs[::-1]):
        relu, curve = seen.maker(one, "Relu"), seen.of(other)
        power = seen.maker(curve.of, "Exp")
        if relu is None or power is None or curve.terms[0] or not _is_size(power.inputs[0], relu.inputs[0], seen, sign=-1):
            continue
        off = logarithm_misses(curve.terms[1:]) / seen.ulp
        if off <= ULPS:
            return _Form(
                "Softplus", relu.inputs[0], f"a polynomial of degree {len(curve.terms) - 1} for log(1 + e) ({_up(off)} ulp)"
            )
    return None


def _gelu(call: Call, seen: _Polynomials) -> _Form | None:
    """relu(x) - |x| t Q(t) exp(-x^2 / 2)."""
    if call.op_type != "Sub" or call.domain or (relu := seen.maker(call.inputs[0], "Relu")) is None:
        return None
    x, fraction = relu.inputs[0], ""
    terms: Numbers = (Fraction(1),)
    counted: Counter[str] = Counter()
    for factor in seen.factors(call.inputs[1]):
        found = seen.of(factor)
        if found.of and _is_size(factor, x, seen, sign=1):
            counted["size"] += 1
        elif (power := seen.maker(factor, "Exp")) is not None:
            if seen.of(power.inputs[0]) != _Polynomial(x, (Fraction(0), Fraction(0), Fraction(-1, 2))):
                return None
            counted["bell"] += 1
        elif not found.of or fraction in ("", found.of):
            fraction, terms = found.of or fraction, _product(terms, found.terms)
        else:
            return None
    slope = _slope(fraction, x, seen)
    if counted != {"size": 1, "bell": 1} or slope is None or terms[0] or len(terms) > MOST_TERMS:
        return None
    root = Exact.root(Fraction(1, 8))
    rounded = root.misses(np.asarray(float(slope), seen.type))
    off = tail_misses(terms[1:]) / seen.ulp
    if rounded > ULPS or off > ULPS:
        return None
    words = (
        f"a polynomial of degree {len(terms) - 2} for erfc ({_up(off)} ulp), {float(slope):.9g} for {root} ({rounded:.2g} ulp)"
    )
    return _Form("Gelu", x, words)


def _slope(fraction: str, x: str, seen: _Polynomials) -> Fraction | None:
    """Of t = 1 / (1 + c |x|) the number c."""
    if (call := seen.maker(fraction, "Div")) is not None and seen.number(call.inputs[0]) == 1:
        below = call.inputs[1]
    elif (call := seen.maker(fraction, "Reciprocal")) is not None:
        below = call.inputs[0]
    else:
        return None
    found = seen.of(below)
    size = seen.maker(found.of, "Abs")
    if size is None or size.inputs[0] != x or len(found.terms) != 2 or found.terms[0] != 1 or found.terms[1] <= 0:
        return None
    return found.terms[1]


def _up(off: float) -> str:
    """Two digits, rounded up: it is a bound."""
    return f"{math.ceil(100 * off) / 100:.2f}"
