from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx

from npu_guard.proof.exact import Exact
from npu_guard.rewriting.doubles import expect_small, region
from npu_guard.rewriting.substitution import Builder, Example, Match, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_T = onnx.TensorProto
_NO_DOUBLES = ({"ops": ["*"], "metric": "dtype", "not_in": ["float64"], "consequence": "host"},)


class DoubleToFloat(Substitution):
    """A part of a network that was cast to float64 computes in float32, as the rest of it does.

    What comes from float32 is no finer for the cast, and each operator has the same definition for both types, so this is the
    same function of real numbers, with more rounding. Constants of float64 become the floats next to them. Results that the
    model states in float64 are cast where they leave it.

    The part is all that hangs together by values of float64. It is refused where a rounding decides about a whole number, as
    at an ArgMax, a comparison or Floor; where numbers may grow beyond float32, as at an Exp of what nothing bounds; and where
    whole numbers or an input of the model come in.
    """

    name = "double-to-float"
    roots = ("Cast",)
    operators = dict.fromkeys(("Cast", "Softmax", "Mul", "ReduceSum", "Exp", "Add", "Relu", "Identity", "Sigmoid"), "supported")
    good = (
        Example(
            """g (float[1,5,3] x) => (float[1,5,3] y) <double[3] w = {0.1, 0.2, 0.3}>
            { d = Cast<to = 11>(x)  s = Softmax(d)  m = Mul(s, w)  y = Cast<to = 1>(m) }""",
            ops=("Softmax", "Mul"),
            require=_NO_DOUBLES,
            title="a mean of constants",
            label="proved up to rounding",
        ),
        Example(
            """g (float[2,5] x) => (double[2,5] y)
            { s = Sigmoid(x)  d = Cast<to = 11>(s)  y = Exp(d) }""",
            ops=("Sigmoid", "Exp", "Cast"),
            require=({"ops": ["Exp"], "metric": "dtype", "not_in": ["float64"], "consequence": "host"},),
            title="a result of float64",
        ),
        Example(
            """g (float16[2,5] x, float[2,5] z) => (float[2,5] y)
            { d = Cast<to = 11>(x)  e = Cast<to = 11>(z)  s = Add(d, e)  y = Cast<to = 1>(s) }""",
            ops=("Cast", "Add"),
            require=({"ops": ["Add"], "metric": "dtype", "not_in": ["float64"], "consequence": "host"},),
            title="of two types",
        ),
        Example(
            """g (float[2,5] x) => (float[2,5] y, double[2,5] z)
            { d = Cast<to = 11>(x)  z = Identity(d)  r = Relu(d)  y = Cast<to = 1>(r) }""",
            ops=("Identity", "Relu", "Cast"),
            require=({"ops": ["Relu"], "metric": "dtype", "not_in": ["float64"], "consequence": "host"},),
            title="a result in the middle",
        ),
    )
    bad = (
        Example(
            "g (float[2,5] x) => (float[2,5] y) { d = Cast<to = 11>(x)  e = Exp(d)  s = Softmax(e)  y = Cast<to = 1>(s) }",
            refused="numbers may leave the range of float32 at Exp",
            require=_NO_DOUBLES,
        ),
        Example(
            "g (float[2,5] x) => (float[2,5] y) { d = Cast<to = 11>(x)  f = Floor(d)  y = Cast<to = 1>(f) }",
            refused="a rounding decides about whole numbers at Floor",
            require=_NO_DOUBLES,
        ),
        Example(
            "g (float[2,5] x) => (int64[2,1] y) { d = Cast<to = 11>(x)  y = ArgMax<axis = 1>(d) }",
            refused="a rounding decides about whole numbers at ArgMax",
            require=_NO_DOUBLES,
        ),
        Example(
            "g (int64[2,5] x) => (float[2,5] y) { d = Cast<to = 11>(x)  e = Tanh(d)  y = Cast<to = 1>(e) }",
            refused="whole numbers come into it at Cast",
            require=_NO_DOUBLES,
        ),
        Example(
            """g (float[2,5] x, double[2,5] z) => (float[2,5] y)
            { d = Cast<to = 11>(x)  s = Add(d, z)  y = Cast<to = 1>(s) }""",
            refused="the model takes 'z' in float64",
            require=_NO_DOUBLES,
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        if node.attr("to", 0) != _T.DOUBLE or ctx.is_constant(node.output):
            return None
        inside = region(node, ctx)
        nodes = [n for n in node.graph.nodes if n in inside]
        if node is not next(n for n in nodes if n.op_type == "Cast"):
            return None  # the first of them has the region
        ends = [v for n in nodes for v in n.outputs if v is not None and (v.is_output or set(v.consumers) - inside)]
        return Match(self, node, tuple(nodes), tuple(ends), ctx)

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._write(match, build, _T.FLOAT)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """By way of float16."""
        return self._write(match, build, _T.FLOAT16)

    def _write(self, match: Match, build: Builder, by: int) -> Mapping[Value, str]:
        build.coarsest = _T.FLOAT
        now: dict[Value | None, str | Value | None] = {None: None}

        def cast(x: str | Value | None, to: int) -> str:
            return build.op("Cast", x, to=to)

        def operand(value: Value | None) -> str | Value | None:
            if value not in now:
                if value is None or value.dtype != _T.DOUBLE:
                    return value
                now[value] = build.rounded(Exact.of(build.weight(value)), np.float32)
            return now[value]

        for node in match.nodes:
            build.origin = node
            expect_small(node, match.facts, build.weight)
            x = node.inputs[0] if node.inputs else None
            if node.op_type != "Cast":
                made = build.op_many(node.op_type, *map(operand, node.inputs), outputs=len(node.outputs), **node.attributes)
                now.update((v, name) for v, name in zip(node.outputs, made, strict=True) if v is not None)
                continue
            assert x is not None
            given, to = operand(x), node.output.dtype
            if x.dtype not in (_T.DOUBLE, _T.FLOAT) or by != _T.FLOAT:
                given = cast(given if by == _T.FLOAT else cast(given, by), _T.FLOAT)
            now[node.output] = given if to in (_T.DOUBLE, _T.FLOAT) else cast(given, to)
        ends = {}
        for value in match.replaced:
            build.origin, last = value.producer or match.root, now[value]
            if value.dtype == _T.DOUBLE:
                last = cast(last, _T.DOUBLE)
            ends[value] = last if isinstance(last, str) else build.op("Identity", last)
        return ends
