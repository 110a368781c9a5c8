from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from npu_guard.base.errors import Undecidable
from npu_guard.base.text import short
from npu_guard.graph.graph import Value
from npu_guard.rewriting.arithmetic import FLOATS, Formula, writable
from npu_guard.rewriting.finite import is_finite
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node

_NEEDS = ("Sub", "Mul", "Clip")


class ComparisonToClip(Substitution):
    """A comparison with a constant, as a number or as a mask, becomes a ramp that is steeper than numbers are apart.

    The floating-point number next above c is c + g, so x > c means x - c >= g, and x <= c means x - c <= 0: there is nothing
    between. With a power of two s >= 1/g, which multiplies without rounding,

        float(x > c) = clip(s (x - c), 0, 1)

    is 0 or 1 exactly for every number x. For x < c the difference is c - x, and g the distance to the number next below;
    x >= c is x > c', where c' is that number. Where(x > c, u, 0) is u times that, where u is always finite: behind a division,
    a root or an exponential it need not be. (A NaN of x stays one here, and is false there.)
    """

    name = "comparison-to-clip"
    roots = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")
    limits = {"tensor.dtypes": ["float32", "float16"]}
    operators = dict.fromkeys(_NEEDS, "supported")
    good = (
        Example(
            "g (float[1,8,4,4] x) => (y) <float c = {0.5}> { b = Greater(x, c)  y = Cast<to = 1>(b) }",
            ops=("Sub", "Mul", "Clip"),
        ),
        Example(
            """g (float[1,8,4,4] x, float[1,8,4,4] u) => (y)
            <float c = {1.0}, float z = {0.0}> { b = LessOrEqual(x, c)  y = Where(b, u, z) }""",
            ops=("Sub", "Mul", "Clip", "Mul"),
            title="a mask",
        ),
        Example(
            "g (float[1,8,4,4] x) => (y) <float c = {-1.0}> { b = GreaterOrEqual(x, c)  y = Cast<to = 1>(b) }",
            ops=("Sub", "Mul", "Clip"),
            title="the bound is in",
        ),
        Example(
            "g (float[1,8,4,4] x) => (y, z) <float c = {0.0}> { b = Less(c, x)  y = Cast<to = 1>(b)  z = Where(b, x, c) }",
            ops=("Sub", "Mul", "Mul", "Clip", "Mul"),
            title="at zero, where numbers are closest, and read twice",
        ),
        Example(
            "g (float16[1,8,4,4] x) => (y) <float16 c = {15360}> { b = Less(x, c)  y = Cast<to = 10>(b) }",
            ops=("Sub", "Mul", "Clip"),
            title="in half precision",
        ),
    )
    bad = (
        Example(
            "g (float[1,8,4,4] x, float[1,8,4,4] c) => (y) { b = Greater(x, c)  y = Cast<to = 1>(b) }",
            refused="it does not compare with one constant",
        ),
        Example(
            "g (float[1,8,4,4] x) => (y) <float c = {0.5}> { b = Greater(x, c)  n = Not(b)  y = Cast<to = 1>(n) }",
            refused="Not 'n' reads whether it holds",
        ),
        Example(
            "g (float[1,8,4,4] x) => (y) <float c = {0.5}> { b = Greater(x, c)  y = Cast<to = 6>(b) }",
            refused="Cast 'y' reads whether it holds",
        ),
        Example(
            """g (float[1,8,4,4] x) => (y)
            <float c = {0.5}, float z = {0.0}> { b = Greater(x, c)  u = Reciprocal(x)  y = Where(b, u, z) }""",
            refused="'u' may be infinite where Where 'y' leaves it out",
            title="1 / 0 times 0 is no number",
        ),
        Example(
            "g (int32[1,8,4,4] x) => (y) <int32 c = {2}> { b = Greater(x, c)  y = Cast<to = 1>(b) }",
            refused="Cast 'y' reads whether it holds",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        x, bound, flipped = _compared(node, ctx)
        readers = tuple(dict.fromkeys(node.output.consumers))
        if node.output.is_output or not readers:
            raise Refused("it is an output of the model")
        for reader in readers:
            use = _use(reader, node, ctx)
            if use is None or reader.output.dtype != x.dtype:
                raise Refused(f"{reader.op} {short(reader.label)!r} reads whether it holds, in a way that is no product")
            if isinstance(use, Value) and not is_finite(use, ctx):
                raise Refused(f"{short(use.name)!r} may be infinite where {reader.op} {short(reader.label)!r} leaves it out")
            writable(reader)
        return Match(self, node, (node, *readers), tuple(r.output for r in readers), (x, bound, flipped, ctx))

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._write(match, build, 0.0)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """Turned round."""
        return self._write(match, build, 1.0)

    def _write(self, match: Match, build: Builder, turned: float) -> Mapping[Value, str]:
        x, bound, below, ctx = match.facts
        f = Formula(build, x)
        near = np.asarray(bound, f.dtype)
        infinity = np.asarray(np.inf, f.dtype)
        if match.root.op_type.endswith("OrEqual"):
            near = np.nextafter(near, infinity if below else -infinity)
        gap = abs(float(np.nextafter(near, -infinity if below else infinity)) - float(near))
        if not (math.isfinite(gap) and gap):
            raise Refused(f"it compares with {bound:g}")
        ramp = f("Sub", float(near), x) if below else f("Sub", x, float(near))
        power = -math.frexp(gap)[1] + 1
        most = np.finfo(f.dtype).maxexp - 1
        while power > 0:
            step = min(power, most)
            ramp, power = f("Mul", ramp, 2.0**step), power - step
        mask = f.clip(ramp, 0.0, 1.0)
        if turned:
            mask = f("Sub", turned, mask)
        made: dict[Value, str] = {}
        for reader in match.nodes[1:]:
            use = _use(reader, match.root, ctx)
            if isinstance(use, bool):
                made[reader.output] = mask if mask not in made.values() else build.op("Identity", mask)
            else:
                assert use is not None
                made[reader.output] = f("Mul", use, mask)
        return made


def _compared(node: Node, ctx: Context) -> tuple[Value, float, bool]:
    """The tensor, the constant, and whether it has to be below."""
    smaller = node.op_type.startswith("Less")
    for i, other in ((0, 1), (1, 0)):
        x, bound = ctx.input(node, i), ctx.input(node, other)
        try:
            array = ctx.array(bound)
        except Undecidable:
            continue
        if array.size == 1 and array.ndim <= len(x.shape or ()) and not ctx.is_constant(x):
            return x, float(array.reshape(())), smaller != (i == 1)
    raise Refused("it does not compare with one constant")


def _use(reader: Node, comparison: Node, ctx: Context) -> bool | Value | None:
    """True for the comparison as a number, a tensor for that which is zero where it does not hold, None for anything else."""
    if reader.domain or reader.output.dtype not in FLOATS:
        return None
    if reader.op_type == "Cast":
        return True
    if reader.op_type == "Where" and reader.inputs[0] is comparison.output and (zero := reader.inputs[2]) is not None:
        array = ctx.analysis.constants.get(zero)
        if array is not None and array.size == 1 and not array.any() and array.ndim == 0:
            return reader.inputs[1]
    return None
