from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx

from npu_guard.base.errors import Undecidable
from npu_guard.results.proof import SAMPLED
from npu_guard.rewriting.node_numbers import numbers
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Graph, Node, Value

MOST_STEPS, MOST_NODES = 32, 2000
"""Turns, and nodes of all turns, beyond which a loop is no longer written out."""


class LoopToSteps(Substitution):
    """A Loop over a known number of turns becomes its turns, one behind the other.

    The first turn reads what the Loop is given, each other one what the turn before it has made; the number of the turn is a
    constant. What each turn gives away is joined along a new first axis. The condition has to stay true: one that depends on
    data would end the Loop early.
    """

    name = "loop-to-steps"
    roots = ("Loop",)
    alone = True
    operators = dict.fromkeys(("Mul", "Add", "Relu", "Gather", "Concat", "Unsqueeze", "Conv", "Identity", "Cast"), "supported")
    good = (
        Example(
            """g (float[1,8,4,4] x, float[8,1,1] z) => (float[1,8,4,4] y) <int64 n = {3}, bool c = {1}>
            { y = Loop <body = b (int64 i, bool p, float[1,8,4,4] s) => (bool q, float[1,8,4,4] t)
              { q = Identity(p)  m = Mul(s, z)  t = Relu(m) }> (n, c, x) }""",
            ops=("Mul", "Relu", "Mul", "Relu", "Mul", "Relu"),
            label=SAMPLED,
            title="what is around it is read in each turn",
        ),
        Example(
            """g (float[4,2,2] x) => (float[4,2,2] y, float[2,2] l) <int64 n = {4}, float[2,2] a = {0,1,2,3}>
            { l, y = Loop <body = b (int64 i, bool p, float[2,2] s) => (bool q, float[2,2] t, float[2,2] o)
              { q = Constant <value = bool {1}> ()  r = Gather(x, i)  t = Add(s, r)  o = Relu(t) }> (n, , a) }""",
            label=SAMPLED,
            title="one row in each turn, and all sums",
        ),
        Example(
            """g (float[1,8,4,4] x) => (float[1,8,4,4] y) <int64 n = {2}, bool c = {1}, float[8,8,3,3] w>
            { y = Loop <body = b (int64 i, bool p, float[1,8,4,4] s) => (bool q, float[1,8,4,4] t)
              { q = Identity(p)  k = Conv<pads = [1,1,1,1]>(s, w)  f = Cast<to = 1>(i)  t = Add(k, f) }> (n, c, x) }""",
            label=SAMPLED,
            title="a convolution, and the number of the turn",
        ),
        Example(
            """g (float[2,4] x) => (float[2,4] y, float[2,4] z) <int64 n = {3}, bool c = {1}>
            { y, z = Loop <body = b (int64 i, bool p, float[2,4] s, float[2,4] u) => (bool q, float[2,4] t, float[2,4] v)
              { q = Identity(p)  t = Add(s, u)  v = Identity(s) }> (n, c, x, x) }""",
            label=SAMPLED,
            title="two states that change places",
        ),
    )
    bad = (
        Example(
            """g (float[1,8,4,4] x, int64 n) => (y) <bool c = {1}>
            { y = Loop <body = b (int64 i, bool p, float[1,8,4,4] s) => (bool q, float[1,8,4,4] t)
              { q = Identity(p)  t = Relu(s) }> (n, c, x) }""",
            refused="the number of its turns is computed",
        ),
        Example(
            """g (float[1,8,4,4] x) => (y) <int64 n = {3}, bool c = {1}, float z = {1.0}>
            { y = Loop <body = b (int64 i, bool p, float[1,8,4,4] s) => (bool q, float[1,8,4,4] t)
              { t = Relu(s)  m = ReduceMax<keepdims = 0>(t)  q = Less(m, z) }> (n, c, x) }""",
            refused="it may end early",
        ),
        Example(
            """g (float[1,8,4,4] x) => (y) <int64 n = {33}, bool c = {1}>
            { y = Loop <body = b (int64 i, bool p, float[1,8,4,4] s) => (bool q, float[1,8,4,4] t)
              { q = Identity(p)  t = Relu(s) }> (n, c, x) }""",
            refused="it has 33 turns; 32 are the most that are written out",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        body = dict(node.subgraphs).get("body")
        if body is None:
            return None
        steps = _number(node.input(0), ctx)
        if steps is None:
            raise Refused("the number of its turns is computed")
        given = node.input(1)
        if (given is not None and not _number(given, ctx)) or not _stays(body, ctx):
            raise Refused("it may end early")
        if not 0 < steps <= MOST_STEPS:
            raise Refused(f"it has {steps} turns; {MOST_STEPS} are the most that are written out")
        if steps * len(body.nodes) > MOST_NODES:
            raise Refused(f"its turns have {steps * len(body.nodes)} nodes; {MOST_NODES} are the most that are written out")
        inner = next((n for n in body.nodes if n.subgraphs or n.domain), None)
        if inner is not None:
            raise Refused(f"{inner.op} is inside of it")
        outputs = tuple(v for v in node.outputs if v is not None and (v.consumers or v.is_output))
        return Match(self, node, (node,), outputs, (body, steps))

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return _written(match, build, 0)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """A turn too few, or one too many where there is one alone."""
        return _written(match, build, 1)


def _number(value: Value | None, ctx: Context) -> int | None:
    if value is None:
        return None
    try:
        array = ctx.array(value)
    except Undecidable:
        return None
    return int(array.reshape(-1)[0]) if array.size == 1 else None


def _stays(body: Graph, ctx: Context) -> bool:
    """Whether the condition of a turn is that of the turn before it, or always true."""
    value: Value | None = body.outputs[0]
    while value is not None and value.producer is not None and value.producer.op_type in ("Identity", "Cast"):
        value = value.producer.input(0)
    return value is body.inputs[1] or bool(_number(value, ctx))


def _written(match: Match, build: Builder, fewer: int) -> Mapping[Value, str]:
    node, (body, steps) = match.root, match.facts
    count = len(node.inputs) - 2
    state = [v.name if v is not None else "" for v in node.inputs[2:]]
    own = {v: _kept(v, build) for v in _initializers(body)}
    own |= {n.output: build.like(n)[0] for n in body.nodes if n.op_type == "Constant"}
    rows: list[list[str]] = []
    yes = build.constant(np.asarray(True), "condition")
    for step in range(max(1, steps - fewer) if steps > 1 else 1 + fewer):
        names = dict(own)
        names[body.inputs[0]] = build.constant(np.asarray(step, np.int64), "turn")
        names[body.inputs[1]] = yes
        names |= dict(zip(body.inputs[2:], state, strict=True))
        for inner in body.nodes:
            if inner.op_type != "Constant":
                made = build.like(inner, *(v if v is None else names.get(v, v.name) for v in inner.inputs))
                names |= {v: name for v, name in zip(inner.outputs, made, strict=True) if v is not None}
        given = [names.get(v, v.name) for v in body.outputs[1:]]
        state, row = given[:count], given[count:]
        rows.append(row)
    build.origin = node
    found: dict[Value, str] = {}
    for i, value in enumerate(node.outputs):
        if value in match.replaced:
            parts = [state[i]] if i < count else [build.unsqueeze(row[i - count], 0) for row in rows]
            name = parts[0] if len(parts) == 1 else build.op("Concat", *parts, axis=0)
            found[value] = name if name in build.names else build.op("Identity", name)
    return found


def _initializers(body: Graph) -> list[Value]:
    """Weights that lie in the body itself."""
    return [v for v in body.values.values() if v.initializer is not None and v.producer is None]


def _kept(value: Value, build: Builder) -> str:
    shape = numbers(value)
    if shape is None:
        raise Refused("the shape of a weight inside of it is not known")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.dtype)
    return build.later(shape, lambda: np.asarray(build.weight(value), dtype), dtype)
