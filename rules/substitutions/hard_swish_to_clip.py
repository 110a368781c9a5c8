from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

from npu_guard.results.proof import ROUNDING
from npu_guard.rewriting.arithmetic import Formula, writable
from npu_guard.rewriting.substitution import Builder, Example, Match, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_NEEDS = ("Mul", "Add", "Clip")


class HardSwishToClip(Substitution):
    """HardSigmoid and HardSwish become Clip, which they are by definition.

    hardsigmoid(x) = clip(alpha x + beta, 0, 1), with alpha = 0.2 and beta = 0.5 unless the node says otherwise, and
    hardswish(x) = x clip(x / 6 + 1/2, 0, 1).
    """

    name = "hard-swish-to-clip"
    last = True  # others know their blocks by this operator
    roots = ("HardSwish", "HardSigmoid")
    alone = True
    operators = dict.fromkeys(_NEEDS, "supported")
    good = (
        Example("g (float[1,8,4,4] x) => (y) { y = HardSwish(x) }", ops=("Mul", "Add", "Clip", "Mul"), label=ROUNDING),
        Example("g (float[1,8,4,4] x) => (y) { y = HardSigmoid(x) }", ops=("Mul", "Add", "Clip")),
        Example(
            "g (float[1,8,1,1] x, float[1,8,4,4] m) => (y) { s = HardSigmoid<alpha = 0.166666, beta = 0.4>(x)  y = Mul(m, s) }",
            ops=("Mul", "Add", "Clip", "Mul"),
            title="a gate, with its own slope",
        ),
        Example(
            "g (float[1,8,4,4] x) => (y) { y = HardSigmoid(x) }", ops=("Mul", "Add", "Clip"), opset=10, title="Clip by attributes"
        ),
    )
    bad = (
        Example("g (float[1,8,4,4] x) => (y) { y = HardSigmoid(x) }", refused="opset 6 is older than 8", opset=6),
        Example("g (bfloat16[1,8,4,4] x) => (y) { y = HardSigmoid(x) }", refused="neither float32, float16 nor double", opset=22),
        Example(
            """g (float[1,8,4,4] x, bool b) => (y)
            { y = If<then_branch = t () => (c) { c = HardSwish(x) }, else_branch = e () => (r) { r = Clip(x) }>(b) }""",
            refused="it is inside a subgraph",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        writable(node)
        return Match(self, node, (node,), (node.output,))

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._write(match, build, 1.0)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """Clipped too high."""
        return self._write(match, build, 1.5)

    def _write(self, match: Match, build: Builder, high: float) -> Mapping[Value, str]:
        node, x = match.root, match.root.inputs[0]
        assert x is not None
        f = Formula(build, node.output)
        swish = node.op_type == "HardSwish"
        alpha, beta = (Fraction(1, 6), 0.5) if swish else (node.attr("alpha"), node.attr("beta"))
        gate = f.clip(f("Add", f("Mul", x, alpha), beta), 0.0, high)
        return {node.output: f("Mul", x, gate) if swish else gate}
