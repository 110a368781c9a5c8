from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from npu_guard.results.proof import ROUNDING
from npu_guard.rewriting.arithmetic import Formula, writable
from npu_guard.rewriting.substitution import Builder, Example, Match, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value


LOGARITHM = (1.0, -0.49999904, 0.33330004, -0.24954559, 0.19678117, -0.15311863, 0.10614265, -0.0570642, 0.01990716, -0.00325638)
"""Coefficients of P, lowest first: e P(e) is log(1 + e) for 0 <= e <= 1, but for 3e-8 of it.

They are the Chebyshev interpolation of degree 9; tests/rewriting/test_activations.py holds them against math.log1p.
"""


class SoftplusToExponential(Substitution):
    """Softplus becomes a Relu and what an exponential adds to it.

    softplus(x) = log(1 + exp(x)) = relu(x) + log(1 + e) with e = exp(-|x|), which never grows beyond 1. log(1 + e) = e P(e)
    with a polynomial of degree 9 that is right to 3e-8 of it. A logarithm of 1 + e would lose all digits where x is far below 0.
    """

    name = "softplus-to-exponential"
    last = True  # others know their blocks by this operator
    roots = ("Softplus",)
    alone = True
    operators = dict.fromkeys(("Relu", "Abs", "Mul", "Exp", "Add", "Tanh"), "supported")
    good = (
        Example(
            "g (float[1,8,4,4] x) => (y) { y = Softplus(x) }",
            label=ROUNDING,
        ),
        Example(
            "g (float[1,8,4,4] x) => (y) { s = Softplus(x)  t = Tanh(s)  y = Mul(x, t) }",
            label=ROUNDING,
            title="Mish",
        ),
        Example(
            "g (float[2,7] x) => (y) { y = Softplus(x) }",
            label=ROUNDING,
            title="a vector",
        ),
        Example(
            "g (float[1,8,4,4] x, float[1,8,4,4] z) => (y) { d = Mul(x, z)  y = Softplus(d) }",
            label=ROUNDING,
            title="of a product",
        ),
    )
    bad = (
        Example("g (bfloat16[1,8,4,4] x) => (y) { y = Softplus(x) }", refused="neither float32, float16 nor double", opset=22),
        Example("g (float[1,8,4,4] x) => (y) { y = Softplus(x) }", refused="opset 7 is older than 8", opset=7),
        Example(
            """g (float[1,8,4,4] x, bool b) => (y)
            { y = If<then_branch = t () => (c) { c = Softplus(x) }, else_branch = e () => (r) { r = Relu(x) }>(b) }""",
            refused="it is inside a subgraph",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        writable(node)
        return Match(self, node, (node,), (node.output,))

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._write(match, build, LOGARITHM)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The last coefficient forgotten."""
        return self._write(match, build, LOGARITHM[:-1])

    def _write(self, match: Match, build: Builder, coefficients: tuple[float, ...]) -> Mapping[Value, str]:
        f, x = Formula(build, match.root.output), match.root.inputs[0]
        assert x is not None
        e = f("Exp", f("Mul", f("Abs", x), -1.0))
        polynomial = f("Add", f("Mul", e, coefficients[-1]), coefficients[-2])
        for coefficient in coefficients[-3::-1]:
            polynomial = f("Add", f("Mul", polynomial, e), coefficient)
        return {match.root.output: f("Add", f("Relu", x), f("Mul", polynomial, e))}
