from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from npu_guard.base.errors import Undecidable
from npu_guard.base.text import short
from npu_guard.proof.exact import Exact
from npu_guard.results.proof import ROUNDING
from npu_guard.rewriting.arithmetic import Formula, writable
from npu_guard.rewriting.substitution import Array, Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value


class ElementwiseToArithmetic(Substitution):
    """An operator on each element that is plain arithmetic becomes that arithmetic.

    -x = -1 x; |x| = max(x, -x) = relu(x) + relu(-x); x^2 = x x, and x^3, x^4, x^0.5, x^-1 and x^-0.5 likewise; 1/x by Div;
    x / c = (1 / c) x for a constant c, up to a rounding; a - b = a + (-1) b; softsign(x) = x / (1 + |x|);
    prelu(x) = max(x, 0) + slope min(x, 0); the length of a vector over the channels is sqrt(sum x x), the sum of squares the same
    without the root. Sum, of any number of tensors, is Add after Add, and Max and Min of more than two are those of two.
    """

    name = "elementwise-to-arithmetic"
    last = True  # others know their blocks by this operator
    roots = (
        "Abs",
        "Neg",
        "Div",
        "Reciprocal",
        "Softsign",
        "PRelu",
        "Pow",
        "Sub",
        "Sum",
        "Max",
        "Min",
        "ReduceL2",
        "ReduceSumSquare",
    )
    alone = True
    operators = dict.fromkeys(("Relu", "Mul", "Add", "Div", "Max", "Min", "Sqrt"), "supported") | {"ReduceSum": "channels"}
    good = (
        Example(
            "g (float[1,8,4,4] x) => (y) <float[8,1,1] s> { y = PRelu(x, s) }",
            ops=("Relu", "Min", "Mul", "Add"),
        ),
        Example(
            "g (float[1,8,4,4] x) => (y) { n = Neg(x)  a = Abs(n)  s = Softsign(x)  y = Mul(a, s) }",
            ops=("Mul", "Mul", "Max", "Mul", "Max", "Add", "Div", "Mul"),
        ),
        Example(
            """g (float[1,8,4,4] x) => (y)
            <float e = {2.0}, float[1] h = {0.5}, float c = {3.0}>
            { p = Pow(x, e)  r = Pow(p, h)  q = Pow(x, c)  y = Sum(p, r, q) }""",
            ops=("Mul", "Sqrt", "Mul", "Mul", "Add", "Add"),
            title="powers",
        ),
        Example(
            """g (float[1,8,4,4] x) => (y)
            <float t = {0.5}, float i = {-0.5}>
            { p = Mul(x, x)  q = Add(p, t)  r = Reciprocal(q)  s = Pow(q, i)  y = Mul(r, s) }""",
            ops=("Mul", "Add", "Div", "Sqrt", "Div", "Mul"),
            title="reciprocals",
        ),
        Example(
            """g (float[1,8,4,4] x) => (y)
            <int64[1] axes = {1}> { n = ReduceL2(x, axes)  q = ReduceSumSquare(x, axes)  y = Mul(n, q) }""",
            ops=("Mul", "ReduceSum", "Sqrt", "Mul", "ReduceSum", "Mul"),
            title="lengths",
        ),
        Example(
            "g (float[1,8,4,4] x) => (y) { y = Abs(x) }",
            ops=("Mul", "Relu", "Relu", "Add"),
            operators=dict.fromkeys(("Relu", "Mul", "Add"), "supported"),
            title="a device without Max",
        ),
        Example("g (float[1,8,4,4] x, float[8,1,1] z) => (y) { y = Sub(x, z) }", ops=("Mul", "Add"), title="a difference"),
        Example(
            """g (float[1,8,4,4] x) => (y)
            <float c = {6.0}, float[8,1,1] d = {1,2,3,-4,5,0.1,7,9}> { q = Div(x, c)  y = Div(q, d) }""",
            ops=("Mul", "Mul"),
            operators={"Mul": "supported"},
            title="quotients by constants",
            label=ROUNDING,
        ),
        Example(
            """g (float[1,8,4,4] x, float[8,1,1] z, float[1,8,4,1] u) => (y)
            { m = Max(x, z, u)  n = Min(z, m, u, x)  y = Max(n, m) }""",
            ops=("Max", "Max", "Min", "Min", "Min", "Max"),
            require=({"ops": ["Max", "Min"], "metric": "inputs", "is": 2, "consequence": "host"},),
            title="the largest of three, the smallest of four",
        ),
        Example("g (float x) => (y) { n = Neg(x)  y = Abs(n) }", ops=("Mul", "Mul", "Max"), title="single numbers"),
    )
    bad = (
        Example(
            "g (float[1,8,4,4] x) => (y) <float e = {2.5}> { y = Pow(x, e) }",
            refused="the exponent is 2.5",
        ),
        Example(
            "g (float[1,8,4,4] x, float[1,8,4,4] e) => (y) { y = Pow(x, e) }",
            refused="the exponent is not one constant",
        ),
        Example("g (float[1,8,4,4] x, float[1,8,4,4] z) => (y) { y = Div(x, z) }", refused="what it divides by is computed"),
        Example(
            "g (float[1,8,4,4] x) => (y) <float[8,1,1] d = {1,2,3,0,5,6,7,8}> { y = Div(x, d) }",
            refused="1 / d is not finite, or too small",
        ),
        Example("g (int32[1,8,4,4] x) => (y) { y = Abs(x) }", refused="neither float32, float16 nor double"),
        Example(
            "g (float[1,8,4,4] x, int64[2] axes) => (y) { y = ReduceL2(x, axes) }",
            refused="its axes are computed",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Sequence[Match]:
        facts: float | tuple[int, ...] = _exponent(node, ctx) if node.op_type == "Pow" else 0.0
        if node.op_type.startswith("Reduce"):
            if node.input(1) is not None and not ctx.is_constant(node.input(1)):
                raise Refused("its axes are computed")
            facts = ctx.axes(node)
        if node.op_type in ("Max", "Min") and len(node.inputs) < 3:
            return []
        if node.op_type in ("Sum", "Max", "Min") and len(node.inputs) > MOST:
            raise Refused(f"it has {len(node.inputs)} tensors; {MOST} are the most that are written out")
        if node.op_type == "Div":
            _divided(node, ctx)
        writable(node)
        ways = (_MAX, _RELU) if node.op_type in ("Abs", "Softsign") else (None,)
        return [Match(self, node, (node,), (node.output,), facts, variant=way) for way in ways]

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return {match.root.output: _written(match, Formula(build, match.root.output))}

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """A tenth more."""
        f = Formula(build, match.root.output)
        return {match.root.output: f("Mul", _written(match, f), 1.1)}


_MAX, _RELU = "by Max", "by Relu"
_PAIRS = {"Sum": "Add", "Max": "Max", "Min": "Min"}
"""Operators on any number of tensors, by what they are on two."""
MOST = 64
"""Tensors of one Sum, Max or Min."""
_POWERS = frozenset({2.0, 3.0, 4.0, 0.5, -0.5, -1.0})


def _exponent(node: Node, ctx: Context) -> float:
    try:
        array = ctx.array(ctx.input(node, 1))
    except Undecidable:
        array = np.zeros(0)
    if array.size != 1 or array.ndim > len(node.output.shape or ()):
        raise Refused("the exponent is not one constant")
    found = float(array.reshape(()))
    if found not in _POWERS:
        raise Refused(f"the exponent is {found:g}")
    return found


def _divided(node: Node, ctx: Context) -> None:
    """Refuse a quotient that is no product with a constant. Raises Refused."""
    divisor = ctx.input(node, 1)
    if not ctx.is_constant(divisor) or ctx.is_constant(ctx.input(node, 0)):
        raise Refused("what it divides by is computed")
    known = ctx.analysis.constants.get(divisor)
    if known is not None and known.dtype.kind == "f":
        _usable(known, divisor)


def _usable(array: Array, divisor: Value) -> None:
    """Refuse where 1 / c has fewer digits than c. Raises Refused."""
    with np.errstate(all="ignore"):
        inverse = np.abs(np.reciprocal(array))
    if not (np.isfinite(inverse) & (inverse >= np.finfo(array.dtype).tiny)).all():
        raise Refused(f"1 / {short(divisor.name)} is not finite, or too small")


def _inverse(f: Formula, divisor: Value) -> str:
    """1 / c, read when it is written."""
    shape = tuple(d for d in divisor.shape or () if isinstance(d, int))

    def exact() -> Exact:
        array = f.build.weight(divisor)
        _usable(array, divisor)
        return Exact.of(1) / Exact.of(array)

    return f.build.later(shape, lambda: np.asarray(exact().rounded(f.dtype)).reshape(shape), f.dtype, "inverse", exact)


def _written(match: Match, f: Formula) -> str:
    node = match.root
    x = node.inputs[0]
    assert x is not None
    if node.op_type == "Pow":
        return _power(f, x, match.facts)
    if node.op_type == "PRelu":
        assert node.inputs[1] is not None
        return f("Add", f("Relu", x), f("Mul", f("Min", x, 0.0), node.inputs[1]))
    if node.op_type == "Div":
        assert node.inputs[1] is not None
        return f("Mul", x, _inverse(f, node.inputs[1]))
    if node.op_type == "Sub":
        assert node.inputs[1] is not None
        return f("Add", x, f("Mul", node.inputs[1], -1.0))
    if node.op_type in _PAIRS:
        total: str | Value = x
        for value in node.inputs[1:]:
            assert value is not None
            total = f(_PAIRS[node.op_type], total, value)
        return total if isinstance(total, str) else f("Add", x, 0.0)
    if node.op_type.startswith("Reduce"):
        total = f.build.reduce("ReduceSum", f("Mul", x, x), match.facts, keepdims=bool(node.attr("keepdims", 1)))
        return f("Sqrt", total) if node.op_type == "ReduceL2" else total
    if node.op_type == "Neg":
        return f("Mul", x, -1.0)
    if node.op_type == "Reciprocal":
        return f("Div", 1.0, x)
    absolute = _absolute(f, x, match.variant)
    return absolute if node.op_type == "Abs" else f("Div", x, f("Add", absolute, 1.0))


def _power(f: Formula, x: Value, exponent: float) -> str:
    if exponent in (0.5, -0.5):
        root = f("Sqrt", x)
        return root if exponent > 0 else f("Div", 1.0, root)
    if exponent == -1.0:
        return f("Div", 1.0, x)
    square = f("Mul", x, x)
    return square if exponent == 2.0 else f("Mul", square, x if exponent == 3.0 else square)


def _absolute(f: Formula, x: Value, way: object) -> str:
    negative = f("Mul", x, -1.0)
    return f("Max", x, negative) if way == _MAX else f("Add", f("Relu", x), f("Relu", negative))
