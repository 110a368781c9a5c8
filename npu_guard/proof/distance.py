"""How far two models of sums and products are apart, against what rounding their constants could do."""

from __future__ import annotations

import numpy as np

from npu_guard.proof.arithmetic import Budget
from npu_guard.proof.evaluate import run
from npu_guard.proof.modular import Array
from npu_guard.proof.program import Input, Program
from npu_guard.proof.reals import Magnitudes, Reals
from npu_guard.proof.tensor import Operand, Tensor, Unsupported

_ULP = 2.0**-23
_EACH = 4.0
"""Units in the last place by which each constant on the way may be off."""


def beyond_rounding(before: Program, after: Program, budget: Budget, seed: bytes) -> str:
    """How much two linear models differ where that is more than rounding; empty where it is not, or cannot be told.

    Every path from an input to an output multiplies constants. If each of n constants on it is off by k ulp, the output is off by
    at most n k ulp of the sum over all paths, taken without signs. Float64 itself is off by far less.
    """
    rng = np.random.default_rng(np.frombuffer(seed, np.uint32))
    drawn = {i.name: rng.standard_normal([e or 1 for e in i.shape or ()]) for i in before.inputs}
    depth = max(len(before.calls), len(after.calls)) + 1
    try:
        first, second = (_outputs(Reals(budget), p, drawn) for p in (before, after))
        sizes = [_outputs(Magnitudes(budget), p, {k: np.abs(v) for k, v in drawn.items()}) for p in (before, after)]
    except Unsupported:
        return ""
    for name, x, y, *magnitudes in zip(before.outputs, first, second, *sizes, strict=True):
        if x.shape != y.shape:
            return f"output {name!r} has another shape"
        allowed = _EACH * depth * _ULP * np.maximum(*magnitudes)
        off = np.abs(x - y)
        if (off > allowed).any():
            worst = int((off - allowed).argmax())
            return f"{name!r} differs by {off.reshape(-1)[worst]:.2g} where rounding explains {allowed.reshape(-1)[worst]:.2g}"
    return ""


def _outputs(a: Reals, program: Program, drawn: dict[str, Array]) -> list[Array]:
    feeds: dict[str, Operand] = {i.name: a.input(drawn[i.name], i.kind) for i in program.inputs if _fits(i, drawn)}
    a.double = any(i.double for i in program.inputs)
    outputs = run(a, program, feeds)
    if a.nonlinear:
        raise Unsupported("it is not linear")
    return [o.parts[0] if isinstance(o, Tensor) else np.asarray(o, np.float64) for o in outputs]


def _fits(given: Input, drawn: dict[str, Array]) -> bool:
    if given.name not in drawn:
        raise Unsupported("the inputs have other names")
    return True
