from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

from npu_guard.results.proof import ROUNDING
from npu_guard.rewriting.arithmetic import Formula, writable
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_NEEDS = ("Relu", "Tanh", "Mul", "Add", "Sub", "Div")


class EluToTanh(Substitution):
    """Elu, Celu and Selu become Relu and Tanh.

    elu(x) = max(x, 0) + a (exp(m) - 1) with m = min(x, 0), and tanh is the exponential in another form:
    exp(m) - 1 = 2 tanh(m/2) / (1 - tanh(m/2)). With T = tanh(max(-x, 0) / 2), which lies in [0, 1],

        elu(x) = max(x, 0) - 2 a T / (1 + T)

    so nothing overflows, nothing near zero cancels, and the divisor lies in [1, 2]. celu has x / a in the exponential, and selu
    is elu with a factor for either side.
    """

    name = "elu-to-tanh"
    last = True  # others know their blocks by this operator
    roots = ("Elu", "Celu", "Selu")
    alone = True
    operators = dict.fromkeys(_NEEDS, "supported")
    good = (
        Example(
            "g (float[1,8,4,4] x) => (y) { y = Elu(x) }",
            ops=("Relu", "Mul", "Relu", "Tanh", "Add", "Div", "Mul", "Sub"),
        ),
        Example(
            "g (float[1,8,4,4] x) => (y) { r = Elu<alpha = 0.3>(x)  y = Add(r, x) }",
            ops=("Relu", "Mul", "Relu", "Tanh", "Add", "Div", "Mul", "Sub", "Add"),
            title="another alpha",
        ),
        Example(
            "g (float[1,8,4,4] x) => (y) { y = Celu<alpha = 2.5>(x) }",
            ops=("Relu", "Mul", "Relu", "Tanh", "Add", "Div", "Mul", "Sub"),
            label=ROUNDING,
        ),
        Example(
            "g (float[1,8,4,4] x) => (y) { y = Selu(x) }",
            ops=("Relu", "Mul", "Mul", "Relu", "Tanh", "Add", "Div", "Mul", "Sub"),
            opset=9,
            label=ROUNDING,
        ),
    )
    bad = (
        Example("g (float[1,8,4,4] x) => (y) { y = Celu<alpha = -1.0>(x) }", refused="alpha is -1, not above 0"),
        Example("g (float[1,8,4,4] x) => (y) { y = Elu(x) }", refused="opset 6 is older than 8", opset=6),
        Example(
            """g (float[1,8,4,4] x, bool b) => (y)
            { y = If<then_branch = t () => (c) { c = Elu<alpha = 0.0>(x) }, else_branch = e () => (r) { r = Relu(x) }>(b) }""",
            refused="it is inside a subgraph",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        writable(node)
        if node.op_type == "Celu" and node.attr("alpha", 1.0) <= 0:
            raise Refused(f"alpha is {node.attr('alpha'):g}, not above 0")
        return Match(self, node, (node,), (node.output,))

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._write(match, build, Fraction(1, 2))

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The half forgotten."""
        return self._write(match, build, Fraction(1))

    def _write(self, match: Match, build: Builder, half: Fraction) -> Mapping[Value, str]:
        node, x = match.root, match.root.inputs[0]
        assert x is not None
        f = Formula(build, node.output)
        alpha, gamma = Fraction(node.attr("alpha", 1.0)), Fraction(node.attr("gamma", 1.0))
        above = f("Relu", x)
        if gamma != 1:
            above = f("Mul", above, gamma)
        t = f("Tanh", f.relu_of_negative(x, half / (alpha if node.op_type == "Celu" else 1)))
        below = f("Mul", f("Div", t, f("Add", t, 1.0)), 2 * alpha * gamma)
        return {node.output: f("Sub", above, below)}
