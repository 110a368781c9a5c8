from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from npu_guard.results.proof import SAMPLED
from npu_guard.rewriting.arithmetic import Formula, writable
from npu_guard.rewriting.substitution import Builder, Example, Match, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value


class SoftplusToLogarithm(Substitution):
    """Softplus becomes a Relu and a logarithm, which it is by definition.

    softplus(x) = log(1 + exp(x)) = relu(x) + log(1 + exp(-|x|)). In the second form no exponential grows beyond 1, so large
    inputs do not overflow.
    """

    name = "softplus-to-logarithm"
    last = True  # others know their blocks by this operator
    roots = ("Softplus",)
    operators = dict.fromkeys(("Relu", "Abs", "Mul", "Exp", "Add", "Log", "Tanh"), "supported")
    good = (
        Example(
            "g (float[1,8,4,4] x) => (y) { y = Softplus(x) }",
            ops=("Abs", "Mul", "Exp", "Add", "Log", "Relu", "Add"),
            label=SAMPLED,
        ),
        Example(
            "g (float[1,8,4,4] x) => (y) { s = Softplus(x)  t = Tanh(s)  y = Mul(x, t) }",
            ops=("Abs", "Mul", "Exp", "Add", "Log", "Relu", "Add", "Tanh", "Mul"),
            label=SAMPLED,
            title="Mish",
        ),
        Example(
            "g (float[2,7] x) => (y) { y = Softplus(x) }",
            ops=("Abs", "Mul", "Exp", "Add", "Log", "Relu", "Add"),
            label=SAMPLED,
            title="a vector",
        ),
        Example(
            "g (float[1,8,4,4] x, float[1,8,4,4] z) => (y) { d = Mul(x, z)  y = Softplus(d) }",
            ops=("Mul", "Abs", "Mul", "Exp", "Add", "Log", "Relu", "Add"),
            label=SAMPLED,
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
        return self._write(match, build, -1.0)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The exponential falls off too fast."""
        return self._write(match, build, -1.02)

    def _write(self, match: Match, build: Builder, rate: float) -> Mapping[Value, str]:
        f, x = Formula(build, match.root.output), match.root.inputs[0]
        assert x is not None
        tail = f("Log", f("Add", f("Exp", f("Mul", f("Abs", x), rate)), 1.0))
        return {match.root.output: f("Add", f("Relu", x), tail)}
