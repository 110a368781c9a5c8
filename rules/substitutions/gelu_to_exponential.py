from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from npu_guard.results.proof import ROUNDING
from npu_guard.rewriting.arithmetic import Formula, writable
from npu_guard.rewriting.gelu import Gelu, spelled_out
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

TAIL = (
    0.2820948, 0.28209378, 0.24688388, 0.17532408, 0.09341475, -0.05905091, 0.13185004, -0.45456372, 0.49338574, -0.23460549,
    0.04317307,
)  # fmt: skip
"""Coefficients of Q, lowest first: t Q(t) with t = 1 / (1 + z / 2) is exp(z^2) erfc(z) for all z >= 0, but for 3e-8 of it.

They are the Chebyshev interpolation of degree 10 in t; tests/rewriting/test_activations.py holds them against math.erfc.
"""

_DIGITS = 1e-6
"""A float of the root of 2 is closer than this."""


class GeluToExponential(Substitution):
    """Gelu by erf becomes a Relu minus a tail, which is written with Exp, one Div, sums and products.

    gelu(x) = relu(x) - |x| erfc(|x| / sqrt 2) / 2, and erfc(z) = t Q(t) exp(-z^2) with t = 1 / (1 + z / 2) and a polynomial Q of
    degree 10 that is right to 3e-8 of the tail (the form is that of Press et al., Numerical Recipes, section 6.2; the
    coefficients are our own). That is less than the rounding of a float, so nothing is lost that Erf itself would keep.
    """

    name = "gelu-to-exponential"
    last = True  # others know their blocks by this operator
    roots = ("Gelu", "Erf")
    operators = dict.fromkeys(("Mul", "Add", "Sub", "Div", "Exp", "Relu", "Abs"), "supported")
    good = (
        Example("g (float[1,8,4,4] x) => (y) { y = Gelu(x) }", label=ROUNDING),
        Example(
            """g (float[1,8,4,4] x) => (y) <float r = {1.41421354}, float one = {1.0}, float half = {0.5}>
            { d = Div(x, r)  e = Erf(d)  a = Add(e, one)  m = Mul(x, a)  y = Mul(m, half) }""",
            label=ROUNDING,
            title="spelled out",
        ),
        Example(
            """g (float[1,8,4,4] x) => (y) <float r = {0.70710677}, float one = {1.0}, float half = {0.5}>
            { h = Mul(x, half)  d = Mul(x, r)  e = Erf(d)  a = Add(one, e)  m = Mul(h, a)  y = Add(m, x) }""",
            label=ROUNDING,
            title="spelled out by another exporter",
        ),
        Example(
            """g (float[1,8,4,4] x) => (y) <float r = {1.41421354}, float half = {0.5}>
            { d = Div(x, r)  e = Erf(d)  b = Mul(e, half)  m = Add(b, half)  y = Mul(x, m) }""",
            label=ROUNDING,
            title="spelled out with the halves in front",
        ),
        Example("g (float[1,5,16] x) => (y) { y = Gelu(x) }", label=ROUNDING, title="tokens"),
    )
    bad = (
        Example("g (float[1,8,4,4] x) => (y) { e = Erf(x)  y = Add(e, x) }", refused="it is no part of a Gelu"),
        Example(
            """g (float[1,8,4,4] x) => (y) <float r = {1.4142}, float one = {1.0}, float half = {0.5}>
            { d = Div(x, r)  e = Erf(d)  a = Add(e, one)  m = Mul(x, a)  y = Mul(m, half) }""",
            refused="it is no part of a Gelu",
            title="with a root of 2 of five digits",
        ),
        Example(
            """g (float[1,8,4,4] x) => (y) <float r = {1.41421354}, float one = {1.0}, float half = {0.5}>
            { d = Div(x, r)  e = Erf(d)  b = Mul(e, half)  m = Add(b, one)  y = Mul(x, m) }""",
            refused="it is no part of a Gelu",
            title="with halves that are not the same",
        ),
        Example(
            'g (float[1,8,4,4] x) => (y) { y = Gelu<approximate = "tanh">(x) }',
            refused="silu-to-sigmoid-mul writes it exactly",
        ),
        Example("g (bfloat16[1,8,4,4] x) => (y) { y = Gelu(x) }", refused="neither float32, float16 nor double"),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        if node.op_type == "Gelu" and node.attr("approximate", "none") != "none":
            raise Refused("it is the tanh form already; silu-to-sigmoid-mul writes it exactly")
        writable(node)
        gelu = spelled_out(node, ctx, _DIGITS) if node.op_type == "Erf" else Gelu(node.inputs[0], (node,))
        if gelu is None:
            raise Refused("it is no part of a Gelu")
        return Match(self, node, gelu.nodes, (gelu.nodes[-1].output,), gelu)

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._write(match, build, TAIL)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The last coefficient forgotten."""
        return self._write(match, build, TAIL[:-1])

    def _write(self, match: Match, build: Builder, tail: tuple[float, ...]) -> Mapping[Value, str]:
        f, x = Formula(build, match.root.output), match.facts.x
        size = f("Abs", x)
        t = f("Div", 1.0, f("Add", f("Mul", size, math.sqrt(0.5) / 2), 1.0))
        *rest, last = (c / 2 for c in tail)  # the half of the Gelu
        polynomial = f("Add", f("Mul", t, last), rest[-1])
        for coefficient in rest[-2::-1]:
            polynomial = f("Add", f("Mul", polynomial, t), coefficient)
        bell = f("Exp", f("Mul", f("Mul", x, x), -0.5))
        share = f("Mul", f("Mul", polynomial, t), bell)
        return {match.replaced[0]: f("Sub", f("Relu", x), f("Mul", size, share))}
