from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from npu_guard.rewriting.arithmetic import Formula, writable
from npu_guard.rewriting.gelu import Gelu, spelled_out
from npu_guard.rewriting.substitution import APPROXIMATE, Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_NEEDS = ("Mul", "Add", "Sigmoid", "Tanh")


class GeluToTanh(Substitution):
    """Gelu by erf becomes its tanh form, which is at most 0.0005 off.

    gelu(x) = x/2 (1 + erf(x / sqrt 2)), and erf(x / sqrt 2) comes close to tanh(u) with u = sqrt(2/pi) (x + 0.044715 x^3)
    (Hendrycks and Gimpel, Gaussian Error Linear Units, 2016). The largest difference of the two gelus is 0.00047, at
    |x| = 2.7. As (1 + tanh u) / 2 = sigmoid(2u), it is written x sigmoid(x (b + c x^2)) with b = sqrt(8/pi), c = 0.044715 b.

    Exporters spell gelu out as a division by sqrt 2, Erf, an addition of 1 and two products; that is replaced as a whole.
    An Erf by itself becomes tanh((b + 2 c z^2) z / sqrt 2).
    """

    name = "gelu-to-tanh"
    exactness = APPROXIMATE
    minimum_snr_db = 40.0
    last = True  # others know their blocks by this operator
    roots = ("Gelu", "Erf")
    operators = dict.fromkeys(_NEEDS, "supported") | {"Div": "supported"}
    good = (
        Example(
            "g (float[1,8,4,4] x) => (y) { y = Gelu(x) }",
            ops=("Mul", "Mul", "Add", "Mul", "Sigmoid", "Mul"),
        ),
        Example(
            """g (float[1,8,4,4] x) => (y) <float r = {1.41421354}, float one = {1.0}, float half = {0.5}>
            { d = Div(x, r)  e = Erf(d)  a = Add(e, one)  m = Mul(x, a)  y = Mul(m, half) }""",
            ops=("Mul", "Mul", "Add", "Mul", "Sigmoid", "Mul"),
            title="spelled out",
        ),
        Example(
            """g (float[1,8,4,4] x) => (y) <float r = {0.70710677}, float one = {1.0}, float half = {0.5}>
            { h = Mul(x, half)  d = Mul(x, r)  e = Erf(d)  a = Add(one, e)  m = Mul(h, a)  y = Add(m, x) }""",
            ops=("Mul", "Mul", "Add", "Mul", "Sigmoid", "Mul", "Add"),
            title="spelled out by another exporter",
        ),
        Example(
            "g (float[1,8,4,4] x) => (y) { e = Erf(x)  y = Add(e, x) }",
            ops=("Mul", "Mul", "Add", "Mul", "Tanh", "Add"),
            title="erf by itself",
        ),
        Example(
            """g (float[1,8,4,4] x) => (y, e) <float r = {1.41421354}, float one = {1.0}, float half = {0.5}>
            { d = Div(x, r)  e = Erf(d)  a = Add(e, one)  m = Mul(x, a)  y = Mul(m, half) }""",
            ops=("Div", "Mul", "Mul", "Add", "Mul", "Tanh", "Add", "Mul", "Mul"),
            title="erf of which something else is made too",
        ),
    )
    bad = (
        Example(
            'g (float[1,8,4,4] x) => (y) { y = Gelu<approximate = "tanh">(x) }',
            refused="silu-to-sigmoid-mul writes it exactly",
        ),
        Example("g (bfloat16[1,8,4,4] x) => (y) { y = Erf(x) }", refused="neither float32, float16 nor double"),
        Example(
            """g (float[1,8,4,4] x, bool b) => (y)
            { y = If<then_branch = t () => (c) { c = Erf(x) }, else_branch = e () => (r) { r = Tanh(x) }>(b) }""",
            refused="it is inside a subgraph",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        if node.op_type == "Gelu" and node.attr("approximate", "none") != "none":
            raise Refused("it is the tanh form already; silu-to-sigmoid-mul writes it exactly")
        writable(node)
        gelu = spelled_out(node, ctx, 1e-3) if node.op_type == "Erf" else Gelu(node.inputs[0], (node,))
        return Match(
            self, node, (node,) if gelu is None else gelu.nodes, (node.output if gelu is None else gelu.nodes[-1].output,), gelu
        )

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._write(match, build, 0.044715)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """A cubic term of the wrong sign."""
        return self._write(match, build, -0.044715)

    def _write(self, match: Match, build: Builder, cubic: float) -> Mapping[Value, str]:
        gelu, b = match.facts, math.sqrt(8 / math.pi)
        f, x = Formula(build, match.root.output), match.root.inputs[0] if gelu is None else gelu.x
        assert x is not None
        if gelu is None:  # erf(z) is tanh(u) at x = sqrt(2) z
            first, third = b / math.sqrt(2), 2 * cubic * b / math.sqrt(2)
            return {match.root.output: f("Tanh", f("Mul", f("Add", f("Mul", f("Mul", x, x), third), first), x))}
        gate = f("Sigmoid", f("Mul", f("Add", f("Mul", f("Mul", x, x), cubic * b), b), x))
        return {match.replaced[0]: f("Mul", x, gate)}
