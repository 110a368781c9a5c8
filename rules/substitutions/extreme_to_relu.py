from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from npu_guard.base.errors import Undecidable
from npu_guard.results.proof import SAMPLED
from npu_guard.rewriting.arithmetic import Formula, writable
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from collections.abc import Sequence

    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

MOST = 1e4
"""The largest bound, by its size, that is written as a difference: beside it, a small number keeps three digits."""
_EXTREMES = "extremes"
_RELU = "relu"


class ExtremeToRelu(Substitution):
    """Max, Min and Clip become a difference, a Relu and a sum; a Clip becomes Max and Min where the device has them.

    max(a, b) = b + relu(a - b) and min(a, b) = a - relu(a - b). Where one side is a constant it is b.
    clip(x, l, h) = min(max(x, l), h), which is l + d - relu(d - relu(x - l)) with d = h - l. The differences are rounded, by no
    more than the larger of both sides is.
    """

    name = "extreme-to-relu"
    last = True  # others know their blocks by this operator
    roots = ("Max", "Min", "Clip")
    operators = dict.fromkeys(("Relu", "Add", "Sub"), "supported")
    good = (
        Example("g (float[1,8,4,4] x, float[1,8,1,4] z) => (y) { y = Max(x, z) }", ops=("Sub", "Relu", "Add"), label=SAMPLED),
        Example(
            "g (float[1,8,4,4] x) => (y) <float[8,1,1] c = {0.1, 0.2, -3, 4, 5, -0.5, 2, 0}> { y = Min(c, x) }",
            ops=("Sub", "Relu", "Sub"),
            title="against a constant",
        ),
        Example(
            "g (float[1,8,4,4] x) => (y) <float l = {-1.5}, float h = {2.5}> { y = Clip(x, l, h) }",
            ops=("Sub", "Relu", "Sub", "Relu", "Sub"),
            title="both bounds",
        ),
        Example(
            "g (float[1,8,4,4] x) => (y) <float l = {0.001}> { y = Clip(x, l) }",
            ops=("Sub", "Relu", "Add"),
            title="a lower bound",
        ),
        Example(
            "g (float[1,8,4,4] x) => (y) <float l = {-1.5}, float h = {2.5}> { y = Clip(x, l, h) }",
            ops=("Max", "Min"),
            operators={"Max": "supported", "Min": "supported"},
            title="a Clip by Max and Min",
        ),
    )
    bad = (
        Example(
            "g (float[1,8,4,4] x, float[1,8,4,4] z, float[1,8,4,4] v) => (y) { y = Max(x, z, v) }",
            refused="it compares 3 tensors",
        ),
        Example(
            "g (float[1,8,4,4] x) => (y) <float l = {-1000000.0}> { y = Max(x, l) }",
            refused="beside a bound of 1e+06 too many digits of the other side are lost",
        ),
        Example("g (int32[1,8,4,4] x, int32[1,8,4,4] z) => (y) { y = Max(x, z) }", refused="neither float32, float16 nor double"),
        Example("g (float[1,8,4,4] x, float l) => (y) { y = Clip(x, l) }", refused="its bounds are computed"),
    )

    def match(self, node: Node, ctx: Context) -> Sequence[Match]:
        writable(node)
        if node.op_type == "Clip":
            low, high = (_bound(node, ctx, i) for i in (1, 2))
            if low is None and high is None:
                raise Refused("it has no bound")
            facts: tuple[object, ...] = ("Clip", low, high)
            sizes = [abs(b) for b in (low, high) if b is not None]
        else:
            if len(node.inputs) != 2:
                raise Refused(f"it compares {len(node.inputs)} tensors")
            a, b = node.inputs
            constants = [v for v in (a, b) if v is not None and ctx.is_constant(v)]
            facts = (node.op_type, *((b, a) if a in constants else (a, b)))
            sizes = [_size(v, ctx) for v in constants]
        matches = []
        if node.op_type == "Clip":
            matches.append(Match(self, node, (node,), (node.output,), facts, variant=_EXTREMES))
        if all(s <= MOST for s in sizes):
            matches.append(Match(self, node, (node,), (node.output,), facts, variant=_RELU))
        if not matches:
            raise Refused(f"beside a bound of {max(sizes):g} too many digits of the other side are lost")
        return matches

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        f, (kind, a, b) = Formula(build, match.root.output), match.facts
        if kind == "Clip":
            return {match.root.output: _clip(match, f, a, b)}
        return {
            match.root.output: f("Add", f("Relu", f("Sub", a, b)), b) if kind == "Max" else f("Sub", a, f("Relu", f("Sub", a, b)))
        }

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The other one of both; bounds that lie a little further apart."""
        f, (kind, a, b) = Formula(build, match.root.output), match.facts
        if kind == "Clip":
            wider = (a if a is None else a - 0.01, b if b is None else b + 0.01)
            return {match.root.output: _clip(match, f, *wider)}
        return {
            match.root.output: f("Sub", a, f("Relu", f("Sub", a, b))) if kind == "Max" else f("Add", f("Relu", f("Sub", a, b)), b)
        }


def _clip(match: Match, f: Formula, low: float | None, high: float | None) -> str:
    x = match.root.inputs[0]
    assert x is not None
    if match.variant == _EXTREMES:
        above = f("Max", x, low) if low is not None else x
        return f("Min", above, high) if high is not None else str(above)
    if low is None:
        assert high is not None
        return f("Sub", x, f("Relu", f("Sub", x, high)))
    above = f("Relu", f("Sub", x, low))
    return f("Add", above, low) if high is None else f("Sub", high, f("Relu", f("Sub", high - low, above)))


def _bound(node: Node, ctx: Context, index: int) -> float | None:
    stated = node.attr(("min", "max")[index - 1]) if node.input(index) is None else None
    if node.input(index) is None:
        return float(stated) if stated is not None and abs(stated) < _LARGEST else None
    try:
        array = ctx.array(ctx.input(node, index))
    except Undecidable:
        raise Refused("its bounds are computed") from None
    return float(array.reshape(()))


_LARGEST = 3.4e38
"""What the attributes of an old Clip are where no bound is meant."""


def _size(value: Value | None, ctx: Context) -> float:
    assert value is not None
    array = ctx.array(value)
    return float(abs(array).max()) if array.size else 0.0
