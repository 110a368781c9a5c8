from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from npu_guard.results.proof import SAMPLED
from npu_guard.rewriting.arithmetic import Formula, number_of, writable
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_LEAST = {1: 16.0, 10: 8.0, 11: 36.0}
"""By element type, from where on softplus(x) is x but for rounding: exp(-x) is below what x can hold."""


class BoundedSoftplusToPlain(Substitution):
    """A softplus that a comparison keeps from overflowing becomes one that cannot overflow.

    PyTorch's softplus is x where x > c, with c = 20, and log(1 + exp(x)) elsewhere. Beyond c both are the same up to rounding,
    as log(1 + exp(x)) = x + log(1 + exp(-x)). So an operator Softplus, which never overflows, needs no comparison. What is
    spelled out as Log and Exp is relu(x) - log(sigmoid(|x|)): for x > 0 the second part is log(1 + exp(-x)), and for x < 0
    all of it. The sigmoid is between 1/2 and 1, so nothing grows.
    """

    name = "bounded-softplus-to-plain"
    roots = ("Where",)
    operators = dict.fromkeys(("Softplus", "Relu", "Mul", "Max", "Sigmoid", "Log", "Sub"), "supported")
    good = (
        Example(
            """g (float[1,8,4,4] x) => (y) <float c = {20.0}, float one = {1.0}> {
                m = Greater(x, c)  e = Exp(x)  a = Add(e, one)  l = Log(a)  y = Where(m, x, l) }""",
            ops=("Mul", "Max", "Relu", "Sigmoid", "Log", "Sub"),
            label=SAMPLED,
        ),
        Example(
            """g (float[1,8,4,4] x) => (y) <float c = {20.0}> { m = Greater(x, c)  s = Softplus(x)  y = Where(m, x, s) }""",
            ops=("Softplus",),
            label=SAMPLED,
            title="as one exporter writes it",
        ),
        Example(
            """g (float[1,8,4,4] x) => (y, e) <float c = {30.0}, float one = {1.0}> {
                m = Less(c, x)  e = Exp(x)  a = Add(one, e)  l = Log(a)  y = Where(m, x, l) }""",
            ops=("Exp", "Mul", "Max", "Relu", "Sigmoid", "Log", "Sub"),
            label=SAMPLED,
            title="turned round, with an exponential of which something else is made too",
        ),
        Example(
            """g (float[1,8,4,4] x) => (y) <float c = {20.0}, float one = {1.0}> {
                m = LessOrEqual(x, c)  e = Exp(x)  a = Add(e, one)  l = Log(a)  y = Where(m, l, x) }""",
            ops=("Mul", "Max", "Relu", "Sigmoid", "Log", "Sub"),
            label=SAMPLED,
            title="the other way round",
        ),
    )
    bad = (
        Example(
            """g (float[1,8,4,4] x) => (y) <float c = {5.0}, float one = {1.0}> {
                m = Greater(x, c)  e = Exp(x)  a = Add(e, one)  l = Log(a)  y = Where(m, x, l) }""",
            refused="it is x from 5 on, where softplus is not x yet",
        ),
        Example(
            "g (double[1,8,4,4] x) => (y) <double c = {20.0}> { m = Greater(x, c)  s = Softplus(x)  y = Where(m, x, s) }",
            refused="it is x from 20 on, where softplus is not x yet",
            title="which holds more digits",
        ),
        Example(
            """g (float[1,8,4,4] x, bool b) => (y) <float c = {20.0}> { y = If<
                then_branch = t () => (p) { m = Greater(x, c)  s = Softplus(x)  p = Where(m, x, s) },
                else_branch = e () => (r) { r = Relu(x) }>(b) }""",
            refused="it is inside a subgraph",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        condition, *branches = node.inputs
        bound = None if condition is None else _bound(condition.producer, ctx)
        if bound is None:
            return None
        x, least, above = bound
        taken, other = branches if above else reversed(branches)
        inner = None if taken is not x or other is None else _softplus(other.producer, x, ctx)
        if inner is None or condition is None or condition.producer is None:
            return None
        writable(node)
        if least < _LEAST[node.output.dtype]:
            raise Refused(f"it is x from {least:g} on, where softplus is not x yet")
        block = [node]
        for chain in ((condition.producer,), inner):  # what others read too stays
            for made in chain:
                if made.output.only_consumer is None:
                    break
                block.append(made)
        return Match(self, node, tuple(reversed(block)), (node.output,), (x, inner[0].op_type))

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._write(match, build, -1.0)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """Without the size of x, so that what is below zero grows."""
        return self._write(match, build, 1.0)

    def _write(self, match: Match, build: Builder, turned: float) -> Mapping[Value, str]:
        x, last = match.facts
        f = Formula(build, match.root.output)
        if last == "Softplus":
            return {match.root.output: f("Softplus", x) if turned < 0 else f("Relu", x)}
        size = f("Max", x, f("Mul", x, turned))
        return {match.root.output: f("Sub", f("Relu", x), f("Log", f("Sigmoid", size)))}


def _bound(node: Node | None, ctx: Context) -> tuple[Value, float, bool] | None:
    """What is compared with a number, the number, and whether the condition holds above it."""
    if node is None or node.domain or node.op_type not in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual"):
        return None
    greater = node.op_type.startswith("Greater")
    for at, (value, other) in enumerate((node.inputs, node.inputs[::-1])):
        number = None if other is None else number_of(other, ctx)
        if value is not None and number is not None:
            return value, number, greater == (at == 0)
    return None


def _softplus(node: Node | None, x: Value, ctx: Context) -> tuple[Node, ...] | None:
    """The operators that make softplus(x), the last first."""
    if node is None or node.domain or not node.inputs:
        return None
    if node.op_type == "Softplus":
        return (node,) if node.inputs[0] is x else None
    if node.op_type != "Log" or node.inputs[0] is None:
        return None
    add = node.inputs[0].producer
    if add is None or add.op_type != "Add" or add.domain:
        return None
    for value, other in (add.inputs, add.inputs[::-1]):
        exp = None if value is None else value.producer
        if exp is not None and other is not None and number_of(other, ctx) == 1.0 and exp.op_type == "Exp" and exp.inputs[0] is x:
            return node, add, exp
    return None
