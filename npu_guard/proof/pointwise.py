"""Functions of single elements, proved on few of them: what an activation does at one place, it does at all.

Where every operator of both programs works element by element, an element of an output depends on those of the inputs at its own
place, and on the constants there. Along an axis on which no constant varies, all places are alike, so two of them stand for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from npu_guard.proof.modular import Array
from npu_guard.proof.program import Input, Program

_ALIKE = frozenset(
    {"Abs", "Add", "And", "Cast", "Ceil", "Celu", "Clip", "Constant", "Cos", "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu",
     "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max",
     "Mean", "Min", "Mish", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign",
     "Sin", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tanh", "ThresholdedRelu", "Where", "Xor"}
)  # fmt: skip
_PLACES = 2
"""That stand for all: one would make an axis one that is broadcast."""


def shrunk(first: Program, second: Program) -> tuple[Program, Program]:
    """The programs on smaller inputs, where these stand for larger ones; else as they are."""
    both = (first, second)
    if any(call.domain or call.op_type not in _ALIKE for program in both for call in program.calls):
        return both
    fixed = {axis for program in both for array in _constants(program) for axis, n in enumerate(array.shape[::-1]) if n > 1}
    one, other = (replace(p, inputs=tuple(_smaller(i, fixed) for i in p.inputs)) for p in both)
    return one, other


def _constants(program: Program) -> Iterator[Array]:
    yield from program.constants.values()
    yield from (np.asarray(v) for call in program.calls if call.op_type == "Constant" for v in call.attributes.values())


def _smaller(given: Input, fixed: set[int]) -> Input:
    """An input with two places along each axis, counted from the last, that is not fixed."""
    if given.shape is None:
        return given
    turned: Sequence[int | None] = given.shape[::-1]
    extents = [e if e is None or axis in fixed else min(e, _PLACES) for axis, e in enumerate(turned)]
    return replace(given, shape=tuple(extents[::-1]))
