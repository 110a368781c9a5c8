from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from npu_guard.results.proof import SAMPLED
from npu_guard.rewriting.conditions import COMPARISONS, Numbers, region
from npu_guard.rewriting.substitution import Builder, Example, Match, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_NEEDS = ("Sub", "Mul", "Add", "Clip")


class ComparisonToClip(Substitution):
    """Conditions on elements become numbers: a comparison is a ramp that is steeper than numbers are apart.

    The floating-point number next above c is c + g, so x > c means x - c >= g, and x <= c means x - c <= 0: there is nothing
    between. With a power of two s >= 1/g, which multiplies without rounding,

        float(x > c) = clip(s (x - c), 0, 1)

    is 0 or 1 exactly for every number x. For x < c the difference is c - x, and g the distance to the number next below;
    x >= c is x > c', where c' is that number. Between two tensors of which one is finite, g is the least number that there is.
    x = c is 1 less the square of the sign, clip(s (x - c), -1, 1). Not, And, Or and Xor are 1 - a, a b, a + b - a b and
    (a - b)^2.

    Where(m, u, v) is m u + (1 - m) v where u and v are finite. Behind a division, a root, a logarithm, a power or an exponential
    they need not be where they are left out: there that operator reads x m + (1 - m), which is x where it is wanted and 1 where
    it is not, so y / w behind w = 0 is y / (w m + 1 - m). (A NaN of x stays one here, and is false there.)
    """

    name = "comparison-to-clip"
    roots = (*COMPARISONS, "And", "Or", "Xor", "Not", "Where", "Cast")
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
        Example(
            """g (float[1,8,4,4] x, float[1,8,4,4] u) => (y) <float c = {0.5}, float d = {-1.0}, float z = {0.0}> {
                a = Greater(x, c)  b = Less(u, d)  e = Not(b)  m = Or(a, e)  y = Where(m, z, u) }""",
            ops=("Sub", "Mul", "Clip", "Sub", "Mul", "Clip", "Sub", "Add", "Mul", "Sub", "Sub", "Mul"),
            title="what conditions are combined by",
        ),
        Example(
            """g (float[1,8,4,4] x, float[1,8,4,4] w) => (y) <float z = {0.0}> {
                m = Equal(w, z)  q = Div(x, w)  y = Where(m, z, q) }""",
            ops=("Sub", "Mul", "Mul", "Clip", "Mul", "Sub", "Sub", "Mul", "Add", "Div", "Mul"),
            title="a division that gives 0 where it has no result",
            label=SAMPLED,
        ),
        Example(
            """g (float[1,8,4,4] x) => (y) <float c = {20.0}> {
                m = Greater(x, c)  s = Softplus(x)  y = Where(m, x, s) }""",
            ops=("Softplus", "Sub", "Mul", "Clip", "Mul", "Sub", "Mul", "Add"),
            title="Softplus, as one exporter writes it",
        ),
        Example(
            "g (float[1,8,4,4] x, float[1,8,1,1] u) => (y) { m = Less(x, u)  y = Where(m, x, u) }",
            ops=("Sub", "Mul", "Mul", "Clip", "Mul", "Sub", "Mul", "Add"),
            title="two tensors",
            label=SAMPLED,
        ),
    )
    bad = (
        Example(
            "g (float[1,8,4,4] x) => (y) <float c = {0.5}> { b = Greater(x, c)  y = Cast<to = 6>(b) }",
            refused="Cast 'y' reads whether it holds",
        ),
        Example(
            "g (float[1,8,4,4] x) => (b, y) <float c = {0.5}> { b = Greater(x, c)  y = Cast<to = 1>(b) }",
            refused="it is an output of the model",
        ),
        Example(
            "g (bool[1,8,4,4] b, float[1,8,4,4] x) => (y) <float z = {0.0}> { y = Where(b, x, z) }",
            refused="'b' is an input of the model",
        ),
        Example(
            """g (float[1,8,4,4] x) => (y, u)
            <float c = {0.5}, float z = {0.0}> { b = Greater(x, c)  u = Reciprocal(x)  y = Where(b, u, z) }""",
            refused="'u' may be infinite where Where 'y' leaves it out",
            title="1 / 0 times 0 is no number",
        ),
        Example(
            """g (float[1,8,4,4] x) => (y)
            <float c = {0.5}, float z = {0.0}> { b = Greater(x, c)  l = Log(x)  u = Softmax<axis = 1>(l)  y = Where(b, u, z) }""",
            refused="'u' may be infinite where Where 'y' leaves it out",
            title="one element of a softmax reads others",
        ),
        Example(
            "g (int32[1,8,4,4] x) => (y) <int32 c = {2}> { b = Greater(x, c)  y = Cast<to = 1>(b) }",
            refused="Greater 'b' compares what is not of floating point",
        ),
        Example(
            "g (float[1,8,4,4] x, float[1,8,4,4] u) => (y) { a = Exp(x)  c = Exp(u)  b = Less(a, c)  y = Cast<to = 1>(b) }",
            refused="Less 'b' compares what may be infinite on both sides",
        ),
        Example(
            "g (float[1,8,4,4] x) => (y) { b = IsNaN(x)  y = Cast<to = 1>(b) }",
            refused="IsNaN 'b' makes a condition that has no form in numbers",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        found = region(node, ctx)
        if found is None:
            return None
        return Match(self, node, found.nodes, tuple(n.output for n in found.ends), (found, ctx))

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._write(match, build, turned=False)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """Turned round."""
        return self._write(match, build, turned=True)

    def _write(self, match: Match, build: Builder, *, turned: bool) -> Mapping[Value, str]:
        found, ctx = match.facts
        return Numbers(found, ctx, build, match.replaced[0], turned=turned).write()
