from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

from npu_guard.proof.exact import CUBIC, ROOT_OF_2_OVER_PI
from npu_guard.results.proof import ROUNDING
from npu_guard.rewriting.arithmetic import Formula, writable
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_NEEDS = {
    "Swish": ("Sigmoid", "Mul"),
    "Gelu": ("Sigmoid", "Mul", "Add"),
    "Mish": ("Sigmoid", "Mul", "Add", "Div"),
}


class SiluToSigmoidMul(Substitution):
    """Swish, Mish and the tanh form of Gelu become the input times a gate of sigmoids.

    swish(x) = x s(a x) by definition (SiLU is a = 1). The tanh form of gelu is one too, as (1 + tanh u) / 2 = s(2u):

        x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) = x s(x (b + c x^2)),  b = sqrt(8/pi), c = 0.044715 b

    mish(x) = x tanh(ln(1 + exp x)); with n = s(-x) = 1 / (1 + exp x), tanh(-ln n) = (1 - n^2) / (1 + n^2), and 1 - n = s(x). So
    mish(x) = x s(x) (1 + n) / (1 + n^2), where nothing cancels and the divisor lies in [1, 2].
    """

    name = "silu-to-sigmoid-mul"
    last = True  # others know their blocks by this operator
    roots = ("Swish", "Mish", "Gelu")
    alone = True
    operators = dict.fromkeys(("Sigmoid", "Mul", "Add", "Div"), "supported")
    good = (
        Example("g (float[1,8,4,4] x) => (y) { y = Swish(x) }", ops=("Sigmoid", "Mul"), opset=24),
        Example(
            'g (float[1,8,4,4] x) => (y) { y = Gelu<approximate = "tanh">(x) }',
            ops=("Mul", "Mul", "Add", "Mul", "Sigmoid", "Mul"),
            title="gelu by its tanh form",
            label=ROUNDING,
        ),
        Example(
            "g (float[1,8,4,4] x) => (y) { y = Mish(x) }",
            ops=("Mul", "Sigmoid", "Add", "Mul", "Add", "Div", "Sigmoid", "Mul", "Mul"),
        ),
        Example(
            "g (float[1,8,4,4] x) => (y) { m = Swish<alpha = 1.702>(x)  y = Mul(m, x) }",
            ops=("Mul", "Sigmoid", "Mul", "Mul"),
            opset=24,
            title="steeper",
        ),
    )
    bad = (
        Example("g (double[1,8,4,4] x) => (y) { y = Gelu(x) }", refused="by erf, which is no gate of sigmoids"),
        Example("g (float[1,8,4,4] x) => (y) { y = Gelu(x) }", refused="gelu-to-tanh comes close"),
        Example(
            """g (float[1,8,4,4] x, bool b) => (y)
            { y = If<then_branch = t () => (c) { c = Mish(x) }, else_branch = e () => (r) { r = Sigmoid(x) }>(b) }""",
            refused="it is inside a subgraph",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        if node.op_type == "Gelu" and node.attr("approximate", "none") != "tanh":
            raise Refused("it is gelu by erf, which is no gate of sigmoids; gelu-to-tanh comes close")
        writable(node)
        return Match(self, node, (node,), (node.output,))

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._write(match, build, 1.0)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """Gates that are too steep."""
        return self._write(match, build, 1.25)

    def _write(self, match: Match, build: Builder, steeper: float) -> Mapping[Value, str]:
        node, x = match.root, match.root.inputs[0]
        assert x is not None
        f = Formula(build, node.output)
        if node.op_type == "Gelu":
            slope = ROOT_OF_2_OVER_PI * Fraction(2 * steeper)
            gate = f("Sigmoid", f("Mul", f("Add", f("Mul", f("Mul", x, x), slope * CUBIC), slope), x))
        elif node.op_type == "Mish":
            n = f("Sigmoid", f("Mul", x, -steeper))
            rest = f("Div", f("Add", n, 1.0), f("Add", f("Mul", n, n), 1.0))
            gate = f("Mul", f("Sigmoid", x), rest)
        else:
            alpha = steeper * node.attr("alpha", 1.0)
            gate = f("Sigmoid", x if alpha == 1.0 else f("Mul", x, alpha))
        return {node.output: f("Mul", x, gate)}
