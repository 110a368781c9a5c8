from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

from npu_guard.rewriting.arithmetic import Formula, writable
from npu_guard.rewriting.substitution import Builder, Example, Match, Substitution

if TYPE_CHECKING:
    from collections.abc import Sequence

    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_POWER = "a power"
_LOGARITHM = "a logarithm"


class RootToPower(Substitution):
    """A square root becomes a power, or half a logarithm.

    sqrt(x) = x^(1/2) = exp(log(x) / 2) for every x that has a root; 0 stays 0, as log(0) is minus infinity and its exponential
    is 0. An error of the logarithm grows with it: at 1e6 some 14 times the rounding of a float.
    """

    name = "root-to-power"
    last = True  # others know their blocks by this operator
    roots = ("Sqrt",)
    alone = True
    good = (
        Example(
            "g (float[1,8,4,4] x) => (y) { s = Mul(x, x)  y = Sqrt(s) }",
            ops=("Mul", "Pow"),
            operators={"Mul": "supported", "Pow": "supported"},
            title="by a power",
        ),
        Example(
            "g (float[1,8,4,4] x) => (y) { s = Mul(x, x)  y = Sqrt(s) }",
            ops=("Mul", "Log", "Mul", "Exp"),
            operators=dict.fromkeys(("Mul", "Log", "Exp"), "supported"),
            title="by a logarithm",
        ),
        Example(
            """g (float[1,8,3,5] x) => (y)
            <float e = {0.00001}, int64[1] a = {1}>
            { q = Mul(x, x)  m = ReduceMean(q, a)  v = Add(m, e)  s = Sqrt(v)  y = Div(x, s) }""",
            ops=("Mul", "ReduceMean", "Add", "Pow", "Div"),
            operators=dict.fromkeys(("Mul", "ReduceMean", "Add", "Pow", "Div"), "supported"),
            title="in a norm",
        ),
        Example(
            "g (float[1,8,4,4] x) => (y) { s = Relu(x)  y = Sqrt(s) }",
            ops=("Relu", "Log", "Mul", "Exp"),
            operators=dict.fromkeys(("Relu", "Mul", "Log", "Exp"), "supported"),
            title="0 stays 0",
        ),
    )
    bad = (
        Example(
            "g (float[1,8,4,4] x) => (y) { y = Sqrt(x) }",
            refused="opset 7 is older than 8",
            opset=7,
            operators={"Pow": "supported"},
        ),
        Example(
            """g (float[1,8,4,4] x, bool b) => (y)
            { y = If<then_branch = t () => (c) { c = Sqrt(x) }, else_branch = e () => (r) { r = Relu(x) }>(b) }""",
            refused="it is inside a subgraph",
            operators={"Pow": "supported"},
        ),
        Example(
            "g (bfloat16[1,8,4,4] x) => (y) { y = Sqrt(x) }",
            refused="neither float32, float16 nor double",
            operators={"Pow": "supported"},
        ),
    )

    def match(self, node: Node, ctx: Context) -> Sequence[Match]:
        writable(node)
        return [Match(self, node, (node,), (node.output,), variant=way) for way in (_POWER, _LOGARITHM)]

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._write(match, build, Fraction(1, 2))

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """A slightly smaller power."""
        return self._write(match, build, Fraction(127, 256))

    def _write(self, match: Match, build: Builder, exponent: Fraction) -> Mapping[Value, str]:
        x, f = match.root.inputs[0], Formula(build, match.root.output)
        assert x is not None
        written = f("Pow", x, exponent) if match.variant == _POWER else f("Exp", f("Mul", f("Log", x), exponent))
        return {match.root.output: written}
