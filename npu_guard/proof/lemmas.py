"""Facts about floats that are none about real numbers. Each is checked at the floats where it can fail, then used as a rewrite.

- x >= c is x > c' for the float c' next below c.
- clip(s ... s (x - c), 0, 1) with powers of two s is x > c. Under IEEE 754 rounding, subtraction, multiplication by a positive
  number and clipping are monotone in x. So a 0 at c and a 1 at the float next above c settle every other float.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from npu_guard.proof.modular import Array
from npu_guard.proof.program import Call, Program

NEXT = "x >= c is x > c' for the float c' next to c"
RAMP = "a ramp so steep that no float lies on it is a comparison"
_COMPARISONS = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")


def normalized(program: Program) -> tuple[Program, set[str]]:
    """The program with comparisons in one spelling, and the lemmas that were used."""
    constants = dict(program.constants)
    for call in program.calls:
        if call.op_type == "Constant" and "value" in call.attributes:
            constants[call.outputs[0]] = np.asarray(call.attributes["value"])
    makers = {name: call for call in program.calls for name in call.outputs}
    used: set[str] = set()
    added: dict[str, Array] = {}
    calls: list[Call] = []
    for call in program.calls:
        spelled = _comparison(call, constants, added, used) or _ramp(call, constants, added, makers, used)
        calls += spelled or [call]
    return replace(program, calls=calls, constants={**program.constants, **added}), used


def _one(constants: Mapping[str, Array], name: str) -> Any:
    array = constants.get(name)
    return array.reshape(-1)[0] if array is not None and array.size == 1 and array.dtype.kind == "f" else None


def _comparison(call: Call, constants: Mapping[str, Array], added: dict[str, Array], used: set[str]) -> list[Call]:
    """A comparison with a constant, as a strict one with the constant on the right."""
    if call.op_type not in _COMPARISONS or call.domain:
        return []
    x, below, c = call.inputs[0], call.op_type.startswith("Less"), _one(constants, call.inputs[1])
    if c is None:
        x, below, c = call.inputs[1], not below, _one(constants, call.inputs[0])
    if c is None or not np.isfinite(c):
        return []
    if call.op_type.endswith("OrEqual"):
        c = np.nextafter(c, np.asarray(np.inf if below else -np.inf, c.dtype))
        used.add(NEXT)
    return [replace(call, op_type="Less" if below else "Greater", inputs=(x, _put(added, call, c)))]


def _put(added: dict[str, Array], call: Call, value: Any) -> str:
    name = f"{call.outputs[0]} against"
    added[name] = np.asarray(value)
    return name


def _ramp(
    call: Call, constants: Mapping[str, Array], added: dict[str, Array], makers: Mapping[str, Call], used: set[str]
) -> list[Call]:
    """Clip(Mul(... Mul(Sub(x, c), s) ..., s), 0, 1), or with Sub(c, x)."""
    if call.op_type != "Clip" or call.domain or len(call.inputs) < 3:
        return []
    if _one(constants, call.inputs[1]) != 0 or _one(constants, call.inputs[2]) != 1:
        return []
    factors: list[Any] = []
    maker = makers.get(call.inputs[0])
    while maker is not None and maker.op_type == "Mul" and not maker.domain:
        factor = _one(constants, maker.inputs[1])
        if factor is None or factor <= 0 or np.frexp(factor)[0] != 0.5:
            return []
        factors.append(factor)
        maker = makers.get(maker.inputs[0])
    if maker is None or maker.op_type != "Sub" or maker.domain or not factors:
        return []
    x, below, c = maker.inputs[0], False, _one(constants, maker.inputs[1])
    if c is None:
        x, below, c = maker.inputs[1], True, _one(constants, maker.inputs[0])
    if c is None or not np.isfinite(c) or not _steep(c, factors, below=below):
        return []
    used.add(RAMP)
    truth = f"{call.outputs[0]} as truth"
    compare = Call("Less" if below else "Greater", "", (x, _put(added, call, c)), (truth,), {}, call.opset)
    number = np.dtype(c.dtype)
    to = {np.dtype(np.float16): 10, np.dtype(np.float32): 1, np.dtype(np.float64): 11}[number]
    return [compare, replace(call, op_type="Cast", inputs=(truth,), attributes={"to": to})]


def _steep(c: Any, factors: list[Any], *, below: bool) -> bool:
    """Whether the ramp is 0 at c and on its side, and 1 from the next float on, in the arithmetic of c's type."""
    kind = c.dtype.type

    def ramp(x: Any) -> float:
        with np.errstate(all="ignore"):
            y = kind(c - x) if below else kind(x - c)
            for factor in reversed(factors):
                y = kind(y * kind(factor))
        return float(np.minimum(np.maximum(y, kind(0)), kind(1)))

    far = kind(-np.inf if below else np.inf)
    beyond = np.nextafter(c, far)
    return ramp(c) == 0 and ramp(-far) == 0 and ramp(beyond) == 1 and ramp(far) == 1
